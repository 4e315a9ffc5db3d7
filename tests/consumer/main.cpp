#include <keel/keel.h>
#include <keel/version.h>

#include <cstdio>
#include <cstring>

/// With an argument: says what becomes of the library for CUDA.
int main(int count, char**) {
  if (count > 1) return std::puts(keel::device_text({keel::DeviceType::cuda, 0}).c_str()) < 0;
  try {
    const keel::Tensor x = keel::ones({2, 5});
    if (keel::sum(x).item<float>() != 10 || std::strcmp(keel::version(), "0.1.0")) return 1;
    reshape(x, {3, 3});
  } catch (const keel::Error& e) {  // the error's type crosses the library's border
    return std::strstr(e.what(), "reshape") == nullptr;
  }
  return 1;
}
