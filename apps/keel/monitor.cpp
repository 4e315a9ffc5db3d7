// keel monitor: what a run's monitor saw, in the terminal and as a page.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "story.h"

namespace keel::app {
namespace {

struct StoryOptions {
  std::string run, html;
  int64_t sites = 20;
  bool as_json = false, no_html = false;
};

/// Colours where stdout is a terminal that wants them.
struct Paint {
  bool on = isatty(1) && !std::getenv("NO_COLOR");
  std::string operator()(const char* code, const std::string& s) const { return on ? fmt::format("\x1b[{}m{}\x1b[0m", code, s) : s; }
};
constexpr const char *kRed = "31;1", *kYellow = "33;1", *kFaint = "2", *kBold = "1", *kGreen = "32";

int terminal_width() {
  winsize w{};
  if (ioctl(1, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) return std::clamp<int>(w.ws_col, 80, 200);
  const char* c = std::getenv("COLUMNS");
  return c ? std::clamp(std::atoi(c), 80, 200) : 120;
}

size_t letters(const std::string& s) {
  return size_t(std::count_if(s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}
/// `s` in `width` columns; one that is longer loses its beginning, as paths differ at the end.
std::string fit(std::string s, size_t width) {
  size_t n = letters(s);
  if (n > width) {
    size_t cut = 0;
    for (; n > width - 1; ++cut)
      if ((static_cast<unsigned char>(s[cut + 1]) & 0xc0) != 0x80) --n;
    s = "…" + s.substr(cut), n = width;
  }
  return s + std::string(width - n, ' ');
}
/// Lines of at most `width` columns, broken at blanks, each after the first behind `indent`.
std::string wrapped(const std::string& s, size_t width, const std::string& indent) {
  std::string out, line;
  for (size_t at = 0; at < s.size();) {
    const size_t end = std::min(s.find(' ', at), s.size());
    const std::string word = s.substr(at, end - at);
    if (!line.empty() && letters(line) + 1 + letters(word) > width) out += line + "\n" + indent, line.clear();
    line += (line.empty() ? "" : " ") + word;
    at = end + 1;
  }
  return out + line;
}

std::string bits_text(float v) { return std::isfinite(v) ? fmt::format("{:.1f}", v) : "-"; }

/// Headroom over the steps: a block a column, whose height is the share of the site's greatest headroom that is left. × where values broke,
/// ! where a warning stands.
std::string timeline(const Story& s, size_t at, int64_t columns, const Paint& paint) {
  constexpr const char* blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const StorySite& t = s.sites[at];
  const int64_t all = std::max<int64_t>(1, s.steps / s.stride + 1);
  float most = 1;
  for (const StoryPoint& p : t.points)
    if (p.seen && std::isfinite(p.bits)) most = std::max(most, p.bits);
  std::string out, run;
  const char* colour = "";
  const auto put = [&](const char* with, const char* block) {  // one change of colour for a run of blocks
    if (with != colour && !run.empty()) out += *colour ? paint(colour, run) : run, run.clear();
    colour = with, run += block;
  };
  columns = std::min(columns, all);
  for (int64_t c = 0; c < columns; ++c) {
    const int64_t from = c * all / columns, to = std::max(from + 1, (c + 1) * all / columns);
    float least = INFINITY;
    bool seen = false, broken = false, fault = false, warning = false;
    for (int64_t i = from; i < to && i < int64_t(t.points.size()); ++i) {
      const StoryPoint& p = t.points[size_t(i)];
      seen |= p.seen, broken |= p.broken > 0;
      if (p.seen) least = std::min(least, p.bits);
    }
    for (const StoryEvent& e : s.events)
      if (e.at == int64_t(at) && e.step / s.stride >= from && e.step / s.stride < to)
        fault |= e.severity == Severity::fault, warning |= e.severity == Severity::warning;
    if (fault || broken)
      put(kRed, "×");
    else if (warning)
      put(kYellow, "!");
    else if (!seen)
      put("", " ");
    else if (!std::isfinite(least))
      put(kFaint, "█");  // zeros only
    else
      put(least < 2 ? kRed : least < 6 ? kYellow : kGreen, blocks[std::clamp(int(std::max(0.0f, least) / most * 8), 0, 7)]);
  }
  return out + (*colour ? paint(colour, run) : run);
}

void print_event(const StoryEvent& e, const Paint& paint, size_t width) {
  const bool fault = e.severity == Severity::fault, warning = e.severity == Severity::warning;
  const std::string mark = fault ? paint(kRed, "× fault  ") : warning ? paint(kYellow, "! warning") : paint(kFaint, "· note   ");
  const std::string indent(10, ' ');
  std::string head = fmt::format("step {}{}", e.step, e.epoch > 0 ? fmt::format(", epoch {}", e.epoch) : "");
  fmt::print("\n{} {}: {}{}\n", mark, head, paint(kBold, place(e.op, e.path, e.phase)),
             e.detector.empty() || e.detector == "nonfinite" ? "" : " (" + e.detector + ")");
  fmt::print("{}{}\n", indent, wrapped(e.text, width - 10, indent));
  if (!e.site.empty()) fmt::print("{}{}\n", indent, paint(kFaint, "at " + e.site));
  std::string numbers;
  const auto said = [&](const std::string& what) { return e.text.find(what) != std::string::npos; };  // texts of rules have their numbers
  if (e.eta >= 0 && !said(fmt::format("{} steps", e.eta))) numbers += fmt::format(", out of range in about {} steps", e.eta);
  if ((e.mean > 0 || e.low > 0) && !said(fmt::format("{:.3g}", e.mean)))
    numbers += fmt::format(", magnitude {:.3g} at least, {:.3g} in the mean", e.low, e.mean);
  if (e.lost_ulps > 0 && !said(fmt::format("{:.3g}", e.lost_ulps))) numbers += fmt::format(", {:.3g} ULPs lost", e.lost_ulps);
  if (e.count > 1) numbers += fmt::format(", {} times", e.count);
  if (!numbers.empty()) fmt::print("{}{}\n", indent, numbers.substr(2));
  if (!e.advice.empty()) fmt::print("{}{} {}\n", indent, paint(kGreen, "→"), wrapped(e.advice, width - 12, indent + "  "));
}

void print_story(const Story& s, const StoryOptions& o) {
  const Paint paint;
  const auto width = size_t(terminal_width());
  const auto amount = [](int64_t n, const char* what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); };
  fmt::print("{}: {}, {}; {}, {}, {}\n", s.file, amount(s.steps, "step"), amount(int64_t(s.sites.size()) + s.more_sites, "site"),
             amount(s.count(Severity::fault), "fault"), amount(s.count(Severity::warning), "warning"),
             amount(s.count(Severity::info), "note"));
  if (s.damaged)
    fmt::print("{}\n",
               paint(kYellow, fmt::format("{} could not be read; the first is line {}", amount(s.damaged, "line"), s.first_damaged)));
  if (s.cut_short) fmt::print("{}\n", paint(kFaint, "the last line is not complete: the run goes on, or was killed"));
  constexpr size_t kMost = 12;
  size_t n = 0;
  for (const StoryEvent& e : s.events)
    if (n++ < kMost) print_event(e, paint, width);
  if (s.events.size() + size_t(s.more_events) > kMost)
    fmt::print("\n... and {} more; the page has them\n", int64_t(s.events.size()) + s.more_events - int64_t(kMost));
  const bool measured = std::any_of(s.sites.begin(), s.sites.end(), [](const StorySite& t) { return !t.points.empty(); });
  if (!measured) {
    fmt::print("\nno series of values in this log\n");
    return;
  }
  const int64_t columns = int64_t(width) - 18 - 20 - 25 - 10 - 8;
  const auto line = int64_t(std::clamp<int64_t>(columns, 16, 64));
  const int64_t all = s.steps / s.stride + 1, shown_columns = std::min(line, all);
  fmt::print("\n{}\n", paint(kBold, fmt::format("Headroom at each site, in bits below the end of its dtype, over steps 0 to {}", s.steps)));
  fmt::print("{}\n", paint(kFaint, fmt::format("{:>6} {:>6}  {} {} {} {} {}", "least", "last", fit("steps", size_t(shown_columns)),
                                               fit("op", 20), fit("path", 24), fit("phase", 9), "dtype")));
  int64_t row = 0;
  for (size_t i = 0; i < s.sites.size(); ++i) {
    const StorySite& t = s.sites[i];
    if (o.sites > 0 && ++row > o.sites) break;
    const std::string least = fmt::format("{:>6}", bits_text(t.least)), path = t.path.empty() ? "-" : t.path;
    fmt::print("{} {:>6}  {}{} {} {} {} {}\n",
               t.broken || t.least < 2 ? paint(kRed, least)
               : t.least < 6           ? paint(kYellow, least)
                                       : least,
               bits_text(t.last), timeline(s, i, line, paint), "",
               fit(t.op + (t.output.empty() || t.output == "y" || t.output == "out" ? "" : "." + t.output), 20), fit(path, 24),
               fit(t.phase, 9), t.dtype);
  }
  const int64_t rest = int64_t(s.sites.size()) + s.more_sites -
                       (o.sites > 0 ? std::min<int64_t>(o.sites, int64_t(s.sites.size())) : int64_t(s.sites.size()));
  if (rest > 0) fmt::print("{}\n", paint(kFaint, fmt::format("... and {} that have more; --sites 0 shows all", amount(rest, "site"))));
}

int show_story(const StoryOptions& o) {
  const bool file = o.run.ends_with(".jsonl");
  const std::string log = file ? o.run : o.run + (o.run.ends_with("/") ? "" : "/") + "monitor.jsonl";
  if (!file && exists(o.run) && !exists(log))
    raise(Error(ErrorCode::io, o.run + ": there is no monitor.jsonl in it").hint("`keel train --monitor` writes one"));
  const Story s = read_story(log);
  if (o.as_json)
    fmt::print("{}\n", story_json(s).dump());
  else
    print_story(s, o);
  if (o.no_html || (o.as_json && o.html.empty())) return kOk;
  const std::string page = !o.html.empty() ? o.html : log.substr(0, log.size() - 6) + ".html";
  if (auto ok = io::write_file(page, story_page(s)); !ok) {
    if (!o.html.empty()) raise(Error(ErrorCode::io, ok.message()));
    fmt::print(stderr, "keel: no page: {}\n", ok.message());
  } else if (!o.as_json) {
    fmt::print("\nthe page: {}\n", page);
  }
  return kOk;
}

}  // namespace

void add_monitor(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("monitor", "Tell the story of a watched run, and write it as a page");
  auto o = std::make_shared<StoryOptions>();
  a->add_option("run", o->run, "Folder of a run, or its monitor.jsonl")->required();
  a->add_option("--html", o->html, "Where to write the page [monitor.html beside the log]");
  a->add_flag("--no-html", o->no_html, "No page")->excludes("--html");
  a->add_option("--sites", o->sites, "Sites to list, the worst first; 0: all")->check(whole(0))->capture_default_str();
  a->add_flag("--json", o->as_json, "One JSON object: events, and the points of every site");
  a->callback([o, &out] { out.code = show_story(*o); });
}

}  // namespace keel::app
