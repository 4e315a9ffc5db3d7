// The judges of the layers: recording and watching change no bit, a replay repeats every bit, and what is counted is true.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/float_bits.h"
#include "backend/kernel.h"
#include "keel/autocast.h"
#include "keel/monitor.h"
#include "keel/trace.h"
#include "layers/monitor/monitor.h"
#include "ops/judge.h"

namespace keel::testing_cases {
namespace {

class LayerJudge : public Judge {
 protected:
  /// Whether the results' shapes are read from the data: a recording must refuse that.
  bool counts() const {
    for (const KernelEntry* k = cpu_kernels().first(op); k; k = k->next)
      if (k->count) return true;
    return false;
  }
  /// Whether the backend sees this op, and not only its parts.
  bool served() const { return !op.view && (op.vjp || !op.decompose || cpu_kernels().first(op)); }

  /// The op's results, and its gradients where an input wants one. `given`: the inputs that are there.
  Tensors results(const Sample& s, const Tensors& given) const {
    Tensors in, leaves;
    int64_t next = 0;
    for (const Arg& a : s.in) in.push_back(a.fill == Arg::Fill::absent ? Tensor() : given[next++]);
    for (const Tensor& x : given)
      if (x.requires_grad()) leaves.push_back(x);
    const Tensors out = run_op(op, s.params, in);
    Tensors all, ends, seeds;
    for (const Tensor& y : out) {
      all.push_back(y.defined() && y.tracked() ? y.detach() : y);
      if (!leaves.empty() && y.defined() && y.tracked()) ends.push_back(y), seeds.push_back(full(y.shape(), 0.75, {.dtype = y.dtype()}));
    }
    if (!ends.empty())
      for (const Tensor& g : grad(ends, leaves, {.allow_unused = true}, seeds)) all.push_back(g);
    return all;
  }
  /// Fresh copies of the inputs that are there; with gradients, those that can have one are leaves.
  static Tensors given(const Sample& s, const Tensors& in, bool gradients) {
    Tensors out;
    for (int64_t i = 0; i < in.size(); ++i) {
      if (!in[i].defined()) continue;
      Tensor x = in[i].clone();
      if (gradients && s.in[size_t(i)].differentiable && is_floating(x.dtype())) x.requires_grad_();
      out.push_back(x);
    }
    return out;
  }
};

TEST_P(LayerJudge, ReplayEqualsEager) {
  each([&](const Sample& s, const Tensors& in, DType t, const std::string& what) {
    // Recorded with other numbers than those it is replayed with: what a recording took from the data would show.
    const Tensors other = make_inputs(s.in, t, 4711);
    for (const bool gradients : {false, true}) {
      if (gradients && (c.no_grad || !s.grad)) continue;
      Graph g;
      try {
        g = trace([&](const Tensors& x) { return results(s, x); }, given(s, other, gradients));
      } catch (const Error& e) {
        ASSERT_TRUE(counts() && e.code() == ErrorCode::unsupported) << what << "\n" << e.what();
        return;
      }
      ASSERT_FALSE(counts()) << what << ": a result whose shape depends on the data was recorded";
      const Tensors want = results(s, given(s, in, gradients));
      expect_same_bits(g.run(given(s, in, false)), want, what + (gradients ? " with gradients, replayed" : " replayed"));
      expect_same_bits(g.run(given(s, in, false)), want, what + ", replayed again");
    }
  });
}

/// A plain count of what StatSlot holds.
struct Count {
  uint64_t max_bits = 0, min_bits = ~uint64_t(0), elements = 0, nan = 0, inf = 0, subnormal = 0;
  void add(const Tensor& t) {
    const FloatBits f = float_bits(t.dtype());
    const Tensor dense = t.contiguous();
    const std::byte* p = impl(dense).data;
    for (int64_t i = 0; i < dense.size(); ++i, p += size_of(t.dtype())) {
      uint64_t u = 0;
      std::memcpy(&u, p, size_of(t.dtype()));
      u &= f.magnitude;
      max_bits = std::max(max_bits, u);
      if (u) min_bits = std::min(min_bits, u - 1);
      ++elements;
      if (f.has_inf ? u > f.inf : u >= f.inf) ++nan;
      else if (u == f.inf) ++inf;
      else if (u && u < f.min_normal) ++subnormal;
    }
  }
};

/// The last row of result `i` of `op` says what a plain count says.
void expect_counted(const MonitorState& state, const OpDef& op, int i, const Count& want, const char* name, DType t,
                    const std::string& what) {
  const WatchedRow* got = nullptr;
  for (uint64_t r = 0; r < state.rows; ++r)
    if (state.sites[state.ring[r].site].op == &op && state.ring[r].output == i) got = &state.ring[r];
  const std::string which = what + ", result '" + name + "'";
  ASSERT_EQ(got != nullptr, want.elements > 0) << which;
  if (!got) return;
  ASSERT_EQ(got->elements, want.elements) << which;
  ASSERT_EQ(got->max_bits, want.max_bits) << which;
  if (want.min_bits == ~uint64_t(0)) {
    ASSERT_GE(got->min_bits, float_bits(t).magnitude) << which << ": only zeros";
  } else {
    ASSERT_EQ(got->min_bits, want.min_bits) << which;
  }
  ASSERT_EQ(got->nan, want.nan) << which;
  ASSERT_EQ(got->inf, want.inf) << which;
  ASSERT_EQ(got->subnormal, want.subnormal) << which;
}

/// What happens to be in the inputs: nothing odd, NaN and infinities, or subnormals and zeros.
enum class Plant { nothing, broken, tiny };

Tensors planted(const Sample& s, const Tensors& in, Plant plant) {
  Tensors out = in;
  for (int64_t i = 0; i < in.size(); ++i) {
    if (plant == Plant::nothing || !in[i].defined() || !is_floating(in[i].dtype()) || s.in[size_t(i)].dtype != DType::none ||
        in[i].size() == 0)
      continue;
    out[i] = in[i].clone().contiguous();
    const DType t = in[i].dtype();
    const int64_t n = in[i].size();
    const auto put = [&](int64_t at, double v) { write_scalar(impl(out[i]).data + at * int64_t(size_of(t)), t, Scalar(v)); };
    const double inf = std::numeric_limits<double>::infinity();
    const double small = t == f16 ? 6e-8 : t == f64 ? 5e-324 : t == bf16 ? 1e-40 : 1.4e-45;
    if (plant == Plant::broken) put(n / 3, inf), put(n / 2, -inf), put(n - 1, std::nan(""));
    else put(0, small), put(n / 3, 0.0), put(n / 2, -2 * small), put(n - 1, -0.0);
  }
  return out;
}

TEST_P(LayerJudge, MonitorSeesAllAndChangesNothing) {
  each([&](const Sample& s, const Tensors& in, DType, const std::string& name) {
    for (const Plant plant : {Plant::nothing, Plant::broken, Plant::tiny}) {
      const std::string what = name + (plant == Plant::nothing  ? ""
                                       : plant == Plant::broken ? " with NaN and infinities"
                                                                : " with subnormals");
      const Tensors x = planted(s, in, plant);
      const bool gradients = !c.no_grad && s.grad;
      Tensors plain;
      try {
        plain = results(s, given(s, x, gradients));
      } catch (const Error& e) {
        ASSERT_TRUE(plant != Plant::nothing && e.code() == ErrorCode::value) << e.what();  // some ops refuse such values
        continue;
      }
      Monitor monitor;
      expect_same_bits(results(s, given(s, x, gradients)), plain, what + ", watched");
      if (HasFatalFailure()) return;

      auto& state = *static_cast<MonitorState*>(scope().monitor);
      state.rows = 0;
      const Tensors out = run_op(op, s.params, fresh(op, x));
      if (!served()) continue;
      ASSERT_LE(state.rows, uint64_t(MonitorState::kRing));
      for (int i = 0; i < op.out.size() && i < out.size(); ++i) {
        Count want;
        const int64_t end = i + 1 == op.out.size() ? out.size() : i + 1;  // results beyond the last declared one share its slot
        for (int64_t k = i; k < end; ++k)
          if (out[k].defined() && is_floating(out[k].dtype())) want.add(out[k]);
        expect_counted(state, op, i, want, op.out[i].name, out[i].defined() ? out[i].dtype() : f32, what);
        if (HasFatalFailure()) return;
      }
    }
  });
}

/// With one input alone wanting a gradient, less is saved and computed; what that input gets is the same to the bit.
TEST_P(LayerJudge, FrozenInputsChangeNothing) {
  if (c.no_grad) GTEST_SKIP() << c.no_grad;
  each([&](const Sample& s, const Tensors& in, DType t, const std::string& what) {
    if (!s.grad || !is_floating(t)) return;
    const Tensors all = given(s, in, true);
    int64_t leaves = 0;
    for (const Tensor& x : all) leaves += x.requires_grad();
    if (leaves < 2) return;
    const Tensors want = results(s, all);
    const int64_t outputs = want.size() - leaves;
    if (outputs <= 0) return;  // nothing here depends on them
    for (int64_t k = 0, leaf = 0; k < all.size(); ++k) {
      if (!all[k].requires_grad()) continue;
      Tensors one = given(s, in, false);
      one[k].requires_grad_();
      const Tensors got = results(s, one);
      const Tensor g = got.size() > outputs ? got[outputs] : Tensor();
      expect_same_bits({g}, {want[outputs + leaf]}, what + ", gradient of input " + std::to_string(k) + " alone");
      ++leaf;
    }
  });
}

/// Under autocast an op gives what it gives without, where its inputs are cast as its column says.
TEST_P(LayerJudge, AutocastIsTheColumn) {
  if (op.in.size() == 0) GTEST_SKIP() << "has no inputs to cast";
  if (!served()) GTEST_SKIP() << "its parts are cast, each by its own column";
  each([&](const Sample& s, const Tensors& in, DType t, const std::string& what) {
    for (const DType low : {bf16, f16}) {
      Tensors x = fresh(op, in), cast_by_hand = fresh(op, in);
      bool wide = false;
      const auto grouped = [&](int64_t i) { return x[i].defined() && op.in[std::min(int(i), op.in.size() - 1)].grouped; };
      for (int64_t i = 0; i < x.size(); ++i) wide = wide || (grouped(i) && (x[i].dtype() == f64 || is_complex(x[i].dtype())));
      bool touched = false;
      for (int64_t i = 0; i < x.size(); ++i) {
        if (wide || !grouped(i)) continue;
        const DType have = x[i].dtype();
        const bool half = have == f16 || have == bf16;
        const DType want = op.cast == Cast::lower && (have == f32 || half) ? low : op.cast == Cast::fp32 && half ? f32 : have;
        if (want != have) cast_by_hand[i] = cast(x[i], want), touched = true;
      }
      const Tensors want = run_op(op, s.params, cast_by_hand);
      Tensors got;
      {
        Autocast guard(low);
        got = run_op(op, s.params, x);
      }
      expect_same_bits(got, want, what + (touched ? ", cast by autocast" : ", left alone by autocast"));
      if (t == f32 && op.cast == Cast::lower && is_floating(got[0].dtype()) && !wide) { ASSERT_TRUE(touched) << what; }
    }
  });
}

/// Results so large that several threads share one slot and blocks end in the middle of rows.
TEST(LayerJudgeLarge, StatisticsOfLargeResults) {
  using Run = Tensor (*)(const Tensor& x);
  struct {
    const char* op;
    Run run;
    Shape shape;
  } const rows[] = {
      {"add", [](const Tensor& x) { return x + x; }, {3, 211, 457}},
      {"mul", [](const Tensor& x) { return x.transpose(0, 2) * 3.0; }, {3, 211, 457}},
      {"exp", [](const Tensor& x) { return exp(x); }, {1 << 19}},
      {"cast", [](const Tensor& x) { return cast(x, f16); }, {1 << 19}},
      {"sum", [](const Tensor& x) { return sum(x, {.axis = 1}); }, {4001, 257}},
      {"sum", [](const Tensor& x) { return sum(x, {.axis = 0}); }, {257, 4001}},
      {"mean", [](const Tensor& x) { return mean(x); }, {1 << 19}},
      {"softmax", [](const Tensor& x) { return softmax(x, {.axis = -1}); }, {701, 1003}},
      {"log_softmax", [](const Tensor& x) { return log_softmax(x, {.axis = -1}); }, {701, 1003}},
      {"layer_norm", [](const Tensor& x) { return layer_norm(x, ones({1003}), zeros({1003})); }, {701, 1003}},
      {"rms_norm", [](const Tensor& x) { return rms_norm(x, ones({1003})); }, {701, 1003}},
      {"matmul", [](const Tensor& x) { return matmul(x, x.transpose(0, 1)); }, {517, 301}},
      {"linear", [](const Tensor& x) { return linear(x, x); }, {517, 301}},
      {"conv2d",
       [](const Tensor& x) {
         return conv2d(x, x[{all, all, slice(0, 3), slice(0, 3)}].contiguous(), Tensor(), {.padding = 1});
       },
       {16, 16, 33, 35}},
      {"max_pool2d", [](const Tensor& x) { return max_pool2d(x, {.kernel = 2, .stride = 2}); }, {16, 16, 64, 66}},
      {"concat",
       [](const Tensor& x) {
         return concat({x, x}, {.axis = 1});
       },
       {701, 1003}},
  };
  const int64_t threads = num_threads();
  set_num_threads(2);
  for (const auto& row : rows)
    for (const DType t : {f32, bf16})
      for (const double spike : {0.0, 1e-40, std::numeric_limits<double>::infinity(), std::nan("")}) {
        const OpDef& op = *registry().find(row.op);
        Tensor x = make_inputs({normal(row.shape)}, t, 5)[0];
        if (spike != 0)
          for (int64_t at : {int64_t(0), x.size() / 2 + 1, x.size() - 1})
            write_scalar(impl(x).data + at * int64_t(size_of(t)), t, Scalar(spike));
        const Tensor plain = row.run(x);
        Monitor m;
        const Tensor y = row.run(x);
        const std::string what = std::string(row.op) + " of " + to_string(impl(x).spec) + " with " + std::to_string(spike);
        expect_same_bits({y}, {plain}, what);
        Count want;
        want.add(y);
        expect_counted(*static_cast<MonitorState*>(scope().monitor), op, 0, want, op.out[0].name, y.dtype(), what);
        if (testing::Test::HasFatalFailure()) return;
      }
  set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(Ops, LayerJudge, ::testing::Range(0, int(all_cases().ops.size())), test_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LayerJudge);

}  // namespace
}  // namespace keel::testing_cases
