// The monitor layer: gives each op slots for the statistics of its results, and books what comes back. Kernels with cap `stats` fill them
// while they write; the others are watched by a pass of their own.
#include "layers/monitor/monitor.h"

#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <string_view>

#include "backend/float_bits.h"
#include "backend/step_guard.h"
#include "base/fp_env.h"
#include "core/impl.h"
#include "keel/error.h"
#include "keel/ops/cast.h"
#include "layers/monitor/suggest.h"
#include "op/checks.h"
#include "op/device_call.h"

namespace keel {

extern OpDef op_add, op_attention, op_bce_with_logits, op_cast, op_cos, op_cross_entropy, op_log1p, op_nll_loss, op_sin, op_softmax, op_tan,
    op_transfer, op_unscale;

namespace {

using Taint = TaintedStorages::Kind;

uint64_t mix(const void* p) { return uint64_t(reinterpret_cast<uintptr_t>(p)); }

std::string exact_number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", v);
  return text;
}

/// Whether an op of the backward phase reads or writes a format with few exponents.
bool narrow_gradient(const Call& c) {
  for (int i = 0; i < c.out.size(); ++i)
    if (is_inexact(c.out[i].dtype) && format_of(c.out[i].dtype).narrow) return true;
  for (int i = 0; i < c.in.size(); ++i)
    if (c.in[i].defined() && is_inexact(impl(c.in[i]).spec.dtype) && format_of(impl(c.in[i]).spec.dtype).narrow) return true;
  return false;
}

/// Whether what `op` gives comes from numbers: not so for random numbers and constants.
bool computes(const OpDef& op) {
  for (int i = 0; i < op.in.size(); ++i)
    if (contains(op.in[i].kinds, f32)) return true;
  return false;
}

/// Whether `op` makes no NaN, or no infinity and no NaN, out of finite numbers.
bool passes_on(const OpDef& op, bool nan) {
  constexpr std::string_view neither[] = {"abs",      "assign",      "cast",          "clamp",   "concat",     "copy",  "flip",    "gather",
                                          "index",    "masked_fill", "max",           "maximum", "max_pool2d", "min",   "minimum", "neg",
                                          "relayout", "relu",        "relu_backward", "sigmoid", "softmax",    "stack", "tanh",    "where"};
  constexpr std::string_view no_nan[] = {"add",  "dropout",       "gelu",   "gelu_backward", "mean", "mul",
                                         "silu", "silu_backward", "square", "sub",           "sum"};
  const std::string_view name = op.name;
  return std::find(std::begin(neither), std::end(neither), name) != std::end(neither) ||
         (nan && std::find(std::begin(no_nan), std::end(no_nan), name) != std::end(no_nan));
}
bool updates(const Call& c) { return c.scope.phase == Phase::optimiser && MonitorState::is_update(c.op); }
/// Whether it may add to the gradient of a leaf.
bool sums_gradients(const Call& c) { return c.scope.phase == Phase::backward && &c.op == &op_add; }

constexpr uint32_t kWholeSteps = 64;
constexpr uint8_t kMostVain = 2;
const char* const kNan = "nan";
const char* const kInf = "inf";
const char* const kNanInput = "nan input";

}  // namespace

double magnitude_of(uint64_t bits, DType t) {
  if (is_complex(t)) t = t == complex128 ? f64 : f32;
  return read_double(&bits, t);  // little-endian: the low bytes are the value
}

const char* phase_name(Phase p) {
  constexpr const char* names[] = {"forward", "backward", "optimiser"};
  return names[int(p)];
}

MonitorState::MonitorState(const MonitorOptions& o) : options(o), index(256), ring(kRing), written(kWritten) {
  sites.reserve(128), touched.reserve(256);
  governor.begin(budget(), saves() ? options.whole_every : 0, Governor::clock());
  if (options.log_file.empty()) return;
  log = std::fopen(options.log_file.c_str(), "w");
  if (!log) raise(Error(ErrorCode::io, "cannot write " + options.log_file + ": " + std::strerror(errno)).op("Monitor"));
  write_begin();
}

namespace {
/// The op that the program called, where `c` is a step of it or of its gradient; null where that is `c` itself.
const OpDef* called_by_the_program(const Call& c) {
  const Frame* outer = c.scope.frame;
  if (!outer || !outer->up) return nullptr;
  while (outer->up) outer = outer->up;
  return outer->op;
}
}  // namespace

