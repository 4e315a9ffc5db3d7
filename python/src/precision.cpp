// What casts would do to tensors; the reports cross as JSON, of which python/keel/_precision.py makes objects.
#include "convert.h"
#include "keel/keel.h"

namespace keel::python {

void bind_precision(nb::module_& m) {
  m.def(
      "_analyze_precision",
      [](const Tensor& x, bool round_up) {
        std::string json, text;
        {
          nb::gil_scoped_release free;
          const PrecisionReport r = analyze_precision(x, {.round_up = round_up});
          json = r.json(), text = r.text();
        }
        return nb::make_tuple(json, text);
      },
      nb::sig("def _analyze_precision(x: Tensor, round_up: bool, /) -> tuple[str, str]"));
  m.def(
      "_precision_profile",
      [](nb::callable step, nb::handle low, bool round_up) {
        const PrecisionProfile p = precision_profile([&] { step(); }, {.low = to_dtype(low), .round_up = round_up});
        return nb::make_tuple(p.json(), p.text(), p.svg(), p.html());
      },
      nb::sig("def _precision_profile(step: typing.Callable[[], object], low: object, round_up: bool, /) -> tuple[str, str, str, str]"));
}

}  // namespace keel::python
