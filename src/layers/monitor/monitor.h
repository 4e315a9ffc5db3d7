#pragma once
// What a Monitor keeps. The layer's side of it is written for speed: no text, no allocation but when a new site appears.
#include <cstdio>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/stat_slot.h"
#include "keel/monitor.h"
#include "op/scope.h"

namespace keel {

struct Storage;

/// Totals of one result at one site.
struct WatchedResult {
  uint64_t calls = 0, elements = 0, nan = 0, inf = 0, subnormal = 0;
  double largest = 0, smallest = 0;
  int64_t first_step = 0, last_step = 0;
  DType dtype = DType::none;
};
/// One op at one place of the program.
struct WatchedSite {
  const OpDef* op = nullptr;
  const char* path = nullptr;
  const void* site = nullptr;
  Phase phase = Phase::forward;
  WatchedResult results[4];  // one a declared output
};
/// One call as the ring keeps it: what the kernel wrote into its slot.
struct WatchedRow {
  int64_t step;
  uint32_t site;
  uint8_t output;
  DType dtype;
  uint64_t max_bits, min_bits, elements;
  uint32_t nan, inf, subnormal;
};

/// Storages that hold a NaN or an infinity which was seen when it was made. Few at a time; beyond the capacity the oldest are forgotten.
class TaintedStorages {
 public:
  enum Kind : uint8_t { clean, inf, nan };
  bool empty() const { return count_ == 0; }
  Kind find(const Storage* s) const {
    for (int i = 0; i < count_; ++i)
      if (of_[i] == s) return kind_[i];
    return clean;
  }
  void set(const Storage* s, Kind k) {
    for (int i = 0; i < count_; ++i)
      if (of_[i] == s) {
        kind_[i] = k;
        if (k == clean) --count_, of_[i] = of_[count_], kind_[i] = kind_[count_];
        return;
      }
    if (k == clean) return;
    const int at = count_ < kMost ? count_++ : next_++ % kMost;
    of_[at] = s, kind_[at] = k;
  }

 private:
  static constexpr int kMost = 256;
  const Storage* of_[kMost];
  Kind kind_[kMost];
  int count_ = 0;
  unsigned next_ = 0;
};

struct MonitorState {
  static constexpr int kRing = 4096;
  static constexpr size_t kMostSites = 1 << 16;
  static constexpr size_t kMostFindings = 1000;
  struct Found {
    uint32_t site;
    uint8_t output;
    const char* kind;
    int64_t step, elements, count;
    Monitor::Finding about;  // severity, detector, text, numbers; what the site says is filled in when somebody asks
  };

  explicit MonitorState(const MonitorOptions& o);
  ~MonitorState();

  MonitorOptions options;
  void* above = nullptr;  // the older monitor of this thread
  int64_t step = 0, epoch = 0, blocked = 0;
  std::vector<WatchedSite> sites;
  std::vector<uint32_t> index;  // open addressing: site + 1, 0 for none; the size is a power of two
  std::vector<WatchedRow> ring;
  uint64_t rows = 0;  // written so far
  std::vector<Found> found;
  std::unordered_map<uint64_t, uint32_t> found_index;  // site, output, kind
  TaintedStorages tainted;

  // since the last step, for the log
  int64_t step_ops = 0, step_nan = 0, step_inf = 0, step_subnormal = 0;
  double step_largest = 0;
  // the governor of separate passes
  uint64_t pass_ns = 0, step_began_ns = 0;
  uint32_t every = 1, rotation = 0;
  std::FILE* log = nullptr;
  size_t logged = 0;  // findings written so far
  std::vector<uint8_t> announced;  // a site's outputs, as bits, that the log has named
  int broken_lines = 0;

  uint32_t site_of(const Call& c);
  void take(const Call& c, const Tensors& out, const StatSlot* slots, const TaintedStorages::Kind* overwritten);
  void begin_step();

  Monitor::Finding finding(const Found& f) const;
  std::vector<Monitor::Finding> found_with(Severity severity) const;
  Monitor::Statistic statistic(const WatchedSite& s, int output) const;
  Monitor::Record record(const WatchedRow& r) const;
  std::string report() const;
  void write_begin();
  void write_findings();
  void write_step();
  void write_end();

 private:
  void write_series();
  void announce(uint32_t site, int output);
  void grow_index();
  void taint(const Call& c, const Tensors& out, int i, TaintedStorages::Kind kind);
  void examine(const Call& c, const Tensors& out, int i, uint32_t site, uint8_t output, const StatSlot& slot,
               const TaintedStorages::Kind* overwritten);
  void add_found(const Call& c, uint32_t site, uint8_t output, const char* kind, bool info, double value, int64_t elements,
                 std::string text);
};

/// The value of a bit pattern without its sign.
double magnitude_of(uint64_t bits, DType t);
const char* phase_name(Phase p);

}  // namespace keel
