// Rules about courses that are slow but lead somewhere bad: to 0 along a straight line, down without end, to angles too large for their
// format, to where an activation has no slope.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/sampling.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_cast, op_clamp, op_div, op_exp, op_linear, op_matmul, op_maximum, op_mean, op_minimum, op_mul, op_neg, op_sigmoid,
    op_softmax, op_square, op_sub, op_sum, op_tanh;

namespace {

/// How far along a straight line to 0 magnitudes are: steps left, at most ten (nine, of what is no schedule: an average that forgets a
/// tenth a step comes to nine and a half), and by how much they fall in each. 0 where they follow no such
/// line, or slow down: what falls by a share of itself never arrives. `exact`: as the numbers of a schedule do.
double steps_to_zero(const Series& h, float Reading::*field, bool exact, double& by) {
  for (const int n : {8, 16}) {
    if (h.size() < n || (exact && n > 8)) return 0;
    const auto at = [&](int k) { return std::exp2(double(h.back(k).*field)); };
    const auto when = [&](int k) { return double(h.back(k).step - h.back().step); };
    const Line l = fit(n, when, at);
    by = -l.slope;
    if (!(by > 0) || !(l.r2 > (n == 8 ? 0.95 : 0.9))) continue;
    const double early = (at(n - 1) - at(n / 2)) / (when(n / 2) - when(n - 1)),
                 late = (at(n / 2 - 1) - at(0)) / (when(0) - when(n / 2 - 1)),
                 left = l.at_end / by;  // scatter does not touch it
    // What bends away from 0 lies above the line in the end.
    if (late <= 0.8 * early || left > (exact ? 10 : 9) || at(0) > (left + 0.25) * by) continue;
    if (fit(n, when, [&](int k) { return double(h.back(k).*field); }).r2 > l.r2) continue;
    if (exact)  // eight steps alike to a quarter
      for (int k = 0; k + 1 < n; ++k)
        if (std::abs((at(k + 1) - at(k)) / (when(k) - when(k + 1)) - by) > 0.25 * by) return 0;
    return std::max(left, 0.01);
  }
  return 0;
}

/// Whether a magnitude grows faster and faster over 128 steps: medians of eight blocks of sixteen, from pair to pair by more than before,
/// to four times what it was.
bool grows_faster(const Series& h, double& from, double& to) {
  constexpr int kBlocks = 8, kBlock = 16;
  if (h.size() < kBlocks * kBlock) return false;
  double m[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    double v[kBlock];
    for (int k = 0; k < kBlock; ++k) v[k] = std::exp2(double(h.back((kBlocks - 1 - b) * kBlock + k).high));
    std::nth_element(v, v + kBlock / 2, v + kBlock);
    m[b] = v[kBlock / 2];
    if (!std::isfinite(m[b])) return false;
  }
  for (int b = 1; b < kBlocks; ++b)
    if (!(m[b] > m[b - 1])) return false;
  const double early = m[2] - m[0], middle = m[4] - m[2], late = m[6] - m[4], last = 2 * (m[7] - m[6]);
  from = m[0], to = m[7];
  return middle > early && late > middle && last > 0.9 * late && late > 1.5 * early && to > 4 * from;
}

}  // namespace

/// A number of the program's, or the smallest of a tensor's, that falls along a straight line towards 0 and is divided by. A schedule does
/// so, and a learned scale under an optimiser whose steps have all the same length.
bool MonitorState::judge_straight(uint32_t site, WatchedArgument& a, double mean) {
  const WatchedSite& s = sites[site];
  double by = 0;
  if (a.floor > -INFINITY || !std::isfinite(a.series->back().low)) return false;
  double left = steps_to_zero(*a.series, &Reading::low, a.number, by);
  if (left == 0 && !a.number) left = steps_to_zero(*a.series, &Reading::high, false, by);  // where the largest goes, all go
  if (left == 0) return false;
  const double now = left * by;
  Monitor::Finding about;
  about.severity = Severity::warning, about.eta = int64_t(left), about.low = now, about.mean = mean;
  about.suggestion = suggest_epsilon(*s.op, s.results[0].dtype, mean);
  if (!a.number && by > about.suggestion.value)
    about.suggestion = {"stable_op", 0,
                        "what stays positive: exp or softplus of a parameter, or a lower bound; an epsilon is passed in one step"};
  about.text = (a.number ? std::string("the number that ") : "the smallest value that ") + s.op->name + " takes goes to zero: it is " +
               number(now) + " and falls by " + number(by) + " at each step, so that it is 0 in " + std::to_string(about.eta) + " steps";
  const Risk risk = s.op->in[a.input].risk;
  warn(has_risk(risk, Risk::divides) && !has_risk(risk, Risk::domain) ? Detector::denominator : Detector::argument, site, 0, "vanishing",
       std::move(about));
  return true;
}

