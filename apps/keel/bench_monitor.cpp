// What watching costs: the same training steps with the monitor off, on and off again, in turns, beside the same turns with it always off.
#include <time.h>

#include <cmath>
#include <map>
#include <memory>

#include "bench.h"
#include "residual.h"

namespace keel::app {
namespace {

constexpr const char *kCharGpt = "char-GPT 4x128 T64 b12 step adamw", *kCharLstm = "char-LSTM 1x128 T64 b16 step adamw",
                     *kResnet = "ResNet-18 CIFAR step b32 sgd nhwc";

struct CostOptions {
  std::string only, device = "cpu";
  Device where = cpu_device;
  int64_t rounds = 400, threads = 0;
  double seconds = 20;
  double budget = MonitorOptions().budget;
  int64_t every = 0;
  bool as_json = false, sites = false;
};

/// With one thread the processor's time of this process, which other programs do not lengthen; with more, or on a device once it has done
/// its work, the time on the wall.
double now_seconds(Device where) {
  timespec t{};
  synchronize(where);
  clock_gettime(num_threads() == 1 && where == cpu_device ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

/// Mean of what `steps` take. On the CPU each is timed by itself, and one that takes more than `most` counts as no more: another program
/// came between.
template <class F>
double seconds_a_step(Device where, int steps, double most, Monitor* watch, F&& step) {
  const int at_once = where == cpu_device ? 1 : steps;
  double sum = 0, begin = now_seconds(where);
  for (int done = 0; done < steps; done += at_once) {
    for (int i = 0; i < at_once; ++i) {
      if (watch) watch->step();
      step();
    }
    const double end = now_seconds(where);
    sum += std::min(end - begin, most * at_once), begin = end;
  }
  return sum / steps;
}

/// What the monitor looked at in a step, by op and phase: where its time goes.
void print_load(const Monitor& watch, int steps) {
  std::map<std::string, std::pair<int64_t, double>> load;
  for (const Monitor::Statistic& s : watch.statistics()) {
    auto& [results, megabytes] = load[s.op + (s.output == "y" ? "" : "." + s.output) + ", " + s.phase];
    results += s.calls, megabytes += double(s.elements) * double(size_of(s.dtype)) / 1e6;
  }
  std::vector<std::pair<double, std::string>> lines;
  double all = 0;
  for (const auto& [name, l] : load) {
    lines.emplace_back(l.second / steps,
                       fmt::format("{:<40} {:>6.1f} results {:>9.3f} MB", name, double(l.first) / steps, l.second / steps));
    all += l.second / steps;
  }
  std::sort(lines.rbegin(), lines.rend());
  for (const auto& [size, line] : lines) fmt::print("    {}\n", line);
  fmt::print("    {:.1f} MB of results a step\n", all);
}

/// A recurrent network of single ops: x and the state go through one product, whose four parts are the gates (Hochreiter and Schmidhuber
/// 1997, with the forget gate of Gers et al. 2000).
struct CharLstm : nn::Module<CharLstm> {
  int64_t hidden;
  nn::Embedding letters;
  nn::Linear gates, head;
  CharLstm(int64_t letters_, int64_t hidden_)
      : hidden(hidden_), letters(letters_, hidden_), gates(2 * hidden_, 4 * hidden_), head(hidden_, letters_) {}
  static void fields(auto& m, auto&& f) { f("letters", m.letters)("gates", m.gates)("head", m.head); }
  Tensor forward(const Tensor& text) const {  // i64[batch, steps] -> f32[batch * steps, letters]
    const auto [b, t] = text.shape().as<2>();
    const Tensor x = letters(text);
    Tensor h = zeros({b, hidden}), c = zeros({b, hidden});
    Tensors states;
    for (int64_t i = 0; i < t; ++i) {
      const Tensors g = chunk(gates(concat({x.index({all, i}), h}, {.axis = 1})), 4, {.axis = 1});
      c = sigmoid(g[0]) * c + sigmoid(g[1]) * tanh(g[2]);
      h = sigmoid(g[3]) * tanh(c);
      states.push_back(h);
    }
    return head(stack(states, {.axis = 1})).reshape({b * t, -1});
  }
};

/// Blocks of steps in threes: off, X, off. A three gives the share by which X took longer than the mean of its neighbours, so that a drift
/// of the machine cancels. X is on for a round of the monitor's, off for as many steps, which are the control, and so on: a reading is the
/// mean of a round, so that each holds the same share of steps that are watched whole and no median leaves them out. One monitor watches
/// all of X, paused between; before that it sees as many steps as it needs to know what it costs.
template <class F>
void measure(const CostOptions& o, const std::string& name, int steps, F&& step) {
  if (!o.only.empty() && name.find(o.only) == std::string::npos) return;
  if (o.where != cpu_device) steps *= 80;  // short ones
  for (int i = 0; i < 2; ++i) step();
  Monitor watch({.budget = o.budget, .whole_every = o.every});
  {
    // Until its allowance is used and both kinds of steps have been timed, or for the first time only where it does not govern.
    const bool governs = o.budget != 0 && o.every == 0 && o.where == cpu_device;
    const auto most = Clock::now() + std::chrono::duration<double>(1.5 * o.seconds);
    int governed = 0, seen = 0;
    while (seen < 2 || (governs && governed < 48 && Clock::now() < most)) {
      watch.step();
      step();
      ++seen, governed += governed > 0 || watch.whole_every() > 1;
    }
    if (o.sites) print_load(watch, seen);
    watch.pause();
  }
  std::vector<double> cost, control, off, on;
  const auto end = Clock::now() + std::chrono::duration<double>(o.seconds);
  double most = INFINITY;  // a step that is watched whole takes far less than half as long again
  std::vector<double> usual;
  for (int i = 0; i < 5; ++i) usual.push_back(seconds_a_step(o.where, steps, most, nullptr, step));
  std::sort(usual.begin(), usual.end());
  most = 1.5 * usual[2];
  double before = usual[2];
  for (int64_t i = 0; i < 2 * o.rounds && (Clock::now() < end || i < 6); ++i) {
    const int round = std::max(1, int(watch.whole_every())), many = (steps + round - 1) / round * round;
    double share = 0, took = 0;
    for (int done = 0; done < many; done += steps) {
      const int now = std::min(steps, many - done);
      if (i % 2) watch.resume();
      const double middle = seconds_a_step(o.where, now, most, i % 2 ? &watch : nullptr, step);
      watch.pause();
      const double after = seconds_a_step(o.where, now, most, nullptr, step);
      share += (2 * middle / (before + after) - 1) * now / many, took += middle * now / many;
      off.push_back(after), before = after;
    }
    (i % 2 ? cost : control).push_back(share);
    if (i % 2) on.push_back(took);
  }
  for (auto* v : {&cost, &control, &off, &on}) std::sort(v->begin(), v->end());
  // The error of a median: 1.25 sigma / sqrt(n), sigma from the quartiles.
  const auto error = [](const std::vector<double>& v) {
    return 1.25 * (quantile(v, 0.75) - quantile(v, 0.25)) / 1.349 / std::sqrt(double(v.size()));
  };
  const double c = quantile(cost, 0.5), k = quantile(control, 0.5);
  double mean = 0;  // of the middle half
  const size_t low = cost.size() / 4, high = cost.size() - low;
  for (size_t i = low; i < high; ++i) mean += cost[i] / double(high - low);
  if (o.as_json) {
    fmt::print("{}\n", json{{"name", "monitor " + name},
                            {"unit", "share"},
                            {"best", on.front() / off.front() - 1},
                            {"median", c},
                            {"mean", mean},
                            {"whole_every", watch.whole_every()},
                            {"error", error(cost)},
                            {"low", quantile(cost, 0.25)},
                            {"high", quantile(cost, 0.75)},
                            {"most", quantile(cost, 0.95)},
                            {"control", k},
                            {"control_error", error(control)},
                            {"off_seconds", quantile(off, 0.5)},
                            {"on_seconds", quantile(on, 0.5)},
                            {"n", cost.size()},
                            {"threads", num_threads()},
                            {"cpu", cpu_info().name}}
                           .dump());
  } else {
    fmt::print(
        "{:<36} 1 in {:>2} whole: on {:+.2f} % +- {:.2f} (mean {:+.2f}, quartiles {:+.2f} to {:+.2f}, 95 of 100 below {:+.2f}), control "
        "{:+.2f} % +- {:.2f}; off "
        "{:.2f} ms a step, {} pairs\n",
        name, watch.whole_every(), 100 * c, 100 * error(cost), 100 * mean, 100 * quantile(cost, 0.25), 100 * quantile(cost, 0.75),
        100 * quantile(cost, 0.95), 100 * k, 100 * error(control), 1e3 * quantile(off, 0.5), cost.size());
  }
  std::fflush(stdout);
}

int bench_monitor(CostOptions& o) {
  o.where = device(o.device);
  if (o.threads > 0) set_num_threads(o.threads);
  if (!o.as_json)
    fmt::print("{}, {}, {} threads; what the monitor adds to a training step on {}\n", cpu_info().name, cpu_info().isa, num_threads(),
               to_string(o.where));
  manual_seed(0);
  {
    Gpt net({.tied = false, .gelu = Gelu::none});
    net.to(o.where);
    optim::AdamW opt(net.parameters(), {.lr = 1e-3});
    measure(o, kCharGpt, 1,
            step_of(net, opt, randint(0, 65, {12, 64}).to(o.where), randint(0, 65, {12, 64}).to(o.where)));
  }
  {
    CharLstm net(65, 128);
    net.to(o.where);
    optim::AdamW opt(net.parameters(), {.lr = 1e-3});
    measure(o, kCharLstm, 4,
            step_of(net, opt, randint(0, 65, {16, 64}).to(o.where), randint(0, 65, {16 * 64}).to(o.where)));
  }
  ResNet18 net(kCifar);
  net.to(o.where);
  optim::SGD opt(net.parameters(), {.lr = 0.1, .momentum = 0.9});
  measure(o, kResnet, 1,
          step_of(net, opt, randn({32, 3, 32, 32}).to(o.where).channels_last(), randint(0, 10, {32}).to(o.where)));
  return kOk;
}

}  // namespace

void add_bench_monitor(CLI::App& bench, Outcome& out) {
  auto o = std::make_shared<CostOptions>();
  auto* a = bench.add_subcommand(
      "monitor", "What watching every op adds to a training step: off, on, off in turns, beside a control that is always off");
  a->add_option("--only", o->only, "Rows whose name holds this")->check(part_of_a_name({kCharGpt, kCharLstm, kResnet}));
  a->add_option("--rounds", o->rounds, "Most pairs a row")->check(whole(1))->capture_default_str();
  a->add_option("--seconds", o->seconds, "Most seconds a row")->check(positive())->capture_default_str();
  a->add_option("--threads", o->threads, "Threads; 0: all cores")->check(whole(0, 1024));
  a->add_option("--budget", o->budget, "MonitorOptions::budget; 0: every step whole; -1: the default")
      ->check(CLI::Range(-1.0, 1.0))
      ->capture_default_str();
  a->add_option("--whole-every", o->every, "Watch one step in so many whole, 1 to 16; 0: as the budget says")
      ->check(whole(0, 16))
      ->capture_default_str();
  a->add_option("--device", o->device, "Where the networks are: cpu, cuda, cuda:N")->check(device_name())->capture_default_str();
  a->add_flag("--sites", o->sites, "Also print what the monitor looks at in a step, by op");
  a->add_flag("--json", o->as_json, "One JSON object a line");
  a->callback([o, &out] { out.code = bench_monitor(*o); });
}

}  // namespace keel::app
