// Loader, trainer and what they stand on: the same batches at any number of workers, the same bits after a resume.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <string>

#include "keel/keel.h"

namespace keel {
namespace {

std::string temporary_folder() {
  std::string path = ::testing::TempDir() + "keel_train_XXXXXX";
  EXPECT_NE(mkdtemp(path.data()), nullptr);
  return path;
}

data::Dataset numbers(int64_t n) { return data::Dataset::from_tensors(arange(n * 3).reshape({n, 3}).astype(f32), arange(n)); }

std::vector<int64_t> order_of(data::Loader& l) {
  std::vector<int64_t> seen;
  for (auto& [x, y] : l)
    for (int64_t i = 0; i < y.size(); ++i) {
      seen.push_back(y[{i}].item<int64_t>());
      EXPECT_EQ((x[{i, 0}].item()), double(3 * seen.back()));
    }
  return seen;
}

TEST(Loader, WorkersDoNotChangeTheOrder) {
  const data::Dataset set = numbers(101);
  data::Loader alone(set, {.batch_size = 8, .shuffle = true, .seed = 5}),
      helped(set, {.batch_size = 8, .shuffle = true, .workers = 3, .seed = 5});
  EXPECT_EQ(alone.size(), 13);
  std::vector<int64_t> first;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t> a = order_of(alone), b = order_of(helped);
    EXPECT_EQ(a, b) << "epoch " << epoch;
    EXPECT_NE(a, first) << "every epoch has an order of its own";
    first = a;
    std::sort(a.begin(), a.end());
    for (int64_t i = 0; i < 101; ++i) ASSERT_EQ(a[size_t(i)], i);
  }
}

TEST(Loader, GoesOnFromAPosition) {
  const data::Dataset set = numbers(40);
  data::Loader l(set, {.batch_size = 4, .shuffle = true, .seed = 1});
  const std::vector<int64_t> whole = order_of(l);
  data::Loader again(set, {.batch_size = 4, .shuffle = true, .workers = 2, .seed = 9});
  again.set_position({.seed = 1, .epoch = 0, .batch = 6});
  EXPECT_EQ(order_of(again), std::vector<int64_t>(whole.begin() + 24, whole.end()));
  EXPECT_EQ(again.position().epoch, 1u);
}

TEST(Loader, HandsOnWhatAWorkerRaised) {
  const data::Dataset bad = data::Dataset::from_function(10, [](int64_t i) -> data::Batch {
    if (i == 7) raise(Error(ErrorCode::io, "example 7 is broken"));
    return {ones({2}), ones({}, {.dtype = i64})};
  });
  data::Loader l(bad, {.batch_size = 2, .workers = 2});
  int batches = 0;
  try {
    for (auto& b : l) batches += b.x.defined();
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("example 7 is broken"), std::string::npos);
  }
  EXPECT_EQ(batches, 3);
  EXPECT_THROW(data::Loader(bad, {.batch_size = 0}), Error);
}

TEST(Loader, LeavingAnEpochEarlyStopsItsWorkers) {
  data::Loader l(numbers(1000), {.batch_size = 2, .workers = 2});
  for (auto& b : l) {
    EXPECT_TRUE(b.x.defined());
    break;
  }
}

TEST(Data, TransformsRepeatBySeedEpochAndExample) {
  const data::Dataset set =
      data::digits({.size = 20, .seed = 3})
          .map(data::compose({data::random_affine(10, 0.1, 0.1), data::noise(0.1), data::random_crop(2), data::jitter(0.1, 0.1)}));
  const int64_t some[] = {3, 4, 5}, one[] = {4};
  const data::Batch a = set.batch({some, 3, 7, 1}), b = set.batch({one, 1, 7, 1}), other = set.batch({one, 1, 7, 2});
  EXPECT_TRUE(array_equal(a.x[1], b.x[0]));
  EXPECT_FALSE(array_equal(b.x, other.x));
}

