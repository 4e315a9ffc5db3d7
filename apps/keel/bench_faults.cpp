// Planted faults, trained and scored: whether the monitor foretold them, in time, at the right place, and with a remedy that works.
#include <algorithm>
#include <cmath>
#include <map>

#include "bench.h"
#include "faults/fault.h"

namespace keel::app {
namespace {

using faults::Fault, faults::Need, faults::Verdict;

struct FaultOptions {
  std::vector<int> only;
  int64_t seeds = 5, first_seed = 1, healthy = 0;
  bool as_json = false, held_out = false, verbose = false, no_faults = false;
};

/// Wilson's 95 % interval of a share.
std::pair<double, double> wilson(double hits, double n) {
  if (n == 0) return {0, 1};
  const double z = 1.96, p = hits / n, d = 1 + z * z / n, middle = p + z * z / (2 * n),
               half = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return {std::max(0.0, (middle - half) / d), std::min(1.0, (middle + half) / d)};
}
std::string share(double hits, double n) {
  const auto [low, high] = wilson(hits, n);
  return n == 0 ? std::string("none")
                : fmt::format("{:.1f} % ({:g} of {:g}; {:.0f} to {:.0f})", 100 * hits / n, hits, n, 100 * low, 100 * high);
}
double median(std::vector<double> v) {
  if (v.empty()) return NAN;
  std::sort(v.begin(), v.end());
  return quantile(v, 0.5);
}
/// The median as text; "-" where there is nothing to take it of.
std::string middle(const std::vector<double>& v, int digits) {
  return v.empty() ? std::string("-") : fmt::format("{:.{}f}", median(v), digits);
}
std::string need_text(const Fault& f) {
  switch (f.need) {
    case Need::lead: return fmt::format("-{}", f.k);
    case Need::by: return fmt::format("by {}", f.k);
    case Need::same_step: return "same";
    case Need::after: return fmt::format("+{}", f.k);
    default: return "never";
  }
}

/// Totals of a row, of a set of rows.
struct Score {
  double runs = 0, in_time = 0, credit = 0, exact = 0, layer = 0, first = 0, clean = 0, same_step = 0, survived = 0, tenfold = 0, tried = 0;
  double owed = 0;
  double failed_runs = 0, twins = 0, twin_words = 0, controls = 0, control_words = 0;
  std::vector<double> leads, relative, tenfold_leads, check_leads;
  void add(const Score& o) {
    runs += o.runs, in_time += o.in_time, credit += o.credit, exact += o.exact, layer += o.layer, first += o.first, clean += o.clean;
    owed += o.owed;
    same_step += o.same_step, survived += o.survived, tenfold += o.tenfold, tried += o.tried, failed_runs += o.failed_runs;
    twins += o.twins, twin_words += o.twin_words, controls += o.controls, control_words += o.control_words;
    for (auto [to, from] :
         {std::pair{&leads, &o.leads}, {&relative, &o.relative}, {&tenfold_leads, &o.tenfold_leads}, {&check_leads, &o.check_leads}})
      to->insert(to->end(), from->begin(), from->end());
  }
};

std::string words(const Monitor::Finding& x) {
  return fmt::format(
      "step {} [{}] {} {} '{}'{}", x.step, x.detector, x.phase, x.op, x.path,
      x.suggestion.kind.empty() ? "" : fmt::format(" -> {} {:.3g} {}", x.suggestion.kind, x.suggestion.value, x.suggestion.text));
}

Score run_row(const Fault& f, const FaultOptions& o) {
  Score s;
  std::vector<double> fails, warned;
  std::map<std::string, int> by, fixes;
  for (const DType t : f.dtypes) {
    for (int64_t seed = o.first_seed; seed < o.first_seed + o.seeds; ++seed) {
      const Verdict v = try_fault(f, uint64_t(seed), t, false);
      if (o.verbose)
        for (const auto& x : v.all) fmt::print("      {} seed {}: {}\n        {}\n", name_of(t), seed, words(x), x.text);
      if (f.need == Need::control) {
        s.controls += 1, s.control_words += v.words > 0;
        for (const auto& x : v.all) ++by[x.detector];
        continue;
      }
      s.runs += 1, s.failed_runs += v.failed > 0;
      if (v.failed) fails.push_back(double(v.failed));
      s.in_time += v.any_in_time, s.exact += v.in_time, s.layer += v.in_time || v.near_in_time, s.first += v.first_exact;
      s.owed += v.in_time && (f.owed.empty() || std::find(f.owed.begin(), f.owed.end(), v.best.detector) != f.owed.end());
      s.credit += v.in_time ? 1 : v.near_in_time ? 0.5 : 0;
      if (f.need == Need::same_step) s.same_step += 1, s.clean += v.weights_clean && v.failed;
      if (f.need == Need::lead && v.failed) {
        const int64_t at = v.in_time ? v.warned : v.near_in_time ? v.near : v.any;
        if (at) s.leads.push_back(double(v.failed - at)), s.relative.push_back(double(v.failed - at) / double(f.k));
      }
      if (f.need == Need::lead && v.failed) {
        if (v.loss_tenfold) s.tenfold_leads.push_back(double(v.failed - v.loss_tenfold));
        s.check_leads.push_back(v.loss_not_finite ? double(v.failed - v.loss_not_finite) : -1);
        s.tenfold += v.loss_tenfold && v.loss_tenfold <= v.failed - f.k;
      }
      if (!v.best.detector.empty()) ++by[v.best.detector];
      if (v.failed) {
        s.tried += 1;
        if (!v.suggestion.kind.empty()) {
          ++fixes[v.suggestion.kind];
          const Verdict fixed = try_fault(f, uint64_t(seed), t, false, 2 * v.failed, v.suggestion, v.suggested);
          s.survived += fixed.failed == 0 && fixed.weights_clean;
        }
      }
      const Verdict twin = try_fault(f, uint64_t(seed), t, true);
      s.twins += 1, s.twin_words += twin.words > 0 || twin.failed;
      if (o.verbose) {
        if (twin.failed) fmt::print("      twin {} seed {} FAILED at {}\n", name_of(t), seed, twin.failed);
        for (const auto& x : twin.all) fmt::print("      twin {} seed {}: {}\n        {}\n", name_of(t), seed, words(x), x.text);
      }
    }
  }
  const auto list = [](const std::map<std::string, int>& m) {
    std::string text;
    for (const auto& [name, n] : m) text += (text.empty() ? "" : ", ") + name;
    return text.empty() ? std::string("-") : text;
  };
  if (o.as_json) {
    fmt::print("{}\n", json{{"number", f.number},
                            {"name", f.name},
                            {"family", f.family},
                            {"held_out", f.held_out()},
                            {"need", need_text(f)},
                            {"runs", s.runs + s.controls},
                            {"failed", number(median(fails))},
                            {"in_time", s.in_time},
                            {"exact", s.exact},
                            {"owed", s.owed},
                            {"layer", s.layer},
                            {"first_exact", s.first},
                            {"lead", number(median(s.leads))},
                            {"clean", s.clean},
                            {"survived", s.survived},
                            {"twins", s.twins},
                            {"twins_not_silent", s.twin_words},
                            {"controls_not_silent", s.control_words},
                            {"tenfold_in_time", s.tenfold},
                            {"detectors", list(by)},
                            {"suggestions", list(fixes)}}
                           .dump());
  } else if (f.need == Need::control) {
    fmt::print("{:>2}{} {:<42} {:>6} {:>5}  {:g} of {:g} not silent  {}\n", f.number, f.held_out() ? "*" : " ", f.name, need_text(f), "-",
               s.control_words, s.controls, list(by));
  } else {
    fmt::print("{:>2}{} {:<42} {:>6} {:>5} {:>6} {:>3g} {:>3g} {:>3g}/{:<3g} {:>5} {:>3g} {:>3g} {:>5}  {} -> {}\n", f.number,
               f.held_out() ? "*" : " ", f.name, need_text(f), middle(fails, 0), middle(s.leads, 0), s.in_time, s.layer, s.exact, s.runs,
               f.need == Need::same_step ? fmt::format("{:g}", s.clean) : "-", s.survived, s.twin_words, middle(s.tenfold_leads, 0),
               list(by), list(fixes));
  }
  std::fflush(stdout);
  return s;
}

/// In the order in which they are summed up.
constexpr const char* set_names[] = {
    "Rows that thresholds may be tuned on", "Held-out rows",    "Second blind set",  "Third blind set", "Fourth set", "Fifth set, blind",
    "By kind, written with the rules",      "Sixth set, blind", "Seventh set, blind"};
const char* set_of(const Fault& f) { return set_names[f.blind_set() ? f.blind_set() : f.held_out() ? 1 : 0]; }

void print_summary(const char* set, const Score& s) {
  fmt::print("\n{}\n", set);
  fmt::print("  planted faults that failed as planned            {}\n", share(s.failed_runs, s.runs));
  fmt::print("  recall: in time at the exact op, layer counts .5  {}\n", share(s.credit, s.runs));
  fmt::print("  in time at the exact op                          {}\n", share(s.exact, s.runs));
  fmt::print("  of these by a detector that the row names        {}\n", share(s.owed, s.runs));
  fmt::print("  in time in the layer                             {}\n", share(s.layer, s.runs));
  fmt::print("  in time anywhere                                 {}\n", share(s.in_time, s.runs));
  fmt::print("  the very first word names the exact op           {}\n", share(s.first, s.runs));
  fmt::print("  lead of gradual faults, median                   {} steps, {} times what is required\n", middle(s.leads, 0),
             middle(s.relative, 1));
  fmt::print("  same-step faults with clean weights              {}\n", share(s.clean, s.same_step));
  fmt::print("  the suggestion, applied, survives twice as long  {}\n", share(s.survived, s.tried));
  fmt::print("  twins and controls that were not silent          {}\n", share(s.twin_words + s.control_words, s.twins + s.controls));
  fmt::print("  rule \"ten times the loss\" in time (gradual)      {}, median lead {}\n", share(s.tenfold, double(s.check_leads.size())),
             middle(s.tenfold_leads, 0));
  fmt::print("  check of the loss, median lead                   {}\n", middle(s.check_leads, 0));
}

void run_healthy(const FaultOptions& o) {
  double steps = 0, warnings = 0, stops = 0;
  for (const faults::Healthy& h : faults::healthy_runs()) {
    Monitor monitor({.protect = true, .whole_every = faults::watch_whole_every});
    faults::Run run(monitor, uint64_t(o.first_seed), false, f32, o.healthy);
    h.train(run);
    monitor.step();
    const auto w = monitor.warnings(), f = monitor.findings();
    steps += double(run.step), warnings += double(w.size() + f.size()), stops += double(run.failed > 0) + double(monitor.blocked_steps());
    if (o.as_json)
      fmt::print("{}\n", json{{"healthy", h.name},
                              {"steps", run.step},
                              {"warnings", w.size()},
                              {"faults", f.size()},
                              {"whole_every", monitor.whole_every()},
                              {"failed", run.failed}}
                             .dump());
    else
      fmt::print("{:<44} {:>6} steps, {} warnings, {} faults, one step in {} watched whole at the end{}\n", h.name, run.step, w.size(),
                 f.size(), monitor.whole_every(), run.failed ? ", FAILED" : "");
    if (!o.as_json)
      for (const auto* list : {&w, &f})
        for (const auto& x : *list) fmt::print("    {}\n", o.verbose ? words(x) + "\n      " + x.text : words(x));
    std::fflush(stdout);
  }
  if (!o.as_json)
    fmt::print("healthy: {} steps, {} false words, {:.2f} per 10,000 steps; {} false stops\n", steps, warnings, 1e4 * warnings / steps,
               stops);
}

int bench_faults(const FaultOptions& o) {
  if (!o.no_faults) {
    if (!o.as_json) {
      fmt::print("{}, {}; {} seeds; * held out of tuning\n", cpu_info().name, cpu_info().isa, o.seeds);
      fmt::print("{:<45} {:>6} {:>5} {:>6} {:>3} {:>3} {:>7} {:>5} {:>3} {:>3} {:>5}  {}\n", "fault", "need", "fails", "lead", "any", "lay",
                 "exact", "clean", "fix", "twn", "10x", "detectors -> suggestions");
    }
    std::map<std::string, Score> sets;
    for (const Fault& f : faults::all_faults()) {
      if (!o.only.empty() && std::find(o.only.begin(), o.only.end(), f.number) == o.only.end()) continue;
      if (f.held_out() && !o.held_out && o.only.empty()) continue;
      sets[set_of(f)].add(run_row(f, o));
    }
    if (!o.as_json)
      for (const char* name : set_names)
        if (sets.contains(name)) print_summary(name, sets[name]);
  }
  if (o.healthy > 0) run_healthy(o);
  return kOk;
}

CLI::Validator number_of_a_row() {
  return CLI::Validator([](std::string& s) {
    for (const faults::Fault& f : faults::all_faults())
      if (std::to_string(f.number) == s) return std::string();
    return "there is no row " + s + "; the last one is " + std::to_string(faults::all_faults().back().number);
  }, "NUMBER");
}

}  // namespace

void add_bench_faults(CLI::App& bench, Outcome& out) {
  auto o = std::make_shared<FaultOptions>();
  auto* a = bench.add_subcommand("faults",
                                 "Whether the monitor foretells planted faults: time, place, remedy, and silence where nothing is wrong");
  a->add_option("--only", o->only, "Rows of these numbers")->check(number_of_a_row());
  a->add_option("--seeds", o->seeds, "Runs a row and dtype")->check(whole(1))->capture_default_str();
  a->add_option("--first-seed", o->first_seed, "The first run's seed")->check(whole(0))->capture_default_str();
  a->add_flag("--held-out", o->held_out, "Also the third of the rows that no threshold was tuned on");
  a->add_option("--healthy", o->healthy, "Also runs without a fault, of so many steps each; 0: none")
      ->check(whole(0))
      ->capture_default_str();
  a->add_flag("--healthy-only", o->no_faults, "No rows, only the runs without a fault");
  a->add_option("--whole-every", faults::watch_whole_every, "Watch one step in so many whole, 1 to 16; 0: as the monitor's budget says")
      ->check(whole(0, 16))
      ->capture_default_str();
  a->add_flag("--verbose", o->verbose, "Everything that the monitor said");
  a->add_flag("--json", o->as_json, "One JSON object a line");
  a->callback([o, &out] { out.code = bench_faults(*o); });
}

}  // namespace keel::app
