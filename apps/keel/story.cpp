// Reads the monitor's log. Nothing in it is trusted: lines and tables have greatest sizes, and what cannot be read is counted.
#include "story.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <unordered_map>

namespace keel::app {
namespace {

constexpr size_t kMostLine = size_t(4) << 20, kMostText = 4000;
constexpr size_t kMostSites = 4096, kMostEvents = 4000;
constexpr int kMostDepth = 6;

/// Text for terminals and pages: no control characters, no marks that turn the direction of writing.
std::string shown(const json& j, const char* key, size_t most = kMostText) {
  const auto it = j.find(key);
  if (it == j.end() || !it->is_string()) return {};
  const auto& s = it->get_ref<const std::string&>();
  std::string out;
  for (size_t i = 0; i < s.size() && out.size() < most; ++i) {
    const auto c = static_cast<unsigned char>(s[i]);
    const bool control = c < 0x20 || c == 0x7f;
    const bool c1 = c == 0xc2 && i + 1 < s.size() && static_cast<unsigned char>(s[i + 1]) < 0xa0;
    const bool turns = c == 0xe2 && i + 2 < s.size() && (s.compare(i + 1, 1, "\x80") == 0 || s.compare(i + 1, 1, "\x81") == 0) &&
                       ((static_cast<unsigned char>(s[i + 2]) >= 0xa6 && static_cast<unsigned char>(s[i + 2]) <= 0xae));
    if (control || c1 || turns) {
      out += ' ', i += c1 ? 1 : turns ? 2 : 0;
      continue;
    }
    out += s[i];
  }
  while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80 && out.size() >= most) out.pop_back();
  if (out.size() >= most) out.pop_back();
  return out;
}

int64_t whole_of(const json& j, const char* key, int64_t otherwise = 0) {
  const auto it = j.find(key);
  if (it == j.end() || !it->is_number()) return otherwise;
  if (it->is_number_unsigned()) return int64_t(std::min<uint64_t>(it->get<uint64_t>(), uint64_t(INT64_MAX)));
  if (it->is_number_integer()) return it->get<int64_t>();
  const double v = it->get<double>();
  return v > -9e18 && v < 9e18 ? int64_t(v) : otherwise;
}
double real_of(const json& j, const char* key, double otherwise = 0) {
  const auto it = j.find(key);
  return it == j.end() || !it->is_number() ? otherwise : it->get<double>();
}

class StoryReader {
 public:
  explicit StoryReader(Story& s) : s_(s) {}

  /// One line; false where it is damaged.
  bool line(std::string_view text) {
    const json j = json::parse(
        text.begin(), text.end(), [](int depth, json::parse_event_t, json&) { return depth <= kMostDepth; }, false);
    if (!j.is_object()) return false;
    const std::string event = shown(j, "event", 16);
    const int64_t step = whole_of(j, "step");
    if (step < 0) return false;
    if (event == "run")
      s_.keel = shown(j, "keel", 64), s_.isa = shown(j, "isa", 64);
    else if (event == "site")
      site(j);
    else if (event == "series")
      series(j, step);
    else if (event == "finding" || event == "warning" || event == "note")
      found(j, event, step);
    else if (event != "step" && event != "total")
      return false;
    s_.steps = std::max(s_.steps, step);
    while (s_.steps / s_.stride >= Story::kColumns) fold();  // also where a step has no values
    return true;
  }

 private:
  void site(const json& j) {
    const int64_t id = whole_of(j, "id", -1);
    if (id < 0 || index_.contains(id)) return;
    if (s_.sites.size() >= kMostSites) {
      ++s_.more_sites;
      return;
    }
    index_.emplace(id, s_.sites.size());
    StorySite t;
    t.id = id, t.op = shown(j, "op", 100), t.output = shown(j, "output", 40), t.path = shown(j, "path", 400),
    t.phase = shown(j, "phase", 16);
    t.site = shown(j, "site", 400), t.dtype = shown(j, "dtype", 16);
    s_.sites.push_back(std::move(t));
  }

  void series(const json& j, int64_t step) {
    const auto id = j.find("id"), high = j.find("high"), low = j.find("low"), bits = j.find("bits"), nan = j.find("nan"),
               inf = j.find("inf"), sub = j.find("subnormal");
    if (id == j.end() || !id->is_array()) return;
    while (step / s_.stride >= Story::kColumns) fold();
    const auto at = [&](auto it, size_t i) -> double {
      if (it == j.end() || !it->is_array() || i >= it->size() || !(*it)[i].is_number()) return NAN;
      return (*it)[i].template get<double>();
    };
    const auto number_of = [](double v) { return v > 0 && v < 4e9 ? uint32_t(v) : v >= 4e9 ? UINT32_MAX : 0u; };
    for (size_t i = 0; i < id->size(); ++i) {
      if (!(*id)[i].is_number_integer()) continue;
      const auto found = index_.find((*id)[i].get<int64_t>());
      if (found == index_.end()) continue;
      StorySite& t = s_.sites[found->second];
      const auto column = size_t(step / s_.stride);
      if (t.points.size() <= column) t.points.resize(column + 1);
      StoryPoint p;
      p.seen = true;
      const double h = at(high, i), l = at(low, i), b = at(bits, i);
      if (h > 0) p.high = float(std::log2(h));
      if (l > 0) p.low = float(std::log2(l));
      if (!std::isnan(b)) p.bits = float(b);
      const uint32_t nans = number_of(at(nan, i)), infs = number_of(at(inf, i));
      p.broken = nans > UINT32_MAX - infs ? UINT32_MAX : nans + infs, p.subnormal = number_of(at(sub, i));
      if (p.broken)
        p.bits = 0;
      else if (h > 0 && !std::isnan(b))
        t.limit = b + std::log2(h);
      join(t.points[column], p);
      t.broken += p.broken, t.subnormal += p.subnormal, t.least = std::min(t.least, p.bits), t.last = p.bits;
    }
  }