TEST(Text, CharactersSurviveARoundTrip) {
  const text::CharTokenizer t("héllo wörld\n€");
  EXPECT_EQ(t.decode(t.encode("wörld € héllo")), "wörld € héllo");
  EXPECT_EQ(text::CharTokenizer::from_characters(t.characters()).vocab_size(), t.vocab_size());
  try {
    t.encode("x");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::value);
  }
  EXPECT_THROW(t.decode(tensor({99})), Error);
}

struct Fixture {
  nn::Sequential net{nn::Linear(3, 16), nn::Dropout(0.3), nn::ReLU(), nn::Linear(16, 4)};
  optim::AdamW opt{net.parameters(), {.lr = 1e-2}};
  data::Loader batches{data::Dataset::from_tensors(randn({50, 3}), randint(0, 4, {50})), {.batch_size = 8, .shuffle = true, .seed = 2}};
  train::Trainer trainer{net, opt, nn::CrossEntropyLoss()};
  train::FitOptions options(const std::string& dir, int64_t epochs) {
    return {.epochs = epochs, .run_dir = dir, .progress = false, .schedule = optim::CosineAnnealing(opt, {.total_steps = 28})};
  }
};

TEST(Trainer, ResumesWithTheSameBits) {
  const std::string dir = temporary_folder(), other = temporary_folder();
  manual_seed(11);
  Fixture whole;
  whole.trainer.fit(whole.batches, whole.options(dir, 4));
  // The same run, stopped in the middle of its second epoch, goes on in another trainer.
  manual_seed(11);
  Fixture first;
  train::FitOptions o = first.options(other, 4);
  o.on_step = [](int64_t step, double) { return step < 10; };
  const train::Result stopped = first.trainer.fit(first.batches, o);
  EXPECT_TRUE(stopped.stopped_early);
  first.trainer.save_checkpoint(other + "/checkpoint.keel");
  manual_seed(99);
  Fixture second;
  second.batches = data::Loader(first.batches.dataset(), {.batch_size = 8, .shuffle = true, .seed = 77});
  second.trainer.resume(other);
  EXPECT_EQ(second.trainer.steps_done(), 10);
  const train::Result r = second.trainer.fit(second.batches, second.options(other, 4));
  EXPECT_EQ(r.steps, 28);
  EXPECT_EQ(r.epochs.size(), 4u);
  const StateDict a = whole.net.state_dict(), b = second.net.state_dict();
  for (const auto& [name, t] : a) EXPECT_TRUE(array_equal(t, b[name])) << name;
  struct stat s {};
  EXPECT_EQ(stat((other + "/loss.svg").c_str(), &s), 0);
}

TEST(Trainer, CompiledStepsGiveTheSameBits) {
  const auto fit = [](bool compiled) {
    manual_seed(3);
    nn::Sequential net(nn::Linear(3, 16), nn::Dropout(0.1), nn::ReLU(), nn::Linear(16, 4));
    optim::AdamW opt(net.parameters(), {.lr = 1e-2});
    const Tensor x = randn({90, 3});
    data::Loader batches(data::Dataset::from_tensors(x, argmax(matmul(x, randn({3, 4})), {.axis = 1})),
                         {.batch_size = 16, .shuffle = true});
    train::Trainer trainer(net, opt, [](const Tensor& out, const Tensor& y) { return cross_entropy(out, y); });
    const train::Result r = trainer.fit(batches, {.epochs = 4,
                                                  .progress = false,
                                                  .schedule = optim::CosineAnnealing(opt, {.total_steps = 24}),
                                                  .clip_norm = 0.5,
                                                  .compile = compiled});
    EXPECT_EQ(r.steps, 24);
    std::string text = to_string(net.state_dict().begin()->tensor);
    for (const train::EpochResult& e : r.epochs) text += " " + std::to_string(std::bit_cast<uint64_t>(e.train_loss));
    return text + to_string(rand({2}));
  };
  EXPECT_EQ(fit(true), fit(false));
}

