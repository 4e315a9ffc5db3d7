#pragma once
// Rules that judge a call by what it is made of: its op, its numbers, and the ops that made its inputs. A Monitor asks them when a place is
// reached for the first time, `lint` for each call of a trace.
#include "keel/base/callback.h"
#include "keel/monitor.h"
#include "keel/op.h"
#include "op/scope.h"

namespace keel {

/// Who made what: calls have numbers from 0.
struct LintMakers {
  const void* of;
  const OpDef* (*op)(const void* of, int call);
  int (*maker)(const void* of, int call, int input);  // -1: not known, or made elsewhere
  bool (*twice)(const void* of, int call);            // whether both inputs are the same tensor
  bool exact;                                         // -1 always means: made elsewhere
};
/// The call in question.
struct LintCall {
  const OpDef* op;
  const void* params;
  int call;  // its own number
  Phase phase = Phase::forward;
  bool recording = false;  // a gradient flows through it
  DType in = DType::none, out = DType::none;  // dtypes of the first input and result
  int64_t in_elements = 0, out_elements = 0;
  const Shape* shape = nullptr;  // of the first input
  struct Number {
    double given = 0, used = 0;  // as the program wrote it, and in the call's dtype
    DType dtype = DType::none;   // none: no number here
  } numbers[2] = {};
};
struct LintWord {
  Severity severity;
  const char* rule;
  int call;  // that is to blame
  double value;
  Suggestion suggestion;
  std::string text;
};
void lint_rules(const LintCall& c, const LintMakers& makers, const Callback<void(const LintWord&)>& say);

/// The numbers among the inputs of a call, as they were given.
void find_numbers(const Call& c, LintCall::Number (&numbers)[2]);

}  // namespace keel