uint32_t MonitorState::site_of(const Call& c) {
  if (const uint32_t next = next_site(c); next < kMostSites) return last_site = next;
  const Phase phase = c.scope.phase;
  const auto arrive = [&](uint32_t i) {
    if (last_site < sites.size()) {
      uint32_t* const next = sites[last_site].next;
      next[1] = next[0], next[0] = i;
    }
    return last_site = i;
  };
  const uint64_t h =
      (mix(&c.op) * 0x9e3779b97f4a7c15 ^ mix(c.scope.path) * 0xc2b2ae3d27d4eb4f ^ mix(c.site) * 0x165667b19e3779f9) + uint64_t(phase);
  for (size_t at = (h ^ h >> 29) & (index.size() - 1);; at = (at + 1) & (index.size() - 1)) {
    const uint32_t i = index[at];
    if (i == 0) {
      if (sites.size() >= kMostSites)
        return uint32_t(sites.size() - 1);  // the table's memory is bounded: what comes later shares the last site
      WatchedSite& s = sites.emplace_back();
      s.op = &c.op, s.path = c.scope.path, s.site = c.site, s.phase = phase;
      if (phase == Phase::backward) s.of = called_by_the_program(c);
      s.partly = &c.op != &op_transfer && !updates(c), s.sums = sums_gradients(c);
      if (&c.op == &op_unscale) asked = true;
      if (phase == Phase::optimiser && is_update(c.op)) unasked = true;
      if (options.foretell && phase != Phase::backward)
        for (int k = 0; k < c.op.in.size(); ++k)
          if (has_risk(c.op.in[k].risk, Risk::divides | Risk::domain)) {
            s.argument = std::make_unique<WatchedArgument>();
            s.argument->input = k;
          }
      if (options.foretell && phase == Phase::forward) {
        if (&c.op == &op_bce_with_logits || (&c.op == &op_cross_entropy && is_inexact(impl(c.in[1]).spec.dtype))) {
          s.argument = std::make_unique<WatchedArgument>();
          s.argument->input = 1, s.argument->kind = WatchedArgument::targets;
        }
        if (&c.op == &op_sin || &c.op == &op_cos || &c.op == &op_tan) {
          s.argument = std::make_unique<WatchedArgument>();
          s.argument->input = 0, s.argument->kind = WatchedArgument::turns;
        }
        if (&c.op == &op_log1p) {
          s.argument = std::make_unique<WatchedArgument>();
          s.argument->input = 0, s.argument->kind = WatchedArgument::nears_one;
        }
        const bool to_fp8 = &c.op == &op_cast && (c.out[0].dtype == f8e4m3fn || c.out[0].dtype == f8e5m2);
        if (to_fp8 || (&c.op == &op_softmax && c.out[0].shape.rank() >= 3) || &c.op == &op_attention) {
          s.argument = std::make_unique<WatchedArgument>();
          s.argument->input = 0, s.argument->kind = to_fp8 ? WatchedArgument::saturates : WatchedArgument::attends;
        }
      }
      index[at] = uint32_t(sites.size());
      if (sites.size() * 2 > index.size()) grow_index();
      return arrive(uint32_t(sites.size() - 1));
    }
    if (sites[i - 1].is(c)) return arrive(i - 1);
  }
}

void MonitorState::grow_index() {
  std::vector<uint32_t> wider(index.size() * 4);
  for (size_t i = 0; i < sites.size(); ++i) {
    const WatchedSite& s = sites[i];
    const uint64_t h =
        (mix(s.op) * 0x9e3779b97f4a7c15 ^ mix(s.path) * 0xc2b2ae3d27d4eb4f ^ mix(s.site) * 0x165667b19e3779f9) + uint64_t(s.phase);
    size_t at = (h ^ h >> 29) & (wider.size() - 1);
    while (wider[at]) at = (at + 1) & (wider.size() - 1);
    wider[at] = uint32_t(i + 1);
  }
  index = std::move(wider);
}

void MonitorState::fold(WatchedResult& r) {
  RunningStep& now = r.now;
  if (now.calls == 0) return;
  const FloatBits f = float_bits(r.dtype);
  if (now.min_bits < f.inf - 1)  // zeros, infinities and NaN have no say
    if (const double low = magnitude_of(now.min_bits + 1, r.dtype); r.smallest == 0 || low < r.smallest) r.smallest = low;
  if (const double high = magnitude_of(now.max_bits, r.dtype); high > r.largest) r.largest = high;
}

namespace {
size_t place_of(const Storage* s) { return size_t((uint64_t(reinterpret_cast<uintptr_t>(s)) >> 6) * 0x9e3779b97f4a7c15 >> 52); }
static_assert(MonitorState::kWritten == 4096, "place_of gives twelve bits");
}  // namespace

uint32_t MonitorState::device_every() const {
  if (whole_steps || debug) return 1;
  uint32_t e = 1;
  while (e < Rotation::kMost && int64_t(e) < options.sample) e *= 2;
  return level ? std::min(4 * e, Rotation::kMost) : e;
}

const Written* MonitorState::known(const Tensor& t, bool partly) const {
  const TensorImpl& x = impl(t);
  const Storage* const s = x.storage.get();
  if (!s) return nullptr;
  const Written& w = written[place_of(s)];
  const bool fits = w.storage == s && w.writer == s->writer && w.version == s->version.load(std::memory_order_relaxed) &&
                    (w.whole || (partly && w.all)) && w.offset == x.offset && w.dtype == x.spec.dtype && w.size == x.spec.shape.numel();
  return fits ? &w : nullptr;
}

bool MonitorState::wrote_last(const Tensor& t, uint32_t site) const {
  const Storage* const s = impl(t).storage.get();
  if (!s) return false;
  const Written& w = written[place_of(s)];
  const uint32_t version = s->version.load(std::memory_order_relaxed);
  return w.storage == s && w.site == site && (w.version == version || w.version + 1 == version);
}

