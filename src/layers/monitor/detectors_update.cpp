// Rules about optimiser steps: what reaches the weights, what rounding keeps from them, and moments that no longer fit. They look at a few
// lines of memory of each parameter, the same ones at each step.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "keel/ops/optim_step.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/sampling.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_sgd_step, op_adam_step, op_rmsprop_step, op_ema_step;

namespace {

constexpr double kMatters = 1e-4;  // updates below that share of a weight would be slow in any format

/// How the tensors of an optimiser's step lie: lists of `each` from input `begin` on, of weights, gradients and state.
struct StepLists {
  int count = 0;    // 0: the op is not known
  int weights = 0;  // which list holds the weights that the step moves: the masters, where there are any
  int begin = 0, each = 0;
  int input(int list, int i) const { return begin + list * each + i; }
  int weight(int i) const { return input(weights, i); }
};
StepLists lists_of(const Call& c) {
  StepLists s;
  if (&c.op == &op_sgd_step) {
    const auto& p = *static_cast<const SgdStepParams*>(c.params);
    s.count = (p.momentum ? 4 : 2) + p.master, s.weights = p.master ? s.count - 1 - p.momentum : 0;
  } else if (&c.op == &op_adam_step) {
    const auto& p = *static_cast<const AdamStepParams*>(c.params);
    s.count = (p.amsgrad ? 6 : 5) + p.master, s.weights = p.master ? s.count - 2 : 0;
  } else if (&c.op == &op_rmsprop_step) {
    const auto& p = *static_cast<const RmspropStepParams*>(c.params);
    s.count = 4 + p.centered + p.momentum + p.master, s.weights = p.master ? s.count - 2 : 0;
  }
  s.begin = c.op.in.size() - 1;
  if (s.count) s.each = (c.in.size() - s.begin) / s.count;
  return s;
}
bool is_centred(const Call& c) { return &c.op == &op_rmsprop_step && static_cast<const RmspropStepParams*>(c.params)->centered; }
/// Whether the caller asks for no step: a gradient scaler saw gradients that overflowed, and will mend it. A word on another device is not
/// waited for.
bool left_out(const Call& c) { return lists_of(c).count && c.in[1].defined() && c.in[1].device() == cpu_device && c.in[1].item() != 0; }

/// Asks for the memory of the sampled elements of `t`, so that one wait serves many tensors. Inlined by force: compilers take a function
/// that only prefetches for one without effect, and drop its calls.
[[gnu::always_inline]] inline void fetch_samples(const Tensor& t) {
  const TensorImpl& x = impl(t);
  if (x.spec.shape.numel() == 0 || x.device.type != DeviceType::cpu) return;
  const Lines lines = of_weights(x.spec.shape.numel());
  const auto bytes = int64_t(size_of(x.spec.dtype));
  for (int64_t k = 0; k < lines.lines; ++k) {
    const std::byte* const p = x.data + k * lines.pitch * bytes;
    for (int64_t at = 0; at < lines.count * bytes; at += 64) __builtin_prefetch(p + at);
    __builtin_prefetch(p + lines.count * bytes - 1);
  }
}

/// Copies the sampled elements of `t`; gives how many.
int sample(const Tensor& t, float* to) {
  const TensorImpl& x = impl(t);
  const int64_t n = x.spec.shape.numel();
  if (n == 0 || x.device.type != DeviceType::cpu || !is_dense(x.spec.shape, x.strides)) return 0;
  const Lines lines = of_weights(n);
  Sample{0, x.spec.dtype, {&lines, 1}, x.data, false}.read(to);
  return int(lines.size());
}

}  // namespace

bool MonitorState::is_update(const OpDef& op) {
  return op.out[0].alias_of >= 0 && op.in[op.in.size() - 1].variadic && &op != &op_ema_step && std::string_view(op.name).ends_with("_step");
}

void MonitorState::gradients_of(const Call& c, int& first, int& end) {
  const StepLists lists = lists_of(c);
  first = lists.input(lists.count ? 1 : 0, 0), end = lists.count ? lists.input(2, 0) : c.in.size();
}

