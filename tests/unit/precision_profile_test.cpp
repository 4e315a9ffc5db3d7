// The profile of a step beside casts that are executed on every result of the same step: MLP, CNN, attention; advice, policy, pictures.
#include "keel/precision_profile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/json.h"
#include "keel/keel.h"
#include "layers/trace.h"

namespace keel {
namespace {

struct Mlp : nn::Module<Mlp> {
  nn::Linear a{20, 64}, b{64, 10};
  static void fields(auto& m, auto&& f) { f("a", m.a)("b", m.b); }
  Tensor forward(const Tensor& x) const { return b(gelu(a(x))); }
};
struct Cnn : nn::Module<Cnn> {
  nn::Conv2d c{1, 6, {.kernel = {3, 3}}};
  nn::BatchNorm2d n{6};
  nn::Linear out{6 * 5 * 5, 10};
  static void fields(auto& m, auto&& f) { f("c", m.c)("n", m.n)("out", m.out); }
  Tensor forward(const Tensor& x) { return out(max_pool2d(relu(n(c(x))), {.kernel = {2, 2}}).reshape({x.shape()[0], 150})); }
};
struct Attender : nn::Module<Attender> {
  nn::LayerNorm norm{int64_t(32), nn::LayerNormOptions{}};
  nn::MultiheadAttention attention{32, 4};
  nn::Linear out{32, 10};
  static void fields(auto& m, auto&& f) { f("norm", m.norm)("attention", m.attention)("out", m.out); }
  Tensor forward(const Tensor& x) const { return out(mean(x + attention(norm(x)), {.axis = 1})); }
};

template <class M>
void step(M& net, const Tensor& x, const Tensor& y) {
  for (Tensor p : net.parameters()) p.zero_grad();
  cross_entropy(net(x), y).backward();
}

/// Runs ops and casts their results, for good: both rules of overflow, and as blocks.
struct Caster : Recorder {
  struct Sum {
    int64_t nonzero = 0, calls = 0;
    std::map<std::pair<DType, int>, int64_t> over, zero, subnormal;  // by dtype and scale
  };
  const PrecisionProfile* profile = nullptr;
  std::map<std::string, Sum> sums;