/// Keeps what the op wrote for those who read it next.
void MonitorState::remember(const Call& c, const Tensors& out, int i, uint32_t site, const StatSlot& slot) {
  const TensorImpl& y = impl(out[i]);
  Storage* const s = y.storage.get();
  if (!s) return;
  if (!*s->writer || s->writer == kLeftOut) s->writer = c.op.name;  // tells it from other memory that comes to lie at the same address
  Written& w = written[place_of(s)];
  w.storage = s, w.writer = s->writer, w.version = s->version.load(std::memory_order_relaxed), w.site = site, w.output = uint8_t(i);
  w.call = sites[site].call;
  w.offset = y.offset, w.dtype = y.spec.dtype;
  w.elements = slot.count.load(std::memory_order_relaxed), w.max_bits = slot.max_bits.load(std::memory_order_relaxed);
  w.min_bits = slot.min_bits.load(std::memory_order_relaxed), w.whole = w.elements == uint64_t(y.spec.shape.numel());
  w.size = y.spec.shape.numel(), w.all = w.whole || (i + 1 < c.op.out.size() || out.size() <= c.op.out.size());
  w.noise = w.floor = -INFINITY;
  if (c.op.elementwise && c.scope.phase == Phase::forward && options.foretell)
    w.noise = noise_of(c, out[i], site, w.noise_site), w.floor = floor_of(c);
  if (w.noise > -INFINITY && w.max_bits && w.max_bits < float_bits(w.dtype).inf) judge_noise(site, uint8_t(i), w);
}

void MonitorState::take(const Call& c, const Tensors& out, const StatSlot* slots, const Taint* overwritten) {
  const uint32_t at = last_site;
  ++step_ops;
  for (int i = 0; i < c.op.out.size() && i < out.size(); ++i) {
    const StatSlot& slot = slots[i];
    const uint64_t n = slot.count.load(std::memory_order_relaxed);
    if (n == 0) continue;
    const DType t = impl(out[i]).spec.dtype;
    uint64_t all = uint64_t(impl(out[i]).spec.shape.numel());  // results beyond the last declared output share its slot
    for (int64_t k = i + 1; i + 1 == c.op.out.size() && k < out.size(); ++k) all += uint64_t(out[k].size());
    const uint32_t part = n < all ? std::bit_ceil(uint32_t(std::min<uint64_t>((all + n / 2) / n, 1u << 15))) : 1;
    const uint64_t high = slot.max_bits.load(std::memory_order_relaxed), low = slot.min_bits.load(std::memory_order_relaxed);
    const auto nan = uint32_t(slot.nan.load(std::memory_order_relaxed)), inf = uint32_t(slot.inf.load(std::memory_order_relaxed)),
               subnormal = uint32_t(slot.subnormal.load(std::memory_order_relaxed));
    WatchedRow& row = ring[rows++ % kRing];  // field by field: a copy would wait for them
    row.step = step, row.site = at, row.output = uint8_t(i), row.dtype = t, row.every = uint16_t(part);
    row.max_bits = high, row.min_bits = low, row.elements = n, row.nan = nan, row.inf = inf, row.subnormal = subnormal;
    WatchedResult& r = sites[at].results[i];
    if (r.calls++ == 0) r.first_step = step;
    RunningStep& now = r.now;
    if (now.calls == 0) touched.push_back(at << 2 | uint32_t(i));
    if (r.dtype != t) [[unlikely]] {
      fold(r);
      now.max_bits = 0, now.min_bits = ~uint64_t(0), r.dtype = t, r.series.reset();
    }
    r.elements += n, r.last_step = step;
    ++now.calls, now.elements += n;
    if (part > 1) now.every = std::max(now.every, part), r.every = std::max(r.every, part);
    if (low < now.min_bits) now.min_bits = low;
    if (subnormal) r.subnormal += subnormal, now.subnormal += subnormal, step_subnormal += subnormal;
    remember(c, out, i, at, slot);
    if (const bool broken = high >= float_bits(t).inf; !broken) {
      if (high > now.max_bits) now.max_bits = high;
      if (!tainted.empty()) [[unlikely]]
        taint(c, out, i, TaintedStorages::clean);
    } else {
      r.nan += nan, r.inf += inf, now.nan += nan, now.inf += inf;
      step_nan += nan, step_inf += inf;
      examine(c, out, i, at, uint8_t(i), slot, overwritten);
    }
  }
}

/// Notes what the storages of declared output `i` hold. Results beyond the last declared output share its slot, hence its fate.
void MonitorState::taint(const Call& c, const Tensors& out, int i, Taint kind) {
  const int64_t end = i + 1 == c.op.out.size() ? out.size() : i + 1;
  for (int64_t k = i; k < end; ++k) {
    if (!out[k].defined() || !impl(out[k]).storage) continue;
    const TensorImpl& y = impl(out[k]);
    // A finite part says nothing of the rest.
    if (kind == TaintedStorages::clean && size_t(y.spec.shape.numel()) * size_of(y.spec.dtype) < y.storage->bytes) continue;
    tainted.set(y.storage.get(), kind);
  }
}

Taint MonitorState::worst_of(const Call& c) const {
  Taint worst = TaintedStorages::clean;
  const bool lists = c.op.in.size() && c.op.in[c.op.in.size() - 1].variadic && c.op.in[c.op.in.size() - 1].written;
  if (!lists || tainted.empty()) return worst;
  for (int i = 0; i < c.in.size(); ++i)
    if (c.in[i].defined() && impl(c.in[i]).storage) worst = std::max(worst, tainted.find(impl(c.in[i]).storage.get()));
  return worst;
}

