#include "keel/train/trainer.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "base/log.h"
#include "core/impl.h"
#include "keel/io/svg_chart.h"
#include "keel/autograd.h"
#include "keel/autocast.h"
#include "keel/compile.h"
#include "keel/error.h"
#include "keel/io/checkpoint.h"
#include "keel/io/file.h"
#include "keel/io/tensorboard.h"
#include "keel/monitor.h"
#include "keel/nn/clip.h"
#include "keel/ops.h"
#include "train/late_number.h"
#include "train/progress.h"
#include "train/state_text.h"

namespace keel::train {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

/// While it lives, the first SIGINT is noted instead of ending the program.
class InterruptGuard {
 public:
  InterruptGuard() {
    flag.store(false);
    struct sigaction a{};
    a.sa_handler = [](int) { flag.store(true); };
    a.sa_flags = int(SA_RESETHAND) | SA_RESTART;
    sigaction(SIGINT, &a, &old_);
  }
  ~InterruptGuard() { sigaction(SIGINT, &old_, nullptr); }
  static bool seen() { return flag.load(std::memory_order_relaxed); }

 private:
  static std::atomic<bool> flag;
  struct sigaction old_{};
};
std::atomic<bool> InterruptGuard::flag{false};

/// Whether a file's name ends as those of files do that are being written: ".part-PROCESS-COUNT".
bool is_part(std::string_view name) {
  const size_t at = name.rfind(".part-");
  return at != name.npos && at + 6 < name.size() && name.find_first_not_of("0123456789-", at + 6) == name.npos;
}
/// Removes what a killed run left of files that it was writing.
void remove_parts(const std::string& dir) {
  DIR* d = opendir(dir.c_str());
  if (!d) return;
  while (const dirent* e = readdir(d))
    if (is_part(e->d_name)) unlink((dir + "/" + e->d_name).c_str());
  closedir(d);
}

[[noreturn]] void io_failed(const std::string& message) { raise(Error(ErrorCode::io, message).op("Trainer")); }

bool has_classes(const Tensor& out, const Tensor& y) { return is_integer(y.dtype()) && out.rank() == y.rank() + 1; }

Device device_of(const nn::ModuleBase& m) {
  const Tensors p = m.parameters();
  return p.empty() ? cpu_device : p[0].device();
}

}  // namespace

/// One `fit`: what it was asked for, what it writes into its folder, and how far it is.
struct Trainer::Session {
  const FitOptions& o;
  Result result;
  bool go = true;
  LateNumbers losses;  // where the device sends them by itself, a step is queued before the loss of the one before is known
  std::string dir;
  std::optional<io::EventWriter> events;
  std::unique_ptr<Monitor> monitor;
  int64_t faults = 0, warnings = 0, blocked = 0;
  Compiled step;
  bool compiled = false, told = false;
  Shape batch_shape;
  int64_t alike = 0;  // steps on batches of that shape, one after the other
  std::vector<Monitor::Finding> replayed;  // what computing blocked steps again said, to be passed on
  const int unwinding = std::uncaught_exceptions();

