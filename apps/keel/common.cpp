#include "common.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
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
  return d && *d ? d : "data";
}

bool exists(const std::string& path) {
  struct stat s{};
  return stat(path.c_str(), &s) == 0;
}

void write_json(const std::string& path, const json& j) {
  if (auto ok = io::write_file(path, j.dump(2) + "\n"); !ok) raise(Error(ErrorCode::io, ok.message()));
}

namespace {
CLI::Validator number_check(const char* wanted, bool (*good)(double)) {
  return CLI::Validator([wanted, good](std::string& s) {
    char* end = nullptr;
    const double v = std::strtod(s.c_str(), &end);
    return !s.empty() && *end == 0 && std::isfinite(v) && good(v) ? std::string() : fmt::format("must be {}, got {}", wanted, s);
  }, "");
}
}  // namespace

CLI::Validator whole(int64_t least, int64_t most) {
  return CLI::Validator([least, most](std::string& s) {
    char* end = nullptr;
    errno = 0;
    const long long v = std::strtoll(s.c_str(), &end, 10);
    if (!s.empty() && *end == 0 && errno == 0 && v >= least && v <= most) return std::string();
    return most == INT64_MAX ? fmt::format("must be a whole number of at least {}, got {}", least, s)
                             : fmt::format("must be a whole number from {} to {}, got {}", least, most, s);
  }, "");
}
CLI::Validator positive() {
  return number_check("a number above 0", [](double v) { return v > 0; });
}
CLI::Validator not_negative() {
  return number_check("a number of at least 0", [](double v) { return v >= 0; });
}

CLI::Validator part_of_a_name(std::vector<std::string> rows) {
  return CLI::Validator([rows = std::move(rows)](std::string& s) {
    for (const std::string& row : rows)
      if (row.find(s) != std::string::npos) return std::string();
    return fmt::format("no row's name holds '{}'; there are {}", s, fmt::join(rows, ", "));
  }, "");
}

CLI::Validator device_name() {
  return CLI::Validator(
      [](std::string& s) {
        try {
          device(s);
        } catch (const Error& e) {
          if (e.code() == ErrorCode::value) return fmt::format("must be {}, got {}", e.hint(), s);
        }
        return std::string();
      },
      "");
}

void usage_error(const std::string& message) { throw CLI::ValidationError(message); }

json number(double v) { return std::isfinite(v) ? json(v) : json(nullptr); }

}  // namespace keel::app