/// Whether a gradient that the update would use holds a NaN or infinity.
bool MonitorState::gradients_are_bad(const Call& c) const {
  if (step_nan + step_inf == 0 && !governor.partly()) return false;  // nothing broke in this step
  int first, end;
  gradients_of(c, first, end);
  for (int i = first; i < end; ++i) {
    const Tensor& g = c.in[i];
    const uint64_t inf = float_bits(impl(g).spec.dtype).inf;
    if (const Written* w = known(g)) {
      if (w->max_bits >= inf) return true;
      continue;
    }
    StatSlot slot;
    observe(g, slot);
    if (slot.max_bits.load() >= inf) return true;
  }
  return false;
}

bool MonitorState::before_update(const Call& c, uint32_t at) {
  const Governor::Work work(governor);
  if (left_out(c)) return true;
  if (governor.on()) {
    // The calls that made these gradients are watched in every step from now on.
    int first, end;
    gradients_of(c, first, end);
    for (int i = first; i < end; ++i)
      if (const Written* w = known(c.in[i])) sites[w->site].tell(w->output, w->call);
  }
  const bool bad = (options.protect || governor.partly()) && gradients_are_bad(c);
  if (bad && governor.partly() && step_nan + step_inf == 0) {
    Monitor::Finding about;
    about.severity = Severity::fault, about.value = double(NAN);
    about.text = std::string("a gradient that ") + c.op.name +
                 " was given holds a NaN or infinity; the op that made it was not watched in this step, the next ones are watched whole";
    warn(Detector::nonfinite, at, 0, "nan", std::move(about));
  }
  if (bad) governor.alarm(step);
  const TensorImpl& settings = impl(c.in[0]);
  const bool unset = settings.device == cpu_device && settings.spec.dtype == f64 &&
                     !judge_settings(c, at, reinterpret_cast<const double*>(settings.data), settings.spec.shape.numel());
  if (options.protect && (bad || unset)) {
    for (const uint32_t i : pending) found[i].about.severity = Severity::fault;
    pending.clear();
    note_blocked();
    return true;
  }
  note_update();
  const StepLists lists = lists_of(c);
  if (!options.foretell || !lists.count) return false;
  judge_uncleared(c, at, goes_along_old_gradients(c));
  std::vector<float>& before = sites[at].update->before;
  before.resize(size_t(lists.each) * kSampledWeights);
  for (int i = 0; i < lists.each; ++i) fetch_samples(c.in[lists.weight(i)]);
  for (int i = 0; i < lists.each; ++i) sample(c.in[lists.weight(i)], before.data() + size_t(i) * kSampledWeights);
  return false;
}

/// The samples of one weight around a step, of its gradient and its state, and what they stand for.
struct SampledWeight {
  float w[kSampledWeights], g[kSampledWeights], m[kSampledWeights], v[kSampledWeights], old[kSampledWeights];
  int count = 0;      // of samples
  double weight = 1;  // elements that each of them stands for
  bool has_m = false, has_v = false, low = false;
  double first = 1, second = 1;  // Adam's corrections of both moments, 1 - beta^t
  /// What Adam divides a gradient by.
  double divisor(int j, double epsilon) const { return std::sqrt(double(v[j]) / second) + epsilon; }
};

/// What samples say of a whole step, all its weights together.
struct StepSums {
  double gradient = 0, moved = 0, length = 0, elements = 0;  // squares of gradients, steps and weights before; how many elements
  double felt = 0, live = 0, floored = 0;    // Adam: squares beside their mean; elements with a second moment, and with one below epsilon
  double narrow = 0, due = 0, absorbed = 0;  // elements of narrow weights, those that should move, and those of them that do not
  double fed = 0, still = 0, short_by = 0;  // wide weights with a gradient, those of them that stand still, their step over rate and weight
  double along = 0, was2 = 0, is2 = 0;      // the samples of gradients times those of the step before, and the squares of both
  DType dtype = DType::none;                // of narrow weights

  /// Squares of one weight's gradient and step.
  struct Squares {
    double gradient = 0, moved = 0;
  };
  Squares add(const SampledWeight& x, float* last, bool all_felt, double epsilon);
  void add_narrow(const SampledWeight& x, const Call& c, const double* settings);
  void add_second_moments(const SampledWeight& x, double epsilon);
};