  Session(const FitOptions& options, Device d) : o(options), losses(d), dir(o.run_dir) {
    const auto at_least = [](const char* what, int64_t least, int64_t got) {
      if (got >= least) return;
      raise(Error(ErrorCode::value, what + (" must be at least " + std::to_string(least)) + ", got " + std::to_string(got))
                .op("Trainer::fit"));
    };
    at_least("epochs", 0, o.epochs), at_least("accumulate", 1, o.accumulate);
    if (o.autocast != DType::none && o.autocast != bf16 && o.autocast != f16)
      raise(Error(ErrorCode::dtype, "autocast is to bf16 or f16, got " + std::string(name_of(o.autocast))).op("Trainer::fit"));
    if (!dir.empty()) {
      for (size_t i = 1; i <= dir.size(); ++i)
        if (i == dir.size() || dir[i] == '/') mkdir(dir.substr(0, i).c_str(), 0777);
      remove_parts(dir);
      auto writer = io::EventWriter::open(dir);
      if (!writer) io_failed(writer.message());
      events.emplace(std::move(writer).value());
    }
    if (o.monitor) {
      MonitorOptions watch = o.monitor.options();
      if (watch.log_file.empty() && !dir.empty()) watch.log_file = dir + "/monitor.jsonl";
      monitor = std::make_unique<Monitor>(watch);
    }
  }
  std::string checkpoint() const { return dir.empty() ? "" : dir + "/checkpoint.keel"; }
  /// A run that an error ends leaves what the monitor knows.
  ~Session() {
    if (monitor && std::uncaught_exceptions() > unwinding) write_post_mortem();
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  void write_post_mortem() const {
    if (dir.empty()) return;
    const Monitor::PostMortem p = monitor->post_mortem();
    (void)io::write_file(dir + "/post_mortem.json", p.json);  // a full disk must not hide why the run broke
    (void)io::write_file(dir + "/post_mortem.txt", p.text);
  }
  /// Counts and passes on what the monitor found since the last call; the first fault leaves a post-mortem.
  void hear() {
    if (!monitor) return;
    for (const Monitor::Finding& f : monitor->news()) {
      if (f.severity == Severity::fault && faults++ == 0) write_post_mortem();
      warnings += f.severity == Severity::warning;
      if (o.on_finding) o.on_finding(f);
    }
    for (const Monitor::Finding& f : replayed) {
      if (!dir.empty()) (void)io::write_file(dir + "/replay.txt", to_string(f) + "\n");
      if (o.on_finding) o.on_finding(f);
    }
    replayed.clear();
  }
  void scalar(const char* tag, double v, int64_t step) {
    if (events) events->scalar(tag, v, step);
  }
  void charts(const std::vector<double>& losses, const std::vector<EpochResult>& epochs) {
    if (dir.empty()) return;
    if (events) (void)events->flush();
    io::ChartSeries batch{"batch", {}, {}}, train{"epoch", {}, {}}, held{"held out", {}, {}};
    const size_t step = losses.size() / 200 + 1;
    for (size_t i = 0; i + step <= losses.size(); i += step) {
      double mean = 0;
      for (size_t k = 0; k < step; ++k) mean += losses[i + k];
      batch.x.push_back(double(i + step)), batch.y.push_back(mean / double(step));
    }
    for (const EpochResult& e : epochs) {
      const double length = double(losses.size()) / double(epochs.back().epoch), x = length * double(e.epoch);
      train.x.push_back(x - length / 2), train.y.push_back(e.train_loss);  // a mean over the epoch stands in its middle
      held.x.push_back(x), held.y.push_back(e.loss);
    }
    double low = INFINITY, high = 0;
    for (const io::ChartSeries* s : {&batch, &train, &held})
      for (double v : s->y)
        if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
    const std::string chart =
        io::svg_chart({batch, train, held}, {.title = "Loss", .x_label = "step", .y_label = "loss", .log_y = low > 0 && high > 20 * low});
    if (auto ok = io::write_file(dir + "/loss.svg", chart); !ok) io_failed(ok.message());
  }
};

/// A walk over the batches.
struct Trainer::Epoch {
  int64_t number, total, done;  // total and done: batches
  ProgressBar bar;
  Clock::time_point begin = Clock::now();
  int64_t seen = 0;  // examples
  Epoch(int64_t which, const data::Loader& batches, const FitOptions& o)
      : number(which),
        total(batches.size()),
        done(batches.position().batch),
        bar(o.progress, "epoch " + std::to_string(which) + "/" + std::to_string(o.epochs), total, done) {}
  /// A step whose loss is not known yet.
  struct Awaited {
    LateNumbers::Number loss;
    int64_t n, done, step;
    double seconds, lr;
    bool last;
  };
  std::optional<Awaited> awaited;
};

/// A step that the monitor kept from the weights is computed once more, from the same weights, batch and random numbers. What breaks again is
/// the program's, and the first op that makes it out of clean inputs is to blame; what does not break again was the machine's.
Monitor::Finding Trainer::replay(const Tensor& x, const Tensor& y, const Generator::State& before, const Session& session) {
  const Generator::State after = default_generator().state();
  StateDict kept;  // running statistics move in a forward pass
  for (const StateDict::Entry& e : model_.state_dict()) kept.set(e.name, copy(e.tensor.detach()));
  default_generator().set_state(before);
  Monitor::Finding f;
  {
    optimizer_.zero_grad();
    Monitor again(MonitorOptions{.sample = 1, .foretell = false, .shadow_every = 0});  // everything, on devices too
    again.step();
    add_gradients(x, y, session.o);
    again.step();
    std::vector<Monitor::Finding> all = again.findings();
    const std::vector<Monitor::Finding> notes = again.notes();  // gradients of a narrow dtype, which no update used here
    for (const Monitor::Finding& n : notes)
      if (all.empty() && n.phase == "backward") all.push_back(n);
    if (all.empty()) {
      f.text = "transient: the same step, from the same weights, batch and random numbers, came out clean";
      f.suggestion = {"hardware", 0, "test this machine's memory and processor; the update was not made, and the run can go on"};
    } else {
      f = all.front();
      f.text = "computed again, it broke again; first: " + f.text;
    }
  }
  f.severity = Severity::fault, f.detector = "replay", f.step = session.monitor->current_step();
  if (f.op.empty()) f.op = "step", f.phase = "forward";
  model_.load_state_dict(kept);
  optimizer_.zero_grad();
  default_generator().set_state(after);
  return f;
}

/// Adds the gradients of a batch's loss, or of its share of a step, to those of the parameters; gives the loss.
Tensor Trainer::add_gradients(const Tensor& x, const Tensor& y, const FitOptions& o) {
  Tensor loss;
  {
    std::optional<Autocast> low;
    if (o.autocast != DType::none) low.emplace(o.autocast);
    loss = loss_(forward_(x), y);
  }
  scaler_.scale(o.accumulate > 1 ? loss / o.accumulate : loss).backward();
  return loss.detach();
}

void Trainer::move_weights(const FitOptions& o) {
  if (o.clip_norm > 0 || o.clip_value > 0) scaler_.unscale_(optimizer_);
  if (o.clip_norm > 0) nn::clip_grad_norm(optimizer_.parameters(), o.clip_norm);
  if (o.clip_value > 0) nn::clip_grad_value(optimizer_.parameters(), o.clip_value);
  scaler_.step(optimizer_);
  scaler_.update();
}

Tensor Trainer::compiled_step(const data::Batch& b, Session& session) {
  if (!std::exchange(session.compiled, true))
    session.step = compile([this, &o = session.o](const Tensors& batch) {
      const Tensor loss = add_gradients(batch[0], batch[1], o);
      move_weights(o);
      optimizer_.zero_grad();
      return loss;
    });
  const Tensor loss = session.step({b.x, b.y})[0];
  session.alike = b.x.shape() == session.batch_shape ? session.alike + 1 : 1;
  session.batch_shape = b.x.shape();
  if (session.alike >= 5 && !session.monitor && !session.step.captured() && !std::exchange(session.told, true))
    base::log(LogLevel::info, "train", "steps are not captured: " + session.step.reason());
  if (schedule_.defined() && !session.o.schedule_by_epoch) schedule_.step();
  ++steps_;
  return loss;
}

Tensor Trainer::step(data::Batch b, bool last_of_group, Session& session) {
  const FitOptions& o = session.o;
  const bool guarded = session.monitor && o.monitor.options().protect && o.accumulate == 1;
  if (o.compile && o.accumulate == 1 && !guarded) return compiled_step(b, session);
  if (o.compile && !std::exchange(session.told, true))
    base::log(LogLevel::info, "train",
              std::string("steps are not captured: ") + (guarded ? "the monitor guards them" : "gradients of several batches add up"));
  const Generator::State before = guarded ? default_generator().state() : Generator::State{};
  const Tensor loss = add_gradients(b.x, b.y, o);
  if (last_of_group) {
    move_weights(o);
    if (guarded && session.monitor->blocked_steps() > session.blocked) {
      session.blocked = session.monitor->blocked_steps();
      session.replayed.push_back(replay(b.x, b.y, before, session));
    }
    optimizer_.zero_grad();
    if (schedule_.defined() && !o.schedule_by_epoch) schedule_.step();
    ++steps_;
  }
  return loss;
}

Result Trainer::fit(data::Loader& batches, const FitOptions& o) { return run(batches, nullptr, o); }
Result Trainer::fit(data::Loader& batches, data::Loader& held_out, const FitOptions& o) { return run(batches, &held_out, o); }

/// Goes on where a resumed run stopped.
void Trainer::begin(data::Loader& batches, const FitOptions& o) {
  schedule_ = o.schedule;
  if (schedule_.defined() && !pending_schedule_.empty()) schedule_.load_state_dict(pending_schedule_);
  pending_schedule_ = {};
  scaler_ = optim::GradScaler({.enabled = o.autocast == f16});
  if (scaler_.is_enabled() && !pending_scaler_.empty()) scaler_.load_state_dict(pending_scaler_);
  pending_scaler_ = {};
  batches_ = &batches;
  if (!std::exchange(has_position_, false)) return;
  if (position_.batch > 0 && resumed_batch_size_ > 0 && resumed_batch_size_ != batches.batch_size())
    raise(Error(ErrorCode::value, "the run stopped in the middle of an epoch of batches of " + std::to_string(resumed_batch_size_) +
                                      ", the loader makes batches of " + std::to_string(batches.batch_size()))
              .op("Trainer::fit")
              .hint("go on with the same batch size; another one can take over where an epoch ends"));
  batches.set_position(position_);
}

/// Waits for the loss of the step that is under way, and books it.
void Trainer::settle(Epoch& e, Session& s) {
  if (!e.awaited) return;
  const Epoch::Awaited a = *std::exchange(e.awaited, std::nullopt);
  const double loss = s.losses.value(a.loss);
  e.seen += a.n;
  partial_loss_ += loss * double(a.n), partial_examples_ += a.n;
  step_losses_.push_back(loss);
  e.bar.update(a.done, loss, double(e.seen) / a.seconds);
  if (a.last && a.step % 20 == 0) s.scalar("train/loss", loss, a.step), s.scalar("train/lr", a.lr, a.step);
  if (a.last && s.o.on_step && !s.o.on_step(a.step, loss)) s.go = false, s.result.stopped_early = true;
}

/// The batches that are left of an epoch; false where it was stopped before its end.
bool Trainer::walk(data::Loader& batches, Epoch& e, Session& s) {
  auto it = batches.begin(device_of(model_));
  for (; it != batches.end(); ++it) {
    if (s.monitor) s.monitor->step();
    const int64_t n = (*it).x.shape()[0];
    const bool last = (e.done + 1) % s.o.accumulate == 0 || e.done + 1 == e.total;
    Epoch::Awaited now{.loss = s.losses.send(step(std::move(*it), last, s)),
                       .n = n,
                       .done = ++e.done,
                       .step = steps_,
                       .seconds = 0,
                       .lr = optimizer_.lr(),
                       .last = last};
    s.hear();
    settle(e, s);
    now.seconds = since(e.begin), e.awaited = now;
    const bool saves = !s.dir.empty() && last && s.o.checkpoint_steps > 0 && steps_ % s.o.checkpoint_steps == 0;
    if (!now.loss.ticket || saves || !s.go || e.done == e.total) settle(e, s);
    if (last && InterruptGuard::seen())
      s.go = false, s.result.interrupted = true;  // not before: a checkpoint holds no half-summed gradients
    if (!s.go) settle(e, s);
    if (saves) save_checkpoint(s.checkpoint());
    if (!s.go) break;
  }
  s.result.seconds += since(e.begin);
  if (!s.go && e.done < e.total) {
    e.bar.finish(s.result.interrupted ? "interrupted; the checkpoint holds everything done so far" : "stopped");
    return false;
  }
  if (it != batches.end()) ++it;  // a stop on the very last batch still ends the epoch
  return true;
}

/// What follows the last batch of an epoch: evaluation, schedule, checkpoint, charts.
void Trainer::end_epoch(Epoch& epoch, data::Loader* held_out, Session& s) {
  EpochResult e;
  e.epoch = epoch.number, e.train_loss = partial_examples_ ? partial_loss_ / double(partial_examples_) : 0;
  e.seconds = since(epoch.begin), e.examples_per_second = double(epoch.seen) / e.seconds, e.lr = optimizer_.lr();
  e.loss = e.train_loss, e.accuracy = std::nan("");
  partial_loss_ = 0, partial_examples_ = 0, ++epochs_done_;
  if (held_out) {
    const Evaluation v = evaluate(*held_out);
    e.loss = v.loss, e.accuracy = v.accuracy;
    s.scalar("held_out/loss", v.loss, steps_), s.scalar("held_out/accuracy", v.accuracy, steps_);
  }
  s.scalar("train/epoch_loss", e.train_loss, steps_);
  if (schedule_.defined() && s.o.schedule_by_epoch) schedule_.step(e.loss);
  history_.push_back(e);
  char text[200];
  std::snprintf(text, sizeof text, "epoch %lld/%lld  train loss %.4f  held out: loss %.4f accuracy %.4f  %.1f s, %.0f examples/s",
                static_cast<long long>(e.epoch), static_cast<long long>(s.o.epochs), e.train_loss, e.loss, e.accuracy, e.seconds,
                e.examples_per_second);
  epoch.bar.finish(text);
  if (s.o.on_epoch) s.o.on_epoch(e);
  if (since_best_ < 0 || e.loss < best_)
    best_ = e.loss, since_best_ = 0;
  else
    ++since_best_;
  if (!s.dir.empty()) save_checkpoint(s.checkpoint());
  s.charts(step_losses_, history_);
  if (s.o.patience > 0 && since_best_ >= s.o.patience) s.go = false, s.result.stopped_early = true;
}

Result Trainer::run(data::Loader& batches, data::Loader* held_out, const FitOptions& o) {
  InterruptGuard interrupts;
  Session session(o, device_of(model_));
  begin(batches, o);
  const bool was_training = model_.is_training();
  model_.train();
  optimizer_.zero_grad();
  while (session.go && epochs_done_ < o.epochs) {
    Epoch epoch(epochs_done_ + 1, batches, o);
    if (session.monitor) session.monitor->epoch(epoch.number);
    if (walk(batches, epoch, session))
      end_epoch(epoch, held_out, session);
    else if (!session.dir.empty())
      save_checkpoint(session.checkpoint());
  }
  session.charts(step_losses_, history_);
  model_.train(was_training);
  if (session.monitor) (void)session.monitor->findings();  // waits for what a device has not told yet
  session.hear();
  Result r = std::move(session.result);
  r.epochs = history_, r.steps = steps_;
  r.faults = session.faults, r.warnings = session.warnings;
  if (session.monitor) r.monitor_report = session.monitor->report();
  if (!history_.empty()) r.loss = history_.back().loss, r.accuracy = history_.back().accuracy;
  batches_ = nullptr, position_ = batches.position(), has_position_ = true, resumed_batch_size_ = batches.batch_size();
  return r;
}

Evaluation Trainer::evaluate(const data::Loader& batches) {
  NoGrad off;
  const bool was_training = model_.is_training();
  model_.eval();
  const Device d = device_of(model_);
  Evaluation e;
  int64_t hits = 0, targets = 0;
  bool classes = true;
  data::Loader walk(batches);
  for (auto it = walk.begin(d); it != walk.end(); ++it) {
    const Tensor &x = (*it).x, &y = (*it).y, out = forward_(x);
    const int64_t n = x.shape()[0];
    e.loss += loss_(out, y).item() * double(n), e.examples += n;
    classes = classes && has_classes(out, y);
    if (classes) hits += sum(argmax(out, {.axis = -1}) == y).item<int64_t>(), targets += y.size();
  }
  model_.train(was_training);
  e.loss = e.examples ? e.loss / double(e.examples) : std::nan("");
  e.accuracy = targets && classes ? double(hits) / double(targets) : std::nan("");
  return e;
}

void Trainer::save_checkpoint(const std::string& path) {
  StateDict all;
  all.merge(model_.state_dict(), "model.");
  all.merge(optimizer_.state_dict(), "optimizer.");
  if (schedule_.defined()) all.merge(schedule_.state_dict(), "schedule.");
  if (scaler_.is_enabled()) all.merge(scaler_.state_dict(), "scaler.");
  const Generator::State g = default_generator().state();
  const data::Loader::Position p = batches_ ? batches_->position() : position_;
  StateText t;
  t.set("kind", "trainer"), t.set("steps", steps_), t.set("epochs", epochs_done_);
  t.set("generator.seed", int64_t(g.seed)), t.set("generator.base", int64_t(g.base)), t.set("generator.offset", g.offset);
  t.set("data.seed", int64_t(p.seed)), t.set("data.epoch", int64_t(p.epoch)), t.set("data.batch", p.batch);
  t.set("data.batch_size", batches_ ? batches_->batch_size() : resumed_batch_size_);
  t.set("partial.loss", partial_loss_), t.set("partial.examples", partial_examples_);
  t.set("best", best_), t.set("since_best", since_best_), t.set("model", std::string(model_.type_name()));
  for (const EpochResult& e : history_) {
    const std::string k = "epoch." + std::to_string(e.epoch) + ".";
    t.set(k + "train_loss", e.train_loss), t.set(k + "loss", e.loss), t.set(k + "accuracy", e.accuracy), t.set(k + "lr", e.lr);
    t.set(k + "seconds", e.seconds), t.set(k + "examples_per_second", e.examples_per_second);
  }
  if (auto ok = io::write_checkpoint(path, all, t.metadata); !ok) io_failed(ok.message());
}

void Trainer::resume(const std::string& run_dir) {
  struct stat st{};
  const std::string path = stat(run_dir.c_str(), &st) == 0 && S_ISDIR(st.st_mode) ? run_dir + "/checkpoint.keel" : run_dir;
  auto file = io::read_checkpoint(path);
  if (!file) {
    const bool there = stat(path.c_str(), &st) == 0;
    raise(Error(ErrorCode::io, file.message())
              .op("Trainer::resume")
              .hint(there ? "a checkpoint is written whole or not at all, so something else changed the file; another copy, or a run from "
                            "the start, is the way on"
                          : "`fit` with a run_dir writes checkpoint.keel there at every epoch's end"));
  }
  const StateText t{std::move(file->metadata)};
  if (t.text("kind") != "trainer") raise(Error(ErrorCode::io, path + ": was not written by a Trainer").op("Trainer::resume").hint("it holds tensors only; load and load_state_dict read them"));
  model_.load_state_dict(file->tensors.strip("model."));
  optimizer_.load_state_dict(file->tensors.strip("optimizer."));
  pending_schedule_ = file->tensors.strip("schedule."), pending_scaler_ = file->tensors.strip("scaler.");
  steps_ = t.integer("steps"), epochs_done_ = t.integer("epochs");
  default_generator().set_state({uint64_t(t.integer("generator.seed")), uint64_t(t.integer("generator.base")), t.integer("generator.offset")});
  position_ = {uint64_t(t.integer("data.seed")), uint64_t(t.integer("data.epoch")), t.integer("data.batch")};
  resumed_batch_size_ = t.integer("data.batch_size");
  has_position_ = true;
  partial_loss_ = t.number("partial.loss"), partial_examples_ = t.integer("partial.examples");
  best_ = t.number("best"), since_best_ = t.integer("since_best");
  history_.clear(), step_losses_.clear();
  for (int64_t e = 1; e <= epochs_done_; ++e) {
    const std::string k = "epoch." + std::to_string(e) + ".";
    history_.push_back({e, t.number(k + "train_loss"), t.number(k + "loss"), t.number(k + "accuracy"), t.number(k + "lr"), t.number(k + "seconds"), t.number(k + "examples_per_second")});
  }
}

}  // namespace keel::train