void MonitorState::spread(const Call& c, Taint worst) {
  if (worst == TaintedStorages::clean) return;
  for (int i = c.op.in.size() - 1; i < c.in.size(); ++i)
    if (c.in[i].defined() && impl(c.in[i]).storage) tainted.set(impl(c.in[i]).storage.get(), worst);
}

namespace {

template <class Bits>
int64_t zeros_among(const std::byte* data, int64_t n) {
  const auto* const v = reinterpret_cast<const Bits*>(data);
  return std::count_if(v, v + n, [](Bits b) { return Bits(b << 1) == 0; });
}

/// Zeros of a tensor on the CPU that lies in one piece; 0 of others.
int64_t zeros_in(const TensorImpl& x) {
  if (x.device != cpu_device || x.weak || is_complex(x.spec.dtype) || !is_contiguous(x.spec.shape, x.strides)) return 0;
  const int64_t n = x.spec.shape.numel();
  switch (size_of(x.spec.dtype)) {
    case 1: return zeros_among<uint8_t>(x.data, n);
    case 2: return zeros_among<uint16_t>(x.data, n);
    case 4: return zeros_among<uint32_t>(x.data, n);
    default: return zeros_among<uint64_t>(x.data, n);
  }
}

}  // namespace

/// Decides whether an op made the NaN or infinity that its result holds, or passed on what an input held. Rare, so it may look at every
/// input.
void MonitorState::examine(const Call& c, const Tensors& out, int i, uint32_t site, uint8_t output, const StatSlot& slot,
                           const Taint* overwritten) {
  const auto nans = int64_t(slot.nan.load(std::memory_order_relaxed)), infs = int64_t(slot.inf.load(std::memory_order_relaxed)),
             n = int64_t(slot.count.load(std::memory_order_relaxed));
  if (c.guard && c.guard->elements.load())  // judge_made says more
    return taint(c, out, i, nans ? TaintedStorages::nan : TaintedStorages::inf);
  bool nan_in = false, inf_in = false, unknown = false, left_out = false, any_input = false;
  int unseen = -1;  // an input of which only a part was looked at, and that was clean
  Suggestion data;
  std::string inputs, bad_place;
  for (int k = 0; k < c.in.size(); ++k) {
    if (!c.in[k].defined()) continue;
    const TensorImpl& x = impl(c.in[k]);
    if (!is_inexact(x.spec.dtype)) continue;
    any_input = true;
    const ArgDef& def = c.op.in[std::min(k, c.op.in.size() - 1)];
    bool has_nan = false, has_inf = false;
    const Taint seen = k < 16 && overwritten ? overwritten[k] : x.storage ? tainted.find(x.storage.get()) : TaintedStorages::clean;
    const bool gone =
        overwritten && k < 16 && (def.written || (c.into && x.storage == impl(*c.into).storage));  // the result lies where this input was
    std::string range;
    if (gone) {
      has_nan = seen == TaintedStorages::nan, has_inf = seen == TaintedStorages::inf;
    } else {
      StatSlot s;
      look(c.in[k], s);
      has_nan = s.nan.load() > 0, has_inf = s.inf.load() > 0;
      if (const uint64_t looked = s.count.load(); !has_nan && !has_inf && looked && looked < uint64_t(x.spec.shape.numel()) && unseen < 0)
        unseen = k;
      if ((has_nan || has_inf) && seen == TaintedStorages::clean && x.storage) {
        unknown = true, left_out = left_out || x.storage->writer == kLeftOut;
        if (bad_place.empty()) bad_place = place_of_first_bad(c.in[k], def.name);
      }
      if (!has_nan && !has_inf) suggest_data(c.in[k], def.name, magnitude_of(s.max_bits.load(), x.spec.dtype), data);
      const FloatBits f = float_bits(x.spec.dtype);
      if (const uint64_t high = s.max_bits.load(), low = s.min_bits.load(); high < f.inf) {
        const double most = magnitude_of(high, x.spec.dtype), least = low < f.magnitude ? magnitude_of(low + 1, x.spec.dtype) : most;
        range = (least < most ? "magnitudes " + exact_number(least) + " to " : "magnitude ") + exact_number(most);
        if (const int64_t zeros = zeros_in(x); zeros && most > 0) range += " and " + std::to_string(zeros) + (zeros > 1 ? " zeros" : " zero");
      } else {
        range = has_nan ? "holds NaN" : "holds infinities";
      }
    }
    nan_in |= has_nan, inf_in |= has_inf;
    const std::string role = def.variadic ? std::string(def.name) + "[" + std::to_string(k - (c.op.in.size() - 1)) + "]" : def.name;
    if (!range.empty() && k < 6)
      inputs += "; " + role + ": " + (x.weak ? exact_number(read_double(x.data, x.spec.dtype)) : to_string(x.spec) + " " + range);
  }
  if (nans && !nan_in && inf_in && c.scope.phase == Phase::forward)
    data = {"stable_op", 0, "a bound on what made the infinities: infinities of both signs, or times 0, have no sum or product"};
  if (nans && !nan_in && !inf_in && data.kind.empty() && (&c.op == &op_cross_entropy || &c.op == &op_nll_loss))
    data = {"data", 0, "leave out a batch without a target that counts, or divide a sum by at least 1: the mean over none is 0 / 0"};
  taint(c, out, i, nans ? TaintedStorages::nan : TaintedStorages::inf);
  if (light_booking && !nan_in && !inf_in) {
    whole_steps = kWholeSteps;
    inputs += "; this step was watched in part, so that an op before it may be to blame";
  }
  const bool made = nans ? !nan_in : !nan_in && !inf_in && any_input;
  if (made && unseen >= 0) {
    whole_steps = kWholeSteps;
    const char* const role = c.op.in[std::min(unseen, c.op.in.size() - 1)].name;
    const Written* const w = known(c.in[unseen], true);
    if (w && passes_on(c.op, nans > 0)) {
      tainted.set(w->storage, nans ? TaintedStorages::nan : TaintedStorages::inf);
      uint32_t maker = w->site;
      uint8_t output_of = w->output;
      // Those before it that passed it on too, as far as each has one input.
      for (int k = 0; k < 64 && passes_on(*sites[maker].op, nans > 0) && sites[maker].from[0] < sites.size() && sites[maker].from[1] == ~0u;
           ++k)
        if (const uint32_t above = sites[maker].from[0]; sites[above].op->out.size() == 1 && sites[above].results[0].every > 1)
          maker = above, output_of = 0;
        else
          break;
      const WatchedSite& from = sites[maker];
      if (bad_site == ~uint32_t(0)) bad_site = maker, bad_output = output_of;
      return add_found(c, maker, output_of, nans ? kNan : kInf, false, nans ? double(NAN) : double(INFINITY), nans ? nans : infs, {},
                       std::string(from.op->name) + " gave " + (nans ? "NaN" : "infinities") +
                           " in a part of its result that was not looked at; " + c.op.name +
                           ", which makes none of finite numbers, passed on " + std::to_string(nans ? nans : infs) + inputs);
    }
    inputs += "; of '" + std::string(role) + "' only a part was looked at, so that the op that wrote it may be to blame";
  }
  if (bad_site == ~uint32_t(0) && !nan_in && !inf_in && any_input) bad_site = site, bad_output = output;
  if (!pending.empty() && c.into && impl(*c.into).grad && impl(*c.into).grad->requires_grad) note_update();

  const OutDef& def = c.op.out[i];
  const std::string which = c.op.out.size() > 1 ? std::string(" in '") + def.name + "'" : "";
  const std::string shape = n == 1 ? "1 value" : std::to_string(n) + " values";
  const auto text = [&](int64_t bad, const char* what, const char* how) {
    return std::string(c.op.name) + " gave " + std::to_string(bad) + " " + what + which + " of " + shape + how + inputs;
  };
  if (left_out && nans && bad_site == ~uint32_t(0)) {
    // Some op before it is to blame that nobody looked at.
    bad_site = site, bad_output = output, whole_steps = kWholeSteps;
    return add_found(c, site, output, kNan, false, NAN, nans, {},
                     text(nans, "NaN", ": an input held them; its op was not watched in this step, the next ones are watched whole"));
  }
  if (nans) {
    if (!nan_in)
      add_found(c, site, output, kNan, false, NAN, nans, data,
                text(nans, "NaN",
                     inf_in      ? " from infinities"
                     : any_input ? " from finite inputs"
                                 : ""));
    else if (unknown)
      add_found(c, site, output, kNanInput, false, NAN, nans, {},
                text(nans, "NaN", (": an input held them already, and no watched op made them" + bad_place).c_str()));
  } else if (!nan_in && !inf_in) {
    // Infinities that the program asks for by name, and those of outputs that only the gradient sees, are no faults.
    const bool meant = !any_input || def.only_when_recording;
    add_found(c, site, output, kInf, meant, INFINITY, infs, data, text(infs, "infinities", any_input ? " from finite inputs" : ""));
  } else if (unknown) {
    add_found(c, site, output, kInf, true, INFINITY, infs, {},
              text(infs, "infinities", ": an input held some already, and no watched op made them"));
  }
}

