// What is wrong with a program, read off a recording of it; python/keel/_lint.py makes objects of the tuples.
#include "convert.h"
#include "keel/keel.h"

namespace keel::python {

void bind_lint(nb::module_& m) {
  m.def(
      "_lint",
      [](nb::callable f) {
        nb::list found;
        for (const LintFinding& x : lint([&] { f(); }))
          found.append(nb::make_tuple(x.severity == Severity::warning ? "warning" : "info", x.rule, x.op, x.path, x.site, x.phase, x.text,
                                      x.value, nb::make_tuple(x.suggestion.kind, x.suggestion.value, x.suggestion.text), x.count));
        return found;
      },
      nb::sig("def _lint(f: typing.Callable[[], object], /) -> list[tuple]"));
}

}  // namespace keel::python
