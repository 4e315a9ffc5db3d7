// Runs planted faults and judges what the monitor said.
#include "fault.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "families.h"

namespace keel::faults {
namespace {

/// Calls f(element) with each element of a contiguous tensor as a reference to its type.
template <class F>
void each(const Tensor& t, F&& f) {
  const auto loop = [&](auto* p) {
    for (int64_t i = 0; i < t.size(); ++i) f(p[i], i);
  };
  Tensor own = t;
  void* p = own.raw_data();
  switch (t.dtype()) {
    case f32: return loop(static_cast<float*>(p));
    case f64: return loop(static_cast<double*>(p));
    case f16: return loop(static_cast<float16*>(p));
    case bf16: return loop(static_cast<bfloat16*>(p));
    default: return;
  }
}

bool is_one_of(const std::vector<std::string>& list, const std::string& s) { return std::find(list.begin(), list.end(), s) != list.end(); }

bool ends_with(const std::string& text, const std::string& tail) {
  return text.size() >= tail.size() && text.compare(text.size() - tail.size(), tail.size(), tail) == 0;
}

DType dtype_named(const std::string& text) {
  for (DType t : {f32, f64, bf16, f16})
    if (text.rfind(name_of(t), 0) == 0) return t;
  return DType::none;
}

/// Kinds that change the program and not a number: trying them means the twin's program.
bool structural(const std::string& kind) {
  return is_one_of({"stable_op", "master_weights", "accumulator", "data", "hardware", "margin"}, kind);
}

}  // namespace

Run::Run(Monitor& m, uint64_t random_seed, bool is_repaired, DType t, int64_t most_steps, const Suggestion& suggestion)
    : monitor(m), seed(random_seed), repaired(is_repaired), steps(most_steps), fix(suggestion), dtype_(t) {
  manual_seed(seed);
  if (fix.kind == "clip") clip = fix.value;
}

double Run::number(const char* kind, double planted, double sound) const {
  return fix.kind == kind ? fix.value : repaired ? sound : planted;
}

DType Run::dtype(DType sound) const {
  if (fix.kind == "dtype")
    if (const DType t = dtype_named(fix.text); t != DType::none) return t;
  return repaired && sound != DType::none ? sound : dtype_;
}

bool Run::next() {
  if (failed || step >= steps) return false;
  monitor.step();
  step = monitor.current_step();
  return true;
}

void Run::look(const Tensor& loss, const Tensors& weights) {
  const double value = peek(loss, 0);
  if (!std::isfinite(value) && !loss_not_finite) loss_not_finite = step;
  const size_t n = losses_.size(), first = n > 100 ? n - 100 : 0;
  if (n >= 5 && !loss_tenfold && !(value <= 10 * *std::max_element(losses_.begin() + int64_t(first), losses_.end()))) loss_tenfold = step;
  losses_.push_back(value);
  bool sound = std::isfinite(value);
  for (const Tensor& w : weights) {
    if (!finite(w)) sound = weights_clean = false;
    if (w.grad().defined() && !finite(w.grad())) sound = false;
  }
  // What a step would have written, had it not been held back.
  for (const Monitor::Finding& f : monitor.findings()) sound = sound && !(f.detector == "nonfinite" && f.phase == "optimiser");
  if (!sound) fail();
}

void Run::train(const nn::ModuleBase& net, optim::Optimizer& opt, const Callback<Tensor(int64_t step)>& loss_of, DType low) {
  const Tensors weights = net.parameters();
  if (low == DType::none) low = dtype();
  optim::GradScaler scaler({.init_scale = 1024, .enabled = low == f16});
  if (fix.kind == "learning_rate") opt.set_lr(opt.lr() * fix.value);
  while (next()) {
    opt.zero_grad();
    Tensor loss;
    {
      Autocast guard(low == f16 || low == bf16 ? low : DType::none);
      loss = loss_of(step);
    }
    scaler.scale(loss).backward();
    if (clip > 0) {
      scaler.unscale_(opt);
      nn::clip_grad_norm(weights, clip);
    }
    scaler.step(opt);
    scaler.update();
    look(loss, weights);
  }
}

Verdict try_fault(const Fault& f, uint64_t seed, DType t, bool repaired, int64_t steps, const Suggestion& fix, int64_t fix_from) {
  Monitor monitor({.protect = true, .whole_every = watch_whole_every});
  const bool switched = structural(fix.kind) && is_one_of(f.remedies, fix.kind);
  Run run(monitor, seed, repaired || switched, t, steps > 0 ? steps : f.steps, fix);
  run.fix_from = fix_from;
  f.train(run);
  monitor.step();  // closes the last step, for rules that look at whole steps
  Verdict v;
  v.failed = run.failed, v.weights_clean = run.weights_clean;
  v.loss_not_finite = run.loss_not_finite, v.loss_tenfold = run.loss_tenfold;
  const auto warnings = monitor.warnings(), findings = monitor.findings();  // each in order of appearance
  std::merge(warnings.begin(), warnings.end(), findings.begin(), findings.end(), std::back_inserter(v.all),
             [](const auto& a, const auto& b) { return a.step < b.step; });
  v.words = int(v.all.size());
  const int64_t limit = f.need == Need::by      ? f.k
                        : f.need == Need::lead  ? run.failed - f.k
                        : f.need == Need::after ? run.failed + f.k
                                                : run.failed;
  const bool judged = run.failed || f.need == Need::by;
  int rank = 0;
  for (const Monitor::Finding& x : v.all) {
    const bool layer = ends_with(x.path, f.path), exact = layer && is_one_of(f.ops, x.op) && (f.phase.empty() || f.phase == x.phase);
    const bool timely = judged && x.step <= limit;
    if (!v.any) v.any = x.step, v.any_in_time = timely, v.first_exact = exact;
    if (layer && !v.near) v.near = x.step, v.near_in_time = timely;
    if (exact && !v.warned) v.warned = x.step, v.in_time = timely;
    const int r = exact ? 3 : layer ? 2 : 1;
    if (r > rank) v.best = x, rank = r;
  }
  for (const bool exact_only : {true, false})
    for (const Monitor::Finding& x : v.all)
      if (v.suggestion.kind.empty() && !x.suggestion.kind.empty() && (!exact_only || (ends_with(x.path, f.path) && is_one_of(f.ops, x.op))))
        v.suggestion = x.suggestion, v.suggested = x.step;
  return v;
}

const std::vector<Fault>& all_faults() {
  static const std::vector<Fault> all = [] {
    std::vector<Fault> v;
    for (void (*add)(std::vector<Fault>&) : {attention_faults, norm_faults, loss_faults, optimiser_faults, precision_faults, scaling_faults,
                                             data_faults, recurrent_faults, parallel_faults, memory_faults, everyday_faults,
                                             everyday_loss_faults, objective_faults, loop_faults, sequence_faults, training_run_faults,
                                             fifth_likelihoods, fifth_geometry, fifth_formats, boundary_faults, sixth_faults, cell_faults,
                                             seventh_losses, seventh_states})
      add(v);
    std::sort(v.begin(), v.end(), [](const Fault& a, const Fault& b) { return a.number < b.number; });
    return v;
  }();
  return all;
}

void scale(const Tensor& t, double factor) {
  each(t, [&](auto& v, int64_t) { v = std::remove_reference_t<decltype(v)>(float(double(float(v)) * factor)); });
}

void shift(const Tensor& t, double by) {
  each(t, [&](auto& v, int64_t) { v = std::remove_reference_t<decltype(v)>(float(double(float(v)) + by)); });
}

void poke(const Tensor& t, int64_t at, double value) {
  each(t, [&](auto& v, int64_t i) {
    if (i == at) v = std::remove_reference_t<decltype(v)>(float(value));
  });
}

double peek(const Tensor& t, int64_t at) {
  double value = 0;
  each(t, [&](auto& v, int64_t i) {
    if (i == at) value = double(float(v));
  });
  return value;
}

bool finite(const Tensor& t) {
  bool good = true;
  each(t.is_contiguous() ? t.detach() : t.detach().contiguous(), [&](auto& v, int64_t) { good &= std::isfinite(float(v)); });
  return good;
}

double zeros_in(const Tensor& t) {
  int64_t n = 0;
  each(t.is_contiguous() ? t.detach() : t.detach().contiguous(), [&](auto& v, int64_t) { n += float(v) == 0; });
  return double(n) / double(t.size());
}

Data linear_data(int64_t rows, int64_t in, int64_t out) {
  const Tensor x = randn({rows, in}), w = randn({in, out}) * (1 / std::sqrt(double(in)));
  return {x, matmul(x, w) + 0.1 * randn({rows, out})};
}

}  // namespace keel::faults