/// What a log1p takes comes near -1, where it ends: the distance falls along a line, of it or of its logarithm, or has few digits left.
void MonitorState::judge_nearing(uint32_t site, WatchedArgument& a) {
  const WatchedSite& s = sites[site];
  const Series& h = *a.series;
  uint32_t from = s.from[0];
  for (int hops = 0; hops < 4 && from < sites.size() && (sites[from].op == &op_neg || sites[from].op == &op_cast); ++hops)
    from = sites[from].from[0];
  if (from < sites.size() && (sites[from].op == &op_clamp || sites[from].op == &op_maximum || sites[from].op == &op_minimum)) return;
  const double low = double(h.back().low);
  const int digits = format_of(a.dtype).digits;
  double furthest = low, left = -1, by = 0;
  for (int k = 0; k < h.size(); ++k) furthest = std::max(furthest, double(h.back(k).low));
  for (const int n : {8, 16, 32}) {
    if (h.size() < n || left >= 0) break;
    const Trend t = h.trend(n, &Reading::low);
    if (t.n && t.slope < 0 && t.r2 > 0.8 && t.change <= -2 && (t.last + digits) / -t.slope <= 64)
      left = std::max(0.0, (t.last + digits) / -t.slope);
  }
  if (left < 0 && low < -4)
    if (const double straight = steps_to_zero(h, &Reading::low, false, by); straight > 0) left = straight;
  a.lost_streak.add(low <= -most_digits_lost(digits) && furthest > low + 4);
  if (left < 0 && a.lost_streak != 2) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.eta = left < 0 ? -1 : int64_t(left), about.low = std::exp2(low);
  about.suggestion = {"stable_op", 0, "a bound above -1 for what it takes, or the logarithm of what is left, computed as such"};
  about.text = "the argument of " + std::string(s.op->name) + " is within " + number(std::exp2(low)) + " of -1, where " + s.op->name +
               " ends" +
               (left < 0 ? ": " + number(-low) + " of the " + std::to_string(digits) + " digits (bits) of " + name_of(a.dtype) + " are gone"
                         : ", and comes nearer: there in " + std::to_string(about.eta) + " steps");
  warn(Detector::argument, site, 0, "vanishing", std::move(about));
}

/// Layers that make huge numbers, or next to nothing, of what they are given in the very first step: no training has brought them there.
void MonitorState::judge_start(uint32_t site, const WatchedResult& r) {
  constexpr double kLarge = 24, kSmall = -40;
  const WatchedSite& s = sites[site];
  const double high = double(r.series->back().high);
  if (s.phase != Phase::forward || !std::isfinite(high) || (high < kLarge && high > kSmall)) return;
  if (std::exchange(start_told, true)) return;  // what follows from it is no news
  const bool of_data = s.from[0] >= sites.size();
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::exp2(high);
  about.suggestion =
      of_data ? Suggestion{"data", 0, "features and weights of about 1 in magnitude: take the mean off and divide by the deviation"}
              : Suggestion{"stable_op", 0, "weights that start with a variance of 1 / inputs, or a norm after each layer"};
  about.text = std::string(s.op->name) + " gives at most " + number(about.value) + " in the first step: " +
               (high > 0 ? "its weights start too large, or what it is given is" : "its weights start too small, or what it is given is");
  warn(Detector::headroom, site, 0, "start", std::move(about));
}

/// What to do about optimiser steps that were longer than the weights; nothing where none was.
Suggestion MonitorState::shorter_steps() const {
  for (const WatchedSite& s : sites) {
    if (!s.update || !(s.update->first_long > 0)) continue;
    const double factor = std::pow(10, std::floor(std::log10(0.1 / s.update->first_long)));
    return {
        "learning_rate", factor,
        "learning rate x " + number(factor) + ": a step moved the weights by " + number(s.update->first_long) + " times what they were"};
  }
  return {};
}

