// Rules that foretell: what leaves its range, which denominators vanish, what grows without end. They run at the end of each step over what
// its results left behind. docs/numerics/detectors.md gives every threshold and why.
#include <algorithm>
#include <bit>
#include <climits>
#include <cmath>
#include <cstring>
#include <utility>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "keel/error.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/sampling.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_abs, op_add, op_attention, op_cast, op_clamp, op_conv2d, op_cumsum, op_div, op_exp, op_layer_norm, op_linear, op_log,
    op_masked_fill, op_mean, op_mse_loss, op_maximum, op_minimum, op_mul, op_neg, op_prod, op_relu, op_rms_norm, op_sqrt, op_sub, op_sum,
    op_where;

namespace {

std::string power(double log2) { return log2 > -1000 && log2 < 1000 ? number(std::exp2(log2)) : "2^" + number(log2); }

float log2_of(uint64_t bits, DType t) {
  if (t == DType::f32) return std::log2(std::bit_cast<float>(uint32_t(bits)));
  return float(std::log2(magnitude_of(bits, t)));
}

constexpr int kWindow = 8;  // readings that a trend needs
constexpr int kClimb = 32;  // and one that scatters

}  // namespace

const char* detector_name(Detector d) {
  constexpr const char* names[] = {"nonfinite",         "headroom",  "denominator",     "argument",      "growth",
                                   "lost bits",         "underflow", "absorbed update", "adam",          "gradient norm",
                                   "attention entropy", "fp8 scale", "loss scale",      "uninitialised", "lint",
                                   "kurtosis",          "bad input"};
  return names[int(d)];
}

void MonitorState::warn(Detector d, uint32_t site, uint8_t output, const char* kind, Monitor::Finding about) {
  const uint64_t key = uint64_t(1) << 63 | uint64_t(about.severity) << 56 | uint64_t(site) << 8 | uint64_t(d);
  if (auto it = found_index.find(key); it != found_index.end()) {
    ++found[it->second].count;
    return;
  }
  if (found.size() >= kMostFindings) return;
  found_index.emplace(key, uint32_t(found.size()));
  about.detector = detector_name(d), about.epoch = epoch;
  const bool is_warning = about.severity == Severity::warning;
  found.push_back({site, output, kind, step, 0, 1, std::move(about)});
  if (is_warning && options.break_on == BreakOn::warning) raise_pending = true;
  write_findings();
}

Suggestion MonitorState::suggestion(uint32_t site, int output) const {
  const WatchedSite& s = sites[site];
  const WatchedResult& r = s.results[output];
  Circumstances how{.factor = s.factor, .calls = r.now.calls};
  if (r.series && r.series->size()) how.calls = std::max(how.calls, r.series->back().calls);
  // Where a slope has no end, the op is to blame that it is the slope of.
  if (s.of && has_risk(s.of->risk, Risk::domain)) return suggest_for(*s.of, r.dtype, Phase::forward, how);
  return suggest_for(*s.op, r.dtype, s.phase, how);
}

void MonitorState::root(const Tensor& t) {
  if (root_on_device(t)) return;
  backward_ran = true;
  if (const Written* w = known(t)) {
    loss_site = w->site, loss_output = w->output;
    // With the loss go the places that it was made by: its sum, its rows, the logits; not one that is called more often than it is, as the
    // cell of a recurrent network.
    for (uint32_t at = w->site, depth = 0; at < sites.size() && depth < 4 && sites[at].call <= sites[w->site].call;
         at = sites[at].from[0], ++depth)
      tell(at);
    WatchedResult& r = sites[w->site].results[w->output];
    const TensorImpl& x = impl(t);
    r.is_loss = true;
    r.negative =
        x.device.type == DeviceType::cpu && x.spec.shape.numel() == 1 && !is_complex(x.spec.dtype) && read_double(x.data, x.spec.dtype) < 0;
    if (w->max_bits >= float_bits(w->dtype).inf && bad_site == ~uint32_t(0)) judge_meant_infinities();
  }
}

/// A loss that is not finite though no op made that of finite numbers: infinities that the program meant, a mask's, came through where they
/// never did. The first result that holds some for the first time is to blame.
void MonitorState::judge_meant_infinities() {
  for (const uint32_t t : touched) {
    const WatchedSite& s = sites[t >> 2];
    const WatchedResult& r = s.results[t & 3];
    bool before = s.op == &op_where || s.op == &op_masked_fill || s.op->in.size() == 0;
    for (int k = 0; r.series && k < r.series->size(); ++k) before |= r.series->back(k).nan + r.series->back(k).inf > 0;
    if (before || s.phase != Phase::forward || r.now.nan + r.now.inf == 0) continue;
    bad_site = t >> 2, bad_output = uint8_t(t & 3);
    Monitor::Finding about;
    about.severity = Severity::fault, about.value = double(INFINITY);
    about.suggestion = {
        "stable_op", 0,
        "leave out, by where, what has nothing left that counts: a row in which everything is masked, a sequence without a path"};
    about.text = std::string(s.op->name) + " gave " + std::to_string(r.now.nan + r.now.inf) +
                 " values that are not finite out of infinities that the program wrote, for the first time, and the loss is not finite";
    return warn(Detector::nonfinite, t >> 2, uint8_t(t & 3), r.now.nan ? "nan" : "inf", std::move(about));
  }
}

void MonitorState::note_update() {
  updated = true;
  for (const uint32_t i : pending) found[i].about.severity = Severity::fault;
  pending.clear();
}

// ---- inputs that endanger their op ----