/// `last`: the gradient of the step before, whose place this one takes. `all_felt`: a step is as long as the gradient, or as what Adam makes
/// of it, so that it tells whether rounding kept it from the weight.
StepSums::Squares StepSums::add(const SampledWeight& x, float* last, bool all_felt, double epsilon) {
  Squares own;
  for (int j = 0; j < x.count; ++j) {
    along += double(x.g[j]) * double(last[j]), was2 += double(last[j]) * double(last[j]);
    last[j] = x.g[j];
    const double d = double(x.w[j]) - double(x.old[j]);
    own.gradient += double(x.g[j]) * double(x.g[j]), own.moved += d * d;
    length += x.weight * double(x.old[j]) * double(x.old[j]);
    if (!all_felt || x.g[j] == 0) continue;
    fed += x.weight, still += d == 0 ? x.weight : 0;
    if (d == 0 && x.old[j] != 0)
      short_by += x.weight * std::abs(x.has_v ? double(x.m[j]) / x.divisor(j, epsilon) : double(x.g[j])) / std::abs(double(x.old[j]));
  }
  is2 += own.gradient, gradient += own.gradient * x.weight, moved += own.moved * x.weight, elements += x.weight * x.count;
  return own;
}

void StepSums::add_narrow(const SampledWeight& x, const Call& c, const double* settings) {
  const bool rmsprop = &c.op == &op_rmsprop_step;
  narrow += x.weight * x.count;
  for (int j = 0; j < x.count; ++j) {
    double wanted = settings[0] * std::abs(double(x.has_m ? x.m[j] : x.g[j]));
    if (x.has_v)
      wanted = x.v[j] > 0 ? wanted / x.first / x.divisor(j, settings[3]) : 0;
    else if (rmsprop)
      wanted = x.m[j] > 0 ? settings[0] * std::abs(double(x.g[j])) / (std::sqrt(double(x.m[j])) + settings[2]) : 0;
    if (wanted > kMatters * std::abs(double(x.old[j]))) due += x.weight, absorbed += x.w[j] == x.old[j] ? x.weight : 0;
  }
}

void StepSums::add_second_moments(const SampledWeight& x, double epsilon) {
  double squares = 0;
  int alive = 0, below = 0;
  for (int j = 0; j < x.count; ++j) {
    if (!(x.v[j] > 0)) continue;
    const double mean = double(x.v[j]) / x.second;  // of the squares
    squares += double(x.g[j]) * double(x.g[j]) / mean;
    ++alive, below += epsilon * epsilon > mean;
  }
  felt += x.weight * squares, live += x.weight * alive, floored += x.weight * below;
}

/// get(i, to) gives the samples of input i and how many; of -1 - k, those of weight k before the step.
template <class Get>
void MonitorState::judge_update(const Call& c, uint32_t at, const double* settings, Get get) {
  const StepLists lists = lists_of(c);
  WatchedUpdate& u = *sites[at].update;
  const bool adam = &c.op == &op_adam_step, plain = &c.op == &op_sgd_step, rmsprop = &c.op == &op_rmsprop_step;
  const bool state = lists.count > 3 || (lists.count > 2 && lists.weights == 0);
  StepSums sums;
  u.last_gradient.resize(size_t(lists.each) * kSampledWeights);
  std::vector<double> squares(static_cast<size_t>(lists.each), 0.0);  // of each gradient, the mean
  for (int i = 0; i < lists.each; ++i) {
    SampledWeight x;
    const Tensor& p = c.in[lists.weight(i)];
    x.count = get(lists.weight(i), x.w);
    if (x.count == 0 || get(lists.input(1, i), x.g) != x.count) continue;
    get(-1 - i, x.old);
    x.weight = double(impl(p).spec.shape.numel()) / x.count;
    x.has_m = state && get(lists.input(2, i), x.m) == x.count;
    x.has_v = adam && get(lists.input(3, i), x.v) == x.count;
    x.low = format_of(impl(p).spec.dtype).digits <= 11;
    if (x.has_v) {
      float steps[kSampledWeights] = {};
      const double t = get(lists.input(lists.count - 1, i), steps) ? double(steps[0]) : 0;
      x.second = 1 - std::pow(settings[2], t);
      if (x.low) x.first = 1 - std::pow(settings[1], t);
    }
    float* const last = u.last_gradient.data() + size_t(i) * kSampledWeights;
    const StepSums::Squares own = sums.add(x, last, (plain || x.has_v) && !x.low, x.has_v ? settings[3] : 0);
    if (x.low) sums.add_narrow(x, c, settings), sums.dtype = impl(p).spec.dtype;
    if (x.has_v) sums.add_second_moments(x, settings[3]);
    squares[size_t(i)] = own.gradient / x.count;
    // What the step divides by, and what it takes off that first.
    const auto some = size_t(x.count), divides = x.has_v || (rmsprop && x.has_m) ? some : 0;
    const bool has_mean = is_centred(c) && get(lists.input(3, i), x.v) == x.count;
    look_at_moments(c, at, i,
                    {{x.old, some}, {x.g, some}, {rmsprop ? x.m : x.v, divides}, {x.v, has_mean ? some : 0}, own.moved, own.gradient},
                    settings);
  }
  judge_moments(c, at);
  judge_sums(c, at, sums, settings, squares);
}

