// Batches that travel ahead: the same ones in the same order, whatever makes them and wherever a walk ends.
#include "device/on_device.h"
#include "train/late_number.h"

namespace keel {
namespace {

class LoaderOnDevice : public DeviceTest {};

data::Dataset numbers(int64_t n) {
  return data::Dataset::from_tensors(arange(4 * n, {.dtype = f32}).reshape({n, 4}), arange(n));
}

TEST_F(LoaderOnDevice, BatchesAreThoseOfTheHost) {
  for (int64_t workers : {0, 1, 3}) {
    const data::LoaderOptions o{.batch_size = 5, .shuffle = true, .workers = workers, .seed = 7};
    data::Loader here(numbers(43), o), there(numbers(43), o);
    for (int epoch = 0; epoch < 2; ++epoch) {
      Tensors x, y;  // held, so that no memory is used twice
      for (auto it = there.begin(d); it != there.end(); ++it) {
        EXPECT_EQ((*it).x.device(), d);
        x.push_back((*it).x), y.push_back((*it).y);
        EXPECT_EQ(there.position().batch, x.size());
      }
      int64_t k = 0;
      for (auto& [hx, hy] : here) {
        ASSERT_LT(k, x.size());
        EXPECT_TRUE(array_equal(x[k].to(cpu_device), hx)) << workers << " workers, batch " << k;
        EXPECT_TRUE(array_equal(y[k].to(cpu_device), hy)) << workers << " workers, batch " << k;
        ++k;
      }
      EXPECT_EQ(k, x.size());
    }
  }
}

TEST_F(LoaderOnDevice, ReusedMemoryHoldsTheBatchInUse) {
  data::Loader there(numbers(400), {.batch_size = 8, .workers = 2, .seed = 1});
  int64_t k = 0;
  for (auto it = there.begin(d); it != there.end(); ++it, ++k)
    EXPECT_EQ((*it).y.to(cpu_device).sum().item(), double(8 * 8 * k + 28)) << "batch " << k;
  EXPECT_EQ(k, 50);
}

/// What was sent and never used costs nothing and counts for nothing.
TEST_F(LoaderOnDevice, AWalkMayEndEarlyAndGoOn) {
  const int64_t before = memory_stats(d).bytes_in_use;
  {
    data::Loader there(numbers(40), {.batch_size = 4, .workers = 2, .seed = 3});
    int64_t k = 0;
    for (auto it = there.begin(d); it != there.end(); ++it)
      if (++k == 3) break;
    EXPECT_EQ(there.position().batch, 3);
    for (auto it = there.begin(d); it != there.end(); ++it, ++k)
      EXPECT_EQ((*it).y.to(cpu_device).sum().item(), double(16 * k + 6)) << "batch " << k;
    EXPECT_EQ(k, 10);
  }
  EXPECT_EQ(memory_stats(d).bytes_in_use, before);
}

TEST_F(LoaderOnDevice, TrainerLearnsTheSame) {
  const auto losses = [](Device where) {
    manual_seed(3);
    nn::Sequential net(nn::Linear(8, 16), nn::ReLU(), nn::Linear(16, 3));
    const Tensor x = randn({60, 8}), y = randint(0, 3, {60});
    net.to(where);
    optim::Adam opt(net.parameters(), {.lr = 1e-2});
    data::Loader batches(data::Dataset::from_tensors(x, y), {.batch_size = 16, .shuffle = true, .workers = 2, .seed = 5});
    train::Trainer trainer(net, opt, nn::CrossEntropyLoss());
    std::vector<double> all;
    const auto note = [&](const train::EpochResult& e) { all.push_back(e.train_loss), all.push_back(e.loss); };
    trainer.fit(batches, batches, {.epochs = 3, .progress = false, .on_epoch = note});
    return all;
  };
  const std::vector<double> here = losses(cpu_device), there = losses(d);
  ASSERT_EQ(here.size(), there.size());
  for (size_t i = 0; i < here.size(); ++i) EXPECT_NEAR(there[i], here[i], 1e-4 * here[i]) << i;
}

/// Bits do not depend on who watches, nor on which steps are replayed.
TEST_F(LoaderOnDevice, TrainerReplaysUnderAMonitor) {
  const auto fit = [&](bool compiled, bool watched, bool protect) {
    manual_seed(3);
    nn::Sequential net(nn::Linear(8, 16), nn::Dropout(0.1), nn::ReLU(), nn::Linear(16, 3));
    const Tensor x = randn({64, 8}), y = randint(0, 3, {64});
    net.to(d);
    optim::Adam opt(net.parameters(), {.lr = 1e-2});
    data::Loader batches(data::Dataset::from_tensors(x, y), {.batch_size = 16, .shuffle = true, .seed = 5});
    train::Trainer trainer(net, opt, nn::CrossEntropyLoss());
    std::string text;
    train::FitOptions o{.epochs = 12, .progress = false, .clip_norm = 0.5, .compile = compiled};
    if (watched) o.monitor = MonitorOptions{.protect = protect, .whole_every = 4};
    o.on_epoch = [&](const train::EpochResult& e) { text += " " + std::to_string(e.train_loss); };
    const train::Result r = trainer.fit(batches, o);
    EXPECT_EQ(r.faults + r.warnings, 0);
    return text + to_string(net.state_dict().begin()->tensor.to(cpu_device)) + to_string(rand({2}));
  };
  const std::string plain = fit(false, false, false);
  for (const bool compiled : {false, true})
    for (const bool protect : {false, true}) EXPECT_EQ(fit(compiled, true, protect), plain) << compiled << protect;
}

/// A step may be queued before the loss of the one before is known; each is told once, in order, and what is written down is the same.
TEST_F(LoaderOnDevice, TrainerTellsEachLoss) {
  struct Told {
    std::vector<double> losses;
    std::vector<int64_t> steps;
    int64_t done = 0;
  };
  const auto fit = [](Device where, bool compiled, int64_t stop) {
    manual_seed(3);
    nn::Sequential net(nn::Linear(8, 16), nn::ReLU(), nn::Linear(16, 3));
    const Tensor x = randn({60, 8}), y = randint(0, 3, {60});
    net.to(where);
    optim::Adam opt(net.parameters(), {.lr = 1e-2});
    data::Loader batches(data::Dataset::from_tensors(x, y), {.batch_size = 16, .shuffle = true, .workers = 2, .seed = 5});
    Tensor kept;  // a loss that the program holds on to stays as it is
    train::Trainer trainer(net, opt, [&](const Tensor& out, const Tensor& t) {
      const Tensor loss = cross_entropy(out, t);
      if (!kept.defined()) kept = loss.detach();
      return loss;
    });
    Told told;
    const auto hear = [&](int64_t step, double loss) { return told.steps.push_back(step), told.losses.push_back(loss), step != stop; };
    const train::Result r = trainer.fit(batches, {.epochs = 3, .progress = false, .compile = compiled, .on_step = hear});
    told.done = r.steps;
    EXPECT_EQ(trainer.steps_done(), r.steps);
    if (!compiled) {
      EXPECT_EQ(kept.to(cpu_device).item(), told.losses.at(0));
    }
    return told;
  };
  const Told here = fit(cpu_device, false, 0);
  ASSERT_EQ(here.losses.size(), 12u);
  for (const bool compiled : {false, true}) {
    const Told there = fit(d, compiled, 0), cut = fit(d, compiled, 7);
    EXPECT_EQ(there.steps, here.steps);
    ASSERT_EQ(there.losses.size(), here.losses.size());
    for (size_t i = 0; i < here.losses.size(); ++i) EXPECT_NEAR(there.losses[i], here.losses[i], 1e-4 * here.losses[i]) << i;
    EXPECT_TRUE(cut.done == 7 || cut.done == 8) << cut.done;
    ASSERT_EQ(int64_t(cut.losses.size()), cut.done);
    for (size_t i = 0; i < cut.losses.size(); ++i) EXPECT_EQ(cut.losses[i], there.losses[i]) << i;
  }
}

/// Losses of 16 bits, as weights of 16 bits give them, are not waited for either.
TEST_F(LoaderOnDevice, NumbersArriveLater) {
  if (!driver_of(d).fetch) GTEST_SKIP() << "the device copies nothing by itself";
  train::LateNumbers numbers(d);
  for (const DType t : {f16, bf16, f32, f64}) {
    const Tensor x = full({}, -1.5, {.dtype = t}).to(d), y = full({1}, 1e-3, {.dtype = t}).to(d);
    const train::LateNumbers::Number first = numbers.send(x), second = numbers.send(y);
    EXPECT_NE(first.ticket, 0u) << name_of(t);
    EXPECT_EQ(numbers.value(first), -1.5) << name_of(t);
    EXPECT_EQ(numbers.value(second), y.to(cpu_device).item()) << name_of(t);
  }
  EXPECT_EQ(numbers.value(numbers.send(full({}, 7, {.dtype = i32}).to(d))), 7);
}

/// Batches that travel ahead, into steps that are captured; the last one of an epoch is smaller.
TEST_F(LoaderOnDevice, CompiledStepsOfATrainerGiveTheSameBits) {
  const auto fit = [&](bool compiled, DType low) {
    manual_seed(3);
    nn::Sequential net(nn::Linear(4, 16), nn::Dropout(0.1), nn::ReLU(), nn::Linear(16, 4));
    net.to(d);
    optim::AdamW opt(net.parameters(), {.lr = 1e-2});
    const Tensor x = randn({90, 4});
    data::Loader batches(data::Dataset::from_tensors(x, argmax(x, {.axis = 1})), {.batch_size = 16, .shuffle = true, .workers = 2});
    train::Trainer trainer(net, opt, [](const Tensor& out, const Tensor& y) { return cross_entropy(out, y); });
    const optim::CosineAnnealing schedule(opt, {.total_steps = 36});
    trainer.fit(batches, {.epochs = 6, .progress = false, .schedule = schedule, .clip_norm = 0.5, .autocast = low, .compile = compiled});
    return net.state_dict();
  };
  for (const DType low : {DType::none, bf16, f16}) {
    const StateDict want = fit(false, low), got = fit(true, low);
    for (const StateDict::Entry& e : want)
      EXPECT_TRUE(array_equal(got.find(e.name)->to(cpu_device), e.tensor.to(cpu_device))) << name_of(low) << ", " << e.name;
  }
}

}  // namespace
}  // namespace keel