void MonitorState::look_at_argument(const Call& c, WatchedSite& s, uint32_t at) {
  WatchedArgument& a = *s.argument;
  if (a.input >= c.in.size() || !c.in[a.input].defined()) return;
  const Tensor& t = c.in[a.input];
  const TensorImpl& x = impl(t);
  const int64_t n = x.spec.shape.numel();
  if (!is_inexact(x.spec.dtype) || is_complex(x.spec.dtype) || n == 0) return;
  if (a.kind == WatchedArgument::targets) return;
  if (&c.op == &op_attention) {  // its rows are sampled, its logits are in what it keeps of them
    if (a.step_calls++ == 0) touched_arguments.push_back(at);
    return;
  }
  if (x.weak) {  // a number of the program's: of interest where it changes from step to step
    const double v = std::abs(read_double(x.data, x.spec.dtype));
    uint64_t bits = 0;
    std::memcpy(&bits, &v, sizeof bits);
    if (a.kind != WatchedArgument::vanishes || bits == a.number_bits) return;
    a.number_bits = bits, a.number = true, a.dtype = DType::f64, a.recorded = c.recording, a.floor = -INFINITY;
    if (a.step_calls++ == 0) touched_arguments.push_back(at);
    a.min_bits = std::min(a.min_bits, bits - 1), a.max_bits = std::max(a.max_bits, bits), a.sum += v, ++a.sampled;
    return;
  }
  a.number = false;
  if (a.dtype != x.spec.dtype) a.dtype = x.spec.dtype, a.series.reset(), a.mean = 0;
  if (a.step_calls++ == 0) touched_arguments.push_back(at);
  a.recorded = c.recording;
  const Written* const w = known(t, true);
  uint64_t low, high;
  if (w) {
    low = w->min_bits, high = w->max_bits;
    if (w->elements && !w->whole) a.every = std::max(a.every, std::bit_ceil(uint32_t(uint64_t(w->size) / w->elements)));
  } else {
    StatSlot slot;
    while (n * int64_t(size_of(a.dtype)) / slot.every > 65536) slot.every *= 2;
    slot.rotation = rotation;
    look(t, slot);
    low = slot.min_bits.load(), high = slot.max_bits.load();
  }
  a.min_bits = std::min(a.min_bits, low);
  a.floor = w ? w->floor : -INFINITY;
  const FloatBits f = float_bits(a.dtype);
  if (high < f.inf) a.max_bits = std::max(a.max_bits, high);
  if (w && w->noise > -INFINITY && low < f.inf - 1) {
    const float lost = float(digits_of(w->noise_site)) + w->noise - log2_of(low + 1, a.dtype);
    if (lost > a.lost) a.lost = lost, a.lost_site = w->noise_site;
  }
}

/// Some values of a denominator, for the mean of their magnitudes.
void MonitorState::plan_denominator(const Call& c, uint32_t at, const Sight& sight, Wanted& to) {
  const int input = sites[at].argument->input;
  if (input < c.in.size() && sight.takes_rows(c.in[input])) to.ask(ValueRule::denominator, input, {evenly(c.in[input].size(), 32)});
}

void MonitorState::judge_denominator(uint32_t at, const Sample& sample) {
  WatchedArgument& a = *sites[at].argument;
  double v[64];  // evenly() gives fewer than twice as many as it is asked for
  sample.read(v);
  for (int64_t i = 0; i < sample.size(); ++i)
    if (std::isfinite(v[i])) a.sum += std::abs(v[i]), ++a.sampled;
}

/// The absolute rounding noise of an elementwise result, if it comes from a subtraction: operands are rounded at their magnitude, and what
/// they have in common goes, so that the noise stays while the value shrinks. Ops that keep the noise as it is hand it on.
float MonitorState::noise_of(const Call& c, const Tensor& out, uint32_t site, uint32_t& from) const {
  const auto size_of_input = [&](int i) -> double {  // log2 of the largest magnitude; NaN: not known
    const TensorImpl& x = impl(c.in[i]);
    if (x.weak) return std::log2(std::abs(read_double(x.data, x.spec.dtype)));
    const Written* w = known(c.in[i]);
    return w && w->max_bits < float_bits(w->dtype).inf ? std::log2(magnitude_of(w->max_bits, w->dtype)) : NAN;
  };
  if (&c.op == &op_sub) {
    const double a = size_of_input(0), b = size_of_input(1);
    if (!(a == a) && !(b == b)) return -INFINITY;  // of one that is not known it may be more
    from = site;
    return float(std::fmax(a, b)) - float(format_of(impl(out).spec.dtype).digits);
  }
  const bool keeps = &c.op == &op_add || &c.op == &op_maximum || &c.op == &op_minimum || &c.op == &op_clamp || &c.op == &op_relu ||
                     &c.op == &op_neg || &c.op == &op_abs || &c.op == &op_cast;
  const bool scales = &c.op == &op_mul || &c.op == &op_div;
  if (!keeps && !scales) return -INFINITY;
  float noise = -INFINITY;
  for (int i = 0; i < c.in.size() && i < 2; ++i)
    if (const Written* w = c.in[i].defined() ? known(c.in[i]) : nullptr; w && w->noise > noise) noise = w->noise, from = w->noise_site;
  if (scales && noise > -INFINITY) {
    const TensorImpl &a = impl(c.in[0]), &b = impl(c.in[1]);
    if (&c.op == &op_div ? !b.weak : !a.weak && !b.weak) return -INFINITY;
    const auto factor = float(size_of_input(a.weak ? 0 : 1));
    noise += &c.op == &op_div ? -factor : factor;
  }
  return noise;
}

/// log2 of a positive number that `c` adds to its other input, or that bounds it from below: what is not negative stays above it.
float MonitorState::floor_of(const Call& c) {
  if (&c.op != &op_add && &c.op != &op_maximum) return -INFINITY;
  for (int i = 0; i < 2; ++i)
    if (const TensorImpl& x = impl(c.in[i]); x.weak) return float(std::log2(std::max(0.0, read_double(x.data, x.spec.dtype))));
  return -INFINITY;
}