/// A loss that stays above 32 times what it was first, eight steps in a row, after a step that moved the weights by as much as they were.
void MonitorState::judge_height(uint32_t site, uint8_t output, WatchedResult& r) {
  constexpr int kSteps = 8;
  const Series& h = *r.series;
  if (h.total() == 1) r.first = h.back().high;
  if (r.negative || h.size() <= kSteps || !std::isfinite(r.first)) return;
  for (int k = 0; k < kSteps; ++k)
    if (!(h.back(k).high > r.first + 5)) return;
  Monitor::Finding about;
  about.suggestion = shorter_steps();
  if (about.suggestion.kind.empty()) return;
  about.severity = Severity::warning, about.value = std::exp2(double(h.back().high));
  about.text = "the loss has stayed above " + number(std::exp2(double(r.first) + 5)) + " for " + std::to_string(kSteps) +
               " steps, 32 times its first value, " + "since a step moved the weights by more than they were; now it is " +
               number(about.value);
  uint32_t blamed = site;
  for (uint32_t i = 0; i < sites.size() && blamed == site; ++i)
    if (sites[i].update && sites[i].update->first_long > 0) blamed = i;
  warn(Detector::growth, blamed, blamed == site ? output : uint8_t(0), "height", std::move(about));
}

/// Angles of which the format has few: the distance from one number to the next is half a radian and more.
void MonitorState::judge_angle(uint32_t site, WatchedArgument& a, double high) {
  const double apart = std::floor(high) - (format_of(a.dtype).digits - 1);
  if (a.streak.add(apart >= -1) != 2) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::exp2(high), about.lost_ulps = 0.5;
  about.suggestion =
      format_of(a.dtype).digits < 24
          ? Suggestion{"dtype", 0, "f32 for angles and the positions that they come from, cast afterwards"}
          : Suggestion{"stable_op", 0, "a bound on what the angle is made of, or the rest of a division by a turn, taken in f64"};
  about.text = std::string(sites[site].op->name) + " takes angles up to " + number(std::exp2(high)) + ", where " + name_of(a.dtype) +
               " has a number every " + number(std::exp2(apart)) + " radians only: neighbours become one";
  warn(Detector::lost_bits, site, 0, "angle", std::move(about));
}

Suggestion MonitorState::after_a_leap(bool skip) const {
  for (const WatchedSite& s : sites) {
    if (!s.update || s.update->moved.size() < 8) continue;
    const WatchedUpdate& u = *s.update;
    double median, spread;
    u.moved.centre(median, spread, Numbers::kLength, 1 + skip);
    const double times = std::exp2(double(u.moved.back(skip)) - median);
    if (!(times > 64)) continue;
    u.gradient.centre(median, spread, Numbers::kLength, 1 + skip);
    return {"clip", 2 * std::exp2(median),
            "clip the gradients' norm at " + number(2 * std::exp2(median)) + ", twice its median: the step before was " + number(times) +
                " times as long as usual"};
  }
  return {};
}

