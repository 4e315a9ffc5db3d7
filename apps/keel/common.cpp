#include "common.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "keel/cpu.h"

namespace keel::app {

Cpu cpu_info() {
  Cpu c;
  c.name = "unknown";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) {
      c.name = line.substr(line.find(':') + 2);
      break;
    }
  c.isa = cpu_isa();
  c.text = cpu_report();
  return c;
}

int64_t peak_rss_bytes() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  return int64_t(u.ru_maxrss) * 1024;
}

std::string data_folder() {
  const char* d = std::getenv("KEEL_DATA");
  return d && *d ? d : "../shared/data";
}

bool exists(const std::string& path) {
  struct stat s{};
  return stat(path.c_str(), &s) == 0;
}

void write_json(const std::string& path, const json& j) {
  if (auto ok = io::write_file(path, j.dump(2) + "\n"); !ok) raise(Error(ErrorCode::io, ok.message()));
}

json read_json(const std::string& path) {
  const std::string text = io::read_text(path);
  json j = json::parse(text, nullptr, false);
  if (j.is_discarded()) raise(Error(ErrorCode::io, path + ": is no JSON"));
  return j;
}

json number(double v) { return std::isfinite(v) ? json(v) : json(nullptr); }

}  // namespace keel::app