// ---- the end of a step ----

Trend MonitorState::loss_trend(int n) const {
  if (loss_site >= sites.size()) return {};
  const WatchedResult& r = sites[loss_site].results[loss_output];
  return r.series ? r.series->trend(n, &Reading::high) : Trend{};
}

void MonitorState::judge_step() {
  for (const uint32_t t : touched) {
    WatchedResult& r = sites[t >> 2].results[t & 3];
    fold(r);
    const FloatBits f = float_bits(r.dtype);
    if (!r.series) r.series = std::make_unique<Series>();
    Reading g;
    g.step = step, g.elements = r.now.elements, g.nan = r.now.nan, g.inf = r.now.inf, g.subnormal = r.now.subnormal, g.calls = r.now.calls;
    if (r.now.max_bits) g.high = log2_of(r.now.max_bits, r.dtype);
    if (r.now.min_bits < f.inf - 1) g.low = log2_of(r.now.min_bits + 1, r.dtype);
    if (g.high > -INFINITY) step_largest = std::max(step_largest, magnitude_of(r.now.max_bits, r.dtype));
    if (r.now.every > 1 || r.parts) {
      if (!r.parts) r.parts = std::make_unique<Rotation>();
      r.parts->hold(g, r.now.every);
    }
    r.series->push(g);
    r.now = {};
  }
  if (options.foretell) {
    for (const uint32_t t : touched) judge_jump(t >> 2, uint8_t(t & 3), sites[t >> 2].results[t & 3]);
    for (const uint32_t t : touched) {
      WatchedResult& r = sites[t >> 2].results[t & 3];
      judge_range(t >> 2, uint8_t(t & 3), r);
      if ((t & 3) == 0) judge_unfed(t >> 2);
      if (!r.is_loss) continue;
      judge_growth(t >> 2, uint8_t(t & 3), r), judge_endless(t >> 2, uint8_t(t & 3), r), judge_height(t >> 2, uint8_t(t & 3), r);
    }
    for (const uint32_t s : touched_arguments) judge_argument(s, *sites[s].argument);
    judge_skips();
  }
  if (governor.every() > 1) suspect_trends();
  touched.clear(), touched_arguments.clear();
  for (const uint32_t i : pending) found[i].about.text += "; no weight was written with it";
  pending.clear();
}

namespace {

/// Whether a result is 1 / sqrt(v) of what its op found in the input: v is what goes to 0 when it grows.
bool is_inverse_root(const OpDef& op, int output) { return (&op == &op_layer_norm && output == 2) || (&op == &op_rms_norm && output == 1); }

/// Bits a step over the last 8 or 16 readings, whichever is more; with `far` also over 32 and 64.
double rate_of(const Series& h, bool far) {
  double most = -INFINITY;
  for (int n = kWindow; n <= (far ? 8 : 2) * kWindow; n *= 2)
    if (const int k = std::min(h.size(), n) - 1; k > 0) most = std::max(most, double(h.back().high - h.back(k).high) / k);
  return most;
}

/// Growth that leaves no time for a line: 64-fold and more twice in a row, not slowing, and at most eight such steps to go.
bool runs_away(const Series& h, const Format& f, double room, double& slope, double& eta) {
  if (h.size() < 3 || (f.narrow && room > 6)) return false;
  const double last = double(h.back().high - h.back(1).high), before = double(h.back(1).high - h.back(2).high);
  if (!(last >= 6 && before >= 6 && before < INFINITY && last >= 0.9 * before)) return false;
  float least, most;
  h.range(h.size(), least, most);
  if (most > h.back().high || (!f.narrow && h.back().high < 10)) return false;  // it has been there, or comes from near 0
  slope = last, eta = room / last;
  return eta <= 8;
}

}  // namespace

/// By how many bits a step the scale of the loss grows: what the root of the backward passes grows beyond what it was made from by a factor.
double MonitorState::scale_slope(int n) const {
  if (loss_site >= sites.size() || (sites[loss_site].op != &op_mul && sites[loss_site].op != &op_div)) return 0;
  const uint32_t from = sites[loss_site].from[0];
  const Series* const loss = from < sites.size() ? sites[from].results[0].series.get() : nullptr;
  const Trend whole = loss_trend(n), own = loss ? loss->trend(n, &Reading::high) : Trend{};
  return whole.n == 0 ? 0 : whole.slope - (own.n ? own.slope : 0);
}

/// Every rule about the size of a result.
void MonitorState::judge_range(uint32_t site, uint8_t output, WatchedResult& r) {
  const Series& h = *r.series;
  const WatchedSite& s = sites[site];
  const Reading& now = h.back();
  const Format f = format_of(r.dtype);
  if (now.high < float(f.normal2) && !(now.nan + now.inf)) judge_vanished(site, output, r);
  if (s.op == &op_cumsum) judge_outgrown(site, r);
  if (s.op == &op_mse_loss) judge_residual(site, r);
  if (h.total() == 1 && step <= 1 && (s.op == &op_linear || s.op == &op_conv2d)) judge_start(site, r);
  if (s.counts && h.size() == 1) judge_counts(site, output, r);
  if (!std::isfinite(now.high) || now.nan + now.inf) return;
  const bool fp8 = f.digits <= 4;
  if (f.narrow && !fp8 && s.phase == Phase::backward && now.elements >= 16 && !judge_dwindling(site, output, r)) return;
  if (s.op->in.size() == 0) return;
  if (h.size() >= kWindow && s.phase == Phase::forward && !fp8) judge_fading_product(site, output, r);
  judge_headroom(site, output, r);
}

