#pragma once
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <utility>
#include <vector>

#include "keel/numerics/bits.h"
#include "keel/numerics/error.h"

#pragma GCC visibility push(default)
/// How the `*_many` functions take and give values.
namespace keel::numerics::detail {

template <class R>
using ElementOf = std::remove_cv_t<std::remove_reference_t<decltype(*std::data(std::declval<const R&>()))>>;

/// Numbers one after the other in memory: a vector, array, span, C array, or a braced list, which is one of doubles.
template <class R>
concept Range = requires(const R& r) {
  std::data(r);
  std::size(r);
}
&&Number<ElementOf<R>>;

template <class P>
concept Pair = requires(const P& p) {
  p.first;
  p.second;
}
&&Number<std::remove_cvref_t<decltype(std::declval<P&>().first)>>&& Number<std::remove_cvref_t<decltype(std::declval<P&>().second)>>;

/// Pairs of numbers one after the other in memory.
template <class R>
concept PairRange = requires(const R& r) {
  std::data(r);
  std::size(r);
}
&&Pair<ElementOf<R>>;

using List = std::initializer_list<double>;
using PairList = std::initializer_list<std::pair<double, double>>;

template <class R, class F>
auto map(const R& values, F f) {
  std::vector<decltype(f(*std::data(values)))> out;
  out.reserve(std::size(values));
  const auto* p = std::data(values);
  for (size_t i = 0; i < std::size(values); ++i) out.push_back(f(p[i]));
  return out;
}
template <class A, class B, class F>
auto zip(const A& a, const char* a_name, const B& b, const char* b_name, F f) {
  if (std::size(a) != std::size(b)) raise_lengths(std::size(a), a_name, std::size(b), b_name);
  std::vector<decltype(f(*std::data(a), *std::data(b)))> out;
  out.reserve(std::size(a));
  const auto* p = std::data(a);
  const auto* q = std::data(b);
  for (size_t i = 0; i < std::size(a); ++i) out.push_back(f(p[i], q[i]));
  return out;
}

}  // namespace keel::numerics::detail
#pragma GCC visibility pop
