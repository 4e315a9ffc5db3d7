// What one call costs where the arithmetic is next to nothing: ops on a single element, in nanoseconds. Best and median of many short runs,
// so that a busy machine shows in the median only.
//
//   keel_bench_overhead [--json] [FILTER]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "keel/keel.h"

using namespace keel;

namespace {

const char* filter = "";
bool json = false;

template <class F>
void row(const char* name, F&& f, int batch = 500, int repeats = 800) {
  if (!std::strstr(name, filter)) return;
  using Clock = std::chrono::steady_clock;
  for (int i = 0; i < batch; ++i) f();
  std::vector<double> ns;
  for (int r = 0; r < repeats; ++r) {
    const auto t = Clock::now();
    for (int i = 0; i < batch; ++i) f();
    ns.push_back(std::chrono::duration<double, std::nano>(Clock::now() - t).count() / batch);
  }
  std::sort(ns.begin(), ns.end());
  if (json)
    std::printf("{\"name\": \"%s\", \"unit\": \"ns\", \"best\": %.1f, \"median\": %.1f, \"threads\": 1}\n", name, ns[0], ns[ns.size() / 2]);
  else
    std::printf("%-28s best %7.1f ns   median %7.1f ns\n", name, ns[0], ns[ns.size() / 2]);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--json"))
      json = true;
    else
      filter = argv[i];
  }
  Tensor a = ones({1}), b = ones({1}), w = ones({1}, {.requires_grad = true}), m = ones({4, 4});
  {
    NoGrad off;
    row("add [1] no_grad", [&] { Tensor c = add(a, b); });
  }
  row("add [1] untracked", [&] { Tensor c = add(a, b); });
  row("add [1] with grad", [&] { Tensor c = add(w, b); });
  row("mul [1] with grad", [&] { Tensor c = mul(w, b); });
  row("add [1] number", [&] { Tensor c = add(a, 1.0); });
  row("add_ [1]", [&] { a.add_(b); });
  row("reshape [4, 4]", [&] { Tensor c = reshape(m, {16}); });
  row("reshape [1] with grad", [&] { Tensor c = reshape(w, {1, 1}); });
  row("empty [1]", [&] { Tensor c = empty({1}); });
  row("backward of add [1]", [&] { add(w, b).backward(); });
}
