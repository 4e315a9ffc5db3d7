// Rules about where nothing comes through: activations that are 0 for every example, gradients that end at an op without a slope, units
// that are all the same.
#include <algorithm>
#include <cmath>
#include <string>

#include "core/impl.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_avg_pool2d, op_batch_norm_relu, op_cast, op_ceil, op_clamp, op_conv2d, op_div, op_dropout, op_exp, op_floor, op_linear,
    op_masked_fill, op_matmul, op_max_pool2d, op_maximum, op_minimum, op_mul, op_relayout, op_relu, op_round, op_sigmoid, op_sign,
    op_softplus, op_tanh, op_trunc, op_where;

namespace {

/// Ops that give 0 for inputs that are not, over a whole range of them.
bool cuts_off(const OpDef& op) {
  return &op == &op_relu || &op == &op_batch_norm_relu || &op == &op_maximum || &op == &op_clamp || &op == &op_sigmoid ||
         &op == &op_softplus || &op == &op_exp;
}
/// Ops that have no slope over a whole range of inputs; with a mask, products too.
bool may_be_flat(const OpDef& op) {
  for (const OpDef* flat :
       {&op_ceil, &op_floor, &op_masked_fill, &op_minimum, &op_mul, &op_round, &op_sign, &op_tanh, &op_trunc, &op_where})
    if (flat == &op) return true;
  return cuts_off(op);
}
std::string name_of_parameter(const Call& c, size_t i) {
  return "parameter " + std::to_string(i) + " (" + to_string(impl(c.in[c.op.in.size() - 1 + int(i)]).spec) + ")";
}
/// Ops that make zeros of zeros.
bool keeps_zeros(const OpDef& op) {
  return &op == &op_max_pool2d || &op == &op_avg_pool2d || &op == &op_dropout || &op == &op_cast || &op == &op_relayout;
}

}  // namespace

/// Whether all that `site` gave in this step is 0.
bool MonitorState::is_nothing(uint32_t site, bool running) const {
  if (site >= sites.size()) return false;
  const WatchedResult& r = sites[site].results[0];
  if (running) return r.now.calls > 0 && r.now.max_bits == 0 && r.now.nan + r.now.inf == 0;
  if (!r.series || r.series->size() == 0) return false;
  const Reading& now = r.series->back();
  return now.step == step && now.high == -INFINITY && now.nan + now.inf == 0;
}

/// A layer that is given zeros only, four steps in a row, by an activation whose own input is not 0: all of its units are dead.
void MonitorState::judge_unfed(uint32_t site) {
  const WatchedSite& layer = sites[site];
  if (layer.phase != Phase::forward || (layer.op != &op_linear && layer.op != &op_matmul && layer.op != &op_conv2d)) return;
  uint32_t from = layer.from[0];
  if (!is_nothing(from, false)) return;
  for (int hops = 0; hops < 4 && from < sites.size() && keeps_zeros(*sites[from].op); ++hops) from = sites[from].from[0];
  if (!is_nothing(from, false) || !cuts_off(*sites[from].op) || is_nothing(sites[from].from[0], false)) return;
  WatchedSite& s = sites[from];
  WatchedResult& r = s.results[0];
  if (r.series->back().elements < 16) return;
  const int n = std::min(r.series->size(), 4);
  for (int k = 0; k < n; ++k)
    if (r.series->back(k).high > -INFINITY) return;
  if (n < 4) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = 0;
  float least, alive;
  r.series->range(r.series->size(), least, alive);
  const float first = r.series->back(r.series->size() - 1).high;
  if (alive == -INFINITY)
    about.suggestion = {"stable_op", 0, "leaky_relu or gelu, which let a gradient through; or weights and biases that start smaller"};
  else if (first > 5)
    about.suggestion = {"data", 0, "features of about 1 in magnitude: what is this large makes steps that throw units below 0"};
  else
    about.suggestion = {"learning_rate", 0.1,
                        "learning rate x 0.1: a step threw its units below 0; leaky_relu or gelu would let them come back"};
  about.text = std::string(s.op->name) + " gave only zeros in four steps, and " + layer.op->name +
               " was fed nothing else: its units are dead, they and what lies before them learn nothing";
  warn(Detector::underflow, from, 0, "dead units", std::move(about));
}

/// Units of a layer that are the same for every example, seen twice: they started the same, get the same gradients, and stay the same.
void MonitorState::judge_alike(uint32_t at, WatchedValues& v, const std::vector<float>& x, int64_t width) {
  const auto n = size_t(width);
  bool alike = width >= 4 && x.size() >= 8 * n, differs = false;
  for (size_t from = 0; from + n <= x.size() && alike; from += n) {
    const auto [low, high] = std::minmax_element(&x[from], &x[from] + n);
    alike = *high - *low <= 1e-6F * std::max(std::abs(*low), std::abs(*high)) && *high != 0;
    differs |= std::abs(*high - x[0]) > 1e-3F * std::abs(x[0]);
  }
  if (v.alike.add(alike && differs) != 2) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = double(width);
  about.suggestion = {"stable_op", 0, "weights that start as random numbers: what starts the same stays the same"};
  about.text = "all " + std::to_string(width) + " units of " + sites[at].op->name +
               " give the same number for each example: they are one unit, and no gradient will tell them apart";
  warn(Detector::underflow, at, 0, "units alike", std::move(about));
}

