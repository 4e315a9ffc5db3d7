// Functions that are not rows: other spellings of views, creation, gradients, files.
#include <memory>

#include "convert.h"
#include "keel/keel.h"
#include "keel/version.h"

namespace keel::python {
namespace {

/// `with determinism(level)`, which may be entered inside of itself.
struct DeterminismContext {
  Determinism level;
  std::vector<std::unique_ptr<DeterminismGuard>> guards;
  explicit DeterminismContext(const std::string& l) : level(determinism_from_name(l.c_str())) {}
  DeterminismContext(const DeterminismContext&) = delete;
  DeterminismContext& enter() { return guards.push_back(std::make_unique<DeterminismGuard>(level)), *this; }
  void exit() { guards.pop_back(); }
};

TensorOptions options(nb::handle dtype, bool requires_grad) { return {.dtype = to_dtype(dtype), .requires_grad = requires_grad}; }
Tensors to_tensors(nb::handle h) {
  if (Tensor * t; nb::try_cast(h, t) && t) return Tensors{*t};
  Tensors l;
  for (nb::handle e : h) l.push_back(nb::cast<Tensor>(e));
  return l;
}
nb::tuple from_tensors(Tensors t) {
  nb::list l;
  for (Tensor& e : t) l.append(from_tensor(std::move(e)));
  return nb::tuple(l);
}

/// A function of the module that is a method of Tensor too.
template <class F>
void both(nb::module_& m, nb::class_<Tensor>& c, const char* name, const char* arguments, const char* doc, F f) {
  const std::string as_function = std::string("def ") + name + "(x: Tensor" + arguments,
                    as_method = std::string("def ") + name + "(self" + arguments;
  f([&](auto fn, const auto&... a) {
    m.def(name, fn, nb::arg("x"), a..., nb::sig(as_function.c_str()), doc);
    c.def(name, fn, a..., nb::sig(as_method.c_str()), doc);
  });
}

void bind_views(nb::module_& m, nb::class_<Tensor>& c) {
  both(m, c, "transpose", ", a: int = -2, b: int = -1) -> Tensor", "Two axes swapped; a view.", [](auto def) {
    def([](const Tensor& x, int64_t a, int64_t b) { return transpose(x, a, b); }, nb::arg("a") = -2, nb::arg("b") = -1);
  });
  both(m, c, "flatten", ", first: int = 0, last: int = -1) -> Tensor", "The axes first..last merged into one.", [](auto def) {
    def([](const Tensor& x, int64_t a, int64_t b) { return flatten(x, a, b); }, nb::arg("first") = 0, nb::arg("last") = -1);
  });
  both(m, c, "squeeze", ", axis: int | None = None) -> Tensor", "Without axes of extent 1: all of them, or the one given.", [](auto def) {
    def([](const Tensor& x, nb::handle axis) { return axis.is_none() ? squeeze(x) : squeeze(x, nb::cast<int64_t>(axis)); },
        nb::arg("axis") = nb::none());
  });
  both(m, c, "unsqueeze", ", axis: int) -> Tensor", "A new axis of extent 1.",
       [](auto def) { def([](const Tensor& x, int64_t axis) { return unsqueeze(x, axis); }, nb::arg("axis")); });
  both(m, c, "broadcast_to", ", shape: int | typing.Sequence[int]) -> Tensor", "Axes of extent 1 repeated with stride 0; a view.",
       [](auto def) { def([](const Tensor& x, nb::handle s) { return broadcast_to(x, to_shape(s)); }, nb::arg("shape")); });
  both(m, c, "flip", ", axis: int | typing.Sequence[int]) -> Tensor", "The order along the axes reversed.",
       [](auto def) { def([](const Tensor& x, nb::handle s) { return flip(x, Axes(to_shape(s))); }, nb::arg("axis")); });
  both(m, c, "chunk", ", count: int, axis: int = 0) -> tuple[Tensor, ...]", "At most `count` pieces of equal size along an axis; views.",
       [](auto def) {
         def([](const Tensor& x, int64_t count, int64_t axis) { return from_tensors(chunk(x, count, {.axis = axis})); }, nb::arg("count"),
             nb::arg("axis") = 0);
       });
  both(m, c, "split", ", size: int | typing.Sequence[int], axis: int = 0) -> tuple[Tensor, ...]",
       "Pieces of one size, or of the sizes given, along an axis; views.", [](auto def) {
         def(
             [](const Tensor& x, nb::handle size, int64_t axis) -> nb::tuple {
               if (PyIndex_Check(size.ptr())) return from_tensors(split(x, nb::cast<int64_t>(size), {.axis = axis}));
               if (axis < -x.rank() || axis >= x.rank())
                 raise(Error(ErrorCode::index, "axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(x.rank()))
                           .op("split"));
               int64_t at = 0, sum = 0;
               for (nb::handle h : size) sum += nb::cast<int64_t>(h);
               const int64_t extent = x.size(axis), front = axis < 0 ? axis + x.rank() : axis;
               if (sum != extent)
                 raise(Error(ErrorCode::shape, "the sizes add up to " + std::to_string(sum) + ", the axis has " + std::to_string(extent))
                           .op("split"));
               Tensors out;
               for (nb::handle h : size) {
                 const int64_t n = nb::cast<int64_t>(h);
                 SliceParams p;
                 for (int64_t i = 0; i < x.rank(); ++i)
                   p.start.push_back(i == front ? at : 0), p.stop.push_back(i == front ? at + n : x.size(i)), p.step.push_back(1);
                 out.push_back(slice_view(x, p));
                 at += n;
               }
               return from_tensors(out);
             },
             nb::arg("size"), nb::arg("axis") = 0);
       });
  c.def(
      "view",
      [](const Tensor& x, nb::args shape) { return x.view(to_shape(shape.size() == 1 ? nb::object(shape[0]) : nb::object(shape))); },
      nb::sig("def view(self, *shape: typing.Any) -> Tensor"),
      "Another shape on the same memory; ShapeError where the strides do not allow it.");
}

}  // namespace

void bind_functions(nb::module_& m) {
  nb::class_<Tensor> c = nb::borrow<nb::class_<Tensor>>(m.attr("Tensor"));
  bind_views(m, c);

#define KEEL_CREATION "dtype: DType | str | None = None, requires_grad: bool = False) -> Tensor"
  m.def(
      "tensor",
      [](nb::handle data, nb::handle dtype, bool grad) {
        Tensor t = to_tensor(data, to_dtype(dtype));
        if (!PyList_Check(data.ptr()) && !PyTuple_Check(data.ptr()) && !is_number(data)) t = t.detach().clone();
        if (grad) t.requires_grad_();
        return t;
      },
      nb::arg("data"), nb::arg("dtype") = nb::none(), nb::arg("requires_grad") = false,
      nb::sig("def tensor(data: typing.Any, " KEEL_CREATION),
      "A new tensor with a copy of the data: a number, nested lists, an array of another library, a tensor. Python floats become float32, "
      "ints int64; arrays keep their dtype.");
  m.def(
      "asarray", [](nb::handle data, nb::handle dtype) { return to_tensor(data, to_dtype(dtype)); }, nb::arg("data"),
      nb::arg("dtype") = nb::none(), nb::sig("def asarray(data: typing.Any, dtype: DType | str | None = None) -> Tensor"),
      "As tensor(), but shares memory where it can.");
  m.def(
      "empty", [](nb::handle s, nb::handle d, bool g) { return empty(to_shape(s), options(d, g)); }, nb::arg("shape"),
      nb::arg("dtype") = nb::none(), nb::arg("requires_grad") = false,
      nb::sig("def empty(shape: int | typing.Sequence[int], " KEEL_CREATION), "Uninitialised memory.");
  m.def(
      "zeros", [](nb::handle s, nb::handle d, bool g) { return zeros(to_shape(s), options(d, g)); }, nb::arg("shape"),
      nb::arg("dtype") = nb::none(), nb::arg("requires_grad") = false,
      nb::sig("def zeros(shape: int | typing.Sequence[int], " KEEL_CREATION), "A tensor of zeros.");
  m.def(
      "ones", [](nb::handle s, nb::handle d, bool g) { return ones(to_shape(s), options(d, g)); }, nb::arg("shape"),
      nb::arg("dtype") = nb::none(), nb::arg("requires_grad") = false,
      nb::sig("def ones(shape: int | typing.Sequence[int], " KEEL_CREATION), "A tensor of ones.");
  m.def(
      "full", [](nb::handle s, nb::handle v, nb::handle d, bool g) { return full(to_shape(s), to_scalar(v), options(d, g)); },
      nb::arg("shape"), nb::arg("value"), nb::arg("dtype") = nb::none(), nb::arg("requires_grad") = false,
      nb::sig("def full(shape: int | typing.Sequence[int], value: float, " KEEL_CREATION), "A tensor whose elements are all `value`.");
  m.def(
      "arange",
      [](nb::handle a, nb::handle b, nb::handle step, nb::handle d, bool g) {
        if (b.is_none()) return arange(0, to_scalar(a), to_scalar(step), options(d, g));
        return arange(to_scalar(a), to_scalar(b), to_scalar(step), options(d, g));
      },
      nb::arg("start"), nb::arg("stop") = nb::none(), nb::arg("step") = 1, nb::arg("dtype") = nb::none(), nb::arg("requires_grad") = false,
      nb::sig("def arange(start: float, stop: float | None = None, step: float = 1, " KEEL_CREATION),
      "start, start + step, ... below stop; from 0 where only one bound is given.");
  m.def(
      "linspace", [](double a, double b, int64_t n, nb::handle d, bool g) { return linspace(a, b, n, options(d, g)); }, nb::arg("start"),
      nb::arg("stop"), nb::arg("count") = 50, nb::arg("dtype") = nb::none(), nb::arg("requires_grad") = false,
      nb::sig("def linspace(start: float, stop: float, count: int = 50, " KEEL_CREATION),
      "`count` values from start to stop, both included.");
  m.def("empty_like", &empty_like, nb::arg("x"));
  m.def("zeros_like", &zeros_like, nb::arg("x"));
  m.def("ones_like", &ones_like, nb::arg("x"));
  m.def(
      "full_like", [](const Tensor& x, nb::handle v) { return full_like(x, to_scalar(v)); }, nb::arg("x"), nb::arg("value"),
      nb::sig("def full_like(x: Tensor, value: float) -> Tensor"));
#undef KEEL_CREATION

  m.def(
      "grad",
      [](nb::handle outputs, nb::handle inputs, nb::handle cotangents, bool retain_graph, bool create_graph, bool allow_unused) {
        const Tensors y = to_tensors(outputs), x = to_tensors(inputs), g = cotangents.is_none() ? Tensors() : to_tensors(cotangents);
        Tensors d;
        {
          nb::gil_scoped_release free;
          d = grad(y, x, {.retain_graph = retain_graph, .create_graph = create_graph, .allow_unused = allow_unused}, g);
        }
        return from_tensors(std::move(d));
      },
      nb::arg("outputs"), nb::arg("inputs"), nb::arg("cotangents") = nb::none(), nb::arg("retain_graph") = false,
      nb::arg("create_graph") = false, nb::arg("allow_unused") = false,
      nb::sig("def grad(outputs: Tensor | typing.Sequence[Tensor], inputs: Tensor | typing.Sequence[Tensor], cotangents: Tensor | "
              "typing.Sequence[Tensor] | None = None, "
              "retain_graph: bool = False, create_graph: bool = False, allow_unused: bool = False) -> tuple[Tensor, ...]"),
      "Gradients of the sum of `outputs`, each times its cotangent, by `inputs`; nothing is accumulated.");
  m.def("grad_enabled", &grad_enabled, "Whether ops of this thread record gradients.");
  m.def(
      "set_grad_enabled", [](bool on) { detail::set_grad_mode(on); }, nb::arg("on"));
  m.def("set_debug_mode", &set_debug_mode, nb::arg("on"),
        "Loud arithmetic on this thread: ops that make NaN or infinities raise NumericalError, and safe ops where they replace a value.");
  m.def(
      "set_determinism", [](const std::string& level) { set_determinism(determinism_from_name(level.c_str())); }, nb::arg("level"),
      nb::sig("def set_determinism(level: typing.Literal['fast', 'run', 'invariant']) -> None"),
      "How far bits are promised on all threads, but inside of `determinism`: 'fast' (not at all), 'run', or 'invariant' to the batch's size.");
  m.def(
      "get_determinism", [] { return name_of(determinism()); },
      nb::sig("def get_determinism() -> typing.Literal['fast', 'run', 'invariant']"), "The level of this thread's ops.");
  m.def(
      "set_float32_matmul_precision", [](const std::string& p) { set_float32_matmul_precision(matmul_precision_from_name(p.c_str())); },
      nb::arg("precision"), nb::sig("def set_float32_matmul_precision(precision: typing.Literal['highest', 'high']) -> None"),
      "With how many digits a GPU multiplies f32: 'highest', all of them, or 'high', as TF32.");
  m.def(
      "get_float32_matmul_precision", [] { return name_of(float32_matmul_precision()); },
      nb::sig("def get_float32_matmul_precision() -> typing.Literal['highest', 'high']"), "What set_float32_matmul_precision said last.");
  nb::class_<DeterminismContext>(m, "determinism", "A context whose ops, and their gradients, have this level of determinism; it is its thread's.")
      .def(nb::init<const std::string&>(), nb::arg("level"), nb::sig("def __init__(self, level: typing.Literal['fast', 'run', 'invariant']) -> None"))
      .def("__enter__", &DeterminismContext::enter, nb::rv_policy::reference)
      .def("__exit__", [](DeterminismContext& c, const nb::args&) { c.exit(); });
  m.def("is_debug_mode", &debug_mode, "Whether debug mode is on for this thread.");
  m.def("manual_seed", &manual_seed, nb::arg("seed"), "Seeds the generator of this thread.");
  m.def("version", [] { return std::string(version()); });

  m.def(
      "load",
      [](nb::handle path) {
        const std::string p = nb::cast<std::string>(nb::module_::import_("os").attr("fspath")(path));
        StateDict s;
        {
          nb::gil_scoped_release free;
          s = load(p);
        }
        nb::dict d;
        for (const StateDict::Entry& e : s) d[e.name.c_str()] = nb::cast(e.tensor);
        return d;
      },
      nb::arg("path"), nb::sig("def load(path: object) -> dict[str, Tensor]"),
      "Tensors by name from a safetensors file, a Keel checkpoint, .npz or .npy. The first two are mapped: read-only, nothing copied.");
  m.def(
      "save",
      [](nb::dict tensors, nb::handle path) {
        StateDict s;
        for (auto [k, v] : tensors) s.set(nb::cast<std::string>(k), to_tensor(v));
        const std::string p = nb::cast<std::string>(nb::module_::import_("os").attr("fspath")(path));
        nb::gil_scoped_release free;
        save(p, s);
      },
      nb::arg("tensors"), nb::arg("path"), nb::sig("def save(tensors: dict[str, Tensor], path: object) -> None"),
      "Writes tensors by name; the ending tells the format: .safetensors, .keel, .npz or, for one tensor, .npy. The file appears whole or not at all.");
}

}  // namespace keel::python