/// A product that its format keeps nothing of though no factor is zero: all of it is 0 or has six digits left at most, three steps in a row;
/// of squares, whose magnitudes lie twice as far apart, it is enough that none is a normal number. A second moment of small gradients, for
/// one: what it is to divide is then divided by an epsilon alone.
void MonitorState::judge_vanished(uint32_t site, uint8_t output, WatchedResult& r) {
  const WatchedSite& s = sites[site];
  const bool squares = s.op == &op_square || (s.op == &op_mul && s.twice), two = s.op == &op_mul && !s.twice && s.factor == 0;
  if (s.op == &op_exp) return judge_extinct(site, r);
  if (!squares && s.op != &op_mul && s.op != &op_cast && s.op != &op_matmul && s.op != &op_linear && !(s.op == &op_div && s.factor != 0))
    return;
  const Format f = format_of(r.dtype);
  double bound = s.factor, least = INFINITY;
  int known = 0;
  for (const uint32_t from : s.from) {
    const WatchedResult* const x = from < sites.size() ? &sites[from].results[0] : nullptr;
    if (!x || !x->series || x->series->size() == 0 || x->series->back().step != step) continue;
    const double high = double(x->series->back().high);
    ++known, bound += squares ? 2 * high : high, least = std::min(least, high - format_of(x->dtype).normal2);
    if (squares) break;
  }
  if (known == 0 || !(least > -4)) return;  // a factor of zeros, or one that has vanished already
  const double high = double(r.series->back().high);
  // Zeros throughout may be what a mask leaves: only where the product of the largest is nothing.
  const bool nothing = high > -INFINITY ? high < f.normal2 - (squares || f.digits <= 4 ? 0 : 4)
                                        : (squares || s.op == &op_cast || s.factor != 0 || (two && known == 2)) && bound < f.tiny2;
  r.stuck.add(nothing);
  if (nothing && f.narrow && s.phase == Phase::backward) vanished_site = site, vanished_output = output;
  if (r.stuck != 3) return;
  Monitor::Finding about;
  // In wider formats what is added to it, an epsilon, is usually far above it; gradients may be small by rights.
  about.severity = f.narrow && s.phase != Phase::backward ? Severity::warning : Severity::info;
  about.value = std::exp2(high);
  about.suggestion = s.phase == Phase::backward && f.narrow
                         ? suggest_loss_scale(r.dtype, std::isfinite(high) ? high : bound)
                         : Suggestion{"dtype", 0, "f32 for it, or a scale that brings it above " + number(std::exp2(f.normal2))};
  about.text = std::string(s.op->name) + " of values that are not 0 gives at most " + number(std::exp2(high)) + ", of which " +
               name_of(r.dtype) + " keeps few digits or none, three steps in a row";
  warn(Detector::underflow, site, output, "vanished", std::move(about));
}

/// Exponentials that are all nothing, three steps in a row: a kernel that is too narrow, weights that were not shifted by their largest.
void MonitorState::judge_extinct(uint32_t site, WatchedResult& r) {
  const WatchedSite& s = sites[site];
  if (r.stuck.add(s.phase == Phase::forward && r.series->back().elements >= 8) != 3) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::exp2(double(r.series->back().high));
  about.suggestion = {"stable_op", 0, "softmax or logsumexp, which take the largest argument off first, or a wider kernel"};
  about.text = "the largest result of " + std::string(s.op->name) + " is " + number(about.value) + ", no normal number of " +
               name_of(r.dtype) + ", three steps in a row: its arguments are all far below 0, and nothing is left of any";
  warn(Detector::underflow, site, 0, "vanished", std::move(about));
}

/// A sum along an axis that has outgrown what is added to it: the largest term is less than half the distance from one number to the next.
void MonitorState::judge_outgrown(uint32_t site, WatchedResult& r) {
  const uint32_t from = sites[site].from[0];
  const Series* const terms = from < sites.size() ? sites[from].results[0].series.get() : nullptr;
  if (!terms || terms->size() == 0 || terms->back().step != step) return;
  const int digits = format_of(r.dtype).digits;
  const double lost = double(r.series->back().high - terms->back().high);
  if (r.stuck.add(lost >= digits - 1) != 2) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::exp2(lost), about.lost_ulps = 0.5;
  about.suggestion = {"accumulator", 0, digits <= 11 ? "f32 for the sum, cast afterwards" : "f64 for the sum, or sums of shorter pieces"};
  about.text = std::string(sites[site].op->name) + " has come to " + number(about.value) + " times its largest term, and " +
               name_of(r.dtype) + " has " + std::to_string(digits) + " digits (bits): what is added no longer counts";
  warn(Detector::lost_bits, site, 0, "outgrown", std::move(about));
}

/// Predictions and targets that agree, from the first steps on, in all but a few digits: what is to be learned is next to their rounding.
void MonitorState::judge_residual(uint32_t site, WatchedResult& r) {
  const uint32_t from = sites[site].from[0];
  const Series* const guess = from < sites.size() ? sites[from].results[0].series.get() : nullptr;
  if (!guess || guess->size() == 0 || guess->back().step != step || step > r.first_step + 7) return;
  const int digits = format_of(sites[from].results[0].dtype).digits;
  const double lost = double(guess->back().high) - 0.5 * double(r.series->back().high);
  if (r.stuck.add(lost >= most_digits_lost(digits) && std::isfinite(lost)) != 3) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = lost, about.lost_ulps = std::exp2(std::min(lost, double(digits)));
  about.suggestion = {"stable_op", 0, "take off what all targets have in common, in f64, before the cast: their mean, a known share"};
  about.text = std::string(sites[site].op->name) + " compares numbers of " + number(std::exp2(double(guess->back().high))) +
               " that differ by " + number(std::exp2(0.5 * double(r.series->back().high))) +
               " on average, in the first steps: " + number(lost) + " of the " + std::to_string(digits) + " digits (bits) cancel";
  warn(Detector::lost_bits, site, 0, "noise", std::move(about));
}

