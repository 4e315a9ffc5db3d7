// The monitor: exact statistics, the right culprit, nothing changed.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "backend/stat_slot.h"
#include "base/json.h"
#include "base/symbol.h"
#include "core/impl.h"
#include "keel/keel.h"
#include "op/scope.h"

namespace keel {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

const Monitor::Statistic* find(const std::vector<Monitor::Statistic>& all, const char* op) {
  for (const auto& s : all)
    if (s.op == op) return &s;
  return nullptr;
}
void expect_same_bits(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.nbytes(), b.nbytes());
  EXPECT_EQ(std::memcmp(a.raw_data(), b.raw_data(), a.nbytes()), 0);
}

TEST(Monitor, StatisticsAreExact) {
  const Tensor a = tensor({1.0, -8.0, 0.0, 1e-40, 3.0}), zero = zeros({5});
  Monitor m;
  Tensor b = a + zero;
  Tensor c = b * 2;
  const auto all = m.statistics();
  ASSERT_EQ(all.size(), 2u);
  const auto* s = find(all, "add");
  ASSERT_TRUE(s);
  EXPECT_EQ(s->calls, 1);
  EXPECT_EQ(s->elements, 5);
  EXPECT_EQ(s->largest, 8);
  EXPECT_EQ(s->smallest, double(1e-40f));
  EXPECT_EQ(s->subnormal, 1);
  EXPECT_EQ(s->nan + s->inf, 0);
  EXPECT_EQ(s->dtype, f32);
  EXPECT_EQ(s->phase, "forward");
  EXPECT_EQ(find(all, "mul")->largest, 16);
}

TEST(Monitor, CountsInEveryFormat) {
  for (DType t : {f64, f32, f16, bf16, f8e5m2}) {
    Tensor x = tensor({1.0, kInf, -kInf, kNan, 0.0, -2.0}, {.dtype = t});
    Tensor sub = cast(x, t);
    StatSlot slot;
    observe(x, slot);
    EXPECT_EQ(slot.count, 6u) << name_of(t);
    EXPECT_EQ(slot.nan, 1u) << name_of(t);
    EXPECT_EQ(slot.inf, 2u) << name_of(t);
    EXPECT_EQ(slot.subnormal, 0u) << name_of(t);
  }
  StatSlot fp8;
  observe(tensor({kNan, 448.0, 0.001953125}, {.dtype = f8e4m3fn}), fp8);
  EXPECT_EQ(fp8.nan, 1u);
  EXPECT_EQ(fp8.inf, 0u);
  EXPECT_EQ(fp8.subnormal, 1u);
}

TEST(Monitor, StridedViewsAreSeenOnce) {
  Tensor base = arange(24, {.dtype = f32}).reshape({4, 6});
  base[{0, 0}] = double(kInf);
  StatSlot slot;
  observe(base[{slice(1, 4), slice(0, 6, 2)}], slot);
  EXPECT_EQ(slot.count, 9u);
  EXPECT_EQ(slot.inf, 0u);
  float high = 22;
  uint32_t bits;
  std::memcpy(&bits, &high, 4);
  EXPECT_EQ(slot.max_bits, bits);
  StatSlot backwards;
  observe(base.flip({0, 1}), backwards);
  EXPECT_EQ(backwards.count, 24u);
  EXPECT_EQ(backwards.inf, 1u);
}

TEST(Monitor, SampledPassLooksAtAPart) {
  Tensor x = ones({1 << 16});
  StatSlot whole, part;
  observe(x, whole);
  part.every = 4, part.rotation = 1;
  observe(x, part);
  EXPECT_EQ(whole.count, uint64_t(1 << 16));
  EXPECT_EQ(part.count, uint64_t(1 << 14));
  uint64_t seen = 0;
  for (uint32_t r = 0; r < 4; ++r) {
    Tensor y = ones({1 << 16});
    y[{1 << 15}] = double(kNan);
    StatSlot s;
    s.every = 4, s.rotation = r;
    observe(y, s);
    seen += s.nan;
  }
  EXPECT_EQ(seen, 1u);  // each element is in one of the four
}