/// Gradients that have become so small that few of them keep all their digits. False: they are rounding noise, of which no rule speaks.
bool MonitorState::judge_dwindling(uint32_t site, uint8_t output, WatchedResult& r) {
  const Series& h = *r.series;
  const WatchedSite& s = sites[site];
  const Reading& now = h.back();
  const double share = double(now.subnormal) / double(now.elements);
  // Terms that cancel leave rounding noise, as in the bias of attention's keys, whose gradient is 0 by rights.
  const uint32_t from = s.op == &op_sum ? s.from[0] : ~0u;
  const Series* const terms = from < sites.size() ? sites[from].results[0].series.get() : nullptr;
  if (terms && terms->size() && terms->back().step == now.step && terms->back().high > now.high + 3) return false;
  const bool few = share > 0.5 || (share > 0.25 && now.high < float(format_of(r.dtype).normal2) + 4);
  r.streak.add(few);
  if (r.streak != 3 && (r.streak == 0 || r.streak % 16)) return true;
  float least, most;
  h.range(h.size(), least, most);
  most = std::max(most, now.high);
  Monitor::Finding about;
  // Gradients that dwindle will be gone; those that have always been small may do no harm.
  about.severity = most - now.high >= 2 && h.size() >= kWindow ? Severity::warning : Severity::info;
  about.value = share;
  about.suggestion = suggest_loss_scale(r.dtype, most);
  about.text = number(100 * share) + " % of the " + name_of(r.dtype) + " gradients that " + s.op->name +
               " wrote are subnormal: they lose digits and then vanish; the largest is " + power(double(now.high));
  warn(Detector::underflow, site, output, "underflow", std::move(about));
  return true;
}

/// Whether a result leaves its format: along a trend, or because it stays near the end.
MonitorState::Outlook MonitorState::outlook(uint32_t site, uint8_t output, const WatchedResult& r) const {
  const Series& h = *r.series;
  const WatchedSite& s = sites[site];
  const Reading& now = h.back();
  const Format f = format_of(r.dtype);
  const bool fp8 = f.digits <= 4, narrow_gradient = f.narrow && s.phase == Phase::backward;
  Outlook o{.root = is_inverse_root(*s.op, output)};
  o.room = (o.root ? -f.normal2 / 2 : f.max2) - double(now.high);
  o.trend = r.every == 1 && s.phase == Phase::forward && runs_away(h, f, o.room, o.slope, o.eta);
  // Where steps look at parts, what one of them saw is no trend: the first rotation only learns what there is.
  if (!o.trend && h.size() < kWindow + int(r.every > 1 ? r.every : 0)) return o;
  const double narrow_gate = fp8 ? 3 : 6;
  const bool close = f.narrow ? !fp8 && o.room < 2 : o.room < 8;
  const double rough = rate_of(h, f.narrow ? o.room <= narrow_gate : o.room < 64);
  const int all = close && f.narrow ? std::min(h.size(), 64) : 0;  // growth in stairs shows in a long view only
  const bool stairs = all >= 20 && now.high > h.back(all - 1).high + 2;
  const bool rising = (rough > 0.01 && o.room / rough <= 40 && (!f.narrow || o.room <= narrow_gate)) || stairs;
  if (!close && !rising && !o.trend) return o;
  float least, most;
  h.range(std::min(kWindow, h.size()) - 1, least, most);
  struct Window {
    int readings;
    double r2;
  };
  for (const Window w :
       {Window{kWindow, 0.8}, {2 * kWindow, 0.8}, {4 * kWindow, 0.75}, {8 * kWindow, 0.7}, {stairs ? all : INT_MAX, 0.7}}) {
    const Trend t = o.trend || !rising ? Trend{} : h.trend(w.readings, &Reading::high);  // the longer ones where values scatter
    if (t.n == 0) continue;
    // Gradients follow the loss, whose scale the program may be raising: only what they grow beyond it counts.
    const double own = narrow_gradient ? t.slope - std::max(0.0, scale_slope(w.readings)) : t.slope;
    if (own <= 0) continue;
    o.slope = own, o.eta = o.room / own;
    // What only comes back to where it was before is no growth: gradients of a loss near 0 rise by many bits when one example misses.
    float before = -INFINITY;
    for (int k = w.readings < 4 * kWindow ? w.readings : kWindow; k < h.size(); ++k) before = std::max(before, h.back(k).high);
    o.trend = now.high > before && t.r2 > w.r2 && o.eta <= 20 && t.change >= 0.05 * w.readings && own > 0.5 * t.slope &&
              (!(fp8 || narrow_gradient) || (w.readings > kWindow && (t.r2 > 0.9 || w.readings > 2 * kWindow)));
  }
  // Near the end for some steps, and not by a constant that fills in for something else.
  o.near =
      close && double(most) - double(least) < 4 && most - least > 0 && s.op != &op_where && f.max2 - double(least) < (f.narrow ? 4 : 16);
  if (f.narrow && close && !o.near && h.size() >= 16 && double(h.back(1).high) > f.max2 - 2) {  // lately, and far above where it was
    double before = 0;
    for (int k = 2; k < h.size(); ++k) before += std::max(-40.0, double(h.back(k).high)) / (h.size() - 2);
    o.near = double(now.high) > before + 3 && s.op != &op_where;
  }
  if (narrow_gradient || o.root || h.size() < kWindow) o.near = false;
  return o;
}

