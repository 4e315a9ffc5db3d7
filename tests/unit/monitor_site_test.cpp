// Findings name the op, the module, the source line and the step. This file is built with debug information whatever the rest has.
#include <gtest/gtest.h>

#include <string>

#include "base/debug_line.h"
#include "base/symbol.h"
#include "keel/keel.h"
#include "layers/monitor/monitor.h"

namespace keel {
namespace {

int overflow_line = 0;

struct Head : nn::Module<Head> {
  Tensor scale = full({4}, 1e30);
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const {
    const Tensor y = x * scale;
    overflow_line = __LINE__ + 1;
    const Tensor z = y * y;
    return z + 1.0;
  }
};
struct Model : nn::Module<Model> {
  nn::Linear body{4, 4};
  Head head;
  static void fields(auto& m, auto&& f) { f("body", m.body)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(body(x)); }
};

TEST(MonitorSite, FindingNamesOpModuleLineAndStep) {
  manual_seed(2);
  Model model;
  const Tensor x = randn({2, 4});
  Monitor m;
  for (int step = 1; step <= 3; ++step) {
    m.step();
    if (step == 2) model(x);
  }
  const auto found = m.findings();
  ASSERT_EQ(found.size(), 1u);
  const Monitor::Finding& f = found[0];
  EXPECT_EQ(f.op, "mul");
  EXPECT_EQ(f.kind, "inf");
  EXPECT_NE(f.path.find("head"), std::string::npos) << f.path;
  EXPECT_EQ(f.step, 2);
  EXPECT_EQ(f.elements, 8);
  EXPECT_NE(f.site.find("monitor_site_test.cpp:" + std::to_string(overflow_line)), std::string::npos) << f.site;
  EXPECT_NE(m.report().find("monitor_site_test.cpp:" + std::to_string(overflow_line)), std::string::npos) << m.report();
}

TEST(MonitorSite, BackwardNamesTheForwardLine) {
  Tensor w = full({2}, 1e-30);
  w.requires_grad_();
  Monitor m;
  m.step();
  const int line = __LINE__ + 1;
  Tensor y = log(w * 1e-10);
  m.step();
  sum(y * 1e20).backward();
  bool seen = false;
  for (const auto& f : m.findings())
    if (f.phase == "backward") {
      seen = true;
      EXPECT_EQ(f.step, 2);
      EXPECT_NE(f.site.find("monitor_site_test.cpp:" + std::to_string(line)), std::string::npos) << f.site;
    }
  EXPECT_TRUE(seen);
}

TEST(MonitorSite, RingAndTablesAreBounded) {
  Monitor m;
  Tensor x = ones({1});
  for (int i = 0; i < 3 * MonitorState::kRing; ++i) x = x * 1.0;
  EXPECT_EQ(m.history().size(), size_t(MonitorState::kRing));
  auto& state = *static_cast<MonitorState*>(scope().monitor);
  EXPECT_EQ(state.ring.size(), size_t(MonitorState::kRing));
  EXPECT_LE(state.sites.size(), 2u);  // of `ones` and of the product
  Tensor nan = zeros({1}) / zeros({1});
  for (int i = 0; i < 2000; ++i) {  // as many findings as there are modules; the list ends at a thousand
    ScopeGuard guard;
    scope().path = intern("module." + std::to_string(i));
    Tensor y = (x - x) / (x - x);
  }
  EXPECT_EQ(state.found.size(), MonitorState::kMostFindings);
}

TEST(DebugLine, AnythingCanBeInTheSection) {
  std::string bytes;
  uint64_t s = 1;
  for (int round = 0; round < 2000; ++round) {
    bytes.clear();
    const int n = 4 + round % 200;
    for (int i = 0; i < n; ++i) s = s * 6364136223846793005u + 1442695040888963407u, bytes += char(s >> 56);
    if (round % 2) bytes[0] = char(n - 4), bytes[1] = bytes[2] = bytes[3] = 0, bytes[4 % n] = char(2 + round % 4), bytes[5 % n] = 0;
    const base::LineTable t(bytes, bytes, bytes);
    for (uint64_t at : {uint64_t(0), uint64_t(1), uint64_t(1) << 20, ~uint64_t(0)}) t.find(at);
  }
}

}  // namespace
}  // namespace keel
