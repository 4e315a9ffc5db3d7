// The scalar core alone: one header, the standard library, nothing to link. Also built with -ffast-math and without exceptions; what bits
// decide must not change.
#include <keel/numerics.h>

#include <cstdio>

namespace num = keel::numerics;
using namespace keel;

static int failures = 0;
static void expect(bool ok, int line) {
  if (!ok) std::printf("line %d failed\n", line), ++failures;
}
#define EXPECT(...) expect((__VA_ARGS__), __LINE__)

template <class T>
static void questions() {  // the answers depend on bits alone
  volatile double none = 0;
  const T nan = FloatTraits<T>::quiet_nan(), zero(static_cast<float>(none)), minus = num::ulp::add(num::ulp::prev(zero), 1),
          tiny = FloatTraits<T>::min_subnormal(), top = num::from_ordered<T>(num::ordered(FloatTraits<T>::max()));
  EXPECT(num::is_nan(nan) && !num::is_finite(nan) && num::is_subnormal(tiny) && !num::is_zero(tiny) && num::is_zero(minus) &&
         num::sign_bit(minus));
  EXPECT(!num::compare::near(nan, nan) && num::compare::near(nan, nan, {.equal_nan = true}) &&
         num::compare::near(zero, minus, {.rel_tol = 0.0, .abs_tol = 0.0}));
  EXPECT(!num::compare::near_zero(nan) && num::compare::near_zero(tiny) && !num::compare::near_zero(tiny, {.abs_tol = 0.0}) &&
         num::compare::compare(nan, zero) == 1);
  EXPECT(num::ulp::diff(num::ulp::prev(zero), tiny) == 2 && num::ulp::within(minus, tiny) &&
         num::ulp::diff(FloatTraits<T>::lowest(), FloatTraits<T>::max()) > 0);
  EXPECT(!num::sign_bit(num::clamp::to_zero(minus)) && num::is_nan(num::clamp::to_zero(nan)) &&
         num::is_nan(num::clamp::to_range(nan, 0, 1)));
  EXPECT(!num::safe::div(top, zero).has_value() && !num::safe::div(nan, minus).has_value() &&
         num::is_zero(num::safe::div_or_zero(top, zero)));
  EXPECT(num::safe::div(top, tiny, {.otherwise = 0.0, .zero_tol = FloatTraits<T>::min_normal()}).has_value());
  EXPECT(!num::safe::sqrt(FloatTraits<T>::lowest()).has_value() && !num::safe::log(zero).has_value() &&
         !num::safe::pow(zero, FloatTraits<T>::lowest()).has_value());
  EXPECT(num::inspect::check(nan).has_value() && num::inspect::check(tiny).has_value() && !num::inspect::check(top).has_value());
}

int main() {
  EXPECT(num::compare::near(0.1 + 0.2, 0.3) && num::ulp::diff(-5e-324, 5e-324) == 2);
  EXPECT(num::safe::div(1.0, 0.0, {.otherwise = 0.0}) == 0.0 && !num::safe::div(1.0, 0.0).has_value() &&
         num::clamp::to_zero(-1e-12) == 0.0);
  questions<double>(), questions<float>(), questions<float16>(), questions<bfloat16>(), questions<float8_e4m3fn>(),
      questions<float8_e5m2>();
  EXPECT(num::safe::sum_exact({1e16, 1.0, -1e16}) == 1.0 && num::safe::sum_exact({1e308, 1e308, -1e308}) == 1e308 &&
         num::safe::mean_exact({1.0, 2.0, 4.0}) == 7.0 / 3);
  EXPECT(num::clamp::to_int(2.9999999999) == 3.0 && num::clamp::to_range(5, 0, 1) == 1.0 && num::safe::mod(-7, 3) == -1.0);
  EXPECT(num::inspect::safe_for_dtype(70000.0, "fp16").issue == num::inspect::Issue::overflow &&
         num::inspect::analyze({1.0, 2.0}).precision_risk == num::inspect::Risk::low);
  EXPECT(num::tolerances<float16>() == num::Tolerance{1e-3, 1e-4});
#ifdef __cpp_exceptions
  bool raised = false;
  try {
    num::ulp::of(FloatTraits<double>::quiet_nan());
  } catch (const num::NumericsError&) { raised = true; }
  EXPECT(raised);
#endif
  return failures != 0;
}
