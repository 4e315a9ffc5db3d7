#pragma once
#include <cstdint>

#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel {

/// A stream of random numbers: Philox4x32-10 by counter, the same on every device. The `key` tensor u64[2] = {seed, base} is an input of every random op; `offset` is the op's static param, so that a recompute
/// repeats and a replayed trace, which advances `base`, goes on.
class Generator {
 public:
  explicit Generator(uint64_t seed = 0);
  void seed(uint64_t s);
  const Tensor& key() const { return key_; }
  /// Reserves numbers for `elements` results and returns the offset at which they begin, in blocks of four 32-bit words.
  int64_t reserve(int64_t elements, int64_t words_each = 1);

  struct State {
    uint64_t seed = 0, base = 0;
    int64_t offset = 0;
    bool operator==(const State&) const = default;
  };
  State state() const;
  void set_state(const State& s);
  /// Moves everything reserved so far into `base` and starts offsets at 0; a trace does so before its first op and after each replay.
  void fold(int64_t blocks);

 private:
  Tensor key_;
  uint64_t seed_ = 0, base_ = 0;
  int64_t offset_ = 0;
  void make_key();
};

/// The generator of this thread, which random ops use; every thread starts at seed 0.
Generator& default_generator();
/// Seeds the default generator.
void manual_seed(uint64_t seed);

}  // namespace keel
#pragma GCC visibility pop
