#pragma once
// What starting an empty kernel costs the host, by the ways that CUDA has for it: the floor of every op on a GPU; and what a
// row costs that blocks of a grid put together.
#include <functional>
#include <vector>

struct BareLaunch {
  const char* name;
  void (*start)();
  void (*wait)();
};
/// Work of a GPU alone: `start` queues it `times` times.
struct BareWork {
  const char* name;
  int times;
  std::function<void()> start, wait;
};
/// Empty where there is no GPU.
std::vector<BareLaunch> bare_launches();
std::vector<BareWork> row_floors();