/// Where the first NaN or infinity of an input lies: for a batch, which example.
std::string MonitorState::place_of_first_bad(const Tensor& t, const char* role) const {
  const TensorImpl& x = impl(t);
  const int64_t n = x.spec.shape.numel();
  if (!is_contiguous(x.spec.shape, x.strides) || is_complex(x.spec.dtype)) return {};
  int64_t at = -1;
  if (x.device != cpu_device)
    at = first_bad_on_device(t);
  else
    for (int64_t i = 0; i < n && at < 0; ++i)
      if (!std::isfinite(read_double(x.data + i * int64_t(size_of(x.spec.dtype)), x.spec.dtype))) at = i;
  if (at < 0) return {};
  const int64_t row = x.spec.shape.rank() ? at / (n / x.spec.shape[0]) : 0;
  return "; the first is in row " + std::to_string(row) + " of '" + role + "', element " + std::to_string(at);
}

/// An input that no op computed and that holds a value far from its others: the data is to blame.
void MonitorState::suggest_data(const Tensor& t, const char* role, double high, Suggestion& data) const {
  const TensorImpl& x = impl(t);
  const Written* const w = known(t);
  if (!data.kind.empty() || x.weak || (x.grad && x.grad->requires_grad) || (w && computes(*sites[w->site].op))) return;
  if (x.spec.shape.numel() < 16 || !is_contiguous(x.spec.shape, x.strides) || is_complex(x.spec.dtype)) return;
  const Lines some = evenly(x.spec.shape.numel(), 256);
  std::vector<float> v = x.device == cpu_device ? Sample{0, x.spec.dtype, {&some, 1}, x.data, false}.all<float>() : some_on_device(t);
  if (v.empty()) return;
  for (float& u : v) u = std::abs(u);
  std::nth_element(v.begin(), v.begin() + int64_t(v.size() / 2), v.end());
  const auto median = double(v[v.size() / 2]);
  if (!(high > 1e6 * median) || median == 0) return;
  data = {"data", 0,
          "look at the data: '" + std::string(role) + "' holds " + exact_number(high) + ", while half of its values are below " +
              exact_number(median) + "; a word for \"missing\", perhaps"};
}

