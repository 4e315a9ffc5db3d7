#pragma once
// Rules that look at values say first where they want to look, and then judge what was there: on the CPU at once, of tensors on a device
// when a board has brought it (device_board.h). So each of them is written once.
#include <span>
#include <vector>

#include "backend/device_kernels.h"
#include "core/impl.h"

namespace keel {

/// Which rule asks. `data` is what no op made, should it be to blame; `weights` are those before an optimiser's step, `update` is about
/// what it leaves.
enum class ValueRule : uint8_t {
  data,
  exponents,
  denominator,
  targets,
  weights,
  product,
  rows,
  spread,
  attention,
  slopes,
  mixture,
  running_sum,
  update
};
/// When a rule judges what it saw: before the results are booked or after; or it helps others, whom DeviceBoards knows.
enum class Moment : uint8_t { before, after, helps };
constexpr Moment moment_of(ValueRule r) {
  switch (r) {
    using enum ValueRule;
    case exponents:
    case denominator:
    case targets: return Moment::before;
    case running_sum:
    case product:
    case rows:
    case spread:
    case attention:
    case slopes:
    case mixture: return Moment::after;
    case data:
    case weights:
    case update: break;
  }
  return Moment::helps;
}
/// Whether a rule looks at what the inputs of a call hold before the op runs.
constexpr bool looks_before(ValueRule r) {
  using enum ValueRule;
  return moment_of(r) == Moment::before || r == data || r == weights || r == running_sum;
}

/// Some of them.
class ValueRules {
 public:
  void add(ValueRule r) { bits_ |= 1u << unsigned(r); }
  bool has(ValueRule r) const { return bits_ >> unsigned(r) & 1; }
  explicit operator bool() const { return bits_ != 0; }
  template <class F>
  void each(F f) const {
    for (unsigned r = 0; bits_ >> r; ++r)
      if (bits_ >> r & 1) f(ValueRule(r));
  }

 private:
  uint32_t bits_ = 0;
};

/// Where rules want to look, at one call.
struct Wanted {
  /// Some lines of one operand, in this order.
  struct Ask {
    ValueRule rule;
    int32_t operand;      // an input, or -1 - k for output k
    uint32_t first, end;  // of `lines`
    uint32_t place = 0;   // where a board keeps the values: bytes before its first slot; 0: not asked of a device yet
    /// Whether it is about what an input holds before the op runs.
    bool before() const { return operand >= 0 && looks_before(rule); }
  };
  std::vector<Ask> asks;
  std::vector<Lines> lines;

  void clear() { asks.clear(), lines.clear(); }
  void ask(ValueRule rule, int operand, std::initializer_list<Lines> of = {}) {
    asks.push_back({rule, operand, uint32_t(lines.size()), uint32_t(lines.size())});
    for (const Lines& l : of) line(l);
  }
  /// More of what was asked for last.
  void line(const Lines& l) { lines.push_back(l), asks.back().end = uint32_t(lines.size()); }
  int64_t elements(const Ask& a) const {
    int64_t n = 0;
    for (uint32_t k = a.first; k < a.end; ++k) n += lines[k].size();
    return n;
  }
};

/// Whose values can be looked at: tensors on `device`; there, those that rules may ask for `room` bytes of.
struct Sight {
  Device device = cpu_device;
  int64_t room = INT64_MAX;
  bool takes(const Tensor& t) const {
    if (!t.defined()) return false;
    const TensorImpl& x = impl(t);
    return !x.weak && x.device == device && x.storage && is_inexact(x.spec.dtype) && !is_complex(x.spec.dtype) &&
           x.spec.shape.numel() > 0 && (device == cpu_device || on_boards(x.spec.dtype));
  }
  bool takes_rows(const Tensor& t) const { return takes(t) && is_contiguous(impl(t).spec.shape, impl(t).strides); }
};

/// What was found where a rule wanted to look at one operand.
struct Sample {
  int32_t operand;
  DType dtype;
  std::span<const Lines> lines;
  const std::byte* data;  // of the tensor's first element; packed: of the values themselves
  bool packed;
  int64_t size() const {
    int64_t n = 0;
    for (const Lines& l : lines) n += l.size();
    return n;
  }
  /// All of them, in order; T is float or double, or uint64_t for their bits.
  template <class T>
  void read(T* to) const;
  template <class T>
  std::vector<T> all() const {
    std::vector<T> v(static_cast<size_t>(size()));
    read(v.data());
    return v;
  }
};
/// What `ask` asked for, of a tensor of the CPU.
inline Sample sample_of(const Tensor& t, const Wanted& w, size_t ask) {
  const Wanted::Ask& a = w.asks[ask];
  return {a.operand, impl(t).spec.dtype, {w.lines.data() + a.first, w.lines.data() + a.end}, impl(t).data, false};
}
using Samples = std::span<const Sample>;

/// `most` or a few more elements of `n` that lie evenly apart.
constexpr Lines evenly(int64_t n, int64_t most) {
  const int64_t stride = n > most ? n / most : 1;
  return {.count = (n + stride - 1) / stride, .stride = stride};
}
/// Elements of a parameter that rules about optimisers look at, always the same: four lines of 16.
constexpr int64_t kSampledWeights = 64;
constexpr Lines of_weights(int64_t n) {
  if (n <= kSampledWeights) return {.count = n};
  return {.count = kSampledWeights / 4, .lines = 4, .pitch = n / 4};
}

}  // namespace keel