/// Headroom: bits between the largest magnitude and the end of the format.
void MonitorState::judge_headroom(uint32_t site, uint8_t output, const WatchedResult& r) {
  const Outlook o = outlook(site, output, r);
  if (!o.trend && !o.near) return;
  const WatchedSite& s = sites[site];
  const Format f = format_of(r.dtype);
  const auto high = double(r.series->back().high);
  const bool narrow_gradient = f.narrow && s.phase == Phase::backward;
  // A dynamic loss scale grows until narrow gradients overflow, and then steps back: no reason for alarm.
  const bool sought = narrow_gradient && (f.digits <= 4 || !scale_stays());
  const bool exponential = has_risk(s.op->risk, Risk::exp_range) && s.op->in.size() > 0 && has_risk(s.op->in[0].risk, Risk::exp_range);
  Monitor::Finding about;
  about.severity = sought ? Severity::info : Severity::warning;
  about.eta = o.trend ? std::max<int64_t>(0, int64_t(o.eta)) : -1, about.value = std::exp2(high);
  about.suggestion = suggestion(site, output);
  if (o.root)
    about.suggestion = suggest_epsilon(*s.op, r.dtype, 0);
  else if (narrow_gradient && !sought)
    about.suggestion = suggest_loss_scale(r.dtype, high + 4);
  about.text = std::string(s.op->name) + " reaches " + power(high) + ", " + number(o.room) + " bits below " +
               (o.root ? "where what it is the inverse root of leaves the normal numbers of " : "the largest ") + name_of(r.dtype);
  if (o.trend) about.text += ", and grows by " + number(o.slope) + " bits a step: out of range in " + std::to_string(about.eta) + " steps";
  if (exponential)
    about.text += "; its argument is " + number(high * 0.6931471805599453) + " of at most " + number(f.max2 * 0.6931471805599453);
  warn(exponential ? Detector::argument : Detector::headroom, site, output, "range", std::move(about));
}

/// A product of many factors that shrinks towards zero.
void MonitorState::judge_fading_product(uint32_t site, uint8_t output, const WatchedResult& r) {
  const WatchedSite& s = sites[site];
  if (s.op != &op_prod && (s.op != &op_exp || r.series->back().elements < 8)) return;
  const Format f = format_of(r.dtype);
  const Trend t = r.series->trend(kWindow, &Reading::high);
  const double eta = (t.last - f.normal2) / -t.slope;
  if (t.n == 0 || t.r2 <= 0.8 || t.slope >= -0.1 || eta > 20) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.eta = std::max<int64_t>(0, int64_t(eta)), about.value = std::exp2(t.last);
  about.suggestion = suggest_for(*s.op, r.dtype, s.phase);
  about.text = std::string(s.op->name) + " shrinks by " + number(-t.slope) + " bits a step; the largest product is " + power(t.last) +
               " and leaves the normal numbers of " + name_of(r.dtype) + " in " + std::to_string(about.eta) + " steps";
  warn(Detector::underflow, site, output, "underflow", std::move(about));
}

/// By how many bits the result of `site` is above what it had before in this step and all others that are known; 0 where nothing is.
double MonitorState::leap_of(uint32_t site, bool running) const {
  if (site >= sites.size()) return 0;
  const WatchedResult& r = sites[site].results[0];
  if (!r.series || r.series->size() < 2) return 0;
  const bool open = running && r.now.calls > 0;
  const float now = !open ? r.series->back().high : r.now.max_bits ? log2_of(r.now.max_bits, r.dtype) : -INFINITY;
  float least, most;
  r.series->range(r.series->size(), least, most);
  if (open) most = std::max(most, r.series->back().high);
  return most > -INFINITY ? double(now - most) : 0;
}

/// A result that is suddenly larger than ever by many bits, where what came before it in the step was not.
void MonitorState::judge_jump(uint32_t site, uint8_t output, const WatchedResult& r, bool running) {
  constexpr int kBefore = 16;
  const WatchedSite& s = sites[site];
  if (jump_seen || !r.series || s.phase != Phase::forward) return;
  const Series& h = *r.series;
  const int before = running ? 0 : 1;  // the newest reading is this step's, unless the step still runs
  if (h.size() < std::max(kBefore, int(r.every)) + before || (running ? r.now.nan + r.now.inf : h.back().nan + h.back().inf)) return;
  const float now = running ? (r.now.max_bits ? log2_of(r.now.max_bits, r.dtype) : -INFINITY) : h.back().high;
  if (!(now > h.back(before).high + 16)) return;
  float least = h.back(before).high, most = least;
  h.range(h.size(), least, most);
  if (running) least = std::min(least, h.back().high), most = std::max(most, h.back().high);
  if (!(now - most >= 16 && most - least < 8)) return;
  jump_seen = true;
  // What made a NaN or infinity in the same call has been reported.
  for (const WatchedResult& o : s.results)
    if (running ? o.now.nan + o.now.inf : o.series && o.series->back().step == step && o.series->back().nan + o.series->back().inf) return;
  // Constants that fill in, and first words about new data, are no jumps; what follows from them in this step neither.
  if (s.op->in.size() == 0 || s.op == &op_where || s.op == &op_masked_fill || s.op->cost == Cost::view) return;
  // The machine is to blame only where the input does not tell why: an exponential follows a small leap, a square doubles one.
  const double leap = leap_of(s.from[0], running);
  if (s.op->in[0].risk == Risk::exp_range && leap > 1) return;
  // A quotient grows where what divides it falls, of which other rules speak.
  if (const auto& a = s.argument; a && a->kind == WatchedArgument::vanishes && a->series && a->series->size()) {
    const bool open = a->step_calls > 0;
    const float low = !open                                        ? a->series->back().low
                      : a->min_bits < float_bits(a->dtype).inf - 1 ? log2_of(a->min_bits + 1, a->dtype)
                                                                   : -INFINITY;
    if (a->series->back(open || a->series->size() < 2 ? 0 : 1).low - low > 0.9F * (now - most)) return;
  }
  jump_told = true;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::exp2(double(now));
  about.suggestion = after_a_leap(!running && updated);
  if (about.suggestion.kind.empty()) about.suggestion = shorter_steps();
  if (about.suggestion.kind.empty() && (leap > 4 || h.back().calls >= 8))  // or a recurrence, which multiplies itself
    about.suggestion = suggestion(site, output);
  else if (about.suggestion.kind.empty())
    about.suggestion = {"hardware", 0,
                        "run the step again from the same numbers: if it comes out clean, the memory or processor is to blame"};
  about.text = std::string(s.op->name) + " gave " + power(double(now)) + ", in " + std::to_string(h.size() - before) +
               " steps before at most " + power(double(most)) + ", and nothing before it in the step had jumped";
  warn(Detector::growth, site, output, "jump", std::move(about));
}