void MonitorState::add_found(const Call& c, uint32_t site, uint8_t output, const char* kind, bool info, double value, int64_t elements,
                             const Suggestion& better, std::string text) {
  const uint64_t key =
      uint64_t(site) << 8 | uint64_t(output) << 4 | uint64_t(kind[0] == 'i') << 1 | uint64_t(info) | uint64_t(kind == kNanInput) << 2;
  if (auto it = found_index.find(key); it != found_index.end()) {
    ++found[it->second].count;
  } else if (found.size() < kMostFindings) {
    if (const OpDef* const called = called_by_the_program(c); called && called != &c.op && c.scope.phase == Phase::forward)
      text += "; part of " + std::string(called->name);
    if (const OpDef* of = sites[site].of; of && of != sites[site].op) text += "; in the gradient of " + std::string(of->name);
    found_index.emplace(key, uint32_t(found.size()));
    Monitor::Finding about;
    // Where a loss scale is sought, narrow gradients overflow now and then, and the step is skipped: a fault only if it is not.
    const bool waits = !info && c.scope.phase == Phase::backward && options.break_on == BreakOn::never && narrow_gradient(c);
    if (waits) pending.push_back(uint32_t(found.size()));
    about.severity = info || waits ? Severity::info : Severity::fault, about.epoch = epoch;
    about.detector = detector_name(kind == kNanInput ? Detector::bad_input : Detector::nonfinite);
    if (kind == kNanInput)
      about.suggestion = {"data", 0, "look at that row of the data, or at what the program wrote there by hand"};
    else if (!info)
      about.suggestion = better.kind.empty() ? suggestion(site, output) : better;
    about.value = value, about.text = std::move(text);
    found.push_back({site, output, kind, step, elements, 1, std::move(about)});
    write_findings();
  }
  if (info || (!debug && (options.break_on == BreakOn::never || (options.break_on == BreakOn::nan && kind == kInf)))) return;
  if (quiet) return void(raise_fault = found_index.at(key) + 1);
  const Monitor::Finding f = finding(found[found_index.at(key)]);
  if (debug) speak(site, f.text);
  raise(op_error(ErrorCode::numeric, f.text).note("site: " + f.site).note("step: " + std::to_string(step) + ", " + f.phase));
}

/// The end of a step: its rules, and how much of the next one is watched.
void MonitorState::govern() {
  uint64_t results = 0, bytes = 0;
  if (governor.on())
    for (const uint32_t t : touched) {
      const WatchedResult& r = sites[t >> 2].results[t & 3];
      results += r.now.calls, bytes += r.now.elements * size_of(r.dtype);
    }
  judge_step();
  for (; judged < found.size(); ++judged)
    if (found[judged].about.severity != Severity::info) governor.alarm(step);
  governor.turn(step + 1, Governor::clock(), results, bytes);
  if (governor.on() && !governor.whole()) base::take_exceptions();  // what was met before is not this step's
}

/// What may be about to leave its range deserves a closer look than one step in so many.
void MonitorState::suspect_trends() {
  const auto every = double(governor.every());
  for (const uint32_t t : touched) {
    const WatchedResult& r = sites[t >> 2].results[t & 3];
    const Series& h = *r.series;
    constexpr int kReadings = 8;
    if (h.size() < kReadings || !std::isfinite(h.back().high)) continue;
    if (r.is_loss) {
      float least, most;
      h.range(2 * kReadings, least, most);
      if (h.back().high > most + 3) governor.suspect(step, Governor::kClosely / 2);
    }
    if (!governor.whole()) continue;
    const Reading &now = h.back(), &then = h.back(kReadings - 1);
    const double rise = double(now.high - then.high) / double(now.step - then.step), room = format_of(r.dtype).max2 - double(now.high);
    if (!(rise > 0.01) || room > rise * (20 + kReadings * every)) continue;
    if (const Trend line = h.trend(kReadings, &Reading::high); line.n && line.r2 > 0.8)
      governor.suspect(step, 2 * kReadings + 2 * int64_t(every));
  }
}