/// What a whole step did.
void MonitorState::judge_sums(const Call& c, uint32_t at, const StepSums& s, const double* settings, std::span<const double> squares) {
  WatchedUpdate& u = *sites[at].update;
  const double lr = settings[0];
  const bool adam = &c.op == &op_adam_step;
  judge_length(c, at, s.moved / s.elements, s.length / s.elements, lr);
  if (!(s.gradient < INFINITY) || !(s.moved < INFINITY)) return;
  judge_cut(c, at, squares);
  judge_silent(u, s.gradient == 0 && s.elements > 0);
  if (s.was2 > 0 && s.is2 > 0) u.turn.push(s.along / std::sqrt(s.was2) / std::sqrt(s.is2));
  judge_rate(at, u, lr);
  if (const double times = std::sqrt(s.moved / s.length); s.length > 0 && times >= 1 && u.first_long == 0) u.first_long = times;
  judge_absorbed(at, u, 2 * s.due > s.narrow ? s.absorbed / s.due : 0, lr, s.dtype);
  if (s.fed > 0 && !(s.live > 0 && s.floored > 0.5 * s.live))
    judge_unfelt(at, u, s.still / s.fed, s.still > 0 ? lr * s.short_by / s.still : 0, lr);
  if (adam && s.live > 0) judge_adam(at, u, std::sqrt(s.felt / s.live), s.floored / s.live, settings[3], 0.5 * std::log2(s.gradient));
  if (adam && s.live > 0)
    judge_smothered(at, u, s.floored / s.live, std::sqrt(s.moved / s.length), settings[3], std::sqrt(s.gradient / s.elements));
  if (s.gradient > 0) u.gradient.push(0.5 * std::log2(s.gradient)), judge_gradient(at, u);
  if (s.moved > 0) {
    u.moved.push(0.5 * std::log2(s.moved));
    if (const int rises = u.moved.climbs(); rises && !find_jump()) {
      Monitor::Finding about;
      about.severity = Severity::warning, about.value = std::exp2(double(u.moved.back()));
      about.suggestion = {"learning_rate", 0.1, "learning rate x 0.1, now " + number(0.1 * lr)};
      about.text = std::string(c.op.name) + " moved the weights further at each of " + std::to_string(rises) +
                   " steps, by more than half a bit each time: now by " + number(about.value) + " in norm";
      warn(Detector::growth, at, 0, "growth", std::move(about));
    }
  }
  u.last_lr = lr, u.most_lr = std::max(u.most_lr, lr);
}

void MonitorState::after_update(const Call& c, uint32_t at) {
  const StepLists lists = lists_of(c);
  if (!options.foretell || !lists.count) return;
  const Governor::Work work(governor);
  const float* const before = sites[at].update->before.data();
  for (int i = lists.begin; i < c.in.size(); ++i) fetch_samples(c.in[i]);
  judge_update(c, at, reinterpret_cast<const double*>(impl(c.in[0]).data), [&](int i, float* to) {
    if (i >= 0) return sample(c.in[i], to);
    std::memcpy(to, before + size_t(-1 - i) * kSampledWeights, sizeof(float) * kSampledWeights);
    return int(impl(c.in[lists.weight(-1 - i)]).spec.shape.numel());
  });
}

/// The samples that the rules want: of weights before the step, list -1, and of lists after it. f(list, number, input).
template <class F>
static void each_sample(const Call& c, F f) {
  const StepLists lists = lists_of(c);
  const bool adam = &c.op == &op_adam_step, third = adam || is_centred(c);
  for (int list = -1; list < lists.count; ++list) {
    if (!(list == -1 || list == lists.weights || list == 1 || list == 2 || (third && list == 3) || (adam && list == lists.count - 1)))
      continue;
    for (int i = 0; i < lists.each; ++i) f(list, i, list < 0 ? lists.weight(i) : lists.input(list, i));
  }
}

