#pragma once
// What starting an empty kernel costs the host, by the ways that CUDA has for it: the floor of every op on a GPU.
#include <vector>

struct BareLaunch {
  const char* name;
  void (*start)();
  void (*wait)();
};
/// Empty where there is no GPU.
std::vector<BareLaunch> bare_launches();