void MonitorState::begin_step() {
  if (boards) end_device_step();
  govern();
  write_step();
  ++step, last_site = 0;
  if (governor.whole()) ++rotation;
  if (whole_steps) --whole_steps;
  if (boards) govern_device();
  looks += !light;
  step_ops = step_nan = step_inf = step_subnormal = 0, step_largest = 0;
  bad_site = ~uint32_t(0), backward_ran = updated = jump_seen = jump_told = false;
  if (boards) settle(false, true);
  if (!std::exchange(raise_pending, false)) return;
  for (size_t i = found.size(); i-- > 0;)
    if (found[i].about.severity == Severity::warning) {
      const Monitor::Finding f = finding(found[i]);
      raise(Error(ErrorCode::numeric, f.text)
                .op(f.op.c_str())
                .path(f.path.c_str())
                .note("site: " + f.site)
                .note("step: " + std::to_string(f.step) + ", " + f.phase));
    }
}

namespace {

/// What the layer knows before the op runs.
struct Before {
  uint32_t at;
  bool update;
  const Taint* overwritten;
  ValueRules rules;
};

/// Whether the first operand is a batch: numbers that no op made and nothing learns.
bool reads_data(const Call& c) {
  if (c.scope.phase != Phase::forward || c.in.size() == 0 || !c.in[0].defined() || c.op.in[0].written) return false;
  const TensorImpl& x = impl(c.in[0]);
  return is_inexact(x.spec.dtype) && !x.weak && x.storage && !*x.storage->writer && !(x.grad && x.grad->requires_grad);
}

constexpr int kMostInputs = 16;
bool overwrites(const Call& c) { return c.into || c.op.out[0].alias_of >= 0; }
/// What is known of the inputs, in case that the op overwrites one.
void taints_of(const MonitorState& m, const Call& c, Taint* before) {
  for (int i = 0; i < c.in.size() && i < kMostInputs; ++i)
    before[i] = c.in[i].defined() && impl(c.in[i]).storage ? m.tainted.find(impl(c.in[i]).storage.get()) : TaintedStorages::clean;
}

/// The settings of an optimiser's step on the CPU.
const double* settings_in(const Call& c) { return reinterpret_cast<const double*>(impl(c.in[0]).data); }

/// Runs the op and books what came back. In a function of its own, so that the result is made where the caller wants it.
Tensors run_watched(MonitorState& m, Call& c, StatSlot* slots, const Before& b) {
  const uint32_t at = b.at;
  Wanted sum;
  std::vector<float> before, added;
  if (b.rules) [[unlikely]]
    b.rules.each([&](ValueRule r) {
      if (r != ValueRule::running_sum) return m.look_at_values(r, c, {}, at);
      if (!m.wrote_last(c.in[0], at) || !m.plan(r, c, {}, at, {}, sum)) return;
      before = sample_of(c.in[0], sum, 0).all<float>(), added = sample_of(c.in[1], sum, 1).all<float>();
    });
  const Taint worst = m.tainted.empty() ? TaintedStorages::clean : m.worst_of(c);
  StepGuard guard{.holds = m.options.protect};
  if (b.update) c.guard = &guard;
  Tensors out = run_backend(c, slots);
  if (m.debug) [[unlikely]]
    m.check_safe(c);
  m.take(c, out, slots, b.overwritten);
  m.spread(c, worst);
  if (b.update) m.judge_made(c, at, guard, settings_in(c)), m.after_update(c, at);
  if (const ValueRules rules = m.rules_after(c, at, m.turn(false))) [[unlikely]]
    rules.each([&](ValueRule r) { m.look_at_values(r, c, out[0], at); });
  if (!sum.asks.empty()) m.judge_running_sum(at, before, added, sample_of(out[0], sum, 2).all<float>());
  return out;
}

}  // namespace

namespace {

/// Room for the slots of a call.
struct Slots {
  alignas(StatSlot) std::byte room[4 * sizeof(StatSlot)];
  /// One an output; `wanted` says as bits which ones somebody asks about.
  StatSlot* make(int n, unsigned wanted = ~0u) {
    auto* const slots = reinterpret_cast<StatSlot*>(room);
    for (int i = 0; i < n; ++i) new (slots + i) StatSlot, slots[i].wanted = wanted >> i & 1;
    return slots;
  }
};

/// Everything but calls that a step in part has seen before.
[[gnu::noinline]] Tensors watch(MonitorState& m, Call& c) {
  if (&c.op == &op_transfer) {
    const auto& p = *static_cast<const TransferParams*>(c.params);
    if (!(p.to == cpu_device && p.origin == cpu_device)) return m.transfer(c);
  }
  const size_t places = m.sites.size();
  const uint32_t at = m.site_of(c);
  const bool first = m.sites.size() != places;
  if (sums_gradients(c)) m.note_sum_of_gradients(c);
  const Device d = device_of(c);
  if (m.turn(d != cpu_device) >= 0) ++m.sites[at].begun;
  if (d != cpu_device) [[unlikely]]
    if (m.has_board(d)) return m.watch_on_device(c, d, at, first);
  m.sites[at].count_call(m.step);
  if (first && reads_data(c)) [[unlikely]]
    m.tell(at);
  const bool update = updates(c);
  if (!m.governor.whole() && !update && !m.debug && !first && d == cpu_device) return m.run_in_part(c, at);
  Slots room;
  StatSlot* const slots = room.make(c.op.out.size());
  if (first && m.options.foretell) [[unlikely]]
    m.lint_call(c, at);
  if (m.sites[at].argument && m.governor.whole()) [[unlikely]]
    m.look_at_argument(c, m.sites[at], at);
  const ValueRules rules = m.rules_before(c, at, first, m.turn(false));
  if (update && m.before_update(c, at)) return {c.in[c.op.out[0].alias_of]};
  // Inputs that the op overwrites cannot be looked at afterwards: remember what is known of them.
  Taint before[kMostInputs];
  const bool remember = !m.tainted.empty() || overwrites(c);
  if (remember) taints_of(m, c, before);
  return run_watched(m, c, slots, {at, update, remember ? before : nullptr, rules});
}

/// What an op wrote that nobody watched bears the mark of that.
void mark_left_out(const Tensors& out) {
  for (const Tensor& t : out)
    if (t.defined() && impl(t).storage && !*impl(t).storage->writer) impl(t).storage->writer = kLeftOut;
}

}  // namespace

