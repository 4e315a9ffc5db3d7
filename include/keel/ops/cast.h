#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct CastParams {
  [[no_unique_address]] ByName by_name = ByName();
  DType to = DType::none;
  bool saturate = true;
  static constexpr void fields(auto& p, auto&& f) {
    f("to", p.to, "dtype of the result");
    f("saturate", p.saturate, "into fp8, finite values beyond the largest become the largest; else NaN in f8e4m3fn, which has no infinity, and infinity in f8e5m2");
  }
};
/// `x` in another dtype; itself where it has it already. Floats round to nearest even; a float goes to an integer by truncation (out of range: the lowest value of i64, wrapped to the type); to bool: whether it is
/// not zero. Into fp8 finite values saturate;
/// NaN and infinities become NaN in f8e4m3fn and stay in f8e5m2.
Tensor cast(const Tensor& x, DType to);
/// The same with both rules of overflow into fp8: `cast(x, {.to = f8e4m3fn, .saturate = false})`. f16 overflows to infinity, as IEEE 754 has it.
Tensor cast(const Tensor& x, const CastParams& p);
/// A dense copy, in the order of axes that `x` has where it is dense, else row-major.
Tensor copy(const Tensor& x);

struct TransferParams {
  [[no_unique_address]] ByName by_name = ByName();
  Device to = cpu_device;
  Device origin = cpu_device;
  static constexpr void fields(auto& p, auto&& f) { f("to", p.to, "device of the result"), f("origin", p.origin, "device of x, where the gradient goes"); }
};
/// The values of `x` on device `to`; `x` itself where it is there already. To a device the copy is queued; to the CPU it waits for all work of
/// the device, and errors of that work show here as DeviceError. Gradients travel back.
Tensor transfer(const Tensor& x, Device to);

enum class MemoryOrder : int32_t { row_major, channels_last };
inline const char* const* enum_names(MemoryOrder) {
  static const char* const names[] = {"row_major", "channels_last", nullptr};
  return names;
}
struct RelayoutParams {
  [[no_unique_address]] ByName by_name = ByName();
  MemoryOrder order = MemoryOrder::row_major;
  static constexpr void fields(auto& p, auto&& f) { f("order", p.order, "how elements lie in memory"); }
};
/// The same tensor laid out row-major, or with channels innermost (rank 4); itself where it lies so already.
Tensor contiguous(const Tensor& x);
Tensor channels_last(const Tensor& x);

}  // namespace keel
#pragma GCC visibility pop