  void found(const json& j, const std::string& event, int64_t step) {
    StoryEvent e;
    e.severity = event == "finding" ? Severity::fault : event == "warning" ? Severity::warning : Severity::info;
    if (s_.events.size() >= kMostEvents) {
      ++s_.more_events;
      return;
    }
    e.step = step, e.epoch = whole_of(j, "epoch"), e.eta = whole_of(j, "eta", -1), e.count = whole_of(j, "count", 1);
    e.low = real_of(j, "low"), e.mean = real_of(j, "mean"), e.lost_ulps = real_of(j, "lost_ulps");
    e.detector = shown(j, "detector", 40), e.kind = shown(j, "kind", 40), e.op = shown(j, "op", 100), e.path = shown(j, "path", 400);
    e.site = shown(j, "site", 400), e.phase = shown(j, "phase", 16), e.text = shown(j, "text");
    if (const auto it = j.find("suggestion"); it != j.end() && it->is_object())
      e.suggestion = shown(*it, "kind", 40), e.advice = shown(*it, "text"), e.value = real_of(*it, "value");
    if (const auto at = index_.find(whole_of(j, "id", -1)); at != index_.end()) {
      e.at = int64_t(at->second);
    } else {
      for (size_t i = 0; i < s_.sites.size() && e.at < 0; ++i)
        if (s_.sites[i].op == e.op && s_.sites[i].path == e.path && s_.sites[i].phase == e.phase && s_.sites[i].site == e.site)
          e.at = int64_t(i);
    }
    if (e.at >= 0) {
      StorySite& t = s_.sites[size_t(e.at)];
      t.faults += e.severity == Severity::fault, t.warnings += e.severity == Severity::warning;
    }
    s_.events.push_back(std::move(e));
  }

  static void join(StoryPoint& to, const StoryPoint& p) {
    if (!p.seen) return;
    to.seen = true, to.high = std::max(to.high, p.high), to.low = std::min(to.low, p.low), to.bits = std::min(to.bits, p.bits);
    to.broken = p.broken > UINT32_MAX - to.broken ? UINT32_MAX : to.broken + p.broken;
    to.subnormal = p.subnormal > UINT32_MAX - to.subnormal ? UINT32_MAX : to.subnormal + p.subnormal;
  }
  /// Points get twice as wide.
  void fold() {
    s_.stride *= 2;
    for (StorySite& t : s_.sites) {
      for (size_t i = 0; i < t.points.size(); ++i) {
        const StoryPoint p = t.points[i];
        if (i % 2 == 0)
          t.points[i / 2] = p;
        else
          join(t.points[i / 2], p);
      }
      t.points.resize((t.points.size() + 1) / 2);
    }
  }

  Story& s_;
  std::unordered_map<int64_t, size_t> index_;
};

void put_worst_first(Story& s) {
  std::vector<StoryEvent> events;
  for (Severity severity : {Severity::fault, Severity::warning, Severity::info})
    for (StoryEvent& e : s.events)
      if (e.severity == severity) events.push_back(std::move(e));  // leaves the severity as it is
  s.events = std::move(events);
  std::vector<size_t> order(s.sites.size()), place_of(s.sites.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t i, size_t k) {
    const StorySite &a = s.sites[i], &b = s.sites[k];
    if ((a.faults > 0) != (b.faults > 0)) return a.faults > 0;
    if ((a.warnings > 0) != (b.warnings > 0)) return a.warnings > 0;
    if ((a.broken > 0) != (b.broken > 0)) return a.broken > 0;
    return a.least != b.least ? a.least < b.least : i < k;
  });
  std::vector<StorySite> sorted;
  for (size_t i : order) place_of[i] = sorted.size(), sorted.push_back(std::move(s.sites[i]));
  s.sites = std::move(sorted);
  for (StoryEvent& e : s.events)
    if (e.at >= 0) e.at = int64_t(place_of[size_t(e.at)]);
}

}  // namespace

int64_t Story::count(Severity severity) const {
  return std::count_if(events.begin(), events.end(), [&](const StoryEvent& e) { return e.severity == severity; });
}

std::string place(const std::string& op, const std::string& path, const std::string& phase) {
  return op + (path.empty() ? "" : " in " + path) + (phase.empty() ? "" : ", " + phase);
}

