#include "convert.h"

namespace keel::python {
namespace {

constexpr ErrorCode kLastCode = ErrorCode::internal;
nb::handle error_types[int(kLastCode) + 1];

nb::object text(std::string_view s) { return nb::steal(PyUnicode_DecodeUTF8(s.data(), Py_ssize_t(s.size()), "replace")); }

/// A keel::Error as the Python exception of its code, with its parts as attributes.
void translate(const std::exception_ptr& p, void*) {
  try {
    std::rethrow_exception(p);
  } catch (const Error& e) {
    nb::handle type = error_types[int(e.code())];
    nb::object x = type(text(e.what()));
    nb::list args;
    for (int64_t i = 0; i < e.arg_count(); ++i) args.append(nb::make_tuple(text(e.arg_role(i)), text(e.arg_text(i))));
    x.attr("code") = text(name_of(e.code()));
    x.attr("op") = text(e.op());
    x.attr("args_") = nb::tuple(args);
    x.attr("hint") = text(e.hint());
    x.attr("path") = text(e.path());
    x.attr("message") = text(e.message());
    PyErr_SetObject(type.ptr(), x.ptr());
  }
}

}  // namespace

void bind_errors(nb::module_& m) {
  m.def(
      "_set_errors",
      [](nb::dict by_name) {
        for (int i = 0; i <= int(kLastCode); ++i) {
          nb::object type = by_name[name_of(ErrorCode(i))];
          type.inc_ref();  // lives as long as the module
          error_types[i] = type;
        }
      },
      nb::sig("def _set_errors(by_name: dict[str, type], /) -> None"));
  for (nb::handle& t : error_types) t = PyExc_RuntimeError;
  nb::register_exception_translator(translate);
}

}  // namespace keel::python

NB_MODULE(_keel, m) {
  m.doc() = "Keel's compiled module. Everything in it is part of the package `keel`.";
  using namespace keel::python;
  nb::set_leak_warnings(false);  // objects that live as long as the module: dtypes, errors
  bind_errors(m);
  bind_dtypes(m);
  nb::class_<keel::Tensor> c(m, "Tensor", "An n-dimensional array. Every op whose first input is a tensor is a method too.");
  bind_tensor(m, c);
  bind_functions(m);
  bind_precision(m);
  bind_lint(m);
  bind_ops(m, c);  // last: what has a spelling of its own keeps it
}
