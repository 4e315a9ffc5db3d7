#pragma once
// The story of a run, as the monitor's log tells it. Reading takes bounded memory whatever the file holds.
#include <cmath>
#include <vector>

#include "common.h"

namespace keel::app {

/// Some steps of one site. Magnitudes are base-2 logarithms: `high` -inf where all values were zero, `low` +inf.
struct StoryPoint {
  float high = -INFINITY, low = INFINITY;
  float bits = INFINITY;  // of headroom
  uint32_t broken = 0, subnormal = 0;
  bool seen = false;
};
struct StorySite {
  int64_t id = 0;
  std::string op, output, path, phase, site, dtype;
  std::vector<StoryPoint> points;
  double limit = NAN;  // log2 of the largest value that the dtype has
  int64_t broken = 0, subnormal = 0, faults = 0, warnings = 0;
  float least = INFINITY, last = INFINITY;  // bits of headroom
};
struct StoryEvent {
  Severity severity = Severity::fault;
  std::string detector, kind, op, path, site, phase, text, suggestion, advice;
  int64_t step = 0, epoch = 0, eta = -1, count = 1;
  double low = 0, mean = 0, lost_ulps = 0, value = 0;  // `value` of the suggestion
  int64_t at = -1;                                     // index of the site
};
struct Story {
  static constexpr int64_t kColumns = 256;  // most points a site
  std::string file, keel, isa;
  int64_t steps = 0, lines = 0, damaged = 0, first_damaged = 0, more_sites = 0, more_events = 0;
  int64_t stride = 1;              // steps a point
  bool cut_short = false;          // the last line was being written
  std::vector<StorySite> sites;    // the worst first
  std::vector<StoryEvent> events;  // faults first, each kind in order of appearance

  int64_t count(Severity s) const;
};

/// Reads a monitor.jsonl; an Error of code `io` where it is none.
Story read_story(const std::string& path);
/// Steps until `bits` reaches zero if the eight readings that end at point `i` go on as they did; -1 where they do not fall.
double forecast(const StorySite& s, int64_t i, int64_t stride);
/// "matmul in block.0.attn, backward".
std::string place(const std::string& op, const std::string& path, const std::string& phase);
/// The whole page.
std::string story_page(const Story& s);
json story_json(const Story& s);

}  // namespace keel::app