TEST(Monitor, NamesTheProducerNotThePropagator) {
  Tensor a = tensor({1.0, 2.0}), zero = tensor({0.0, 1.0});
  Monitor m;
  m.step();
  Tensor q = a / zero;     // inf
  Tensor r = (q - q) * 3;  // inf - inf is the second producer, the product passes on
  const auto f = m.findings();
  ASSERT_EQ(f.size(), 2u);
  EXPECT_EQ(f[0].op, "div");
  EXPECT_EQ(f[0].kind, "inf");
  EXPECT_EQ(f[0].step, 1);
  EXPECT_EQ(f[0].elements, 1);
  EXPECT_TRUE(std::isinf(f[0].value));
  EXPECT_NE(f[0].text.find("b: f32[2] magnitude 1 and 1 zero"), std::string::npos) << f[0].text;
  EXPECT_EQ(f[1].op, "sub");
  EXPECT_EQ(f[1].kind, "nan");
  EXPECT_NE(f[1].text.find("from infinities"), std::string::npos) << f[1].text;
}

TEST(Monitor, CountsRepeatsAtOneSite) {
  Tensor a = ones({2}), zero = zeros({2});
  Monitor m;
  for (int i = 0; i < 5; ++i) {
    m.step();
    Tensor q = a / zero;
  }
  ASSERT_EQ(m.findings().size(), 1u);
  EXPECT_EQ(m.findings()[0].count, 5);
  EXPECT_EQ(m.findings()[0].step, 1);
  const auto all = m.statistics();
  EXPECT_EQ(all[0].calls, 5);
  EXPECT_EQ(all[0].first_step, 1);
  EXPECT_EQ(all[0].last_step, 5);
  EXPECT_EQ(all[0].inf, 10);
}

TEST(Monitor, MaskedInfinitiesAreNoFault) {
  Monitor m;
  Tensor mask = full({4}, -double(kInf));
  Tensor y = ones({4}) + mask;
  EXPECT_TRUE(m.findings().empty()) << m.findings()[0].text;
  ASSERT_FALSE(m.notes().empty());
  EXPECT_EQ(m.notes()[0].op, "full");
  Tensor w = where(tensor({true, false, true, true}), ones({4}), -double(kInf));
  EXPECT_TRUE(m.findings().empty());
}

TEST(Monitor, BadInputIsNamedOnce) {
  Tensor data = tensor({1.0, double(kNan)});
  Monitor m;
  Tensor y = data * 2, z = y + 1;
  ASSERT_EQ(m.findings().size(), 1u);
  EXPECT_EQ(m.findings()[0].kind, "nan input");
  EXPECT_EQ(m.findings()[0].op, "mul");
}

TEST(Monitor, InPlaceProducerIsFound) {
  Tensor x = full({4}, 1e38), y = ones({4});
  Monitor m;
  x.mul_(1e10);
  ASSERT_EQ(m.findings().size(), 1u) << m.report();
  EXPECT_EQ(m.findings()[0].op, "mul");
  x.mul_(2.0);  // passes on, in place
  y.add_(x);
  EXPECT_EQ(m.findings().size(), 1u) << m.report();
  x.fill_(1);
  y.fill_(1);
  y.mul_(1e30).mul_(1e30);
  EXPECT_EQ(m.findings().size(), 2u) << m.report();
}

TEST(Monitor, BackwardHasItsPhaseAndTheForwardSite) {
  Tensor x = tensor({0.0, 1.0}, {.requires_grad = true});
  Monitor m;
  Tensor y = sqrt(x);
  sum(y).backward();
  const auto f = m.findings();
  ASSERT_FALSE(f.empty());
  EXPECT_EQ(f[0].phase, "backward");
  EXPECT_EQ(f[0].op, "sqrt");
  EXPECT_TRUE(f[0].text.ends_with("; in the gradient of sqrt")) << f[0].text;
  bool forward = false, backward = false;
  for (const auto& s : m.statistics()) {
    forward |= s.phase == "forward";
    backward |= s.phase == "backward";
    EXPECT_FALSE(s.site.empty());
  }
  EXPECT_TRUE(forward && backward);
}

[[gnu::noinline]] Tensor a_function_of_the_program(const Tensor& a, const Tensor& b) {
  Tensor q = a / b;
  return q + 1;
}