bool MonitorState::find_jump() {
  for (size_t i = 0; i < touched.size() && !jump_seen; ++i)
    judge_jump(touched[i] >> 2, uint8_t(touched[i] & 3), sites[touched[i] >> 2].results[touched[i] & 3], true);
  return jump_told;
}

uint32_t MonitorState::producer(uint32_t site, double slope) const {
  for (int hops = 0; hops < 32; ++hops) {
    uint32_t next = ~0u;
    float most = -INFINITY;
    for (const uint32_t from : sites[site].from) {
      if (from >= sites.size() || from == site || sites[from].phase != sites[site].phase) continue;
      const Series* const h = sites[from].results[0].series.get();
      if (!h || h->size() < kWindow || h->back().step != step) continue;
      const Trend t = h->trend(kWindow, &Reading::high);
      if (t.n && t.r2 > 0.8 && t.slope > 0.8 * slope && h->back().high > most) next = from, most = h->back().high;
    }
    if (next == ~0u) return site;
    site = next;
  }
  return site;
}

/// Whether the norm of an optimiser's gradients climbs to where it never was, along a line.
bool MonitorState::gradients_climb() const {
  return std::any_of(sites.begin(), sites.end(), [](const WatchedSite& s) {
    if (!s.update || s.update->gradient.size() <= kClimb) return false;
    const Numbers& g = s.update->gradient;
    const Line l = fit(
        kClimb, [](int k) { return -double(k); }, [&](int k) { return double(g.back(k)); });
    return l.slope > 0.03 && l.slope > 6 * l.error && double(g.back()) > double(g.most(kClimb, Numbers::kLength));
  });
}

/// A loss that climbs along a line, though it scatters, and does not slow down through 32 steps, to nearly three times
/// what it had ever been and above 1, its gradients with it.
bool MonitorState::climbs(WatchedResult& r, Trend& t) const {
  const Series& h = *r.series;
  if (h.size() <= kClimb) return false;
  r.record = std::max(r.record, h.back(kClimb).high);
  if (h.size() < kClimb + kWindow || !(h.back().high > std::max(0.0F, r.record + 1.5F)) || !(h.back(1).high > r.record + 1)) return false;
  const auto line = [&](int n, int from) {
    return fit(
        n, [&](int k) { return double(h.back(from + k).step); }, [&](int k) { return double(h.back(from + k).high); });
  };
  const Line l = line(kClimb, 0);
  if (!(l.slope > 0.03) || !(l.slope > 8 * l.error) || !(line(kClimb / 2, 0).slope > 0.9 * line(kClimb / 2, kClimb / 2).slope))
    return false;
  if (!gradients_climb()) return false;
  t.n = kClimb, t.slope = l.slope, t.last = double(h.back().high);
  return true;
}

/// The loss rises by more than half a bit seven times in a row, or in the first steps by twelve bits in four.
void MonitorState::judge_growth(uint32_t site, uint8_t output, WatchedResult& r) {
  Trend t = r.series->trend(kWindow, &Reading::high);
  if (t.n == 0 || t.least_step <= 0.5) {
    t = r.series->trend(5, &Reading::high);
    float least, most;
    r.series->range(r.series->size(), least, most);
    const bool early = t.n && t.least_step > 0.5 && t.change >= 12 && t.last > double(most) && r.series->size() <= 16;
    if (!climbs(r, t) && !early) return;
  }
  const std::string how = t.n == kClimb ? "climbed along a line for " + std::to_string(kClimb) + " steps"
                                        : "grew " + std::to_string(t.n - 1) + " times in a row,";
  const Format f = format_of(r.dtype);
  Monitor::Finding about;
  if (r.negative) {  // no learning rate is to blame for a loss that has no lower end
    const uint32_t from = producer(site, t.slope);
    const WatchedSite& p = sites[from];
    about.severity = Severity::warning, about.eta = int64_t((f.max2 - t.last) / t.slope), about.value = -std::exp2(t.last);
    about.suggestion = {"stable_op", 0,
                        std::string("a loss with a lower end: look at the sign of what ") + p.op->name + " adds to it, or bound that"};
    about.text = "the loss is negative, " + number(about.value) + ", and " + how + " by " + number(t.slope) +
                 " bits a step: it has no lower end; what grows is the result of " + p.op->name;
    warn(Detector::growth, from, from == site ? output : uint8_t(0), "growth", std::move(about));
    return;
  }
  about.severity = Severity::warning, about.eta = int64_t((f.max2 - t.last) / t.slope), about.value = std::exp2(t.last);
  about.suggestion = {"learning_rate", 0.1, "learning rate x 0.1: each step overshoots"};
  about.text = "the loss " + how + " by " + number(t.slope) + " bits a step, to " + power(t.last) + ": out of range in " +
               std::to_string(about.eta) + " steps";
  warn(Detector::growth, site, output, "growth", std::move(about));
}

int MonitorState::digits_of(uint32_t site) const { return format_of(sites[site].results[0].dtype).digits; }
double MonitorState::most_digits_lost(int digits) const {
  return 0.58 * digits * std::log2(std::max(2.0, options.max_ulp_drift)) / std::log2(1000.0);
}

