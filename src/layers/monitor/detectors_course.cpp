// Rules about courses that are slow but lead somewhere bad: to 0 along a straight line, down without end, to angles too large for their
// format, to where an activation has no slope.
#include <algorithm>
#include <cmath>
#include <string>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/sampling.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_sigmoid, op_square, op_tanh;

namespace {

/// How far along a straight line to 0 the smallest magnitudes are: steps left, and by how much they fall in each. 0 where they follow no
/// such line: eight steps alike to a quarter, and at most ten to go.
double steps_to_zero(const Series& h, double& by) {
  constexpr int kSteps = 8;
  if (h.size() < kSteps || !std::isfinite(h.back().low)) return 0;
  const auto at = [&](int k) { return std::exp2(double(h.back(k).low)); };
  const auto steps = [&](int from, int to) { return double(h.back(to).step - h.back(from).step); };
  by = (at(kSteps - 1) - at(0)) / steps(kSteps - 1, 0);
  if (!(by > 0) || at(0) / by > 10) return 0;
  for (int k = 0; k + 1 < kSteps; ++k)  // what falls by a share of itself never arrives
    if (std::abs((at(k + 1) - at(k)) / steps(k + 1, k) - by) > 0.25 * by) return 0;
  return at(0) / by;
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
  const double left = a.floor > -INFINITY ? 0 : steps_to_zero(*a.series, by);
  if (left == 0) return false;
  const double now = left * by;
  Monitor::Finding about;
  about.severity = Severity::warning, about.eta = int64_t(left), about.low = now, about.mean = mean;
  about.suggestion = suggest_epsilon(*s.op, s.results[0].dtype, mean);
  about.text = (a.number ? std::string("the number that ") : "the smallest value that ") + s.op->name + " takes goes to zero: it is " +
               number(now) + " and falls by " + number(by) + " at each step, so that it is 0 in " + std::to_string(about.eta) + " steps";
  const Risk risk = s.op->in[a.input].risk;
  warn(has_risk(risk, Risk::divides) && !has_risk(risk, Risk::domain) ? Detector::denominator : Detector::argument, site, 0, "vanishing",
       std::move(about));
  return true;
}

/// Angles of which the format has few: the distance from one number to the next is half a radian and more.
void MonitorState::judge_angle(uint32_t site, WatchedArgument& a, double high) {
  const double apart = std::floor(high) - (format_of(a.dtype).digits - 1);
  a.streak = apart >= -1 ? uint8_t(std::min(a.streak + 1, 200)) : uint8_t(0);
  if (a.streak != 2) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::exp2(high), about.lost_ulps = 0.5;
  about.suggestion = {"dtype", 0, "f32 for angles and the positions that they come from, cast afterwards"};
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
    if (!(double(u.moved.back(skip)) > median + 10)) continue;
    u.gradient.centre(median, spread, Numbers::kLength, 1 + skip);
    return {"clip", 2 * std::exp2(median),
            "clip the gradients' norm at " + number(2 * std::exp2(median)) +
                ", twice its median: the step before was a thousand times as long as usual"};
  }
  return {};
}

/// A square, or a product with a number of the program's, that f16 keeps nothing of though its input is no zero: all of it is 0 or has six
/// digits left at most, three steps in a row. A second moment of small gradients, for one: what it is to divide is then divided by an
/// epsilon alone.
void MonitorState::judge_vanished(uint32_t site, uint8_t output, WatchedResult& r) {
  const WatchedSite& s = sites[site];
  if (s.op != &op_square && s.factor == 0) return;
  const Series* const from = s.from[0] < sites.size() ? sites[s.from[0]].results[0].series.get() : nullptr;
  const bool input = from && from->size() && from->back().step == step && from->back().high > -INFINITY;
  const double high = double(r.series->back().high);
  r.streak = input && high < format_of(r.dtype).normal2 - 4 ? uint8_t(std::min(r.streak + 1, 200)) : uint8_t(0);
  if (r.streak != 3) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::exp2(high);
  about.suggestion = {"dtype", 0, "f32 for it, or a scale that brings it above " + number(std::exp2(format_of(r.dtype).normal2))};
  about.text = std::string(s.op->name) + " of values up to " + number(std::exp2(double(from->back().high))) + " gives at most " +
               number(std::exp2(high)) + ", of which " + name_of(r.dtype) + " keeps few digits or none, three steps in a row";
  warn(Detector::underflow, site, output, "vanished", std::move(about));
}

/// A loss below -1 that falls faster and faster, seen twice, sixteen steps apart. A likelihood slows down as it comes near its end; what
/// has no end does not.
void MonitorState::judge_endless(uint32_t site, uint8_t output, WatchedResult& r) {
  constexpr int kEvery = 16;
  if (r.series->back().step % kEvery) return;
  double before = 0, now = 0;
  bool falls = r.negative && grows_faster(*r.series, before, now) && before > 1;
  for (const WatchedSite& s : sites) falls = falls && !(s.update && s.update->rate_rises);  // in a warm-up every loss falls so
  r.streak = falls ? uint8_t(std::min(r.streak + 1, 200)) : uint8_t(0);
  if (r.streak != 2) return;
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
  return (&c.op == &op_sigmoid || &c.op == &op_tanh) && c.recording && c.scope.phase == Phase::forward &&
         (sites[at].results[0].calls <= 2 || (uint64_t(turn) + at) % kValuesEvery == 0);
}

void MonitorState::plan_slopes(const Tensor& out, const Sight& sight, Wanted& to) {
  if (out.size() >= 64 && sight.takes_rows(out)) to.ask(ValueRule::slopes, -1, {evenly(out.size(), 1024)});
}

/// Nine of ten values of a sigmoid or tanh lie where it is flat, so that rounding leaves no slope: no gradient passes.
void MonitorState::judge_slopes(uint32_t at, const Sample& sample) {
  WatchedSite& s = sites[at];
  if (!s.values) s.values = std::make_unique<WatchedValues>();
  WatchedValues& v = *s.values;
  if (v.last_step == step) return;
  v.last_step = step;
  const std::vector<double> y = sample.all<double>();
  const bool sigmoid = s.op == &op_sigmoid;
  const double low = sigmoid ? std::exp2(-24) : -1;  // below it the slope is the value, and as small
  const auto flat = std::count_if(y.begin(), y.end(), [&](double x) { return x >= 1 || (sigmoid ? x < low : x <= low); });
  const double share = double(flat) / double(y.size());
  v.heavy = share > 0.9 ? uint8_t(std::min(v.heavy + 1, 200)) : uint8_t(0);
  if (v.heavy != 2) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = share;
  about.suggestion = {"data", 0, "features of about 1 in magnitude, or a norm before " + std::string(s.op->name)};
  about.text = number(100 * share) + " % of what " + s.op->name +
               " gave lies at its ends, where rounding leaves it no slope: what comes before it gets no gradient";
  warn(Detector::underflow, at, 0, "saturated units", std::move(about));
}

}  // namespace keel
