#pragma once
// Params of the losses' backward forms, which kernels read too.
#include "keel/ops/loss.h"

namespace keel {

struct NllBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = -1;
  int64_t ignore_index = -100;
  Reduction reduction = Reduction::mean;
  int64_t classes = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axis of the classes");
    f("ignore_index", p.ignore_index, "targets with this index do not count");
    f("reduction", p.reduction, "how the loss was reduced");
    f("classes", p.classes, "extent of the class axis");
  }
};

}  // namespace keel
