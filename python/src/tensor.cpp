#include "convert.h"
#include "keel/keel.h"

namespace keel::python {
namespace {

using BinaryFn = Tensor (*)(const Operand&, const Operand&);

/// What an operator gives for something that is neither a tensor nor a number. Arrays of other libraries are refused here, as Python would
/// answer `==` with False.
nb::object no_operand(nb::handle other) {
  if (PyObject_HasAttrString(other.ptr(), "__dlpack__") != 1) return nb::borrow(Py_NotImplemented);
  const std::string type =
      nb::cast<std::string>(nb::str(other.type().attr("__module__"))) + "." + nb::cast<std::string>(other.type().attr("__name__"));
  throw nb::type_error(
      ("operators take tensors and numbers, not " + type + "; keel.asarray(a) makes a tensor of it without a copy").c_str());
}

template <BinaryFn F>
nb::object binary(const Tensor& a, nb::handle b) {
  Tensor o;
  if (!to_operand(b, o)) return no_operand(b);
  nb::gil_scoped_release free;
  Tensor y = F(a, o);
  nb::gil_scoped_acquire again;
  return nb::cast(std::move(y));
}
template <BinaryFn F>
nb::object reflected(const Tensor& b, nb::handle a) {
  Tensor o;
  if (!to_operand(a, o)) return no_operand(a);
  nb::gil_scoped_release free;
  Tensor y = F(o, b);
  nb::gil_scoped_acquire again;
  return nb::cast(std::move(y));
}
template <BinaryFn F>
void operators(nb::class_<Tensor>& c, const char* name, const char* other) {
  const std::string plain = std::string("def ") + name + "(self, other: Tensor | float, /) -> Tensor";
  c.def(name, &binary<F>, nb::arg("other").none(), nb::sig(plain.c_str()));
  if (!other) return;
  const std::string text = std::string("def ") + other + "(self, other: Tensor | float, /) -> Tensor";
  c.def(other, &reflected<F>, nb::arg("other").none(), nb::sig(text.c_str()));
}
template <class F>
void in_place(nb::class_<Tensor>& c, const char* op, const char* name, F f) {
  for (const char* n : {op, name}) {
    if (!n) continue;
    const std::string text = std::string("def ") + n + "(self, other: Tensor | float, /) -> Tensor";
    c.def(
        n,
        [f](nb::object self, nb::handle o) {
          Tensor v;
          if (!to_operand(o, v)) v = to_tensor(o);
          f(nb::cast<Tensor&>(self), Operand(v));
          return self;
        },
        nb::arg("other"), nb::sig(text.c_str()));
  }
}
nb::object item(const Tensor& t) {
  if (t.size() != 1) t.item();  // raises
  return element(impl(t).data, t.dtype());
}
template <DType T>
void conversion(nb::class_<Tensor>& c, const char* name) {
  c.def(name, [](const Tensor& t) { return t.to(T); });
}

nb::object array_of(nb::object self, nb::object dtype, nb::object copy) {
  return nb::module_::import_("keel._functions").attr("array_of")(self, dtype, copy);
}

}  // namespace

void bind_tensor(nb::module_&, nb::class_<Tensor>& c) {
  c.def_prop_ro(
      "shape", [](const Tensor& t) { return from_dims(t.shape()); }, nb::sig("def shape(self) -> tuple[int, ...]"),
      "Extents, outermost first.");
  c.def_prop_ro(
      "strides", [](const Tensor& t) { return from_dims(t.strides()); }, nb::sig("def strides(self) -> tuple[int, ...]"),
      "Distance of neighbours along each axis, in elements.");
  c.def_prop_ro(
      "dtype", [](const Tensor& t) { return dtype_object(t.dtype()); }, nb::sig("def dtype(self) -> DType"));
  c.def_prop_ro("device", [](const Tensor& t) { return to_string(t.device()); });
  c.def_prop_ro("ndim", [](const Tensor& t) { return t.rank(); });
  c.def_prop_ro(
      "size", [](const Tensor& t) { return t.size(); }, "Number of elements.");
  c.def_prop_ro("nbytes", [](const Tensor& t) { return t.nbytes(); });
  c.def_prop_ro(
      "T",
      [](const Tensor& t) {
        Dims order;
        for (int64_t i = t.rank(); i-- > 0;) order.push_back(i);
        return permute(t, order);
      },
      "All axes reversed.");
  c.def("numel", [](const Tensor& t) { return t.size(); });
  c.def_prop_ro("is_leaf", &Tensor::is_leaf);
  c.def_prop_ro("tracked", &Tensor::tracked, "Whether gradients flow through this tensor.");
  c.def_prop_ro("version", &Tensor::version, "How often the memory was written.");
  c.def_prop_ro("readonly", [](const Tensor& t) { return impl(t).storage && impl(t).storage->readonly; });
  c.def_prop_rw("requires_grad", &Tensor::requires_grad, [](Tensor& t, bool on) { t.requires_grad_(on); });
  c.def(
      "requires_grad_",
      [](nb::object self, bool on) {
        nb::cast<Tensor&>(self).requires_grad_(on);
        return self;
      },
      nb::arg("on") = true, nb::sig("def requires_grad_(self, on: bool = True) -> Tensor"));
  c.def_prop_rw(
      "grad", [](const Tensor& t) { return from_tensor(t.grad()); },
      [](Tensor& t, nb::handle g) { t.set_grad(g.is_none() ? Tensor() : nb::cast<Tensor>(g)); },
      nb::for_getter(nb::sig("def grad(self) -> Tensor | None")),
      nb::for_setter(nb::sig("def grad(self, value: Tensor | None, /) -> None")), nb::for_setter(nb::arg("value").none()),
      "The gradient that backward() accumulated, or None.");
  c.def("zero_grad", &Tensor::zero_grad);
  c.def(
      "backward",
      [](const Tensor& t, nb::handle g, bool retain_graph, bool create_graph) {
        Tensor cotangent;
        if (!g.is_none()) cotangent = to_tensor(g);
        nb::gil_scoped_release free;
        backward(Tensors{t}, cotangent.defined() ? Tensors{cotangent} : Tensors{},
                 {.retain_graph = retain_graph, .create_graph = create_graph});
      },
      nb::arg("cotangent") = nb::none(), nb::arg("retain_graph") = false, nb::arg("create_graph") = false,
      nb::sig("def backward(self, cotangent: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False) -> None"),
      "Accumulates gradients into the .grad of every leaf that this tensor was computed from.");
  c.def("detach", &Tensor::detach, "The same memory, outside the gradient graph.");
  c.def("item", &item, nb::sig("def item(self) -> bool | int | float | complex"), "The single element as a Python number.");
  c.def("tolist", &to_list, nb::sig("def tolist(self) -> typing.Any"), "Nested lists of Python numbers.");
  c.def("is_contiguous", &Tensor::is_contiguous);
  c.def("shares_storage", &Tensor::shares_storage, nb::arg("other"));
  c.def(
      "to",
      [](const Tensor& t, nb::handle what) {
        if (PyUnicode_Check(what.ptr())) {
          const std::string name = nb::cast<std::string>(what);
          if (dtype_from_name(name.c_str()) == DType::none) return t.to(device(name));
        }
        return t.to(to_dtype(what));
      },
      nb::arg("target"), nb::sig("def to(self, target: DType | str) -> Tensor"), "Another dtype, or another device (\"cpu\", \"cuda\").");
  c.def(
      "astype", [](const Tensor& t, nb::handle d) { return t.to(to_dtype(d)); }, nb::arg("dtype"),
      nb::sig("def astype(self, dtype: DType | str) -> Tensor"));
  c.def("clone", &Tensor::clone);
  c.def("__copy__", [](const Tensor& t) { return t; });
  c.def(
      "__deepcopy__",
      [](const Tensor& t, nb::handle) {
        Tensor y = t.detach().clone();
        if (t.requires_grad()) y.requires_grad_();
        return y;
      },
      nb::arg("memo"));
  c.def("contiguous", &Tensor::contiguous);
  c.def("channels_last", &Tensor::channels_last);
  conversion<f32>(c, "float");
  conversion<f64>(c, "double");
  conversion<f16>(c, "half");
  conversion<bf16>(c, "bfloat16");
  conversion<i32>(c, "int");
  conversion<i64>(c, "long");
  conversion<boolean>(c, "bool");

  c.def("__repr__", [](const Tensor& t) { return to_string(t); });
  c.def(
      "__format__",
      [](const Tensor& t, const nb::str& spec) {
        if (nb::len(spec) == 0) return nb::str(to_string(t).c_str());
        if (t.rank() != 0) throw nb::type_error("only a 0-d tensor can be formatted as a number");
        return nb::str(nb::module_::import_("builtins").attr("format")(item(t), spec));
      },
      nb::arg("spec"), nb::sig("def __format__(self, spec: str, /) -> str"), "A 0-d tensor as the number that it holds.");
  c.def("__len__", [](const Tensor& t) {
    if (t.rank() == 0) throw nb::type_error("a 0-d tensor has no length");
    return t.shape()[0];
  });
  c.def(
      "__iter__",
      [](const Tensor& t) {
        if (t.rank() == 0) throw nb::type_error("a 0-d tensor cannot be iterated over");
        nb::list l;
        for (int64_t i = 0; i < t.shape()[0]; ++i) l.append(Tensor(t[i]));
        return nb::iter(l);
      },
      nb::sig("def __iter__(self) -> typing.Iterator[Tensor]"));
  c.def("__bool__", [](const Tensor& t) {
    if (t.size() != 1)
      raise(Error(ErrorCode::value, "the truth of a tensor with " + std::to_string(t.size()) + " elements is ambiguous")
                .op("bool")
                .hint("x.any() or x.all()"));
    return PyObject_IsTrue(item(t).ptr()) == 1;
  });
  c.def("__float__", [](const Tensor& t) { return t.item(); });
  c.def(
      "__int__", [](const Tensor& t) { return nb::steal(PyNumber_Long(item(t).ptr())); }, nb::sig("def __int__(self) -> int"));
  c.def(
      "__index__",
      [](const Tensor& t) {
        if (!is_integer(t.dtype())) throw nb::type_error("only integer tensors with one element can be an index");
        return item(t);
      },
      nb::sig("def __index__(self) -> int"));
  c.def("__hash__", [](const Tensor& t) { return reinterpret_cast<intptr_t>(t.impl()) >> 4; });
  c.def(
      "__getitem__", [](const Tensor& t, nb::handle key) { return get_item(t, key); }, nb::arg("key").none(),
      nb::sig("def __getitem__(self, key: typing.Any, /) -> Tensor"));
  c.def(
      "__setitem__", [](Tensor& t, nb::handle key, nb::handle value) { set_item(t, key, value); }, nb::arg("key").none(), nb::arg("value"),
      nb::sig("def __setitem__(self, key: typing.Any, value: typing.Any, /) -> None"));
  c.def(
      "__array__", [](nb::object self, nb::object dtype, nb::object copy) { return array_of(self, dtype, copy); },
      nb::arg("dtype") = nb::none(), nb::arg("copy") = nb::none(),
      nb::sig("def __array__(self, dtype: typing.Any = None, copy: bool | None = None) -> typing.Any"));
  c.def(
      "numpy", [](nb::object self) { return array_of(self, nb::none(), nb::none()); }, nb::sig("def numpy(self) -> typing.Any"),
      "A NumPy array on the same memory. Read-only where the tensor is, or where gradients flow through it.");
  c.def(
      "__dlpack__",
      [](const Tensor& t, nb::object, nb::object max_version, nb::object dl_device, nb::object copy) {
        return to_dlpack(t, max_version, dl_device, copy);
      },
      nb::kw_only(), nb::arg("stream") = nb::none(), nb::arg("max_version") = nb::none(), nb::arg("dl_device") = nb::none(),
      nb::arg("copy") = nb::none(),
      nb::sig("def __dlpack__(self, *, stream: typing.Any = None, max_version: tuple[int, int] | None = None, dl_device: tuple[int, int] | "
              "None = None, copy: bool | None = None) -> typing.Any"));
  c.def(
      "__dlpack_device__", [](const Tensor&) { return nb::make_tuple(1, 0); }, nb::sig("def __dlpack_device__(self) -> tuple[int, int]"));
  c.def_prop_ro("_address", [](const Tensor& t) { return reinterpret_cast<uintptr_t>(impl(t).data); });

  operators<add>(c, "__add__", "__radd__");
  operators<sub>(c, "__sub__", "__rsub__");
  operators<mul>(c, "__mul__", "__rmul__");
  operators<div>(c, "__truediv__", "__rtruediv__");
  operators<floor_divide>(c, "__floordiv__", "__rfloordiv__");
  operators<remainder>(c, "__mod__", "__rmod__");
  operators<pow>(c, "__pow__", "__rpow__");
  operators<bitwise_and>(c, "__and__", "__rand__");
  operators<bitwise_or>(c, "__or__", "__ror__");
  operators<bitwise_xor>(c, "__xor__", "__rxor__");
  operators<equal>(c, "__eq__", nullptr);
  operators<not_equal>(c, "__ne__", nullptr);
  operators<less>(c, "__lt__", nullptr);
  operators<less_equal>(c, "__le__", nullptr);
  operators<greater>(c, "__gt__", nullptr);
  operators<greater_equal>(c, "__ge__", nullptr);
  c.def(
      "__matmul__",
      [](const Tensor& a, nb::handle b) -> nb::object {
        Tensor* t = nullptr;
        if (!nb::try_cast(b, t) || !t) return no_operand(b);
        return nb::cast(matmul(a, *t));
      },
      nb::arg("other").none(), nb::sig("def __matmul__(self, other: Tensor, /) -> Tensor"));
  c.def("__neg__", [](const Tensor& t) { return neg(t); });
  c.def("__pos__", [](const Tensor& t) { return t; });
  c.def("__abs__", [](const Tensor& t) { return keel::abs(t); });
  c.def("__invert__", [](const Tensor& t) { return bitwise_not(t); });
  in_place(c, "__iadd__", "add_", [](Tensor& t, const Operand& o) { t.add_(o); });
  in_place(c, "__isub__", "sub_", [](Tensor& t, const Operand& o) { t.sub_(o); });
  in_place(c, "__imul__", "mul_", [](Tensor& t, const Operand& o) { t.mul_(o); });
  in_place(c, "__itruediv__", "div_", [](Tensor& t, const Operand& o) { t.div_(o); });
  in_place(c, "copy_", nullptr, [](Tensor& t, const Operand& o) { t.copy_(o); });
  in_place(c, "fill_", nullptr, [](Tensor& t, const Operand& o) { t.copy_(o); });
  c.def(
      "zero_",
      [](nb::object self) {
        nb::cast<Tensor&>(self).zero_();
        return self;
      },
      nb::sig("def zero_(self) -> Tensor"));
}

}  // namespace keel::python