double forecast(const StorySite& s, int64_t i, int64_t stride) {
  double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (int64_t k = i; k >= 0 && n < 8; --k) {
    const StoryPoint& p = s.points[size_t(k)];
    if (!p.seen || !std::isfinite(p.bits) || p.broken) continue;
    const auto x = double(k - i), y = double(p.bits);
    ++n, sx += x, sy += y, sxx += x * x, sxy += x * y;
  }
  if (n < 4) return -1;
  const double spread = n * sxx - sx * sx, slope = spread > 0 ? (n * sxy - sx * sy) / spread : 0;
  return slope < -1e-6 ? double(s.points[size_t(i)].bits) / -slope * double(stride) : -1;
}

Story read_story(const std::string& path) {
  const auto fail = [&](const std::string& what) { raise(Error(ErrorCode::io, path + ": " + what)); };
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) fail(std::strerror(errno));
  if (!S_ISREG(st.st_mode)) fail("is no regular file");
  struct Closer {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  const std::unique_ptr<std::FILE, Closer> file(std::fopen(path.c_str(), "rb"));
  if (!file) fail(std::strerror(errno));
  Story s;
  s.file = path;
  StoryReader reader(s);
  std::string line;
  bool too_long = false;
  int64_t good = 0;
  const auto take = [&](bool whole) {
    if (line.empty() && !too_long) return;
    ++s.lines;
    if (!too_long && reader.line(line))
      ++good;
    else if (!whole)
      s.cut_short = true, --s.lines;
    else if (++s.damaged == 1)
      s.first_damaged = s.lines;
    line.clear(), too_long = false;
  };
  char buffer[1 << 16];
  // A log that is being written grows: read what was there at first.
  for (auto left = uint64_t(st.st_size); left > 0;) {
    const size_t n = std::fread(buffer, 1, size_t(std::min<uint64_t>(left, sizeof buffer)), file.get());
    if (n == 0) break;
    left -= n;
    for (size_t i = 0; i < n;) {
      const void* end = std::memchr(buffer + i, '\n', n - i);
      const size_t stop = end ? size_t(static_cast<const char*>(end) - buffer) : n;
      if (line.size() + (stop - i) > kMostLine)
        too_long = true, line.clear();
      else if (!too_long)
        line.append(buffer + i, stop - i);
      if (end) take(true);
      i = stop + 1;
    }
  }
  if (std::ferror(file.get())) fail("cannot be read");
  take(false);
  if (good == 0) fail(s.lines || s.cut_short ? "is no log of a monitor: no line of it is an event" : "is empty");
  put_worst_first(s);
  return s;
}

json story_json(const Story& s) {
  json events = json::array(), sites = json::array();
  constexpr const char* severities[] = {"info", "warning", "fault"};
  for (const StoryEvent& e : s.events) {
    json j{{"severity", severities[int(e.severity)]},
           {"detector", e.detector},
           {"kind", e.kind},
           {"step", e.step},
           {"epoch", e.epoch},
           {"op", e.op},
           {"path", e.path},
           {"phase", e.phase},
           {"site", e.site},
           {"text", e.text},
           {"count", e.count},
           {"low", number(e.low)},
           {"mean", number(e.mean)},
           {"lost_ulps", number(e.lost_ulps)}};
    j["eta"] = e.eta < 0 ? json(nullptr) : json(e.eta);
    if (!e.advice.empty()) j["suggestion"] = {{"kind", e.suggestion}, {"text", e.advice}, {"value", number(e.value)}};
    if (e.at >= 0) j["id"] = s.sites[size_t(e.at)].id;
    events.push_back(std::move(j));
  }
  for (const StorySite& t : s.sites) {
    json points = json::array();
    for (size_t i = 0; i < t.points.size(); ++i) {
      const StoryPoint& p = t.points[i];
      if (!p.seen) continue;
      const double eta = forecast(t, int64_t(i), s.stride);
      points.push_back({{"step", int64_t(i) * s.stride},
                        {"high", number(std::exp2(double(p.high)))},
                        {"low", number(std::isfinite(p.low) ? std::exp2(double(p.low)) : 0)},
                        {"bits", number(p.bits)},
                        {"broken", p.broken},
                        {"subnormal", p.subnormal},
                        {"eta", eta < 0 ? json(nullptr) : number(eta)}});
    }
    sites.push_back({{"id", t.id},
                     {"op", t.op},
                     {"output", t.output},
                     {"path", t.path},
                     {"phase", t.phase},
                     {"site", t.site},
                     {"dtype", t.dtype},
                     {"least_bits", number(t.least)},
                     {"last_bits", number(t.last)},
                     {"broken", t.broken},
                     {"subnormal", t.subnormal},
                     {"faults", t.faults},
                     {"warnings", t.warnings},
                     {"points", points}});
  }
  return {{"file", s.file},
          {"keel", s.keel},
          {"isa", s.isa},
          {"steps", s.steps},
          {"stride", s.stride},
          {"lines", s.lines},
          {"damaged", s.damaged},
          {"cut_short", s.cut_short},
          {"more_sites", s.more_sites},
          {"more_events", s.more_events},
          {"events", events},
          {"sites", sites}};
}

}  // namespace keel::app
