#include "keel/random.h"

#include "core/impl.h"

namespace keel {

Generator::Generator(uint64_t seed) { this->seed(seed); }
void Generator::make_key() {
  key_ = make_tensor(u64, Shape({2}));
  uint64_t* k = key_.data<uint64_t>();
  k[0] = seed_, k[1] = base_;
}
void Generator::seed(uint64_t s) { seed_ = s, base_ = 0, offset_ = 0, make_key(); }
int64_t Generator::reserve(int64_t elements, int64_t words_each) {
  const int64_t at = offset_;
  offset_ += (elements * words_each + 3) / 4;
  return at;
}
Generator::State Generator::state() const { return {seed_, key_.data<uint64_t>()[1], offset_}; }
void Generator::set_state(const State& s) {
  const bool same = s.seed == seed_ && s.base == key_.data<uint64_t>()[1];
  seed_ = s.seed, base_ = s.base, offset_ = s.offset;
  if (!same) make_key();  // a new tensor: graphs that hold the old key keep their numbers
}
void Generator::fold(int64_t blocks) { key_.data<uint64_t>()[1] += uint64_t(blocks), base_ = key_.data<uint64_t>()[1], offset_ = 0; }

Generator& default_generator() {
  thread_local Generator g;
  return g;
}
void manual_seed(uint64_t s) { default_generator().seed(s); }

}  // namespace keel
