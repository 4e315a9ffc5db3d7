#pragma once
#include <cstdint>
#include <string>

namespace keel::base {

/// Processors this process may use at once: the affinity mask, further limited by the cgroup quota (v1 or v2), at least 1. Read anew on
/// each call.
int64_t usable_cpus();

/// Whole processors that the cgroup quota grants, 0 where there is no quota. `cgroup_text` is the content of /proc/self/cgroup, `root` the
/// mount point of the cgroup file system.
int64_t cgroup_quota(const std::string& cgroup_text, const std::string& root);

}  // namespace keel::base
