// Debug mode: loud where values break, the same bits where none does, and nothing in the way while it is off.
#include "keel/debug.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <thread>

#include "core/scope.h"
#include "keel/keel.h"

namespace keel {
namespace {

std::string raised_by(auto&& f) {
  try {
    f();
  } catch (const Error& e) { return e.code() == ErrorCode::numeric ? e.what() : "another error"; }
  return "";
}

TEST(DebugMode, RaisesWhereAValueBreaks) {
  const Tensor a = ones({3}), b = zeros({3});
  EXPECT_EQ((a / b).max().item(), INFINITY);
  {
    DebugMode loud;
    EXPECT_TRUE(debug_mode());
    const std::string said = raised_by([&] { Tensor q = a / b; });
    EXPECT_NE(said.find("div gave 3 infinities of 3 values from finite inputs"), std::string::npos) << said;
    EXPECT_NE(raised_by([&] { Tensor q = log(b - 1); }).find("log gave 3 NaN"), std::string::npos);
    {
      DebugMode quiet(false);
      EXPECT_FALSE(debug_mode());
      EXPECT_EQ(raised_by([&] { Tensor q = a / b; }), "");
    }
    EXPECT_NE(raised_by([&] { Tensor q = a / b; }), "");
  }
  EXPECT_FALSE(debug_mode());
  EXPECT_EQ(raised_by([&] { Tensor q = a / b; }), "");
}

TEST(DebugMode, ReachesTheBackwardPass) {
  DebugMode loud;
  Tensor x = zeros({2});
  x.requires_grad_();
  const std::string said = raised_by([&] { sum(sqrt(x)).backward(); });
  EXPECT_NE(said.find("infinities"), std::string::npos) << said;
}

TEST(DebugMode, SafeOpsSpeakWhereTheyReplace) {
  const Tensor a = tensor({1.0, 2.0, 3.0}), b = tensor({2.0, 0.0, 1e-9}), bad = tensor({-1.0, 0.0, 4.0});
  const auto quiet = [&] {
    return Tensors{div_safe(a, b, {.otherwise = 0.0, .zero_tol = 1e-6}),
                   sqrt_safe(bad, {.otherwise = 0.0}),
                   log_safe(bad, {.otherwise = -1.0}),
                   rsqrt_safe(bad, {.otherwise = 0.0}),
                   pow_safe(bad, -0.5, {.otherwise = 0.0}),
                   sanitize(a / (b * 0.0))};
  };
  for (const Tensor& y : quiet()) EXPECT_TRUE(isfinite(y).all().item<bool>());
  const Tensor broken = a / (b * 0.0);
  DebugMode loud;
  EXPECT_NE(raised_by([&] { div_safe(a, b, {.otherwise = 0.0, .zero_tol = 1e-6}); }).find("div_safe replaced values: 2 of 3 denominators"),
            std::string::npos);
  EXPECT_NE(raised_by([&] { sqrt_safe(bad, {.otherwise = 0.0}); }).find("1 of 3 arguments are negative"), std::string::npos);
  EXPECT_NE(raised_by([&] { log_safe(bad, {.otherwise = 0.0}); }).find("2 of 3 arguments"), std::string::npos);
  EXPECT_NE(raised_by([&] { rsqrt_safe(bad, {.otherwise = 0.0}); }).find("2 of 3 arguments"), std::string::npos);
  EXPECT_NE(raised_by([&] { pow_safe(bad, -0.5, {.otherwise = 0.0}); }).find("2 of 3 powers"), std::string::npos);
  EXPECT_NE(raised_by([&] { sanitize(broken); }).find("3 of 3 values"), std::string::npos);
  EXPECT_EQ(raised_by([&] { div_safe(a, a), sqrt_safe(a), log_safe(a), rsqrt_safe(a), pow_safe(a, -0.5), sanitize(a); }), "");
  EXPECT_EQ(debug_mode(), true);
}

TEST(DebugMode, SafeOpsOfRowsSpeakToo) {
  Tensor x = tensor({3.0, 4.0, 0.0, 0.0}).reshape({2, 2}), masked = full({2, 2}, -INFINITY),
         good = tensor({3.0, 4.0, 0.0, 1.0}).reshape({2, 2});
  masked[{0, 1}] = 1.0;
  const auto run = [](const Tensor& v, const Tensor& m) {
    return Tensors{softmax_safe(m), norm_safe(v, {.axis = -1}), normalize_safe(v)};
  };
  for (const Tensor& y : run(x, masked)) EXPECT_TRUE(isfinite(y).all().item<bool>());
  const Tensors before = run(good, good);
  DebugMode loud;
  const Tensors same = run(good, good);
  for (int64_t i = 0; i < same.size(); ++i) EXPECT_TRUE(array_equal(before[i], same[i]));
  EXPECT_NE(raised_by([&] { softmax_safe(masked); }).find("softmax_safe replaced values: 1 of 2 rows are masked throughout"),
            std::string::npos);
  EXPECT_NE(raised_by([&] { normalize_safe(x); }).find("1 of 2 vectors are shorter than eps"), std::string::npos);
  EXPECT_EQ(raised_by([&] { norm_safe(x, {.axis = -1}); }), "");  // 0 is the norm of zeros; nobody wants its gradient
  x.requires_grad_();
  EXPECT_NE(raised_by([&] { norm_safe(x, {.axis = -1}); }).find("1 of 2 norms are 0"), std::string::npos);
  good.requires_grad_();
  EXPECT_EQ(raised_by([&] { run(good, good); }), "");
}

TEST(DebugMode, IsNothingWhileItIsOff) {
  ASSERT_EQ(scope().monitor, nullptr);
  set_debug_mode(false);
  EXPECT_EQ(scope().monitor, nullptr);
  set_debug_mode(true);
  EXPECT_NE(scope().monitor, nullptr);
  set_debug_mode(false);
  EXPECT_EQ(scope().monitor, nullptr);  // the choke point takes the way that a program takes which never heard of debug mode
  { DebugMode loud; }
  EXPECT_EQ(scope().monitor, nullptr);
}

TEST(DebugMode, ValuesAreTheSameBits) {
  const auto run = [] {
    manual_seed(3);
    nn::Sequential net(nn::Linear(8, 16), nn::GELU(), nn::LayerNorm({16}), nn::Linear(16, 4));
    optim::Adam opt(net.parameters(), {.lr = 1e-2});
    for (int i = 0; i < 5; ++i) {
      mean(square(net(randn({6, 8})))).backward();
      opt.step();
      opt.zero_grad();
    }
    Tensor all = net.parameters()[0].detach().reshape({-1});
    return all.clone();
  };
  const Tensor quiet = run();
  DebugMode loud;
  EXPECT_TRUE(array_equal(run(), quiet));
}

TEST(DebugMode, LivesBesideMonitors) {
  const Tensor a = ones({2});
  Monitor outer;
  {
    DebugMode loud;
    Tensor b = a + 1;
    EXPECT_NE(raised_by([&] { Tensor q = a / 0.0; }), "");
    {
      Monitor inner;
      EXPECT_TRUE(debug_mode());
      EXPECT_NE(raised_by([&] { Tensor q = a / 0.0; }), "");
      EXPECT_EQ(inner.findings().size(), 1u);
    }
    EXPECT_TRUE(debug_mode());
  }
  EXPECT_FALSE(debug_mode());
  EXPECT_EQ(outer.findings().size(), 1u);
  Tensor q = a / 0.0;
  EXPECT_EQ(outer.findings().size(), 2u);
}

TEST(DebugMode, OutlivesAMonitor) {
  {
    Monitor m;
    set_debug_mode(true);
  }
  EXPECT_TRUE(debug_mode());
  EXPECT_NE(raised_by([] { Tensor q = ones({2}) / 0.0; }), "");
  set_debug_mode(false);
  set_debug_mode(true);
  {
    Monitor m;
    set_debug_mode(false);
    EXPECT_FALSE(debug_mode());
  }
  EXPECT_EQ(scope().monitor, nullptr);
}

TEST(DebugMode, BelongsToAThread) {
  DebugMode loud;
  bool elsewhere = true;
  std::thread([&] {
    elsewhere = debug_mode();
    DebugMode there;
  }).join();
  EXPECT_FALSE(elsewhere);
  EXPECT_TRUE(debug_mode());
}

TEST(DebugMode, LogsAPlaceOnce) {
  static int lines;
  lines = 0;
  const LogLevel before = log_level();
  set_log_sink([](void*, const LogRecord& r) { lines += r.topic == "debug"; });
  {
    DebugMode loud;
    for (int i = 0; i < 5; ++i) raised_by([] { Tensor q = ones({2}) / 0.0; });
  }
  set_log_sink(nullptr);
  set_log_level(before);
  EXPECT_EQ(lines, 1);
}

}  // namespace
}  // namespace keel