/// What the running step saw of an input; ends it.
Reading MonitorState::take_reading(uint32_t site, WatchedArgument& a) const {
  Reading g;
  g.step = step;
  if (a.max_bits) g.high = log2_of(a.max_bits, a.dtype);
  if (a.min_bits < float_bits(a.dtype).inf - 1) g.low = log2_of(a.min_bits + 1, a.dtype);
  if (a.every > 1) {
    if (!a.parts) a.parts = std::make_unique<Rotation>();
    a.parts->hold(g, a.every);
  }
  if (a.kind == WatchedArgument::nears_one) {  // from below 0, as the result tells: of what is above it is at most log 2
    const Series* const y = sites[site].results[0].series.get();
    const bool negative = g.high < 0 && y && y->size() && y->back().step == step && y->back().high > -0.5F;
    g.low = negative ? std::log2(float(-std::expm1(double(g.high) * M_LN2))) : 0;
  }
  a.step_calls = 0, a.min_bits = ~uint64_t(0), a.max_bits = 0, a.sum = 0, a.sampled = 0;
  return g;
}

/// Inputs that endanger their op.
void MonitorState::judge_argument(uint32_t site, WatchedArgument& a) {
  if (!a.series) a.series = std::make_unique<Series>();
  const bool sampled = a.sampled > 0;
  const double mean = sampled ? a.sum / double(a.sampled) : 0;
  const Reading g = take_reading(site, a);
  a.series->push(g);
  switch (a.kind) {
    case WatchedArgument::saturates: return judge_saturation(site, a, double(g.high));
    case WatchedArgument::turns: return judge_angle(site, a, double(g.high));
    case WatchedArgument::nears_one: return judge_nearing(site, a);
    case WatchedArgument::targets: return;
    case WatchedArgument::attends:
      if (sampled) judge_attention(site, a, mean);
      return;
    case WatchedArgument::vanishes: break;
  }
  a.mean = std::max(a.mean, mean);
  if (a.number) return void(judge_straight(site, a, a.mean));
  const auto lost = double(std::exchange(a.lost, -INFINITY));
  if ((sites[site].op == &op_sqrt || a.power > 0) && !a.recorded) return;  // its value at 0 is good; only its gradient is not
  // What guards it does so as long as it stays.
  a.fades.add(a.floor > -INFINITY && a.floor < a.last_floor);
  a.last_floor = a.floor;
  if (a.fades >= kWindow - 1) a.floor = -INFINITY;
  judge_cancellation(site, a, lost, mean);
  if (a.every > 1 || !judge_straight(site, a, mean)) judge_vanishing(site, a, mean);
}

/// An input of which a subtraction has left few digits.
void MonitorState::judge_cancellation(uint32_t site, WatchedArgument& a, double lost, double mean) {
  const double low = double(a.series->back().low);
  // A cast in between changes nothing of what was lost.
  const int digits = lost > -INFINITY ? digits_of(a.lost_site) : format_of(a.dtype).digits;
  // An epsilon that was added bounds what noise can do to the result: four digits are left beside it.
  const bool guarded = lost + low - double(a.floor) <= digits - 4;
  if (a.lost_streak.add(lost >= most_digits_lost(digits) && !guarded) != 2) return;
  const WatchedSite &s = sites[site], &from = sites[a.lost_site];
  Monitor::Finding about;
  about.severity = Severity::warning, about.low = std::exp2(low), about.mean = mean;
  about.lost_ulps = std::exp2(std::min(lost, double(digits)));
  about.suggestion = suggest_for_cancellation(*s.op);
  about.text = std::string(from.op->name) + " cancels " + number(std::min(lost, double(digits))) + " of the " + std::to_string(digits) +
               " digits (bits) of " + name_of(from.results[0].dtype) + ", by the bound of its operands; " + s.op->name +
               " then uses values down to " + power(low);
  warn(Detector::lost_bits, a.lost_site, 0, "cancellation", std::move(about));
}

/// The exponential whose sum a logarithm takes; the logarithm itself where it takes something else.
uint32_t MonitorState::exponential_of(uint32_t site) const {
  if (sites[site].op != &op_log) return site;
  uint32_t from = sites[site].from[0];
  for (int hops = 0; hops < 3 && from < sites.size(); ++hops, from = sites[from].from[0]) {
    if (sites[from].op == &op_exp) return from;
    if (sites[from].op != &op_sum && sites[from].op != &op_mean && sites[from].op != &op_cast) break;
  }
  return site;
}

/// Exponentials of which nothing is left soon, and whose logarithm is taken.
void MonitorState::judge_unshifted(uint32_t e, uint32_t site, int64_t eta, double low) {
  Monitor::Finding about;
  about.severity = Severity::warning, about.eta = eta, about.low = std::exp2(low);
  about.suggestion = {"stable_op", 0, "logsumexp: it takes the largest argument off first"};
  about.text = "sums of the results of exp, of which " + std::string(sites[site].op->name) + " is taken, have come down to " + power(low) +
               ": nothing is left of them in " + std::to_string(eta) + " steps, as nobody took the largest argument off first";
  warn(Detector::argument, e, 0, "vanishing", std::move(about));
}