TEST(Monitor, SiteIsTheProgramsFunction) {
  Monitor m;
  Tensor q = a_function_of_the_program(ones({1}), zeros({1}));
  ASSERT_EQ(m.findings().size(), 1u);
  EXPECT_NE(m.findings()[0].site.find("a_function_of_the_program"), std::string::npos) << m.findings()[0].site;
}

TEST(Monitor, ChangesNoBit) {
  auto work = [] {
    manual_seed(3);
    Tensor w = arange(-32, 32, {.dtype = f32}).reshape({8, 8}) / 7.0;
    w.requires_grad_();
    Tensor y = w;
    for (int i = 0; i < 3; ++i) y = tanh(y * w) + exp(y * 0.1);
    Tensor loss = sum(y * y);
    loss.backward();
    return Tensors{loss, w.grad()};
  };
  const Tensors plain = work();
  Monitor m;
  const Tensors watched = work();
  expect_same_bits(plain[0], watched[0]);
  expect_same_bits(plain[1], watched[1]);
  EXPECT_GT(m.statistics().size(), 5u);
}

TEST(Monitor, BreaksAtTheCulprit) {
  Tensor a = ones({2});
  Monitor m({.break_on = BreakOn::nonfinite});
  m.step();
  try {
    Tensor q = a / 0.0;
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::numeric);
    EXPECT_EQ(e.op(), "div");
  }
  EXPECT_EQ(m.findings().size(), 1u);
}

TEST(Monitor, YoungerOneWatches) {
  Monitor outer;
  Tensor a = ones({2}) + 1;
  {
    Monitor inner;
    Tensor b = a * 2;
    EXPECT_EQ(inner.statistics().size(), 1u);
  }
  EXPECT_EQ(find(outer.statistics(), "mul"), nullptr);
  Tensor c = a - 1;
  EXPECT_TRUE(find(outer.statistics(), "sub"));
}

TEST(Monitor, HistoryKeepsTheLastRows) {
  Tensor a = ones({2});
  Monitor m;
  for (int i = 0; i < 5000; ++i) {
    m.step();
    Tensor b = a + double(i);
  }
  const auto h = m.history();
  ASSERT_EQ(h.size(), 4096u);
  EXPECT_EQ(h.back().step, 5000);
  EXPECT_EQ(h.front().step, 5000 - 4095);
  EXPECT_EQ(h.back().largest, 5000);
  EXPECT_EQ(h.back().op, "add");
}

TEST(Monitor, LogIsJsonLines) {
  const std::string file = testing::TempDir() + "monitor.jsonl";
  {
    Monitor m({.log_file = file});
    for (int i = 0; i < 3; ++i) {
      m.step();
      Tensor q = ones({2}) / (i == 1 ? 0.0 : 1.0);
    }
  }
  std::ifstream in(file);
  int findings = 0, steps = 0, sites = 0;
  for (std::string line; std::getline(in, line);) {
    auto doc = base::parse_json(line);
    ASSERT_TRUE(doc.ok()) << line;
    const std::string_view event = doc->root()["event"].as_string();
    findings += event == "finding", steps += event == "step", sites += event == "site";
    if (event == "finding") { EXPECT_EQ(doc->root()["step"].as_int(), 2); }
  }
  EXPECT_EQ(findings, 1);
  EXPECT_EQ(steps, 3);
  EXPECT_GE(sites, 2);
}

TEST(Monitor, ReportSaysWhatHappened) {
  Monitor m;
  m.step();
  Tensor q = ones({3}) / 0.0;
  const std::string r = m.report();
  EXPECT_NE(r.find("1 findings"), std::string::npos) << r;
  EXPECT_NE(r.find("div gave 3 infinities of 3 values from finite inputs"), std::string::npos) << r;
}

TEST(Monitor, RefusesALogThatCannotBeWritten) {
  EXPECT_THROW(Monitor({.log_file = "/no/such/folder/monitor.jsonl"}), Error);
  Tensor a = ones({1}) + 1;  // the failed monitor must not be watching
}

TEST(Symbol, NamesAFunction) {
  EXPECT_NE(base::describe_code(reinterpret_cast<const char*>(&a_function_of_the_program) + 4).find("a_function_of_the_program"),
            std::string::npos);
  EXPECT_FALSE(base::describe_code(reinterpret_cast<const void*>(16)).empty());
}

}  // namespace
}  // namespace keel
