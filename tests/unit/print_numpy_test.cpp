// Printing, judged by NumPy itself: the same values, the same text. One difference is meant: an empty matrix says its shape.
#include <gtest/gtest.h>

#include <cmath>

#include "keel/keel.h"
#include "temp_dir.h"

namespace keel {
namespace {

constexpr const char* kScript = R"py(
import sys
try:
    import numpy as np
except ImportError:
    sys.exit(77)
bad = 0
folder = sys.argv[1]
for line in open(folder + "/cases.txt"):
    i, name = line.rstrip("\n").split(" ", 1)
    want, got = str(np.load(f"{folder}/{i}.npy")), open(f"{folder}/{i}.txt").read()
    if want != got:
        bad += 1
        print(f"--- {name}\nNumPy:\n{want}\nKeel:\n{got}")
sys.exit(1 if bad else 0)
)py";

TEST(Print, AsNumPyDoes) {
  const TempDir dir;
  std::string cases;
  int count = 0;
  auto add = [&](const std::string& name, const Tensor& x) {
    const std::string at = dir.file(std::to_string(count));
    ASSERT_TRUE(bool(io::write_npy(at + ".npy", x)));
    dir.put(std::to_string(count) + ".txt", to_string(x));
    cases += std::to_string(count++) + " " + name + "\n";
  };
  manual_seed(3);
  add("integers", arange(24).reshape({2, 3, 4}));
  add("negative integers", arange(-5, 100, 7));
  add("bools", tensor({true, false, true}));
  add("bools that are all true", ones({2, 2}).astype(DType::boolean));
  add("small bytes", arange(0, 250, 10).astype(u8));
  add("empty", zeros({0}));
  add("one", ones({1, 1, 1}));
  add("halves", arange(0, 6).astype(f32) / 2);
  add("thirds", arange(1, 7).astype(f32) / 3);
  add("doubles", arange(1, 7).astype(f64) / 7);
  add("f16", arange(1, 7).astype(f16) / 3);
  add("mixed signs", tensor({-1.5, 0.25, 3.0, -100.125}));
  add("large and small", tensor({1e-5, 1.0, 12345.678}).astype(f32));
  add("needs exponents", tensor({1e-10, 1.0, 1e10}).astype(f32));
  add("very large", tensor({1e20, 2e20, -3e22}).astype(f32));
  add("very small", tensor({1e-20, 2e-30}).astype(f64));
  add("not finite", tensor({NAN, 1.5, -INFINITY, INFINITY}).astype(f32));
  add("only not finite", tensor({NAN, INFINITY}).astype(f32));
  add("negative zero", tensor({-0.0, 0.0}).astype(f32));
  add("long row", arange(200).astype(f32));
  add("long row that wraps", arange(0, 60).astype(f32) / 7);
  add("long integers", arange(0, 100) * 123457);
  add("summary of a vector", arange(5000));
  add("summary of a matrix", arange(10000).astype(f32).reshape({100, 100}) / 9);
  add("summary of a tall matrix", arange(4000).reshape({2000, 2}));
  add("summary of three axes", arange(30000).reshape({30, 50, 20}));
  add("random normal", randn({4, 5}));
  add("random uniform doubles", rand({3, 3}, {.dtype = f64}));
  add("strided", arange(24).reshape({4, 6}).transpose());
  add("numbers", tensor(1.5));
  add("integer", tensor(7));
  add("float with few digits", full({}, 0.1));
  add("tiny", full({}, 1e-7, {.dtype = f64}));
  add("f32 below its shortest form", tensor({1e-5, 1e5, 3e-7, 9.99e-8}).astype(f32));
  for (int i = 0; i < 40; ++i) {  // magnitudes of all kinds
    const DType t = i % 3 == 0 ? f64 : i % 3 == 1 ? f32 : f16;
    const double reach = 1 + i % 7;
    add("random " + std::to_string(i), exp(randn({7}, {.dtype = f64}) * reach).astype(t) * where(randn({7}) > 0, 1, -1).astype(t));
  }
  add("complex", (arange(3).astype(f32) + 0.5).astype(complex64));
  add("one complex number", full({}, 1.5).astype(complex64));
  add("complex doubles", (arange(4).astype(f64) / 3).astype(complex128));
  add("six axes", arange(64).reshape({2, 2, 2, 2, 2, 2}));
  dir.put("cases.txt", cases);
  const int rc = run_python(dir, kScript, dir.path());
  if (rc == 77) GTEST_SKIP() << "no NumPy";
  EXPECT_EQ(rc, 0);
}

}  // namespace
}  // namespace keel
