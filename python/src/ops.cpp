// The one trampoline: a call by Python's names becomes params and inputs as the op's row names them.
// Functions, methods, signatures and docs all come from the row.
#include <cmath>
#include <cstring>
#include <vector>

#include "convert.h"
#include "keel/random.h"

namespace keel::python {
namespace {

/// A row as the trampoline reads it. Lives for ever, as rows do.
struct BoundOp {
  const OpDef* op;
  std::vector<FieldInfo> fields;
  int key = -1;  // the input that the generator fills
};

struct Params {
  alignas(16) std::byte bytes[512];
  explicit Params(const OpDef& op) {
    KEEL_ASSERT(op.params.size <= sizeof bytes);
    op.params.construct(bytes);
  }
};

[[noreturn]] void type_error(const std::string& text) { throw nb::type_error(text.c_str()); }

/// Sets field `at` of params from `value`.
void set_field(const FieldInfo& f, void* member, nb::handle v, const char* op) {
  auto wrong = [&](const char* wants) {
    type_error(std::string(op) + "() takes " + wants + " for '" + f.name + "', got " + Py_TYPE(v.ptr())->tp_name);
  };
  switch (f.kind) {
    case FieldKind::boolean: {
      const int b = PyObject_IsTrue(v.ptr());
      if (b < 0) nb::raise_python_error();
      *static_cast<bool*>(member) = b != 0;
      return;
    }
    case FieldKind::integer: {
      if (!PyIndex_Check(v.ptr())) wrong("an int");
      const int64_t i = PyNumber_AsSsize_t(v.ptr(), PyExc_OverflowError);
      if (i == -1 && PyErr_Occurred()) nb::raise_python_error();
      *static_cast<int64_t*>(member) = i;
      return;
    }
    case FieldKind::number: {
      if (v.is_none() && std::isnan(*static_cast<const double*>(member))) return;  // a number that need not be given
      const double d = PyFloat_AsDouble(v.ptr());
      if (d == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        wrong("a float");
      }
      *static_cast<double*>(member) = d;
      return;
    }
    case FieldKind::scalar: *static_cast<Scalar*>(member) = to_scalar(v); return;
    case FieldKind::dtype: *static_cast<DType*>(member) = to_dtype(v); return;
    case FieldKind::dims:
      if (!v.is_none()) to_dims(v, *static_cast<Dims*>(member), op, f.name);
      return;
    case FieldKind::enumeration: {
      if (!PyUnicode_Check(v.ptr())) wrong("a string");
      const std::string s = nb::cast<std::string>(v);
      std::string all;
      for (int32_t i = 0; f.choices[i]; ++i) {
        if (s == f.choices[i]) {
          *static_cast<int32_t*>(member) = i;
          return;
        }
        all += (i ? ", '" : "'") + std::string(f.choices[i]) + "'";
      }
      raise(Error(ErrorCode::value, std::string("'") + f.name + "' is one of " + all + ", got '" + s + "'").op(op));
    }
    case FieldKind::symbol: {
      if (!PyUnicode_Check(v.ptr())) wrong("a string");
      *static_cast<Symbol*>(member) = Symbol(nb::cast<std::string>(v).c_str());
      return;
    }
    case FieldKind::device: {
      if (!v.is_none()) *static_cast<Device*>(member) = device(nb::cast<std::string>(nb::str(v)));
      return;
    }
  }
}

template <class F>
void visit(const OpDef& op, void* params, F f) {
  struct Context {
    F& f;
    int i = 0;
  } context{f};
  FieldSink sink{&context, [](void* c, const FieldInfo& info, void* member) {
                   auto& x = *static_cast<Context*>(c);
                   x.f(x.i++, info, member);
                 }};
  op.params.visit(params, sink);
}

Tensor operand(nb::handle h, const OpDef& op, const ArgDef& a) {
  Tensor t;
  if (a.optional && h.is_none()) return t;
  if (to_operand(h, t)) return t;
  type_error(std::string(op.name) + "() takes a tensor or a number for '" + a.name + "', got " + Py_TYPE(h.ptr())->tp_name +
             "; keel.tensor(...) copies it, keel.from_dlpack(...) shares it");
}

/// Reserves numbers for a call that gave no key: two words an element of the largest thing in sight, which no random op exceeds.
void fill_random(const BoundOp& b, Params& p, Tensors& in) {
  int64_t elements = 1;
  for (const Tensor& t : in)
    if (t.defined()) elements = std::max(elements, t.size());
  int64_t* offset = nullptr;
  int64_t integers = 1;
  visit(*b.op, p.bytes, [&](int, const FieldInfo& f, void* member) {
    if (f.kind == FieldKind::dims) elements = std::max(elements, Shape(*static_cast<Dims*>(member)).numel());
    if (f.kind != FieldKind::integer) return;
    if (std::strcmp(f.name, "offset") == 0)
      offset = static_cast<int64_t*>(member);
    else if (std::strcmp(f.name, "n") == 0 || std::strcmp(f.name, "count") == 0)
      integers = std::max<int64_t>(integers, std::min<int64_t>(*static_cast<int64_t*>(member), int64_t(1) << 40));
  });
  Generator& g = default_generator();
  in[b.key] = g.key();
  if (offset && *offset == 0 && elements < int64_t(1) << 40) *offset = g.reserve((elements + 3) / 4 * 4 * integers, 2);
}

nb::object call_op(const BoundOp& b, nb::args args, nb::kwargs kwargs) {
  const OpDef& op = *b.op;
  const int inputs = op.in.size(), fields = int(b.fields.size());
  PyObject* slots[10 + 24] = {};
  KEEL_ASSERT(fields <= 24);
  nb::object collected;
  int slot = 0, n = int(args.size());
  for (int i = 0; i < n; ++i, ++slot) {
    if (slot == b.key) ++slot;
    PyObject* v = args[size_t(i)].ptr();
    // x.reshape(2, 3): the ints are one list where the row has that list only
    if (slot == inputs && fields == 1 && b.fields[0].kind == FieldKind::dims && i + 1 < n) {
      collected = nb::steal(PyTuple_GetSlice(args.ptr(), i, n));
      slots[slot++] = collected.ptr();
      break;
    }
    if (slot >= inputs + fields)
      type_error(std::string(op.name) + "() takes at most " + std::to_string(inputs + fields - (b.key >= 0)) + " arguments, got " +
                 std::to_string(n));
    slots[slot] = v;
  }
  for (auto [k, v] : kwargs) {
    const std::string name = nb::cast<std::string>(k);
    int at = -1;
    for (int i = 0; i < inputs; ++i)
      if (name == op.in[i].name) at = i;
    for (int i = 0; i < fields; ++i)
      if (name == b.fields[size_t(i)].name) at = inputs + i;
    if (at < 0) {
      std::string all;
      for (int i = 0; i < inputs; ++i)
        if (i != b.key) all += (all.empty() ? "" : ", ") + std::string(op.in[i].name);
      for (const FieldInfo& f : b.fields) all += (all.empty() ? "" : ", ") + std::string(f.name);
      type_error(std::string(op.name) + "() has no argument '" + name + "'; it takes " + all);
    }
    if (slots[at]) type_error(std::string(op.name) + "() got '" + name + "' twice");
    slots[at] = v.ptr();
  }

  Params p(op);
  visit(op, p.bytes, [&](int i, const FieldInfo& f, void* member) {
    if (PyObject* v = slots[inputs + i]) set_field(f, member, v, op.name);
  });
  Tensors in;
  for (int i = 0; i < inputs; ++i) {
    const ArgDef& a = op.in[i];
    if (a.variadic) {
      if (!slots[i]) type_error(std::string(op.name) + "() misses the argument '" + a.name + "'");
      if (Tensor * one; nb::try_cast(nb::handle(slots[i]), one) && one)
        type_error(std::string(op.name) + "() takes a list of tensors for '" + a.name + "'");
      for (nb::handle h : nb::handle(slots[i])) in.push_back(operand(h, op, a));
    } else if (!slots[i]) {
      if (!a.optional && i != b.key) type_error(std::string(op.name) + "() misses the argument '" + a.name + "'");
      in.push_back(Tensor());
    } else {
      in.push_back(operand(slots[i], op, a));
    }
  }
  if (b.key >= 0 && !in[b.key].defined()) fill_random(b, p, in);

  SmallVector<const Tensor*, 16> at;
  for (const Tensor& t : in) at.push_back(&t);
  Tensors out;
  {
    nb::gil_scoped_release free;
    out = dispatch(op, p.bytes, Inputs(at.data(), int(at.size())), __builtin_return_address(0));
  }
  int64_t visible = 0;
  for (const OutDef& o : op.out) visible += !o.only_when_recording;
  if (op.out.size() == 1) visible = out.size();  // split and chunk give as many as there are
  if (visible == 1) return from_tensor(std::move(out[0]));
  nb::list l;
  for (int64_t i = 0; i < visible; ++i) l.append(from_tensor(std::move(out[i])));
  return nb::tuple(l);
}

// ---- texts ----
nb::object field_value(const FieldInfo& f, const void* m) {
  switch (f.kind) {
    case FieldKind::boolean: return nb::cast(*static_cast<const bool*>(m));
    case FieldKind::integer: return nb::cast(*static_cast<const int64_t*>(m));
    case FieldKind::number: return nb::cast(*static_cast<const double*>(m));
    case FieldKind::scalar: return from_scalar(*static_cast<const Scalar*>(m));
    case FieldKind::dtype: return dtype_object(*static_cast<const DType*>(m));
    case FieldKind::dims: return from_dims(*static_cast<const Dims*>(m));
    case FieldKind::enumeration: return nb::cast(std::string(f.choices[*static_cast<const int32_t*>(m)]));
    case FieldKind::symbol: return nb::cast(std::string(static_cast<const Symbol*>(m)->c_str()));
    case FieldKind::device: return nb::cast(to_string(*static_cast<const Device*>(m)));
  }
  return nb::none();
}

std::string field_type(const FieldInfo& f) {
  switch (f.kind) {
    case FieldKind::boolean: return "bool";
    case FieldKind::integer: return "int";
    case FieldKind::number:
    case FieldKind::scalar: return "float";
    case FieldKind::dtype: return "DType | str | None";
    case FieldKind::dims: return "int | typing.Sequence[int] | None";
    case FieldKind::enumeration: {
      std::string s;
      for (int i = 0; f.choices[i]; ++i) s += (i ? ", '" : "'") + std::string(f.choices[i]) + "'";
      return "typing.Literal[" + s + "]";
    }
    case FieldKind::symbol:
    case FieldKind::device: return "str";
  }
  return "object";
}

std::string default_text(const FieldInfo& f, const void* m) {
  if (f.kind == FieldKind::dtype && *static_cast<const DType*>(m) == DType::none) return "None";
  if (f.kind == FieldKind::dims && static_cast<const Dims*>(m)->empty()) return "None";
  if (f.kind == FieldKind::dtype) return "'" + std::string(name_of(*static_cast<const DType*>(m))) + "'";
  if (f.kind == FieldKind::number && std::isnan(*static_cast<const double*>(m))) return "None";
  if (f.kind == FieldKind::number && std::isinf(*static_cast<const double*>(m))) return "float('inf')";
  return nb::cast<std::string>(nb::repr(field_value(f, m)));
}

std::string signature(const BoundOp& b, bool method) {
  const OpDef& op = *b.op;
  std::string s = std::string("def ") + op.name + "(";
  bool first = true;
  auto add = [&](const std::string& text) {
    s += (first ? "" : ", ") + text;
    first = false;
  };
  int required = 0;  // inputs up to the last one that a call must give: a parameter before it can have no default
  for (int i = 0; i < op.in.size(); ++i)
    if (i != b.key && !op.in[i].optional) required = i + 1;
  for (int i = 0; i < op.in.size(); ++i) {
    if (i == b.key) continue;
    const ArgDef& a = op.in[i];
    if (method && i == 0)
      add("self");
    else if (a.variadic)
      add(std::string(a.name) + ": typing.Sequence[Tensor]");
    else
      add(std::string(a.name) + ": Tensor | float" + (a.optional ? " | None" : "") + (i < required ? "" : " = None"));
  }
  Params p(op);
  visit(op, p.bytes, [&](int i, const FieldInfo& f, void* m) {
    const std::string plain = default_text(f, m);
    add(std::string(b.fields[size_t(i)].name) + ": " + field_type(f) + (f.kind == FieldKind::number && plain == "None" ? " | None" : "") +
        " = " + plain);
  });
  int visible = 0;
  for (const OutDef& o : op.out) visible += !o.only_when_recording;
  s += ") -> ";
  if (visible == 1) return s + "Tensor";
  s += "tuple[";
  for (int i = 0; i < visible; ++i) s += i ? ", Tensor" : "Tensor";
  return s + "]";
}

std::string documentation(const BoundOp& b) {
  std::string s = b.op->doc;
  if (b.fields.empty()) return s;
  s += "\n\nArgs:";
  for (const FieldInfo& f : b.fields) s += "\n    " + std::string(f.name) + ": " + f.doc;
  return s;
}

nb::list kind_names(DTypeSet set) {
  nb::list l;
  for (int i = 1; i < kDTypes; ++i)
    if (contains(set, DType(i))) l.append(std::string(name_of(DType(i))));
  return l;
}

nb::dict row(const BoundOp& b) {
  const OpDef& op = *b.op;
  nb::dict d;
  d["name"] = op.name;
  d["doc"] = op.doc;
  nb::list in, out, params;
  for (const ArgDef& a : op.in) {
    nb::dict x;
    x["name"] = a.name, x["dtypes"] = kind_names(a.kinds), x["optional"] = a.optional, x["variadic"] = a.variadic,
    x["promoted"] = a.grouped, x["written"] = a.written;
    in.append(x);
  }
  for (const OutDef& o : op.out) {
    nb::dict x;
    x["name"] = o.name, x["aux"] = o.only_when_recording,
    x["alias_of"] = o.alias_of < 0 ? nb::none() : nb::object(nb::cast(op.in[o.alias_of].name));
    out.append(x);
  }
  Params p(op);
  visit(op, p.bytes, [&](int, const FieldInfo& f, void* m) {
    nb::dict x;
    x["name"] = f.name, x["doc"] = f.doc, x["type"] = field_type(f), x["default"] = field_value(f, m);
    if (f.kind == FieldKind::enumeration) {
      nb::list c;
      for (int i = 0; f.choices[i]; ++i) c.append(f.choices[i]);
      x["choices"] = c;
    }
    params.append(x);
  });
  d["inputs"] = in, d["outputs"] = out, d["params"] = params;
  d["primitive"] = op.is_primitive, d["random"] = op.random, d["elementwise"] = op.elementwise,
  d["differentiable"] = op.vjp || op.decompose;
  d["onnx"] = op.onnx ? nb::object(nb::cast(op.onnx)) : nb::none();
  return d;
}

const BoundOp& bind(const OpDef& op) {
  auto* b = new BoundOp{&op, {}};
  Params p(op);
  visit(op, p.bytes, [&](int, const FieldInfo& f, void*) { b->fields.push_back(f); });
  for (int i = 0; i < op.in.size(); ++i)
    if (op.random && std::strcmp(op.in[i].name, "key") == 0) b->key = i;
  return *b;
}

std::vector<const BoundOp*> bound;

}  // namespace

void bind_ops(nb::module_& m, nb::class_<Tensor>& c) {
  Registry& r = registry();
  for (int64_t i = 0; i < r.size(); ++i) {
    const BoundOp& b = keel::python::bind(r.op(i));
    bound.push_back(&b);
    auto f = [&b](nb::args args, nb::kwargs kwargs) { return call_op(b, args, kwargs); };
    const std::string doc = documentation(b);
    if (!nb::hasattr(m, b.op->name))
      nb::cpp_function_def(f, nb::scope(m), nb::name(b.op->name), nb::sig(signature(b, false).c_str()), doc.c_str());
    if (b.op->in.size() && !b.op->in[0].variadic && b.key != 0 && !nb::hasattr(c, b.op->name))
      nb::cpp_function_def([&b](nb::args args, nb::kwargs kwargs) { return call_op(b, args, kwargs); }, nb::scope(c), nb::name(b.op->name),
                           nb::sig(signature(b, true).c_str()), doc.c_str(), nb::is_method());
  }
  m.def(
      "registry",
      [] {
        nb::list l;
        for (const BoundOp* b : bound) l.append(row(*b));
        return l;
      },
      nb::sig("def registry() -> list[dict[str, object]]"), "The rows of all ops, in the order of their names.");
}

}  // namespace keel::python