/// The call of the forward pass that a call of the backward pass is the gradient of.
uint32_t MonitorState::forward_of(uint32_t site) const {
  const WatchedSite& s = sites[site];
  for (uint32_t i = 0; i < sites.size(); ++i)
    if (sites[i].site == s.site && sites[i].path == s.path && sites[i].phase == Phase::forward && sites[i].op == s.of) return i;
  return site;
}

/// Where, along the ops that lead to a gradient that is all 0, it became so.
uint32_t MonitorState::where_cut(uint32_t site) const {
  for (int hops = 0; hops < 256; ++hops) {
    uint32_t next = ~0u;
    for (const uint32_t from : sites[site].from)
      if (from < sites.size() && from != site && sites[from].phase == Phase::backward && is_nothing(from, true)) next = from;
    if (next == ~0u) break;
    site = next;
  }
  return site;
}

/// Matrices whose gradients are all 0, or next to nothing beside those of others, eight steps in a row. `squares`: of each parameter's
/// sampled gradient, the mean.
void MonitorState::judge_cut(const Call& c, uint32_t at, std::span<const double> squares) {
  WatchedUpdate& u = *sites[at].update;
  u.cut.resize(squares.size()), u.faint.resize(squares.size());
  int first, end;
  gradients_of(c, first, end);
  double most = 0;
  for (const double g : squares) most = std::max(most, g);
  const WatchedResult* const loss = loss_site < sites.size() ? &sites[loss_site].results[loss_output] : nullptr;
  const bool loses =
      loss && (loss->now.calls ? loss->now.max_bits > 0 : loss->series && loss->series->size() && loss->series->back().high > -INFINITY);
  u.empty.add(most == 0 && loses);
  if (u.empty == 9 && *std::max_element(u.cut.begin(), u.cut.end()) == 0 && vanished_site >= sites.size()) {
    Monitor::Finding about;
    about.severity = Severity::warning, about.value = 0;
    about.suggestion = {"stable_op", 0, "a backward pass between zero_grad() and the step, whose loss depends on these parameters"};
    about.text =
        "all gradients that " + std::string(c.op.name) + " was given in nine steps were 0, though the loss is not: nothing is learned";
    warn(Detector::underflow, at, 0, "cut off", std::move(about));
  }
  size_t faintest = squares.size();  // of those that are faint for the eighth time
  for (size_t i = 0; i < squares.size(); ++i) {
    const Tensor& g = c.in[first + int(i)];
    const Written* const w = impl(g).spec.shape.rank() >= 2 && squares[i] <= 0x1p-48 * most ? known(g) : nullptr;
    const bool made = w && sites[w->site].phase == Phase::backward;
    // Depth makes gradients faint from the start; what comes to be small later has done its part.
    const bool cut = made && loses && w->max_bits == 0, faint = made && squares[i] > 0 && u.faint[i] == u.gradient.size();
    u.cut[i].add(cut);
    u.faint[i].add(faint);
    if (u.faint[i] == 8 && (faintest == squares.size() || squares[i] < squares[faintest])) faintest = i;
    if (u.cut[i] != 8) continue;
    const uint32_t blamed = forward_of(where_cut(w->site));
    const WatchedSite& s = sites[blamed];
    // A product with zeros that nobody made may be meant: a term of the loss that is not wanted yet.
    if (!may_be_flat(*s.op) || (s.op == &op_mul && (s.from[0] == ~0u || s.from[1] == ~0u))) continue;
    Monitor::Finding about;
    about.severity = Severity::warning;
    about.suggestion = {
        "stable_op", 0,
        "an op that has a slope where its inputs are: a leaky or smooth activation, wider bounds, a gradient passed straight "
        "through a rounding"};
    about.text = "the gradient of " + name_of_parameter(c, i) + " was 0 in eight steps: it ends at " + s.op->name +
                 ", which has no slope where its inputs are";
    warn(Detector::underflow, blamed, 0, "cut off", std::move(about));
  }
  if (faintest == squares.size()) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = std::sqrt(squares[faintest]);
  about.suggestion = {"stable_op", 0, "residual connections, norms between layers, or activations that do not saturate"};
  about.text = "the gradient of " + name_of_parameter(c, faintest) + " is " + number(about.value) +
               " on average, that of another parameter " + number(std::sqrt(most)) +
               ": what its layer makes has next to no say in the loss";
  warn(Detector::underflow, forward_of(known(c.in[first + int(faintest)])->site), 0, "faint", std::move(about));
}

}  // namespace keel
