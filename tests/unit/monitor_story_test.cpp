// What a monitor tells: news, lines, post-mortems; and what Trainer does with them.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/json.h"
#include "keel/keel.h"
#include "temp_dir.h"

namespace keel {
namespace {

std::string content(const std::string& path) {
  std::ostringstream s;
  s << std::ifstream(path).rdbuf();
  return s.str();
}

/// Becomes NaN at the step that is asked for: a division of zero by zero.
struct Breaks : nn::Module<Breaks> {
  nn::Linear layer{2, 1};
  int64_t at = 5;
  mutable int64_t calls = 0;
  static void fields(auto& m, auto&& f) { f("layer", m.layer); }
  Tensor forward(const Tensor& x) const {
    const double by = ++calls == at ? 0.0 : 1.0;
    return layer(x) * by / by;
  }
};

data::Dataset points() { return data::Dataset::from_tensors(randn({32, 2}), randn({32, 1})); }

train::Result fit(const std::string& dir, const train::Watch& watch, int64_t at, std::vector<Monitor::Finding>* heard = nullptr) {
  manual_seed(1);
  Breaks net;
  net.at = at;
  optim::SGD opt(net.parameters(), {.lr = 0.01});
  data::Loader batches(points(), {.batch_size = 4});
  train::Trainer trainer(net, opt, [](const Tensor& y, const Tensor& t) { return mean(square(y - t)); });
  train::FitOptions o{.epochs = 2, .run_dir = dir, .monitor = watch, .progress = false};
  o.on_finding = [heard](const Monitor::Finding& f) {
    if (heard) heard->push_back(f);
  };
  return trainer.fit(batches, o);
}

struct Story : testing::Test {
  TempDir folder;
  std::string dir = folder.file("run");
};

TEST_F(Story, NewsComesOnce) {
  Monitor m;
  EXPECT_TRUE(m.news().empty());
  m.step();
  Tensor q = ones({3}) / 0.0;
  const auto news = m.news();
  ASSERT_EQ(news.size(), 1u);
  EXPECT_EQ(news[0].op, "div");
  EXPECT_TRUE(m.news().empty());
  const std::string line = to_string(news[0]);
  EXPECT_EQ(line.rfind("step 1: div, forward: div gave 3 infinities of 3 values from finite inputs", 0), 0u) << line;
  EXPECT_EQ(line.find('\n'), std::string::npos);
}

TEST_F(Story, ALineHasEveryNumber) {
  Monitor::Finding f;
  f.step = 7, f.epoch = 2, f.op = "div", f.path = "Net.norm", f.phase = "forward", f.detector = "denominator",
  f.text = "the denominator falls";
  f.low = 1e-9, f.mean = 0.003, f.lost_ulps = 3e6, f.eta = 12, f.site = "net.cpp:12", f.suggestion = {"epsilon", 1e-6, "add it"};
  EXPECT_EQ(to_string(f),
            "step 7, epoch 2: div in Net.norm, forward (denominator): the denominator falls; magnitude at least 1e-09, mean 0.003; 3e+06 "
            "ULPs lost; "
            "out of range in about 12 steps; at net.cpp:12; to do: add it (epsilon 1e-06)");
  f.text = "its mean is 0.003; beyond f32 in 12 steps", f.lost_ulps = 0, f.suggestion.text = "add 1e-06";
  EXPECT_EQ(to_string(f),
            "step 7, epoch 2: div in Net.norm, forward (denominator): its mean is 0.003; beyond f32 in 12 steps; at net.cpp:12; to do: add "
            "1e-06");
}

TEST_F(Story, PostMortemHoldsEverything) {
  manual_seed(77);
  Monitor m;
  m.epoch(3);
  for (int i = 0; i < 4; ++i) {
    m.step();
    Tensor y = exp(ones({4}, {.dtype = f16}) * double(i * 4));
  }
  const Monitor::PostMortem p = m.post_mortem();
  auto doc = base::parse_json(p.json);
  ASSERT_TRUE(doc.ok()) << doc.message();
  const base::JsonValue root = doc->root();
  EXPECT_EQ(root["keel"].as_string(), version());
  EXPECT_EQ(root["isa"].as_string(), cpu_isa());
  EXPECT_EQ(root["seed"].as_int(), 77);
  EXPECT_EQ(root["step"].as_int(), 4);
  EXPECT_EQ(root["epoch"].as_int(), 3);
  EXPECT_EQ(root["findings"].size(), 1u);
  EXPECT_GE(root["results"].size(), 8u);
  EXPECT_GE(root["sites"].size(), 2u);
  EXPECT_EQ(root["results_columns"].size(), root["results"].first().size());
  size_t steps = 0;
  for (base::JsonValue v = root["sites"].first(); v; v = v.next()) steps = std::max(steps, v["steps"].size());
  EXPECT_GE(steps, 3u);
  bool f16_seen = false;
  for (base::JsonValue v = root["dtypes"].first(); v; v = v.next()) f16_seen |= v.as_string() == "f16";
  EXPECT_TRUE(f16_seen);
  for (const char* words : {"Faults", "exp gave 4 infinities of 4 values", "seed 77", "step 4"})
    EXPECT_NE(p.text.find(words), std::string::npos) << words << "\n" << p.text;
  EXPECT_TRUE(base::parse_json(Monitor().post_mortem().json).ok());
}

TEST_F(Story, TrainerTellsAndLeavesAPostMortem) {
  std::vector<Monitor::Finding> heard;
  const train::Result r = fit(dir, true, 11, &heard);
  EXPECT_GE(r.faults, 1);
  ASSERT_FALSE(heard.empty());
  EXPECT_EQ(heard[0].op, "div");
  EXPECT_EQ(heard[0].path, "Breaks");
  EXPECT_EQ(heard[0].step, 11);
  EXPECT_EQ(heard[0].epoch, 2);
  EXPECT_NE(r.monitor_report.find("div gave"), std::string::npos);
  EXPECT_TRUE(base::parse_json(content(dir + "/post_mortem.json")).ok());
  EXPECT_NE(content(dir + "/post_mortem.txt").find("epoch 2: div in Breaks"), std::string::npos);
  EXPECT_NE(content(dir + "/monitor.jsonl").find("\"event\":\"series\""), std::string::npos);
}

TEST_F(Story, TrainerWithoutFaultsLeavesNone) {
  const train::Result r = fit(dir, MonitorOptions{.log_file = dir + ".log"}, 1000);
  EXPECT_EQ(r.faults, 0);
  EXPECT_EQ(content(dir + "/post_mortem.json"), "");
  EXPECT_EQ(content(dir + "/monitor.jsonl"), "");
  EXPECT_NE(content(dir + ".log"), "");
  EXPECT_EQ(fit(dir, false, 3).monitor_report, "");
}

TEST_F(Story, ABlockedStepIsComputedAgain) {
  // The network breaks at its 5th call, and only then: the second computation of that step is clean.
  std::vector<Monitor::Finding> heard;
  const train::Result r = fit(dir, MonitorOptions{.protect = true}, 5, &heard);
  EXPECT_EQ(r.steps, 16);
  int replays = 0;
  for (const auto& f : heard)
    if (f.detector == "replay") {
      ++replays;
      EXPECT_EQ(f.text.find("transient"), 0u) << f.text;
      EXPECT_EQ(f.suggestion.kind, "hardware");
      EXPECT_EQ(f.step, 5);
    }
  EXPECT_EQ(replays, 1);
  EXPECT_NE(content(dir + "/replay.txt").find("transient"), std::string::npos);

  // A batch that breaks whenever it comes.
  manual_seed(1);
  Tensor x = randn({8, 2});
  x.masked_fill_(x == max(x), NAN);
  Breaks net;
  net.at = 1000;
  optim::SGD opt(net.parameters(), {.lr = 0.01});
  data::Loader batches(data::Dataset::from_tensors(x, randn({8, 1})), {.batch_size = 4});
  train::Trainer trainer(net, opt, [](const Tensor& y, const Tensor& t) { return mean(square(y - t)); });
  std::string said;
  train::FitOptions o{.epochs = 1, .monitor = MonitorOptions{.protect = true}, .progress = false};
  o.on_finding = [&said](const Monitor::Finding& f) {
    if (f.detector == "replay") said += to_string(f) + "\n";
  };
  trainer.fit(batches, o);
  EXPECT_NE(said.find("computed again, it broke again; first: linear"), std::string::npos) << said;
  for (const Tensor& p : net.parameters()) EXPECT_TRUE(isfinite(p).all().item<bool>());
}

TEST_F(Story, BreakOnStopsTheRunAndLeavesAPostMortem) {
  try {
    fit(dir, MonitorOptions{.break_on = BreakOn::nan}, 3);
    FAIL() << "nothing was raised";
  } catch (const Error& e) { EXPECT_EQ(e.code(), ErrorCode::numeric); }
  EXPECT_NE(content(dir + "/post_mortem.txt").find("step 3"), std::string::npos);
}

}  // namespace
}  // namespace keel