Tensors layer::monitor(Call& c) {
  auto& m = *static_cast<MonitorState*>(c.scope.monitor);
  bool watched = false;
  if (!c.op.view)
    for (const Spec& s : c.out) watched |= is_inexact(s.dtype);
  if (!watched) {
    if (&c.op == &op_cast && m.options.foretell && is_inexact(impl(c.in[0]).spec.dtype)) m.judge_integers(c);
    return run_backend(c, nullptr);
  }
  if (m.governor.whole() || m.debug) return watch(m, c);
  // Of most steps most calls end here, so this is short: what it takes, a network of small ops pays for each of them.
  const uint32_t at = m.next_site(c);
  if (at >= m.sites.size() || !m.sites[at].partly || device_of(c) != cpu_device) [[unlikely]]
    return watch(m, c);
  if (m.sites[at].sums) m.note_sum_of_gradients(c);
  m.last_site = at, m.sites[at].count_call(m.step);
  return m.run_in_part(c, at);
}

Tensors MonitorState::run_in_part(Call& c, uint32_t at) {
  const int n = c.op.out.size();
  const unsigned told = sites[at].told(n);
  if (told + 1 != 1u << n) governor.left_out();
  if (told || !tainted.empty()) return run_told(c, at, told);
  return run_left_out(c, at);
}

/// In functions of their own, so that the result is made where the caller wants it.
Tensors MonitorState::run_left_out(Call& c, uint32_t at) {
  ++step_ops;
  Tensors out = run_backend(c, nullptr);
  mark_left_out(out);
  if (base::take_exceptions()) [[unlikely]]
    look_again(c, at, out);
  return out;
}

/// A call of which some results are watched in every step, or of whose inputs some may hold a NaN or infinity.
Tensors MonitorState::run_told(Call& c, uint32_t at, unsigned told) {
  const int n = c.op.out.size();
  Slots room;
  StatSlot* const slots = room.make(n, told);
  step_ops += !told;
  Taint before[kMostInputs];
  const bool remember = !tainted.empty() || overwrites(c);
  if (remember) taints_of(*this, c, before);
  const Taint worst = told ? worst_of(c) : TaintedStorages::clean;
  Tensors out = run_backend(c, told ? slots : nullptr);
  mark_left_out(out);
  for (int i = 0; !tainted.empty() && i < n && i < out.size(); ++i) taint(c, out, i, TaintedStorages::clean);
  const bool broken = base::take_exceptions() && look_again(c, at, out, slots);
  if (!told && !broken) return out;
  step_ops -= !told;  // take() counts it
  book_in_part(c, at, out, slots, remember ? before : nullptr, worst);
  return out;
}

/// The flags of the processor say that an operation made a NaN, overflowed or divided by 0: looks whether a result holds that. Not all that
/// they tell of comes to a result, and what is made by tables of bits they do not tell.
bool MonitorState::look_again(const Call& c, uint32_t at, const Tensors& out, StatSlot* slots) {
  bool broken = false;
  for (int i = 0; i < out.size(); ++i)
    if (out[i].defined() && is_inexact(impl(out[i]).spec.dtype) && impl(out[i]).device == cpu_device) {
      StatSlot& slot = slots[std::min(i, c.op.out.size() - 1)];
      if (!slot.wanted) observe(out[i], slot);
      broken = broken || slot.nan.load() + slot.inf.load() > 0;
    }
  // Where flags speak of what no result shows, its kernel gathers statistics for less than such passes take.
  if (WatchedSite& s = sites[at]; !broken && s.vain < kMostVain && ++s.vain == kMostVain) tell(at);
  return broken;
}

/// The same for a call of which nothing was watched, and of whose inputs none is known to be broken.
void MonitorState::look_again(const Call& c, uint32_t at, const Tensors& out) {
  Slots room;
  StatSlot* const slots = room.make(c.op.out.size(), 0);
  if (!look_again(c, at, out, slots)) return;
  constexpr Taint none[kMostInputs] = {};
  --step_ops;  // take() counts it
  book_in_part(c, at, out, slots, overwrites(c) ? none : nullptr, TaintedStorages::clean);
}

void MonitorState::book_in_part(const Call& c, uint32_t at, const Tensors& out, const StatSlot* slots, const Taint* before, Taint worst) {
  const size_t found_before = found.size(), pending_before = pending.size();
  last_site = at;
  take(c, out, slots, before);
  spread(c, worst);
  if (found.size() > found_before || pending.size() > pending_before) governor.alarm(step);
}

}  // namespace keel