void MonitorState::plan_update(const Call& c, Wanted& to) {
  each_sample(c, [&](int list, int, int input) {
    to.ask(list < 0 ? ValueRule::weights : ValueRule::update, input, {of_weights(c.in[input].size())});
  });
}

void MonitorState::judge_device_update(const Call& c, uint32_t at, const double* settings, Samples s) {
  std::vector<size_t> before(static_cast<size_t>(lists_of(c).each), s.size()), of(static_cast<size_t>(c.in.size()), s.size());
  size_t next = 0;
  each_sample(c, [&](int list, int i, int input) { (list < 0 ? before[size_t(i)] : of[size_t(input)]) = next++; });
  judge_update(c, at, settings, [&](int i, float* to) {
    const size_t k = i < 0 ? before[size_t(-1 - i)] : of[size_t(i)];
    if (k == s.size()) return 0;
    s[k].read(to);
    return int(s[k].size());
  });
}

namespace {

size_t place_of_gradient(const Storage* s) {
  return size_t((uint64_t(reinterpret_cast<uintptr_t>(s)) >> 6) * 0x9e3779b97f4a7c15 >> 32) % MonitorState::kWritten;
}
uint32_t version_of(const Storage* s) { return s->version.load(std::memory_order_relaxed); }

}  // namespace

void MonitorState::note_sum_of_gradients(const Call& c) {
  const Storage* const s = impl(c.in[0]).storage.get();
  if (!s || !c.into || impl(*c.into).storage.get() != s) return;
  const size_t place = place_of_gradient(s);
  if (!gradients_used[place]) return;
  UsedGradient& g = used_gradients[place];
  if (g.storage != s) return;
  // Memory comes back: only what its leaf still has is the gradient that was used.
  const GradMeta* const m = impl(g.leaf).grad;
  const bool still = m && m->grad.defined() && impl(m->grad).storage.get() == s;
  // The addition has been counted as a write already. Whatever else wrote since the step, zeros perhaps, has made it another gradient.
  // So has memory that came back: counted anew, it may later show the number that is awaited here.
  if (still && version_of(s) == g.version + 1)
    g.added_to = true, ++g.version;
  else
    g.storage = nullptr, gradients_used[place] = false;
}

/// Whether a step goes along gradients that hold those of the step before; to be asked before it runs. It asks who wrote them, not what is
/// in them.
bool MonitorState::goes_along_old_gradients(const Call& c) {
  if (!options.foretell || !lists_of(c).count) return false;
  if (used_gradients.empty()) used_gradients.resize(kWritten);
  const int begin = c.op.in.size() - 1;
  int first, end;
  gradients_of(c, first, end);
  bool old = false;
  for (int i = first; i < end; ++i) {
    const Storage* const s = impl(c.in[i]).storage.get();
    if (!s) continue;
    UsedGradient& g = used_gradients[place_of_gradient(s)];
    gradients_used[place_of_gradient(s)] = true;
    old |= g.storage == s && g.added_to && version_of(s) >= g.version;
    g.storage = s, g.version = version_of(s), g.added_to = false;
    const Tensor& leaf = c.in[begin + i - first];
    if (!g.leaf.defined() || !g.leaf.is(leaf)) g.leaf = leaf;
  }
  return old;
}

/// Steps along gradients that nobody cleared: each holds those of all steps before.
void MonitorState::judge_uncleared(const Call& c, uint32_t at, bool old) {
  if (!options.foretell || !lists_of(c).count) return;
  if (!sites[at].update) sites[at].update = std::make_unique<WatchedUpdate>();
  WatchedUpdate& u = *sites[at].update;
  if (u.uncleared.add(old) != 3) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = u.uncleared;
  about.suggestion = {"stable_op", 0, "zero_grad() before each backward pass"};
  about.text = std::string(c.op.name) + " uses gradients to which three backward passes were added since a step used them: nobody clears " +
               "them, and each step goes along the sum of all gradients so far";
  warn(Detector::lint, at, 0, "gradients not cleared", std::move(about));
}

