#include "base/cpu_limit.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/env.h"
#include "base/threads.h"

#if KEEL_THREADS
#include <thread>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace keel::base {
namespace {

// Small pseudo files; empty where the file cannot be read.
std::string read_small(const std::string& path) {
  std::string text;
  if (std::FILE* f = std::fopen(path.c_str(), "re")) {
    char buffer[4096];
    for (size_t n; text.size() < 65536 && (n = std::fread(buffer, 1, sizeof buffer, f)) > 0;) text.append(buffer, n);
    std::fclose(f);
  }
  return text;
}

int64_t whole(int64_t quota, int64_t period) { return quota > 0 && period > 0 ? std::max<int64_t>(1, quota / period) : 0; }
int64_t tighter(int64_t a, int64_t b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

int64_t limit_v2(const std::string& dir) {
  const std::string text = read_small(dir + "/cpu.max");  // "max 100000" or "150000 100000"
  const size_t space = text.find(' ');
  if (space == std::string::npos) return 0;
  return whole(leading_int(text).value_or(0), leading_int(std::string_view(text).substr(space)).value_or(0));
}
int64_t limit_v1(const std::string& dir) {
  return whole(leading_int(read_small(dir + "/cpu.cfs_quota_us")).value_or(0),
               leading_int(read_small(dir + "/cpu.cfs_period_us")).value_or(0));
}

// The tightest limit of a group and all above it.
template <class Limit>
int64_t climb(const std::string& root, std::string group, Limit limit) {
  int64_t best = 0;
  for (;;) {
    best = tighter(best, limit(root + (group == "/" ? "" : group)));
    const size_t slash = group.rfind('/');
    if (group.empty() || group == "/" || slash == std::string::npos) return best;
    group.resize(slash);
  }
}

}  // namespace

int64_t cgroup_quota(const std::string& cgroup_text, const std::string& root) {
  int64_t best = 0;
  for (size_t at = 0; at < cgroup_text.size();) {
    const size_t end = std::min(cgroup_text.find('\n', at), cgroup_text.size());
    const std::string_view line(cgroup_text.data() + at, end - at);  // "id:controllers:path"
    at = end + 1;
    const size_t c1 = line.find(':'), c2 = c1 == line.npos ? line.npos : line.find(':', c1 + 1);
    if (c2 == line.npos) continue;
    const std::string_view controllers = line.substr(c1 + 1, c2 - c1 - 1);
    const std::string group(line.substr(c2 + 1));
    if (controllers.empty()) {
      best = tighter(best, climb(root, group, limit_v2));
    } else if ((',' + std::string(controllers) + ',').find(",cpu,") != std::string::npos) {
      for (const char* mount : {"/cpu", "/cpu,cpuacct"}) best = tighter(best, climb(root + mount, group, limit_v1));
    }
  }
  return best;
}

int64_t usable_cpus() {
#if KEEL_THREADS
  int64_t n = std::max<int64_t>(1, static_cast<int64_t>(std::thread::hardware_concurrency()));
#else
  int64_t n = 1;
#endif
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = std::max(1, CPU_COUNT(&set));
  const int64_t quota = cgroup_quota(read_small("/proc/self/cgroup"), "/sys/fs/cgroup");
  if (quota > 0) n = std::min(n, quota);
#endif
  return n;
}

}  // namespace keel::base
