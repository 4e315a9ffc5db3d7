#include "backend/cpu/loops/rows.h"

namespace keel::cpu {

RowLoops row_loops(DType t) {
  RowLoops r{};
  add_softmax_loops(t, r);
  add_log_softmax_loops(t, r);
  add_softmax_grad_loops(t, r);
  add_norm_loops(t, r);
  add_norm_grad_loops(t, r);
  return r;
}

}  // namespace keel::cpu
