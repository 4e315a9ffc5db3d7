// The 16- and 8-bit floats against ml_dtypes: every code decoded, and some five million floats and doubles encoded.
#include <keel/numerics/types.h>

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <sys/wait.h>

#include "base/philox.h"

namespace keel {
namespace {

// Files in argv[1]: floats.bin, and for each type NAME.decode (float of each code) and NAME.encode (code of each of floats.bin).
constexpr const char* kScript = R"PY(
import sys
try:
    import numpy as np, ml_dtypes
except ImportError:
    sys.exit(77)
np.seterr(all="ignore")
d = sys.argv[1] + "/"
x = np.fromfile(d + "floats.bin", np.float32)
bad = 0
for name, t in (("f16", np.float16), ("bf16", ml_dtypes.bfloat16), ("e4m3fn", ml_dtypes.float8_e4m3fn), ("e5m2", ml_dtypes.float8_e5m2)):
    code = np.uint16 if np.dtype(t).itemsize == 2 else np.uint8
    every = np.arange(1 << (8 * np.dtype(code).itemsize), dtype=np.uint32).astype(code).view(t)
    want, got = every.astype(np.float32), np.fromfile(d + name + ".decode", np.float32)
    same = (want.view(np.uint32) == got.view(np.uint32)) | (np.isnan(want) & np.isnan(got) & (np.signbit(want) == np.signbit(got)))
    want, got = x.astype(t), np.fromfile(d + name + ".encode", code)
    nan = np.isnan(want.astype(np.float32))
    back = got.view(t).astype(np.float32)
    same2 = np.where(nan, np.isnan(back), want.view(code) == got)
    print(f"{name}: {len(same)} codes, {np.sum(~same)} differ; {len(same2)} floats, {np.sum(~same2)} differ")
    for i in np.flatnonzero(~same2)[:5]:
        print("   ", x[i].hex() if hasattr(x[i], "hex") else x[i], hex(want.view(code)[i]), hex(got[i]))
    bad += int(np.sum(~same) + np.sum(~same2))
sys.exit(1 if bad else 0)
)PY";

template <class T>
void dump(const std::string& path, const T* data, size_t n) {
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(n * sizeof(T)));
}

template <class T>
void tables(const std::string& stem, const std::vector<float>& x) {
  using Bits = decltype(T::bits);
  std::vector<float> decoded(size_t(1) << (8 * sizeof(T)));
  for (size_t i = 0; i < decoded.size(); ++i) decoded[i] = T::from_bits(static_cast<Bits>(i));
  std::vector<Bits> encoded(x.size());
  for (size_t i = 0; i < x.size(); ++i) encoded[i] = T(x[i], Overflow::nan_or_inf).bits;
  dump(stem + ".decode", decoded.data(), decoded.size());
  dump(stem + ".encode", encoded.data(), encoded.size());
}

TEST(FloatTypesPeer, MlDtypes) {
  std::string dir = ::testing::TempDir() + "keel_float_XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  std::vector<float> x;
  for (uint32_t high = 0; high < 0x10000; ++high)  // around every upper half, and around every tie of each format
    for (uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu, 0x0fffu, 0x1000u, 0x1001u, 0x3000u, 0x5000u, 0x7000u, 0xf000u})
      x.push_back(std::bit_cast<float>(high << 16 | low));
  for (uint64_t i = 0; i < (1u << 20); ++i)
    for (uint32_t w : base::philox(i, 0, 1)) x.push_back(std::bit_cast<float>(w));
  dump(dir + "/floats.bin", x.data(), x.size());
  tables<float16>(dir + "/f16", x);
  tables<bfloat16>(dir + "/bf16", x);
  tables<float8_e4m3fn>(dir + "/e4m3fn", x);
  tables<float8_e5m2>(dir + "/e5m2", x);
  dump(dir + "/check.py", kScript, std::char_traits<char>::length(kScript));
  const int status = std::system(("python3 '" + dir + "/check.py' '" + dir + "'").c_str());
  std::filesystem::remove_all(dir);
  const int rc = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (rc == 77 || rc == 127) GTEST_SKIP() << "needs python3 with numpy and ml_dtypes";
  EXPECT_EQ(rc, 0);
}

}  // namespace
}  // namespace keel
