// What a GPU did while a program ran, without changing the program: a library that the CUDA driver loads where the environment says
//   CUDA_INJECTION64_PATH=build/cuda/libkeel_kernel_trace.so PROGRAM ...
// At the end it prints to stderr the time that each kernel took, most first, and the share of the span in which the device worked. With
// KEEL_KERNEL_TRACE=FILE it also writes the names in the order of their start, a line each: two such files tell whether two runs asked the
// device for the same work. KEEL_KERNEL_TRACE_SKIP=N leaves out the first N activities (building and warming up). A program that finds the
// library loaded may call keel_kernel_trace_take to get the names of what it asked for lately.
#include <cupti.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Activity {
  uint64_t start, end;
  std::string name, shape;
};
std::mutex mutex;
std::vector<Activity> activities;
size_t taken = 0;

void add(uint64_t start, uint64_t end, std::string name, std::string shape = {}) {
  const std::lock_guard lock(mutex);
  activities.push_back({start, end, std::move(name), std::move(shape)});
}

/// Without arguments of templates beyond what fits a line.
std::string short_name(const char* name) {
  std::string s = name ? name : "?";
  return s.size() > 110 ? s.substr(0, 107) + "..." : s;
}

void CUPTIAPI give_buffer(uint8_t** buffer, size_t* size, size_t* records) {
  *size = size_t(4) << 20, *records = 0;
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(8, *size));
}
void CUPTIAPI take_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
  CUpti_Activity* r = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &r) == CUPTI_SUCCESS) {
    if (r->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL || r->kind == CUPTI_ACTIVITY_KIND_KERNEL) {
      const auto* k = reinterpret_cast<const CUpti_ActivityKernel9*>(r);
      char shape[96];
      std::snprintf(shape, sizeof shape, " <<<%d x %d x %d, %d x %d x %d>>>", k->gridX, k->gridY, k->gridZ, k->blockX, k->blockY,
                    k->blockZ);
      add(k->start, k->end, short_name(k->name), shape);
    } else if (r->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
      const auto* k = reinterpret_cast<const CUpti_ActivityMemcpy6*>(r);
      add(k->start, k->end,
          k->copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_HTOD   ? "copy to the device"
          : k->copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_DTOH ? "copy to the host"
                                                           : "copy");
    } else if (r->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
      const auto* k = reinterpret_cast<const CUpti_ActivityMemset4*>(r);
      add(k->start, k->end, "fill");
    }
  }
  std::free(buffer);
}

void print() {
  cuptiActivityFlushAll(1);
  const std::lock_guard lock(mutex);
  std::stable_sort(activities.begin(), activities.end(), [](const Activity& a, const Activity& b) { return a.start < b.start; });
  const char* skip = std::getenv("KEEL_KERNEL_TRACE_SKIP");
  const size_t from = std::min(activities.size(), skip ? size_t(std::atoll(skip)) : size_t(0));
  struct Sum {
    uint64_t calls = 0, ns = 0;
  };
  std::map<std::string, Sum> sums;
  uint64_t busy = 0, until = 0, first = 0, last = 0;
  std::FILE* file = nullptr;
  if (const char* path = std::getenv("KEEL_KERNEL_TRACE")) file = std::fopen(path, "w");
  for (size_t i = from; i < activities.size(); ++i) {
    const Activity& a = activities[i];
    Sum& s = sums[a.name];
    ++s.calls, s.ns += a.end - a.start;
    if (i == from) first = until = a.start;
    busy += a.end > until ? a.end - std::max(until, a.start) : 0;
    until = std::max(until, a.end), last = until;
    if (file) std::fprintf(file, "%s\n", a.name.c_str());
  }
  if (file) std::fclose(file);
  std::vector<std::pair<std::string, Sum>> order(sums.begin(), sums.end());
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.second.ns > b.second.ns; });
  std::fprintf(stderr, "%zu activities, device busy %.1f ms of %.1f ms\n", activities.size() - from, double(busy) * 1e-6,
               double(last - first) * 1e-6);
  for (size_t i = 0; i < order.size() && i < 40; ++i) {
    const Sum& s = order[i].second;
    std::fprintf(stderr, "%5.1f %% %9.3f ms %7llu x %9.2f us  %s\n", busy ? 100.0 * double(s.ns) / double(busy) : 0, double(s.ns) * 1e-6,
                 static_cast<unsigned long long>(s.calls), double(s.ns) * 1e-3 / double(s.calls), order[i].first.c_str());
  }
}

}  // namespace

/// Calls to(context, text) for each activity since the last call, in the order of their start; `text` is a name with the launch's shape.
/// After the device has been waited for.
extern "C" __attribute__((visibility("default"))) void keel_kernel_trace_take(void (*to)(void* context, const char* text), void* context) {
  cuptiActivityFlushAll(1);
  const std::lock_guard lock(mutex);
  const auto begin = activities.begin() + std::ptrdiff_t(taken);
  std::stable_sort(begin, activities.end(), [](const Activity& a, const Activity& b) { return a.start < b.start; });
  for (auto a = begin; a != activities.end(); ++a) to(context, (a->name + a->shape).c_str());
  taken = activities.size();
}

extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  cuptiActivityRegisterCallbacks(give_buffer, take_buffer);
  for (const CUpti_ActivityKind kind : {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET})
    cuptiActivityEnable(kind);
  std::atexit(print);
  return 1;
}