/// Denominators and arguments that go to zero.
void MonitorState::judge_vanishing(uint32_t site, const WatchedArgument& a, double mean) {
  const WatchedSite& s = sites[site];
  const Reading& g = a.series->back();
  const Format f = format_of(a.dtype);
  if (!(g.low < 0) || a.series->size() < kWindow + int(a.every > 1 ? a.every : 0)) return;
  // Where the result, or with a gradient the slope, leaves the format: -b^-2 of a / b, -b^-3/2 / 2 of an inverse root.
  const Risk risk = s.op->in[a.input].risk;
  const double slope_order = !a.recorded ? 1 : has_risk(risk, Risk::domain) ? 1.5 : 2;
  const double end = a.power != 0                    ? std::max(f.tiny2, -f.max2 / (a.recorded ? 1 - double(a.power) : -double(a.power)))
                     : has_risk(risk, Risk::divides) ? std::max(f.tiny2, -f.max2 / slope_order)
                                                     : f.tiny2;
  if (double(a.floor) > end) return;  // an epsilon keeps it away
  // The smallest of many scatters; where the largest goes, all go.
  for (const auto field : {&Reading::low, &Reading::high}) {
    Trend t;
    for (int n = kWindow; n <= 4 * kWindow && t.n == 0; n *= 2) {
      if (a.series->size() < n) break;
      const double now = double(a.series->back().*field), rough = (now - double(a.series->back(n - 1).*field)) / (n - 1);
      if (!(rough < -0.02) || (now - end) / -rough > 128) continue;
      t = a.series->trend(n, field);
      if (t.r2 <= 0.8 || t.slope >= 0 || t.change > -4 || (t.last - end) / -t.slope > 64) t.n = 0;
    }
    if (t.n == 0) continue;
    // Of a root only the slope is at stake: values that spread both ways do not come down.
    if (s.op == &op_sqrt && a.series->trend(t.n, &Reading::high).slope > -0.5 * t.slope) continue;
    const double eta = std::max(0.0, (t.last - end) / -t.slope);
    if (const uint32_t e = exponential_of(site); e != site) return judge_unshifted(e, site, int64_t(eta), t.last);
    Monitor::Finding about;
    about.severity = Severity::warning, about.eta = int64_t(eta), about.low = std::exp2(t.last), about.mean = mean;
    about.suggestion = suggest_epsilon(*s.op, a.dtype, a.mean);
    about.text = std::string("'") + s.op->in[a.input].name + "' of " + s.op->name + " goes to zero: its " +
                 (field == &Reading::low ? "smallest" : "largest") + " magnitude is " + power(t.last) + ", its mean " + number(mean) +
                 ", and falls by " + number(-t.slope) + " bits a step; beyond " + name_of(a.dtype) + " in " + std::to_string(about.eta) +
                 " steps";
    warn(has_risk(risk, Risk::divides) && !has_risk(risk, Risk::domain) ? Detector::denominator : Detector::argument, site, 0, "vanishing",
         std::move(about));
    return;
  }
}

/// Values that a cast to a format of 8 bits cuts off, two steps in a row.
void MonitorState::judge_saturation(uint32_t site, WatchedArgument& a, double high) {
  const DType t = sites[site].results[0].dtype;
  const double over = high - format_of(t).max2;
  if (a.streak.add(over > std::log2(1.05)) != 2) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::exp2(high);
  about.suggestion = {"margin", std::ceil(over) + 1,
                      "scale by this step's largest value, or leave a margin of " + number(std::ceil(over) + 1) + " bits"};
  about.text = std::string("cast to ") + name_of(t) + " cuts off: the largest magnitude is " + power(high) + ", " +
               number(std::exp2(over)) + " times the largest number, for two steps";
  warn(Detector::fp8_scale, site, 0, "saturation", std::move(about));
}

/// Attention that looks at one key only while its logits keep growing.
void MonitorState::judge_attention(uint32_t site, WatchedArgument& a, double entropy) {
  a.streak.add(entropy < 0.1);
  a.fades.add(true);  // looks
  if (a.streak < 4) return;
  if (a.streak == 4 && a.fades == 4) {
    Monitor::Finding about;
    about.severity = Severity::warning, about.value = entropy;
    about.suggestion = {"stable_op", 0, "logits divided by the root of the width of a head, or rms_norm of queries and keys"};
    about.text = "attention looks at one key from the start: the entropy of its rows is " + number(100 * entropy) +
                 " % of the largest in the first four looks, so that hardly any gradient reaches its logits";
    return warn(Detector::attention_entropy, site, 0, "entropy", std::move(about));
  }
  // Of attention as one op: what it keeps of a row, the logarithm of its sum, is the largest logit and a little more.
  const Series* const logits = sites[site].op == &op_attention ? sites[site].results[1].series.get() : a.series.get();
  const Trend t = logits ? logits->trend(16, &Reading::high) : Trend{};
  if (t.n == 0 || t.slope <= 0.02 || t.r2 <= 0.8 || t.change < 0.5 || t.last < 5) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = entropy;
  about.suggestion = {"stable_op", 0, "rms_norm of queries and keys before their product, or a smaller learning rate"};
  about.text = "attention collapses: the entropy of its rows is " + number(100 * entropy) + " % of the largest, and logits, now " +
               power(t.last) + ", grow by " + number(t.slope) + " bits a step";
  warn(Detector::attention_entropy, site, 0, "entropy", std::move(about));
}

/// Steps in a row that made a NaN or infinity and whose gradients nobody used: a loss scale looks for a value that does not exist.
void MonitorState::judge_skips() {
  const bool bad = bad_site != ~uint32_t(0) && backward_ran && !updated;
  skips = bad ? skips + 1 : 0;
  if (skips != 4) return;
  const WatchedSite& s = sites[bad_site];
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = double(skips);
  about.suggestion = suggestion(bad_site, bad_output);
  about.text = "4 steps in a row went bad and were skipped; " + std::string(s.op->name) + ", in the " + phase_name(s.phase) +
               " phase, is the first to overflow, and a smaller loss scale will not mend it" + (s.phase == Phase::backward ? " soon" : "");
  warn(Detector::loss_scale, bad_site, bad_output, "loss scale", std::move(about));
}

}  // namespace keel