/// Numbers beyond the integers that they are cast to.
void MonitorState::judge_integers(const Call& c) {
  const Written* const w = known(c.in[0], true);
  const DType t = c.out[0].dtype;
  if (!w || !is_integer(t) || w->max_bits == 0) return;
  const int bits = 8 * int(size_of(t)) - int(is_signed_integer(t));
  const double high = magnitude_of(w->max_bits, w->dtype);
  if (high < std::exp2(bits)) return;
  const uint32_t at = site_of(c);
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = high;
  about.suggestion = {"stable_op", 0, "clamp to the range before the cast, or a scale that fits this step's largest value"};
  about.text =
      "cast to " + std::string(name_of(t)) + " is given " + number(high) + ", and its integers end at " + number(std::exp2(bits) - 1);
  warn(Detector::lost_bits, at, 0, "integers", std::move(about));
}

/// Integers of which a format has not every one: neighbours become the same number.
void MonitorState::judge_counts(uint32_t site, uint8_t output, const WatchedResult& r) {
  const Format f = format_of(r.dtype);
  const double high = double(r.series->back().high);
  if (high < f.digits + 0.9 || f.digits <= 4) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::exp2(high);
  about.suggestion =
      f.digits < 24 ? Suggestion{"dtype", 0, "f32 for counts, positions and times, or what is left after their first or mean was taken off"}
                    : Suggestion{"stable_op", 0, "integers for counts and times, of which the first or mean is taken off before the cast"};
  about.text = std::string(sites[site].op->name) + " gives integers up to " + number(about.value) + ", of which " + name_of(r.dtype) +
               " has every one up to " + number(std::exp2(f.digits)) + " only: neighbours become the same number";
  warn(Detector::lost_bits, site, output, "counts", std::move(about));
}

/// A subtraction that leaves rounding only: even its largest value has four digits at most, in two steps. Two results that come to agree
/// do so by rights; not where the program enlarges what is left, and not where a mean was taken off.
void MonitorState::judge_noise(uint32_t site, uint8_t output, const Written& w) {
  WatchedSite& s = sites[site];
  const auto is_mean = [&](uint32_t of) {
    return of < sites.size() && (sites[of].op == &op_mean ||
                                 (sites[of].op == &op_div && sites[of].from[0] < sites.size() && sites[sites[of].from[0]].op == &op_sum));
  };
  if (!(s.factor >= 6 || (s.op == &op_sub && is_mean(s.from[1])))) return;
  const Format f = format_of(w.dtype);
  const double lost = double(w.noise) + f.digits - std::log2(magnitude_of(w.max_bits, w.dtype));
  WatchedResult& r = s.results[output];
  r.stuck.add(lost >= std::max(most_digits_lost(f.digits), f.digits - 4.0));
  if (r.stuck < 2 || r.first_step == step || (s.factor < 6 && step > r.first_step + 3)) return;  // as data are from the start
  const WatchedSite& from = sites[w.noise_site];
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = lost, about.lost_ulps = std::exp2(std::min(lost, double(f.digits)));
  about.suggestion = {"stable_op", 0,
                      s.factor >= 6 ? "a longer step for finite differences, or the derivative itself"
                                    : "take an offset off where it is exact, in integers or f64, before the cast"};
  about.text =
      std::string(from.op->name) + " cancels " + number(std::min(lost, double(f.digits))) + " of the " + std::to_string(f.digits) +
      " digits (bits) of " + name_of(w.dtype) + " in the largest value that it gives" +
      (s.factor >= 6 ? ", and " + std::string(s.op->name) + " enlarges what is left " + number(std::exp2(double(s.factor))) + " times"
                     : ": values lie much closer together than to 0");
  warn(Detector::lost_bits, w.noise_site, 0, "noise", std::move(about));
}

