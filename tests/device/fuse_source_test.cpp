// Sources of chains for CUDA: the run-time compiler takes every one of them. No device is needed. And the cache of what it makes.
#include "backend/cuda/fuse_source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "backend/cuda/fuse_cache.h"
#include "backend/cuda/nvrtc_library.h"
#include "keel/keel.h"
#include "keel/ops/cast.h"

namespace keel::cuda {
namespace {

const NvrtcLibrary& compiler() {
  static const NvrtcLibrary* const l = new NvrtcLibrary(13000);
  return *l;
}

/// A program that is put together by hand.
struct Hand {
  std::vector<FusedSource> sources;
  std::vector<FusedOp> ops;
  std::vector<FusedResult> results;
  std::vector<std::vector<std::byte>> params;
  std::vector<uint64_t> numbers;
  Shape shape;
  explicit Hand(const Shape& s) : shape(s) { params.reserve(512), numbers.reserve(512); }
  int tensor(DType t, const Strides& st) { return sources.push_back({t, nullptr, st}), int(sources.size()) - 1; }
  int tensor(DType t) { return tensor(t, contiguous_strides(shape)); }
  int number(DType t) {
    return numbers.push_back(0x3f803f803f803f80), sources.push_back({t, &numbers.back(), {}}), int(sources.size()) - 1;
  }
  /// Sources before ops. False: it takes no such operands.
  bool op(const char* name, std::initializer_list<int> in, DType to) {
    const OpDef* def = registry().find(name);
    params.emplace_back(def->params.size + 1);
    def->params.construct(params.back().data());
    if (!std::strcmp(name, "cast")) reinterpret_cast<CastParams*>(params.back().data())->to = to;
    FusedOp o{name, params.back().data(), to, 0, {}};
    DType types[FusedOp::kMostInputs] = {};
    for (const int i : in) types[o.n_in] = program().dtype_of(FusedSlot(i)), o.in[o.n_in++] = FusedSlot(i);
    if (fuses(o, types, shape, true)) return false;
    return ops.push_back(o), true;
  }
  int last() const { return int(sources.size() + ops.size()) - 1; }
  void result(int slot, const Strides& st) { results.push_back({FusedSlot(slot), st}); }
  void result(int slot) { result(slot, contiguous_strides(shape)); }
  FusedProgram program() const {
    bool rows = false;
    for (const FusedOp& o : ops) rows |= !registry().find(o.op)->elementwise;
    return {shape, sources.data(), ops.data(), results.data(), int32_t(sources.size()), int32_t(ops.size()), int32_t(results.size()), rows};
  }
};

void compiles(const Hand& h, const std::string& what) {
  const FuseSource s = fuse_source(h.program());
  for (const int arch : {90}) {
    std::string log;
    const std::vector<char> code = compiler().compile(s.text, arch, log);
    ASSERT_FALSE(code.empty()) << what << "\n" << log << "\n" << s.text;
    EXPECT_EQ(log, "") << what << "\n" << s.text;
    EXPECT_EQ(std::string(code.begin() + 1, code.begin() + 4), "ELF");
  }
}

constexpr DType kAll[] = {boolean, u8, u16, u32, u64, i8, i16, i32, i64, f16, bf16, f32, f64};

class FuseSources : public ::testing::Test {
 protected:
  void SetUp() override {
    if (compiler().refusal) GTEST_SKIP() << compiler().refusal;
  }
};

/// Where the compiler is not there, or is no compiler, that is said in a line, and nothing else fails.
TEST(RunTimeCompiler, SaysThatItIsNotThere) {
  const char* const before = std::getenv("KEEL_NVRTC");
  const std::string was = before ? before : "";
  for (const char* file : {"/nowhere/libnvrtc.so.13", "/proc/self/exe", "libc.so.6"}) {
    setenv("KEEL_NVRTC", file, 1);
    const NvrtcLibrary none(13000);
    ASSERT_NE(none.refusal, nullptr) << file;
    EXPECT_STREQ(none.refusal, "libnvrtc.so.13 was not found (package nvidia-cuda-nvrtc, or CUDA's own; KEEL_NVRTC names a file)");
  }
  was.empty() ? unsetenv("KEEL_NVRTC") : setenv("KEEL_NVRTC", was.c_str(), 1);
}
TEST_F(FuseSources, SaysWhatTheCompilerSays) {
  std::string log;
  EXPECT_TRUE(compiler().compile("extern \"C\" __global__ void single(Unknown u) {}", 90, log).empty());
  EXPECT_NE(log.find("error: identifier \"Unknown\" is undefined"), std::string::npos) << log;
  EXPECT_TRUE(compiler().compile("extern \"C\" __global__ void single() {}", 1, log).empty());  // no such architecture
  EXPECT_NE(log, "");
}

/// Every op that chains take, on every dtype that it takes: a program a dtype.
TEST_F(FuseSources, EveryOpCompiles) {
  const char* const names[] = {"abs",
                               "sign",
                               "neg",
                               "square",
                               "floor",
                               "ceil",
                               "round",
                               "trunc",
                               "sqrt",
                               "rsqrt",
                               "reciprocal",
                               "exp",
                               "expm1",
                               "log",
                               "log1p",
                               "log2",
                               "sin",
                               "cos",
                               "tan",
                               "sinh",
                               "cosh",
                               "tanh",
                               "erf",
                               "isnan",
                               "isinf",
                               "isfinite",
                               "logical_not",
                               "bitwise_not",
                               "add",
                               "sub",
                               "mul",
                               "maximum",
                               "minimum",
                               "div",
                               "pow",
                               "floor_divide",
                               "remainder",
                               "equal",
                               "not_equal",
                               "less",
                               "less_equal",
                               "greater",
                               "greater_equal",
                               "logical_and",
                               "logical_or",
                               "logical_xor",
                               "bitwise_and",
                               "bitwise_or",
                               "bitwise_xor",
                               "where",
                               "masked_fill",
                               "clamp",
                               "lerp",
                               "cast",
                               "relu",
                               "relu_backward",
                               "tanh_backward",
                               "sigmoid",
                               "sigmoid_backward",
                               "silu",
                               "silu_backward",
                               "gelu",
                               "gelu_backward",
                               "leaky_relu",
                               "leaky_relu_backward",
                               "elu",
                               "elu_backward",
                               "selu",
                               "selu_backward",
                               "softplus",
                               "softplus_backward",
                               "hardswish",
                               "hardswish_backward",
                               "mish",
                               "mish_backward"};
  std::vector<std::string> left;
  for (const char* name : names) left.push_back(name);
  for (const DType t : kAll) {
    Hand h({5, 64});
    const int x = h.tensor(t), mask = h.tensor(boolean), k = h.number(t);
    for (const char* name : names) {
      const auto arity = registry().find(name)->in.size();
      bool taken = false;
      for (const DType to : kAll)
        taken |= arity == 1   ? h.op(name, {x}, to)
                 : arity == 2 ? h.op(name, {x, k}, to)
                              : h.op(name, {x, mask, k}, to) || (t != boolean && h.op(name, {mask, x, k}, to)) || h.op(name, {x, k, x}, to);
      if (taken) std::erase(left, name);
    }
    for (int i = 0; i < int(h.ops.size()); ++i) h.result(int(h.sources.size()) + i);
    ASSERT_FALSE(h.ops.empty()) << name_of(t);
    h.results.resize(std::min(h.results.size(), size_t(60)));
    compiles(h, name_of(t));
  }
  EXPECT_EQ(left, std::vector<std::string>()) << "no dtype is taken";
}

TEST_F(FuseSources, EveryLayoutCompiles) {
  const auto program = [](const Shape& s, const Strides& x, const Strides& y, const Strides& r, DType t) {
    Hand h(s);
    h.tensor(t, x), h.tensor(t, y), h.number(t);
    EXPECT_TRUE(h.op("mul", {0, 1}, t) && h.op("gelu", {3}, t) && h.op("add", {4, 2}, t) && h.op("cast", {5}, f16));
    h.result(5, r), h.result(6, contiguous_strides(s));
    return h;
  };
  const auto packs = [](const Hand& h) { return fuse_source(h.program()).has_packs; };
  for (const DType t : {f32, bf16}) {
    const Hand dense = program({6, 40}, {40, 1}, {40, 1}, {40, 1}, t), row = program({6, 40}, {40, 1}, {0, 1}, {40, 1}, t),
               column = program({6, 40}, {40, 1}, {1, 0}, {40, 1}, t), turned = program({6, 40}, {40, 1}, {1, 6}, {40, 1}, t),
               odd = program({6, 41}, {41, 1}, {0, 1}, {41, 1}, t), one = program({6, 40}, {40, 1}, {0, 0}, {40, 1}, t),
               none = program({}, {}, {}, {}, t),
               high = program({2, 3, 4, 5, 6, 7, 8}, {1, 2, 6, 24, 120, 720, 5040}, {0, 0, 0, 1, 0, 0, 0},
                              {20160, 6720, 1680, 336, 56, 8, 1}, t),
               vast = program({1 << 16, 1 << 17}, {1 << 17, 1}, {1, 0}, {1 << 17, 1}, t);
    EXPECT_TRUE(packs(dense) && packs(row) && packs(column) && packs(one) && packs(vast));
    EXPECT_FALSE(packs(turned) || packs(odd) || packs(none) || packs(high));
    for (const Hand* h : {&dense, &row, &column, &turned, &odd, &one, &none, &high, &vast}) compiles(*h, to_string(h->shape) + name_of(t));
  }
}

TEST_F(FuseSources, RowsCompile) {
  for (const DType t : {f32, bf16, f16, f64})
    for (const int64_t n : {768, 8192}) {
      if (n > 768 && t != bf16) continue;
      const std::string what = name_of(t) + std::string(" ") + std::to_string(n);
      Hand h({6, 5, n});
      const Strides line{0, 0, 1}, one{5, 1, 0}, turned{n, 6 * n, 1};
      const int x = h.tensor(t), y = h.tensor(t, turned), mask = h.tensor(boolean, line), weight = h.tensor(t, line), k = h.number(t);
      EXPECT_TRUE(h.op("mul", {x, k}, t));
      EXPECT_TRUE(h.op("where", {mask, h.last(), y}, t));
      const int z = h.last();
      EXPECT_TRUE(h.op("layer_norm", {z, weight, weight}, t)) << what;
      const int norm = h.last();
      EXPECT_TRUE(h.op("gelu", {norm}, t) && h.op("add", {h.last(), z}, t) && h.op("softmax", {h.last()}, t) &&
                  h.op("rms_norm", {y, weight}, t));
      EXPECT_TRUE(h.op("softmax_backward", {norm, h.last()}, t) && h.op("cast", {h.last()}, f16));
      h.result(z), h.result(h.last()), h.result(norm, one), h.result(norm, one);
      h.results[2].part = 1, h.results[3].part = 2;
      EXPECT_TRUE(fuse_source(h.program()).has_packs);
      compiles(h, what);
    }
  Hand even({4, 30}), vast({2, 1 << 16}), columns({4, 64});
  EXPECT_FALSE(even.op("softmax", {even.tensor(f32)}, f32));
  EXPECT_FALSE(vast.op("softmax", {vast.tensor(f32)}, f32));
  EXPECT_TRUE(columns.op("log_softmax", {columns.tensor(f32, {1, 4})}, f32));
  columns.result(1);
  EXPECT_FALSE(fuse_source(columns.program()).has_packs);
  compiles(columns, "columns");
}

TEST(FuseSource, RefusesWhatItCannotDo) {
  Hand h({4});
  const int x = h.tensor(f32), i = h.tensor(i32), z = h.tensor(complex64);
  EXPECT_FALSE(h.op("cumsum", {x}, f32));
  EXPECT_FALSE(h.op("add", {x, i}, f32));
  EXPECT_FALSE(h.op("add", {z, z}, complex64));
  EXPECT_FALSE(h.op("exp", {i}, i32));
  EXPECT_FALSE(h.op("exp", {x}, f64));
  EXPECT_TRUE(h.op("cast", {i}, f64));
  const DType in[] = {f32};
  EXPECT_EQ(fuses({"exp", nullptr, f32, 1, {0}}, in, {4}, true), nullptr);
  EXPECT_NE(fuses({"exp", nullptr, f32, 1, {0}}, in, {4}, false), nullptr);
  EXPECT_EQ(fuses({"sqrt", nullptr, f32, 1, {0}}, in, {4}, false), nullptr);
}

TEST(FuseCache, GivesBackWhatIsWholeAndOurs) {
  namespace fs = std::filesystem;
  const std::string folder = (fs::temp_directory_path() / ("keel_fuse_cache." + std::to_string(getpid()))).string() + "/a/b";
  const std::string key = "some source";
  const std::vector<char> code(5000, 'x');
  EXPECT_TRUE(cached_code(folder, key).empty());
  keep_code(folder, key, code);
  EXPECT_EQ(cached_code(folder, key), code);
  EXPECT_TRUE(cached_code(folder, "another").empty());
  const std::string file = cache_file(folder, key);
  const auto bytes = [&] {
    std::ifstream in(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const auto put = [&](const std::string& text) { std::ofstream(file, std::ios::binary | std::ios::trunc) << text; };
  const std::string whole = bytes();
  for (size_t n : {size_t(0), size_t(7), size_t(31), size_t(40), whole.size() - 1}) {
    put(whole.substr(0, n));
    EXPECT_TRUE(cached_code(folder, key).empty()) << n;
  }
  for (size_t at : {size_t(0), size_t(9), size_t(17), size_t(25), size_t(33), whole.size() - 5}) {
    std::string changed = whole;
    changed[at] = char(changed[at] ^ 0x10);
    put(changed);
    EXPECT_TRUE(cached_code(folder, key).empty()) << at;
  }
  std::string vast = whole;
  std::memset(vast.data() + 8, 0xff, 16);
  put(vast);
  EXPECT_TRUE(cached_code(folder, key).empty());
  put(whole);
  EXPECT_EQ(cached_code(folder, key), code);
  chmod(file.c_str(), 0666);  // anybody may write into it
  EXPECT_TRUE(cached_code(folder, key).empty());
  keep_code(folder, key, code);  // is replaced
  EXPECT_EQ(cached_code(folder, key), code);
  size_t files = 0;
  for (const auto& e : fs::directory_iterator(folder)) files += e.is_regular_file();
  EXPECT_EQ(files, 1u);
  fs::remove_all(fs::path(folder).parent_path().parent_path());
  keep_code("/proc/nowhere", key, code);  // cannot be written: nothing happens
  EXPECT_TRUE(cached_code("/proc/nowhere", key).empty());
}

}  // namespace
}  // namespace keel::cuda