  static std::string key(const std::string& path, const std::string& op, const std::string& output, PrecisionProfile::Kind k) {
    return path + "|" + op + "|" + output + "|" + name_of(k);
  }
  void cast_all(Sum& s, const Tensor& t, const PrecisionReport& r) {
    ++s.calls;
    const Tensor wide = t.to(f64).contiguous();
    for (DType to : {f8e4m3fn, f8e5m2, f16, bf16})
      for (int scale : {0, r.scale_exponent(to)}) {
        const Tensor scaled = wide * std::ldexp(1.0, scale), there = cast(scaled, to).to(f64).contiguous(),
                     exact = cast(scaled, {.to = to, .saturate = false}).to(f64).contiguous();
        const double *a = scaled.data<double>(), *b = there.data<double>(), *strict = exact.data<double>();
        const double largest = to == f8e4m3fn ? 448 : to == f8e5m2 ? 57344 : to == f16 ? 65504 : 0x1.fep127;
        const double normal = to == f8e4m3fn ? 0x1p-6 : to == bf16 ? 0x1p-126 : 0x1p-14;
        for (int64_t i = 0; i < scaled.size(); ++i) {
          if (!std::isfinite(a[i]) || a[i] == 0) continue;
          const bool over = !std::isfinite(strict[i]);
          if (over && size_of(to) == 1) {
            EXPECT_EQ(std::fabs(b[i]), largest);  // the cast op saturates
          }
          s.over[{to, scale}] += over, s.zero[{to, scale}] += b[i] == 0, s.subnormal[{to, scale}] += b[i] != 0 && std::fabs(b[i]) < normal;
        }
        if (scale == r.scale_exponent(to) && scale == 0) break;
      }
    const double* v = wide.data<double>();
    for (int64_t i = 0; i < wide.size(); ++i) s.nonzero += std::isfinite(v[i]) && v[i] != 0;
  }
};

Tensors cast_results(Recorder& r, Call& c) {
  auto& me = static_cast<Caster&>(r);
  Tensors out = run_below_trace(c);
  if (c.op.view) return out;
  ScopeGuard guard;
  scope().trace = nullptr, scope().grad = false;
  for (int i = 0; i < out.size(); ++i) {
    if (!out[i].defined() || !is_floating(out[i].dtype())) continue;
    const auto kind = c.scope.phase == Phase::backward ? PrecisionProfile::Kind::gradient : PrecisionProfile::Kind::value;
    const std::string output = c.op.out[std::min(i, c.op.out.size() - 1)].name;
    for (const auto& e : me.profile->entries)
      if (e.path == c.scope.path && e.op == c.op.name && e.output == output && e.kind == kind)
        me.cast_all(me.sums[Caster::key(e.path, e.op, e.output, kind)], out[i], e.report);
  }
  return out;
}

template <class M>
PrecisionProfile check(uint64_t seed, const Tensor& x, const Tensor& y, const char* path) {
  manual_seed(seed);
  M net;
  const PrecisionProfile p = precision_profile([&] { step(net, x, y); });
  EXPECT_GT(p.entries.size(), 10u);
  Caster c;
  c.profile = &p, c.watch = cast_results;
  c.wrote = [](TraceSink*, const TensorImpl&) {};
  c.host_read = [](TraceSink*, const TensorImpl&) {};
  c.gradient = [](TraceSink*, const Tensor&, const Tensor&) {};
  {
    ScopeGuard guard;
    manual_seed(seed);
    M twin;
    scope().trace = &c;
    step(twin, x, y);
  }
  size_t compared = 0;
  bool layer = false;
  for (const auto& e : p.entries) {
    layer |= e.path == path;
    if (e.kind == PrecisionProfile::Kind::parameter || e.kind == PrecisionProfile::Kind::parameter_gradient) continue;
    const auto at = c.sums.find(Caster::key(e.path, e.op, e.output, e.kind));
    EXPECT_TRUE(at != c.sums.end()) << e.path << " " << e.op;
    if (at == c.sums.end()) continue;
    ++compared;
    const Caster::Sum& s = at->second;
    EXPECT_EQ(e.calls, s.calls) << e.path << " " << e.op;
    EXPECT_EQ(e.report.nonzero, s.nonzero) << e.path << " " << e.op;
    for (const auto& [what, n] : s.over) {
      const CastForecast f = e.report.target(what.first, what.second);
      EXPECT_EQ(f.overflow_count, n) << e.path << " " << e.op << " " << name_of(what.first) << " 2^" << what.second;
      EXPECT_EQ(f.flushed_count, s.zero.at(what)) << e.path << " " << e.op << " " << name_of(what.first) << " 2^" << what.second;
      EXPECT_EQ(f.subnormal_count, s.subnormal.at(what)) << e.path << " " << e.op << " " << name_of(what.first) << " 2^" << what.second;
    }
  }
  EXPECT_GT(compared, 6u);
  EXPECT_TRUE(layer) << "no entry of layer " << path;
  for (const Tensor& t : net.parameters()) {
    const PrecisionReport r = analyze_precision(t.grad());
    bool found = false;
    for (const auto& e : p.entries) found |= e.kind == PrecisionProfile::Kind::parameter_gradient && e.report.json() == r.json();
    EXPECT_TRUE(found) << "the gradient of a parameter is missing";
  }
  return p;
}

Tensor labels(int64_t n) { return arange(0, n) - floor_divide(arange(0, n), 10) * 10; }

TEST(PrecisionProfile, EqualsExecutedCastsInAnMlp) {
  const PrecisionProfile p = check<Mlp>(1, randn({32, 20}), labels(32), "a");
  EXPECT_GT(p.loss_scale(), 1);
  EXPECT_EQ(std::log2(p.loss_scale()), std::floor(std::log2(p.loss_scale())));
}
TEST(PrecisionProfile, EqualsExecutedCastsInACnn) { check<Cnn>(2, randn({8, 1, 12, 12}) * 30, labels(8), "n"); }
TEST(PrecisionProfile, EqualsExecutedCastsInAttention) { check<Attender>(3, randn({4, 10, 32}), labels(4), "attention"); }

TEST(PrecisionProfile, LeavesTheStepAsItIs) {
  manual_seed(4);
  Mlp net;
  const Tensor x = randn({8, 20}), y = labels(8);
  step(net, x, y);
  const Tensor before = net.a.weight.grad().clone();
  precision_profile([&] { step(net, x, y); });
  EXPECT_TRUE(array_equal(net.a.weight.grad(), before));
  Trace t;
  auto guard = t.record();
  EXPECT_THROW(precision_profile([] {}), Error);
  EXPECT_THROW(precision_profile([] {}, {.low = f32}), Error);
}

TEST(PrecisionProfile, AdvisesByWhatOverflows) {
  manual_seed(5);
  Mlp net;
  {
    NoGrad off;
    net.b.weight.mul_(1e6);
  }
  const Tensor x = randn({16, 20}) * 3, y = labels(16);
  const PrecisionProfile p = precision_profile([&] { mean(net(x)).backward(); }, {.low = f16});
  const PrecisionProfile::Advice *a = nullptr, *b = nullptr;
  const auto all = p.advice();
  for (const auto& one : all) {
    if (one.path == "a" && one.compute == f16) a = &one;
    if (one.path == "b" && one.compute == f32) b = &one;
  }
  ASSERT_TRUE(a && b) << p.text();
  const AutocastPolicy policy = p.policy(), again = AutocastPolicy::from_json(policy.json());
  EXPECT_EQ(policy.json(), again.json());
  EXPECT_EQ(policy.low, f16);
  EXPECT_EQ(again.dtype_for("a", a->op), f16);
  EXPECT_EQ(again.dtype_for("b", b->op), f32);
  Tensor plain, low;
  {
    Autocast guard(f16);
    plain = net(x);
    EXPECT_FALSE(isfinite(plain).all().item<bool>());
  }
  {
    Autocast guard(again);
    low = net(x);
    EXPECT_EQ(net.a(x).dtype(), f16);
  }
  EXPECT_EQ(low.dtype(), f32);
  EXPECT_TRUE(isfinite(low).all().item<bool>());
}

TEST(AutocastPolicy, TheLongestPathHoldsAndErrorsSayWhy) {
  AutocastPolicy p;
  p.low = f16;
  p.rules = {{"Net", "", f32}, {"Net.a", "", bf16}, {"Net.a", "matmul", f16}, {"", "conv2d", f32}};
  EXPECT_EQ(p.dtype_for("Net.b", "matmul"), f32);
  EXPECT_EQ(p.dtype_for("Net.a", "linear"), bf16);
  EXPECT_EQ(p.dtype_for("Net.a.deep", "linear"), bf16);
  EXPECT_EQ(p.dtype_for("Net.ab", "linear"), f32);
  EXPECT_EQ(p.dtype_for("Net.a", "matmul"), f16);
  EXPECT_EQ(p.dtype_for("Other", "conv2d"), f32);
  EXPECT_EQ(p.dtype_for("Other", "matmul"), f16);
  EXPECT_THROW(AutocastPolicy::from_json("{"), Error);
  EXPECT_THROW(AutocastPolicy::from_json("[]"), Error);
  EXPECT_THROW(AutocastPolicy::from_json("{\"low\": \"f99\", \"rules\": []}"), Error);
  p.rules = {{"", "", i32}};
  EXPECT_THROW(Autocast guard(p), Error);
  EXPECT_EQ(autocast_dtype(), DType::none);
}

TEST(PrecisionProfile, PicturesAndTablesHold) {
  manual_seed(6);
  Mlp net;
  const Tensor x = randn({8, 20}), y = labels(8);
  const PrecisionProfile p = precision_profile([&] { step(net, x, y); });
  const std::string text = p.text(), svg = p.svg(), html = p.html();
  EXPECT_NE(text.find("loss scale: 2^"), std::string::npos) << text;
  EXPECT_NE(text.find("a"), std::string::npos);
  EXPECT_EQ(svg.substr(0, 4), "<svg");
  EXPECT_NE(svg.find("f8e4m3fn"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_NE(html.find("</svg>"), std::string::npos);
  const auto j = base::parse_json(p.json());
  ASSERT_TRUE(j) << j.message();
  EXPECT_EQ(j->root()["entries"].size(), p.entries.size());
  const PrecisionProfile files = precision_profile(StateDict{{"w", randn({3, 4})}, {"i", arange(0, 3)}, {"z", zeros({2})}});
  EXPECT_EQ(files.entries.size(), 2u);
  EXPECT_EQ(files.loss_scale(), 1);
  EXPECT_TRUE(files.advice().empty());
  EXPECT_FALSE(files.text().empty());
  EXPECT_FALSE(PrecisionProfile().svg().empty());
}

}  // namespace
}  // namespace keel
