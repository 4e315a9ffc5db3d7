#include "convert.h"

#include <complex>
#include <utility>
#include <vector>

#include "keel/keel.h"
#include "op/checks.h"

namespace keel::python {
namespace {

nb::handle dtype_table[kDTypes];

bool has(nb::handle h, const char* name) { return PyObject_HasAttrString(h.ptr(), name) == 1; }

/// Reads nested lists and tuples of numbers, in two walks: shape and kind first, then values.
struct Literal {
  Shape shape;
  bool floating = false, integral = false, complex = false;

  static bool is_list(nb::handle h) { return PyList_Check(h.ptr()) || PyTuple_Check(h.ptr()); }
  void measure(nb::handle h, int depth) {
    if (!is_list(h)) {
      if (depth != shape.rank())
        raise(Error(ErrorCode::shape, "a number stands where a list is expected, at depth " + std::to_string(depth)).op("tensor"));
      if (PyComplex_Check(h.ptr()))
        complex = true;
      else if (PyFloat_Check(h.ptr()))
        floating = true;
      else if (PyBool_Check(h.ptr()))
        return;
      else if (PyLong_Check(h.ptr()))
        integral = true;
      else if (Tensor * t; nb::try_cast(h, t) && t)
        is_complex(t->dtype())    ? complex = true
        : is_floating(t->dtype()) ? floating = true
        : t->dtype() == boolean   ? true
                                  : integral = true;
      else if (PyIndex_Check(h.ptr()))
        integral = true;
      else if (has(h, "__float__"))
        floating = true;
      else
        throw nb::type_error((std::string("tensor: cannot make an element of ") + Py_TYPE(h.ptr())->tp_name).c_str());
      return;
    }
    const int64_t n = int64_t(nb::len(h));
    if (depth == shape.rank() && leaves == 0)
      shape.push_back(n);
    else if (depth >= shape.rank())
      raise(Error(ErrorCode::shape, "a list stands where a number is expected, at depth " + std::to_string(depth)).op("tensor"));
    else if (shape[depth] != n)
      raise(Error(ErrorCode::shape, "rows of different length (" + std::to_string(shape[depth]) + " vs " + std::to_string(n) +
                                        ") at depth " + std::to_string(depth))
                .op("tensor"));
    for (int64_t i = 0; i < n; ++i) {
      nb::object e = nb::steal(PySequence_GetItem(h.ptr(), i));
      measure(e, depth + 1);
      if (!is_list(e)) ++leaves;
    }
    if (n == 0) ++leaves;
  }
  static void fill(nb::handle h, std::byte*& at, DType t) {
    if (is_list(h)) {
      const int64_t n = int64_t(nb::len(h));
      for (int64_t i = 0; i < n; ++i) fill(nb::object(nb::steal(PySequence_GetItem(h.ptr(), i))), at, t);
      return;
    }
    if (is_complex(t)) {
      const Py_complex c = PyComplex_AsCComplex(h.ptr());
      if (PyErr_Occurred()) nb::raise_python_error();
      if (t == complex64)
        *reinterpret_cast<std::complex<float>*>(at) = {float(c.real), float(c.imag)};
      else
        *reinterpret_cast<std::complex<double>*>(at) = {c.real, c.imag};
    } else {
      const Scalar v = to_scalar(h);
      check_holds(t, v, "tensor");
      write_scalar(at, t, v);
    }
    at += size_of(t);
  }
  int64_t leaves = 0;
};

/// The tensor that looks at a NumPy array of a dtype that NumPy's DLPack does not know: bfloat16 and fp8 of ml_dtypes travel as integers.
bool from_ml_dtypes(nb::handle h, Tensor& out) {
  if (!has(h, "__array_interface__") || !has(h, "dtype")) return false;
  const DType t = dtype_from_name(nb::cast<std::string>(nb::str(h.attr("dtype").attr("name"))).c_str());
  if (t != bf16 && !contains(kinds::fp8, t)) return false;
  const Tensor bits = from_capsule(h.attr("view")(t == bf16 ? "uint16" : "uint8").attr("__dlpack__")());
  out = make_view(impl(bits).storage, t, bits.shape(), bits.strides(), impl(bits).offset);
  return true;
}

}  // namespace

Tensor from_dlpack(nb::handle h) {
  if (Tensor t; from_ml_dtypes(h, t)) return t;
  if (PyCapsule_CheckExact(h.ptr())) return from_capsule(nb::borrow(h));
  if (!has(h, "__dlpack__"))
    throw nb::type_error((std::string("from_dlpack: ") + Py_TYPE(h.ptr())->tp_name + " does not speak DLPack").c_str());
  try {
    return from_capsule(h.attr("__dlpack__")(nb::arg("max_version") = nb::make_tuple(1, 0)));
  } catch (nb::python_error& e) {
    if (!e.matches(PyExc_TypeError)) throw;
  }
  return from_capsule(h.attr("__dlpack__")());  // from before DLPack 1.0
}

nb::object dtype_object(DType t) { return t == DType::none ? nb::none() : nb::borrow(dtype_table[int(t)]); }

DType to_dtype(nb::handle h) {
  if (h.is_none()) return DType::none;
  if (PyDType * d; nb::try_cast(h, d) && d) return d->type;
  if (h.ptr() == reinterpret_cast<PyObject*>(&PyBool_Type)) return boolean;
  if (h.ptr() == reinterpret_cast<PyObject*>(&PyLong_Type)) return i64;
  if (h.ptr() == reinterpret_cast<PyObject*>(&PyFloat_Type)) return f32;
  if (h.ptr() == reinterpret_cast<PyObject*>(&PyComplex_Type)) return complex64;
  std::string name;
  if (PyUnicode_Check(h.ptr()))
    name = nb::cast<std::string>(h);
  else if (has(h, "name"))
    name = nb::cast<std::string>(nb::str(h.attr("name")));
  else if (nb::cast<std::string>(nb::str(h)).rfind("torch.", 0) == 0)
    name = nb::cast<std::string>(nb::str(h)).substr(6);
  else if (has(h, "__name__"))
    name = nb::cast<std::string>(nb::str(h.attr("__name__")));  // numpy.float32
  const DType t = name.empty() ? DType::none : dtype_from_name(name.c_str());
  if (t == DType::none) throw nb::type_error(("not a dtype: " + nb::cast<std::string>(nb::repr(h))).c_str());
  return t;
}

bool is_number(nb::handle h) { return PyFloat_Check(h.ptr()) || PyLong_Check(h.ptr()); }

Scalar to_scalar(nb::handle h) {
  if (PyBool_Check(h.ptr())) return Scalar(h.ptr() == Py_True);
  if (PyFloat_Check(h.ptr())) return Scalar(PyFloat_AsDouble(h.ptr()));
  if (Tensor * t; nb::try_cast(h, t) && t) {
    if (t->dtype() == boolean) return Scalar(t->item<bool>());
    if (t->dtype() == u64) return Scalar(uint64_t(t->item<int64_t>()));
    return is_integer(t->dtype()) ? Scalar(t->item<int64_t>()) : Scalar(t->item());
  }
  if (PyIndex_Check(h.ptr())) {
    nb::object i = nb::steal(PyNumber_Index(h.ptr()));
    if (!i.is_valid()) nb::raise_python_error();
    int over = 0;
    const long long v = PyLong_AsLongLongAndOverflow(i.ptr(), &over);
    if (!over) return Scalar(int64_t(v));
    const unsigned long long u = over > 0 ? PyLong_AsUnsignedLongLong(i.ptr()) : 0;
    if (over < 0 || PyErr_Occurred()) {
      PyErr_Format(PyExc_OverflowError, "%S is beyond every integer dtype; float(n) makes a floating number of it", i.ptr());
      nb::raise_python_error();
    }
    return Scalar(uint64_t(u));
  }
  const double v = PyFloat_AsDouble(h.ptr());
  if (v == -1 && PyErr_Occurred()) nb::raise_python_error();
  return Scalar(v);
}

bool to_operand(nb::handle h, Tensor& out) {
  if (Tensor * t; nb::try_cast(h, t) && t) return out = *t, true;
  if (is_number(h)) return out = Operand(to_scalar(h)).tensor(), true;
  if (has(h, "dtype") && has(h, "item") && has(h, "ndim") && !has(h, "__dlpack__") &&
      nb::cast<int>(h.attr("ndim")) == 0)  // a NumPy scalar is a number
    return to_operand(nb::object(h.attr("item")()), out);
  return false;
}

Tensor to_tensor(nb::handle h, DType t) {
  if (Tensor * x; nb::try_cast(h, x) && x) return t == DType::none ? *x : x->to(t);
  if (!Literal::is_list(h) && !is_number(h) && has(h, "__dlpack__")) {
    const Tensor x = from_dlpack(h);
    return t == DType::none ? x : x.to(t);
  }
  Literal l;
  l.measure(h, 0);
  if (t == DType::none) t = l.complex ? complex64 : l.floating || l.shape.numel() == 0 ? f32 : l.integral ? i64 : boolean;
  Tensor x = make_tensor(t, l.shape);
  std::byte* at = impl(x).data;
  Literal::fill(h, at, t);
  return x;
}

void to_dims(nb::handle h, Dims& out, const char* op, const char* name) {
  auto number = [&](nb::handle e) {
    if (!PyIndex_Check(e.ptr()))
      throw nb::type_error((std::string(op) + "() takes ints for '" + name + "', got " + Py_TYPE(e.ptr())->tp_name).c_str());
    const int64_t v = PyNumber_AsSsize_t(e.ptr(), PyExc_OverflowError);
    if (v == -1 && PyErr_Occurred()) nb::raise_python_error();
    return v;
  };
  if (PyIndex_Check(h.ptr())) {
    const int64_t v = number(h);
    const int n = out.empty() ? 1 : out.rank();
    out = Dims();
    for (int i = 0; i < n; ++i) out.push_back(v);
    return;
  }
  if (!PySequence_Check(h.ptr()) || PyUnicode_Check(h.ptr())) number(h);
  const int64_t n = int64_t(nb::len(h)),
                wanted = out.rank();  // a default that is not empty, rows and columns, has as many as there must be
  if (wanted && n != wanted)
    throw nb::type_error(
        (std::string(op) + "() takes " + std::to_string(wanted) + " ints for '" + name + "', got " + std::to_string(n)).c_str());
  out = Dims();
  for (int64_t i = 0; i < n; ++i) out.push_back(number(nb::object(nb::steal(PySequence_GetItem(h.ptr(), i)))));
}
Shape to_shape(nb::handle h) {
  Dims d;
  to_dims(h, d, "shape", "shape");
  return Shape(d);
}
nb::tuple from_dims(const Dims& d) {
  nb::list l;
  for (int64_t v : d) l.append(v);
  return nb::tuple(l);
}
nb::object from_tensor(Tensor t) { return t.defined() ? nb::cast(std::move(t)) : nb::none(); }
nb::object from_scalar(const Scalar& s) {
  if (s.kind() == f64) return nb::cast(s.to_double());
  if (s.kind() == boolean) return nb::cast(s.to_bool());
  return s.kind() == u64 ? nb::cast(uint64_t(s.to_int())) : nb::cast(s.to_int());
}
nb::object element(const void* p, DType t) {
  if (t == boolean) return nb::cast(*static_cast<const bool*>(p));
  if (t == u64) return nb::cast(*static_cast<const uint64_t*>(p));
  if (is_integer(t)) return nb::cast(read_int(p, t));
  if (t == complex64) return nb::steal(PyComplex_FromDoubles(static_cast<const float*>(p)[0], static_cast<const float*>(p)[1]));
  if (t == complex128) return nb::steal(PyComplex_FromDoubles(static_cast<const double*>(p)[0], static_cast<const double*>(p)[1]));
  return nb::cast(read_double(p, t));
}
nb::object to_list(const Tensor& t) {
  const TensorImpl& x = impl(t);
  auto walk = [&](auto& self, const std::byte* at, int axis) -> nb::object {
    if (axis == x.spec.shape.rank()) return element(at, x.spec.dtype);
    nb::list l;
    for (int64_t i = 0; i < x.spec.shape[axis]; ++i)
      l.append(self(self, at + i * x.strides[axis] * int64_t(size_of(x.spec.dtype)), axis + 1));
    return l;
  };
  return walk(walk, x.data, 0);
}

// ---- indexing ----
namespace {

Index to_index(nb::handle h) {
  if (h.is_none()) return newaxis;
  if (h.ptr() == Py_Ellipsis) return ellipsis;
  if (PySlice_Check(h.ptr())) {
    auto bound = [&](const char* name) -> Slice::Bound {
      nb::object b = h.attr(name);
      if (b.is_none()) return none;
      if (!PyIndex_Check(b.ptr())) throw nb::type_error("a slice takes integers or None");
      return int64_t(PyNumber_AsSsize_t(b.ptr(), nullptr));
    };
    const Slice::Bound step = bound("step");
    return keel::slice(bound("start"), bound("stop"), step.given ? step.value : 1);
  }
  if (PyBool_Check(h.ptr())) return Index(to_tensor(h));
  Tensor* t = nullptr;
  if (nb::try_cast(h, t) && t) return t->rank() == 0 && is_integer(t->dtype()) ? Index(t->item<int64_t>()) : Index(*t);
  if (PyIndex_Check(h.ptr()) && !has(h, "__dlpack__")) {
    const int64_t v = PyNumber_AsSsize_t(h.ptr(), PyExc_IndexError);
    if (v == -1 && PyErr_Occurred()) nb::raise_python_error();
    return Index(v);
  }
  if (!PyList_Check(h.ptr()) && !has(h, "__dlpack__"))
    throw nb::type_error((std::string("cannot index a tensor with ") + Py_TYPE(h.ptr())->tp_name).c_str());
  Tensor a = to_tensor(h);
  if (a.size() == 0 && PyList_Check(h.ptr())) a = a.to(i64);
  return Index(a);
}

using Indices = SmallVector<Index, 4>;
Indices to_indices(nb::handle key) {
  Indices at;
  if (!PyTuple_Check(key.ptr())) {
    at.push_back(to_index(key));
    return at;
  }
  for (nb::handle h : nb::borrow<nb::tuple>(key)) at.push_back(to_index(h));
  if (at.empty()) at.push_back(ellipsis);
  return at;
}

/// `x[{...}]` takes a list of a length known to the compiler.
constexpr int kMaxIndices = 2 * kMaxRank + 1;
template <int N>
Indexed index_n(const Tensor& x, const Indices& at) {
  return [&]<size_t... I>(std::index_sequence<I...>) { return x[std::initializer_list<Index>{at[int64_t(I)]...}]; }
  (std::make_index_sequence<N>());
}
Indexed index_any(const Tensor& x, const Indices& at) {
  if (at.size() > kMaxIndices) raise(Error(ErrorCode::index, "too many indices: " + std::to_string(at.size())).op("index"));
  using Fn = Indexed (*)(const Tensor&, const Indices&);
  static constexpr auto table = []<size_t... I>(std::index_sequence<I...>) { return std::array<Fn, sizeof...(I)>{&index_n<int(I) + 1>...}; }
  (std::make_index_sequence<kMaxIndices>());
  return table[size_t(at.size() - 1)](x, at);
}

}  // namespace

Tensor get_item(const Tensor& x, nb::handle key) { return index_any(x, to_indices(key)); }
void set_item(Tensor& x, nb::handle key, nb::handle value) {
  Tensor v;
  if (!to_operand(value, v)) v = to_tensor(value);
  const Indices at = to_indices(key);
  index_any(x, at) = Operand(v);
}

void bind_dtypes(nb::module_& m) {
  nb::class_<PyDType> c(m, "DType",
                        "The type of a tensor's elements. Functions that take one also take its name (\"float32\", \"f32\"), a NumPy "
                        "dtype, or bool, int, float.");
  c.def_prop_ro(
       "name", [](const PyDType& d) { return std::string(name_of(d.type)); }, "Keel's name, as in \"f32\".")
      .def_prop_ro(
          "itemsize", [](const PyDType& d) { return size_of(d.type); }, "Bytes of one element.")
      .def_prop_ro("is_floating_point", [](const PyDType& d) { return is_floating(d.type); })
      .def_prop_ro("is_complex", [](const PyDType& d) { return is_complex(d.type); })
      .def_prop_ro("is_integer", [](const PyDType& d) { return is_integer(d.type); })
      .def("__hash__", [](const PyDType& d) { return int64_t(d.type); });
  c.def(
      "__eq__",
      [](const PyDType& d, nb::handle o) {
        PyDType* other = nullptr;
        return nb::try_cast(o, other) && other && other->type == d.type;
      },
      nb::arg("other").none(), nb::sig("def __eq__(self, other: object, /) -> bool"));
  static const char* const long_names[kDTypes] = {"",        "bool_",    "uint8",   "uint16",  "uint32",        "uint64",
                                                  "int8",    "int16",    "int32",   "int64",   "float8_e4m3fn", "float8_e5m2",
                                                  "float16", "bfloat16", "float32", "float64", nullptr,         nullptr};
  c.def("__repr__", [](const PyDType& d) {
    const char* n = long_names[int(d.type)];
    return std::string("keel.") + (n ? n : name_of(d.type));
  });
  for (int i = 1; i < kDTypes; ++i) {
    nb::object o = nb::cast(PyDType{DType(i)});
    dtype_table[i] = o;
    o.inc_ref();  // lives as long as the module
    if (long_names[i]) m.attr(long_names[i]) = o;
    m.attr(DType(i) == boolean ? "boolean" : name_of(DType(i))) = o;
  }
  m.def(
      "dtype", [](nb::handle h) { return dtype_object(to_dtype(h)); }, nb::arg("like"), nb::sig("def dtype(like: object, /) -> DType"),
      "The DType of that name, or of a NumPy dtype.");
  m.def(
      "from_dlpack", [](nb::handle h) { return from_dlpack(h); }, nb::arg("array"), nb::sig("def from_dlpack(array: object, /) -> Tensor"),
      "A tensor on the memory of an array of another library; nothing is copied. Writes are seen by both.");
}

}  // namespace keel::python
