#pragma once
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

// Two implementations timed in turns, so that a change of the machine's mood meets both. A sample is enough calls to last `sample` seconds.
namespace bench {

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
inline bool one_thread = true;  // time this thread's CPU instead of the clock, so that other programs on the machine disturb less
inline double tick() {
  if (!one_thread) return now();
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

struct Result {
  double best[2], median[2], ratio;  // seconds a call; median over rounds of (time of b / time of a): above 1, a is faster
  double low, high;                  // 10th and 90th percentile of that ratio
};

template <class A, class B>
Result interleave(A&& a, B&& b, double total = 0.6, double sample = 2e-3) {
  a(), b();
  double t0 = tick();
  a();
  double ta = tick() - t0;
  t0 = tick();
  b();
  double tb = tick() - t0;
  const int na = std::max(1, int(sample / std::max(ta, 1e-9))), nb = std::max(1, int(sample / std::max(tb, 1e-9)));
  std::vector<double> va, vb, r;
  const double begin = now();
  while (now() - begin < total || r.size() < 5) {
    t0 = tick();
    for (int i = 0; i < na; ++i) a();
    ta = (tick() - t0) / na;
    t0 = tick();
    for (int i = 0; i < nb; ++i) b();
    tb = (tick() - t0) / nb;
    va.push_back(ta), vb.push_back(tb), r.push_back(tb / ta);
  }
  const auto mid = [](std::vector<double>& v) {
    std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
    return v[v.size() / 2];
  };
  const auto part = [](std::vector<double>& v, double share) {
    std::sort(v.begin(), v.end());
    return v[size_t(share * double(v.size() - 1))];
  };
  return {{*std::min_element(va.begin(), va.end()), *std::min_element(vb.begin(), vb.end())},
          {mid(va), mid(vb)},
          mid(r),
          part(r, 0.1),
          part(r, 0.9)};
}

inline float* floats(size_t n, unsigned seed = 1) {
  float* p = static_cast<float*>(std::aligned_alloc(4096, (n * 4 + 4095) / 4096 * 4096));
  for (size_t i = 0; i < n; ++i) seed = seed * 1664525u + 1013904223u, p[i] = float(int(seed >> 8)) * (1.f / 8388608.f) - 1.f;
  return p;
}

}  // namespace bench
