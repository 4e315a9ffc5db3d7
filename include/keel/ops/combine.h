#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct ConcatParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = 0;
  static constexpr void fields(auto& p, auto&& f) { f("axis", p.axis, "axis along which to join"); }
};
struct SplitParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = 0;
  static constexpr void fields(auto& p, auto&& f) { f("axis", p.axis, "axis along which to split"); }
};
struct SplitSizeParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t size = 1;
  int64_t axis = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("size", p.size, "extent of a piece; the last one may be shorter");
    f("axis", p.axis, "axis along which to split");
  }
};
struct ChunkParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t count = 1;
  int64_t axis = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("count", p.count, "how many pieces at most");
    f("axis", p.axis, "axis along which to split");
  }
};
enum class PadMode : int32_t { constant, reflect, replicate };
inline const char* const* enum_names(PadMode) {
  static const char* const names[] = {"constant", "reflect", "replicate", nullptr};
  return names;
}
struct PadParams {
  [[no_unique_address]] ByName by_name = ByName();
  Dims before = {};
  Dims after = {};
  PadMode mode = PadMode::constant;
  double value = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("before", p.before, "elements added in front, one entry an axis");
    f("after", p.after, "elements added behind, one entry an axis");
    f("mode", p.mode, "constant, reflect (without the edge) or replicate (the edge)");
    f("value", p.value, "the constant");
  }
};
struct RepeatParams {
  [[no_unique_address]] ByName by_name = ByName();
  Dims repeats = {};
  static constexpr void fields(auto& p, auto&& f) {
    f("repeats", p.repeats, "copies along each axis; may name more axes than there are, in front");
  }
};

/// Joins along an existing axis; other extents must agree. dtypes promote.
Tensor concat(const Tensors& xs, const ConcatParams& p = {});
/// Joins along a new axis.
Tensor stack(const Tensors& xs, const ConcatParams& p = {});
/// Pieces of `size` along an axis, the last one shorter where it does not divide; views.
Tensors split(const Tensor& x, int64_t size, const SplitParams& p = {});
/// Pieces of the given sizes, which add up to the extent; views.
Tensors split(const Tensor& x, std::initializer_list<int64_t> sizes, const SplitParams& p = {});
/// At most `count` pieces of equal size, but for the last; views.
Tensors chunk(const Tensor& x, int64_t count, const SplitParams& p = {});
Tensor pad(const Tensor& x, const PadParams& p);
/// The whole tensor repeated along each axis.
Tensor repeat(const Tensor& x, const Dims& repeats);

}  // namespace keel
#pragma GCC visibility pop