/// A learning rate that rises still while the loss, which had come down, is many times what it was, and each gradient points against the
/// one before: steps go from wall to wall of a valley.
void MonitorState::judge_rate(uint32_t at, WatchedUpdate& u, double lr) {
  constexpr int kRises = 16, kMedian = 8;
  u.rate_rises = lr > u.most_lr && u.most_lr > 0 ? u.rate_rises + 1 : 0;
  if (loss_site >= sites.size() || u.rate_rises == 0) {
    if (lr < u.most_lr) u.best_loss = INFINITY;
    return;
  }
  const WatchedResult& r = sites[loss_site].results[loss_output];
  if (r.negative || !r.series || r.series->size() == 0 || !std::isfinite(r.series->back().high)) return;
  u.loss.push(double(r.series->back().high));  // of the step before
  if (u.loss.size() < kMedian) return;
  double median, spread;
  u.loss.centre(median, spread, kMedian, 0);
  if (median < u.best_loss) u.best_loss = median, u.best_lr = lr;
  if (u.rate_rises < kRises || !(median > u.best_loss + 3) || u.turn.size() < kMedian) return;
  double turn = 0;
  for (int k = 0; k < kMedian; ++k) turn += double(u.turn.back(k)) / kMedian;
  if (!(turn < -0.5)) return;
  const double factor = std::max(1e-3, 0.5 * u.best_lr / lr);
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = lr;
  about.suggestion = {"learning_rate", factor,
                      "learning rate x " + number(factor) + ", now " + number(factor * lr) + ", and an end to its rise"};
  about.text = "the learning rate has risen for " + std::to_string(u.rate_rises) + " steps to " + number(lr) +
               ", and the loss with it: its median " + number(std::exp2(median)) + " is " + number(std::exp2(median - u.best_loss)) +
               " times what it was at a rate of " + number(u.best_lr) + "; each gradient points against the one before";
  warn(Detector::growth, at, 0, "rate", std::move(about));
}

/// Updates that are rounded off: 9 of 10 weights do not move though they should, eight steps in a row.
void MonitorState::judge_absorbed(uint32_t at, WatchedUpdate& u, double share, double lr, DType t) {
  // A schedule that begins or ends has tiny rates on purpose.
  const bool settled = lr <= 1.01 * u.last_lr && lr >= 0.1 * u.most_lr;
  // Neither do weights move whose gradients have gone, as they do where a minimum is reached.
  const bool arrived = u.gradient.size() && double(u.gradient.back()) < double(u.most_gradient) - 2;
  if ((u.most_lr > 0 && !settled) || arrived) {
    u.absorbed = {};
    return;
  }
  if (u.absorbed.add(share > 0.9) != 8) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = share, about.lost_ulps = 0.5;
  about.suggestion = {
      "master_weights", 0,
      "keep the weights in f32 (a master copy) and cast to " + std::string(name_of(t)) + " for the model, or raise the learning rate"};
  about.text = number(100 * share) + " % of the " + name_of(t) + " weights did not move in 8 steps of " + sites[at].op->name +
               ": an update is less than half the distance to the next " + name_of(t) + " number";
  warn(Detector::absorbed_update, at, 0, "absorbed", std::move(about));
}

/// Gradients that were all 0 from the start, five steps in a row, where one in f16 vanished on its way and nobody adapts a loss scale.
void MonitorState::judge_silent(WatchedUpdate& u, bool silent) {
  if (u.silent.add(silent && u.gradient.size() == 0 && vanished_site < sites.size() && scale_stays()) != 5) return;
  const WatchedSite& s = sites[vanished_site];
  const WatchedResult& r = s.results[vanished_output];
  const uint32_t from = s.from[0];
  const double high = from < sites.size() && sites[from].results[0].series && sites[from].results[0].series->size()
                          ? double(sites[from].results[0].series->back().high)
                          : format_of(r.dtype).tiny2;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = 0;
  about.suggestion = suggest_loss_scale(r.dtype, std::max(-200.0, high));
  about.text = "gradients were 0 throughout in five steps: " + std::string(s.op->name) + " in " + name_of(r.dtype) +
               " makes nothing of values that are not 0, and no loss scale keeps them in range";
  warn(Detector::underflow, vanished_site, vanished_output, "vanished", std::move(about));
}