/// A loss below -1 that falls faster and faster, seen twice, sixteen steps apart. A likelihood slows down as it comes near its end; what
/// has no end does not.
void MonitorState::judge_endless(uint32_t site, uint8_t output, WatchedResult& r) {
  constexpr int kEvery = 16;
  if (r.series->back().step % kEvery) return;
  double before = 0, now = 0;
  bool falls = r.negative && grows_faster(*r.series, before, now) && before > 1;
  for (const WatchedSite& s : sites) falls = falls && !(s.update && s.update->rate_rises);  // in a warm-up every loss falls so
  if (r.streak.add(falls) != 2) return;
  const uint32_t from = producer(site, r.series->trend(kEvery, &Reading::high).slope);
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = -now;
  about.suggestion = {"stable_op", 0, "a loss with a lower end: bound what it is made of (its weights, its gradient, its output)"};
  about.text = "the loss is negative and falls faster and faster, from " + number(-before) + " to " + number(-now) +
               " in 128 steps: it has no lower end; what grows is the result of " + sites[from].op->name;
  warn(Detector::growth, from, from == site ? output : uint8_t(0), "endless", std::move(about));
}

/// Whether a result is to be looked at for where it has no slope: at first calls, then each place in its turn.
bool MonitorState::has_slopes(const Call& c, uint32_t at, int64_t turn) const {
  return (&c.op == &op_sigmoid || &c.op == &op_tanh || &c.op == &op_softmax) && c.recording && c.scope.phase == Phase::forward &&
         (sites[at].begun <= 2 || (uint64_t(turn) + at) % kValuesEvery == 0);
}

void MonitorState::plan_slopes(const Call& c, const Tensor& out, const Sight& sight, Wanted& to) {
  constexpr int64_t kMost = 1024;
  const int64_t n = out.size(), width = out.rank() ? out.shape()[-1] : 1, rows = n / std::max<int64_t>(1, width);
  if (n < 64 || !sight.takes_rows(out)) return;
  if (&c.op != &op_softmax) return to.ask(ValueRule::slopes, -1, {evenly(n, kMost)});
  if (width < 2 || width > kMost || rows < 8) return;
  const int64_t looked = std::min(rows, std::max<int64_t>(8, kMost / width));
  to.ask(ValueRule::slopes, -1, {{.count = width, .lines = looked, .pitch = rows / looked * width}});
}

/// Nine of ten values of a sigmoid or tanh, or rows of a softmax, lie where it is flat, so that rounding leaves no slope: no gradient passes.
void MonitorState::judge_slopes(const Call& c, uint32_t at, const Sample& sample) {
  constexpr int64_t kEarly = 8;
  WatchedSite& s = sites[at];
  if (!s.values) s.values = std::make_unique<WatchedValues>();
  WatchedValues& v = *s.values;
  if (v.last_step == step) return;
  v.last_step = step;
  const std::vector<double> y = sample.all<double>();
  const double low = s.op == &op_tanh ? -1 : std::exp2(-24);  // below it the slope of the others is the value, and as small
  const auto is_flat = [&](double x) { return x >= 1 || (s.op == &op_tanh ? x <= low : x < low); };
  const size_t width = s.op == &op_softmax ? size_t(c.out[0].shape[-1]) : 1;
  size_t flat = 0;
  for (size_t from = 0; from + width <= y.size(); from += width) flat += std::all_of(&y[from], &y[from] + width, is_flat);
  const double share = double(flat * width) / double(y.size());
  v.heavy.add(share > 0.9);
  ++v.rows;  // looks
  if (v.heavy != 2) return;
  Monitor::Finding about;
  // What comes to be sure late may have learned to.
  about.severity = v.rows <= kEarly ? Severity::warning : Severity::info, about.value = share;
  if (width == 1)
    about.suggestion = {"data", 0, "features of about 1 in magnitude, or a norm before " + std::string(s.op->name)};
  else
    about.suggestion = {"stable_op", 0, "smaller logits: a norm before them, or a higher temperature"};
  about.text = number(100 * share) + (width == 1 ? " % of what " : " % of the rows that ") + s.op->name +
               " gave lies at its ends, where rounding leaves it no slope: what comes before it gets no gradient";
  warn(Detector::underflow, at, 0, "saturated units", std::move(about));
}

}  // namespace keel