/// Small images of f16 whose losses overflow at the scale that a scaler begins with, so that steps are left out.
struct MixedRun {
  nn::Sequential net{nn::Linear(3, 16), nn::ReLU(), nn::Linear(16, 4)};
  optim::AdamW opt{net.parameters(), {.lr = 1e-2}};
  Tensor x = randn({64, 3}) * 30, y = argmax(x, {.axis = 1});
  data::Loader batches{data::Dataset::from_tensors(x, y), {.batch_size = 16}};
  static Tensor loss(const Tensor& out, const Tensor& y) { return cross_entropy(out, y) * 30; }
  train::Trainer trainer{net, opt, &MixedRun::loss};
  std::string weights() const {
    std::string all;
    for (const auto& [name, t] : net.state_dict()) all += to_string(t.contiguous().reshape({-1})) + to_string(sum(t));
    return all;
  }
};

TEST(Trainer, MixedPrecisionIsThatOfALoopByHand) {
  for (const DType low : {f16, bf16})
    for (const bool compiled : {false, true}) {
      manual_seed(5);
      MixedRun whole;
      whole.trainer.fit(whole.batches, {.epochs = 3, .progress = false, .clip_norm = 1, .autocast = low, .compile = compiled});
      manual_seed(5);
      MixedRun hand;
      optim::GradScaler scaler({.enabled = low == f16});
      int left_out = 0;
      for (int epoch = 0; epoch < 3; ++epoch)
        for (auto& [x, y] : hand.batches) {
          Tensor loss;
          {
            const Autocast guard(low);
            loss = MixedRun::loss(hand.net(x), y);
          }
          scaler.scale(loss).backward();
          scaler.unscale_(hand.opt);
          nn::clip_grad_norm(hand.opt.parameters(), 1);
          scaler.step(hand.opt);
          const double before = scaler.get_scale();
          scaler.update();
          left_out += scaler.get_scale() < before;
          hand.opt.zero_grad();
        }
      EXPECT_EQ(whole.weights(), hand.weights()) << name_of(low) << (compiled ? ", compiled" : "");
      EXPECT_EQ(left_out > 0, low == f16) << left_out << " steps were left out";
    }
  MixedRun other;
  EXPECT_THROW(other.trainer.fit(other.batches, {.progress = false, .autocast = f64}), Error);
}

TEST(Trainer, ScaledRunsResumeWithTheSameBits) {
  const std::string dir = temporary_folder();
  manual_seed(6);
  MixedRun whole;
  whole.trainer.fit(whole.batches, {.epochs = 4, .progress = false, .autocast = f16});
  manual_seed(6);
  MixedRun first;
  first.trainer.fit(first.batches, {.epochs = 2, .run_dir = dir, .progress = false, .autocast = f16});
  manual_seed(7);
  MixedRun second;
  second.batches = data::Loader(first.batches.dataset(), {.batch_size = 16});
  second.trainer.resume(dir);
  second.trainer.fit(second.batches, {.epochs = 4, .progress = false, .autocast = f16});
  EXPECT_EQ(second.weights(), whole.weights());
}

TEST(Trainer, StopsEarlyAndAccumulates) {
  manual_seed(1);
  Fixture s;
  data::Loader held(s.batches.dataset(), {.batch_size = 50});
  train::FitOptions o{.epochs = 50, .progress = false, .accumulate = 3, .patience = 1};
  s.opt.set_lr(0);  // nothing improves
  const train::Result r = s.trainer.fit(s.batches, held, o);
  EXPECT_TRUE(r.stopped_early);
  EXPECT_EQ(r.epochs.size(), 2u);
  EXPECT_EQ(r.steps, 6);  // 7 batches: 3 + 3 + 1, twice
  EXPECT_THROW(s.trainer.resume("no/such/folder"), Error);
}

}  // namespace
}  // namespace keel