/// Gradients that have outgrown the second moment that they are divided by.
void MonitorState::judge_adam(uint32_t at, WatchedUpdate& u, double rms, double floored, double eps, double norm) {
  const double before = rms > 5 && u.ratio.size() >= 20 ? double(u.ratio.most(0, 100)) : INFINITY;
  if (rms > 5 && rms > 3 * before && norm > double(u.most_gradient) && !find_jump()) {
    double median, spread;
    u.gradient.centre(median, spread);
    Monitor::Finding about;
    about.severity = Severity::warning, about.value = rms;
    about.suggestion = {"clip", std::exp2(median),
                        "clip the gradients' norm at " + number(std::exp2(median)) +
                            ", its median; or a smaller beta2, so that the second moment follows sooner"};
    about.text = "gradients are " + number(rms) + " times as large as the root of Adam's second moment (at most " + number(before) +
                 " in the steps before): steps are that much too long";
    warn(Detector::adam, at, 0, "stale moment", std::move(about));
  }
  u.ratio.push(rms);
  if (u.floored.add(floored > 0.5) != 10) return;
  Monitor::Finding about;
  about.severity = Severity::info, about.value = eps;
  about.text = "epsilon " + number(eps) + " exceeds the root of Adam's second moment for " + number(100 * floored) +
               " % of the weights: their steps shrink with the gradient, as SGD's do";
  about.suggestion = {"epsilon", eps * 1e-4, "a smaller epsilon, or gradients that are larger"};
  warn(Detector::adam, at, 0, "epsilon", std::move(about));
}

/// Adam's epsilon above the root of nearly all second moments, ten steps in a row, so that steps are a millionth of the weights and less,
/// though gradients are what they were.
void MonitorState::judge_smothered(uint32_t at, WatchedUpdate& u, double floored, double relative, double eps, double gradient) {
  const bool arrived = u.gradient.size() && double(u.gradient.back()) < double(u.most_gradient) - 2;
  if (u.unmoved.add(floored > 0.9 && relative < 1e-6 && !arrived) != 10) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = eps;
  const double better = std::pow(10, std::floor(std::log10(1e-3 * gradient)));
  about.suggestion = {"epsilon", better, "epsilon " + number(better) + ", or a loss that is multiplied by " + number(eps / better)};
  about.text = "epsilon " + number(eps) + " is above the root of Adam's second moment for " + number(100 * floored) +
               " % of the weights, and their gradients are " + number(gradient) + ": a step is " + number(relative) +
               " of a weight, next to nothing";
  warn(Detector::adam, at, 0, "smothered", std::move(about));
}

/// A gradient norm far out of its distribution, and one that grows without end.
void MonitorState::judge_gradient(uint32_t at, WatchedUpdate& u) {
  const double now = double(u.gradient.back());
  if (const int rises = u.gradient.climbs(); rises && !find_jump()) {
    Monitor::Finding about;
    about.severity = Severity::warning, about.value = std::exp2(now);
    about.suggestion = {"clip", std::exp2(double(u.gradient.back(rises))),
                        "clip the gradients' norm at " + number(std::exp2(double(u.gradient.back(rises))))};
    about.text = "the gradients' norm grew " + std::to_string(rises) + " times in a row, by more than half a bit each time, to about " +
                 number(about.value);
    warn(Detector::growth, at, 0, "growth", std::move(about));
  }
  double median = 0, spread = 0, z = 0;
  if (u.gradient.size() >= 31 && now >= double(u.most_gradient) + 3.3) {
    u.gradient.centre(median, spread);
    z = (now - median) / std::max(spread, 0.25);
  }
  // A batch may have a tail: 1 / x of a small x. It is gone in the next step, and seldom a thousand times what any was before.
  u.spikes.add(z > 6);
  if (u.spikes == 1 && now < double(u.most_gradient) + 10) return;
  u.most_gradient = std::max(u.most_gradient, u.gradient.back());
  if (u.spikes == 0 || find_jump()) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::exp2(now);
  about.suggestion = {"clip", 2 * std::exp2(median), "clip the gradients' norm at " + number(2 * std::exp2(median)) + ", twice its median"};
  about.text = "the gradients' norm is about " + number(about.value) + ", " + number(z) + " deviations of its logarithm above the median " +
               number(std::exp2(median));
  warn(Detector::gradient_norm, at, 0, "spike", std::move(about));
}

}  // namespace keel
