// The outer driver of elementwise kernels against plain indexing: every mix of layout, broadcast, dtype, size and thread count gives the
// same bits as the contiguous loop.
#include <gtest/gtest.h>
#include <keel/keel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/elementwise.h"

namespace keel::cpu {
namespace {

struct Array {
  std::vector<float> data;
  Shape shape;
  Strides strides;
  int64_t offset = 0;
  TensorView view() { return {data.data() + offset, f32, &shape, &strides}; }
};
float at(const Array& x, const std::vector<int64_t>& index) {
  int64_t o = x.offset;
  const int extra = int(index.size()) - x.shape.rank();
  for (int i = 0; i < x.shape.rank(); ++i) o += x.shape[i] == 1 ? 0 : index[size_t(i + extra)] * x.strides[i];
  return x.data[size_t(o)];
}

/// An operand that broadcasts to `s`: some axes shrunk or dropped, memory in a random order of axes, with gaps or reversed.
Array operand(const Shape& s, std::mt19937& r) {
  Array x;
  const int drop = int(r() % 4) == 0 ? int(r() % uint32_t(s.rank() + 1)) : 0;
  for (int i = drop; i < s.rank(); ++i) x.shape.push_back(r() % 4 == 0 ? 1 : s[i]);
  x.strides.resize(x.shape.rank());
  std::vector<int> order;
  for (int i = 0; i < x.shape.rank(); ++i) order.push_back(i);
  if (r() % 2) std::shuffle(order.begin(), order.end(), r);
  int64_t step = r() % 3 == 0 ? 2 : 1;
  for (int k = x.shape.rank() - 1; k >= 0; --k) {
    const int i = order[size_t(k)];
    x.strides[i] = step;
    step *= x.shape[i];
    if (r() % 5 == 0) {
      x.offset += (x.shape[i] - 1) * x.strides[i];
      x.strides[i] = -x.strides[i];
    }
    if (r() % 6 == 0) ++step;
  }
  x.data.resize(size_t(step) + 4);
  for (float& v : x.data) v = float(int(r() % 2001) - 1000) / 128;
  return x;
}

TEST(ElementwiseDriver, AnyLayoutGivesTheSameBits) {
  std::mt19937 r(3);
  const int64_t before = num_threads();
  for (int round = 0; round < 400; ++round) {
    Shape s;
    const int rank = int(r() % 5);
    for (int i = 0; i < rank; ++i) s.push_back(int64_t(round % 40 == 0 ? 1 + r() % 60 : r() % 3 == 0 ? 1 + r() % 200 : 1 + r() % 7));
    if (s.numel() > 400000) continue;
    Array a = operand(s, r), b = operand(s, r), c = operand(s, r);
    Array y;
    y.shape = s, y.strides = contiguous_strides(s);
    if (rank >= 2 && r() % 3 == 0) {  // dense in another order
      y.strides[rank - 1] = 1 * s[rank - 2], y.strides[rank - 2] = 1;
    }
    y.data.assign(size_t(s.numel()), NAN);
    const TensorView in[] = {a.view(), b.view(), c.view()}, out[] = {y.view()};
    for (int64_t threads : {1, 2}) {
      set_num_threads(threads);
      StatSlot slot;
      KernelArgs args;
      args.in = in, args.out = out, args.n_in = 3, args.n_out = 1;
      if (round % 2) args.stats[0] = &slot;
      const auto judge = [&](auto f) {
        std::vector<int64_t> index(size_t(rank), 0);
        uint64_t most = 0;
        for (int64_t k = 0; k < s.numel(); ++k) {
          const float want = f(index), got = at(y, index);
          ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want)) << "round " << round;
          most = std::max<uint64_t>(most, std::bit_cast<uint32_t>(want) & 0x7fffffff);
          for (int i = rank - 1; i >= 0; --i) {
            if (++index[size_t(i)] < s[i]) break;
            index[size_t(i)] = 0;
          }
        }
        if (round % 2) {
          ASSERT_EQ(slot.max_bits.load(), most);
          ASSERT_EQ(slot.count.load(), uint64_t(s.numel()));
        }
      };
      run_binary(args, BinaryOp::sub, nullptr, 500);
      judge([&](const auto& i) { return at(a, i) - at(b, i); });
    }
    set_num_threads(before);
    KernelArgs args;
    args.in = in, args.out = out, args.n_in = 3, args.n_out = 1;
    run_ternary(args, TernaryOp::clamp, nullptr, 500);
    std::vector<int64_t> index(size_t(rank), 0);
    for (int64_t k = 0; k < s.numel(); ++k) {
      ASSERT_EQ(at(y, index), std::min(std::max(at(a, index), at(b, index)), at(c, index)));
      for (int i = rank - 1; i >= 0; --i) {
        if (++index[size_t(i)] < s[i]) break;
        index[size_t(i)] = 0;
      }
    }
  }
}

/// Outputs larger than the caches leave by streaming stores; 16-bit ones through conversion too.
TEST(ElementwiseDriver, LargeOutputsAndSmallFloats) {
  const int64_t n = 9'000'001;
  Tensor x = empty({n});
  for (int64_t i = 0; i < n; ++i) x.data<float>()[i] = float(int(uint32_t(i) * 2654435761u >> 8) - (1 << 23)) / float(1 << 21);
  const Tensor h = cast(x, f16);
  const Tensor y = relu(x), z = relu(h), half = cast(cast(h, f32), bf16);
  for (int64_t i = 0; i < n; i += 37) {
    ASSERT_EQ(y.data<float>()[i], std::max(x.data<float>()[i], 0.f));
    ASSERT_EQ(float(z.data<float16>()[i]), std::max(float(float16(x.data<float>()[i])), 0.f));
    ASSERT_EQ(half.data<bfloat16>()[i].bits, bfloat16(float(float16(x.data<float>()[i]))).bits);
  }
}

}  // namespace
}  // namespace keel::cpu
