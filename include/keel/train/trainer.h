#pragma once
#include <concepts>
#include <string>
#include <vector>

#include "keel/data/loader.h"
#include "keel/monitor.h"
#include "keel/nn/module.h"
#include "keel/optim/optimizer.h"
#include "keel/optim/scaler.h"
#include "keel/optim/schedule.h"
#include "keel/random.h"

#pragma GCC visibility push(default)
/// The training loop, with everything that surrounds one.
namespace keel::train {

/// One epoch, as it is logged.
struct EpochResult {
  int64_t epoch = 0;  // from 1
  double train_loss = 0, loss = 0, accuracy = 0, lr = 0, seconds = 0, examples_per_second = 0;
};

struct Evaluation {
  double loss = 0;      // mean over examples
  double accuracy = 0;  // share of targets that are their largest output; NaN where targets are no class indices
  int64_t examples = 0;
};

struct Result {
  double loss = 0, accuracy = 0;  // of the last evaluation
  std::vector<EpochResult> epochs;
  int64_t steps = 0;
  double seconds = 0;  // of training alone
  bool interrupted = false, stopped_early = false;
  int64_t faults = 0, warnings = 0;  // that a monitor found
  std::string monitor_report = {};   // Monitor::report() at the end; empty without a monitor
};

/// Whether and how a run is watched: `true`, or a MonitorOptions. Where those name no log file, the log is run_dir/monitor.jsonl.
class Watch {
 public:
  template <std::same_as<bool> B>
  Watch(B on) : on_(on) {}
  Watch(MonitorOptions options) : on_(true), options_(std::move(options)) {}
  explicit operator bool() const { return on_; }
  const MonitorOptions& options() const { return options_; }

 private:
  bool on_ = false;
  MonitorOptions options_;
};

struct FitOptions {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t epochs = 1;                 // in all, those before a resume included
  std::string run_dir = {};           // checkpoint, events, charts, monitor's log; empty: nothing is written
  Watch monitor = false;              // watch every op; findings go to run_dir/monitor.jsonl, and at a fault to post_mortem.json and .txt
  bool progress = true;               // a bar on stderr where that is a terminal
  optim::Scheduler schedule = {};     // stepped after each optimiser step
  bool schedule_by_epoch = false;     // stepped after each epoch instead, with the held-out loss
  double clip_norm = 0;               // 0: off
  double clip_value = 0;              // 0: off
  int64_t accumulate = 1;             // batches a step
  DType autocast = DType::none;       // bf16 or f16: steps run under Autocast (keel/autocast.h), weights stay f32 and evaluations are whole; with f16
                                      // losses are scaled by an optim::GradScaler of the trainer's, which leaves out steps that overflow
  int64_t patience = 0;               // epochs without a better held-out loss before stopping; 0: never stop early
  bool compile = false;               // steps are recorded, and captured where the device can (keel/compile.h): the same bits, less of the
                                      // host; not steps that a monitor watches whole or guards, nor with `accumulate`
  int64_t checkpoint_steps = 0;       // also checkpoint every so many steps; 0: at epochs' ends only
  Callback<void(const EpochResult&)> on_epoch = {};
  Callback<bool(int64_t step, double loss)> on_step = {};  // false stops the run; on a device that sends losses by itself it is called when the
                                                           // step after has been queued, which is then the last one
  Callback<void(const Monitor::Finding&)> on_finding = {};  // each once, after the step that brought it; not called for one that stops the run by break_on
};

/// With MonitorOptions.protect, a step whose gradients are not finite is not only kept from the weights, but computed again, from the same weights, batch and random numbers: `on_finding` hears of detector "replay"
/// which op broke first, or that the second time was clean (a transient fault of the machine); so does run_dir/replay.txt. Not with `accumulate`.
///
/// Trains a model that maps one Tensor to one, on batches (x, y), by `loss(model(x), y)`. Refers to the model, shares the optimiser; batches move to the model's device. SIGINT during `fit` ends it after
/// the step in progress, with a checkpoint; a second one ends the program.
class Trainer {
 public:
  template <class Model, class Loss>
    requires std::is_base_of_v<nn::ModuleBase, Model>
  Trainer(Model& model, const optim::Optimizer& opt, Loss loss)
      : model_(model), optimizer_(opt), forward_([&model](const Tensor& x) -> Tensor { return model(x); }),
        loss_([loss](const Tensor& out, const Tensor& y) -> Tensor { return loss(out, y); }) {}

  Result fit(data::Loader& batches, const FitOptions& o = {});
  /// `held_out` is evaluated after each epoch.
  Result fit(data::Loader& batches, data::Loader& held_out, const FitOptions& o = {});
  /// In evaluation mode, without gradients; the model's mode is restored.
  Evaluation evaluate(const data::Loader& batches);

  /// Optimiser steps so far, over resumes.
  int64_t steps_done() const { return steps_; }
  /// Writes weights, optimiser, schedule, random generator and the position in the data to `path`, all or nothing.
  void save_checkpoint(const std::string& path);
  /// Goes on from `run_dir`/checkpoint.keel (or that file itself): the next `fit` begins where it was written, and ends with the same bits as a run that was never stopped.
  void resume(const std::string& run_dir);

 private:
  nn::ModuleBase& model_;
  optim::Optimizer optimizer_;
  Callback<Tensor(const Tensor&)> forward_;
  Callback<Tensor(const Tensor&, const Tensor&)> loss_;
  optim::Scheduler schedule_;
  optim::GradScaler scaler_{{.enabled = false}};
  StateDict pending_schedule_, pending_scaler_;
  data::Loader* batches_ = nullptr;
  data::Loader::Position position_{};
  bool has_position_ = false;
  int64_t resumed_batch_size_ = 0;
  int64_t steps_ = 0, epochs_done_ = 0;
  double partial_loss_ = 0;  // of the epoch in progress, times examples
  int64_t partial_examples_ = 0;
  double best_ = 0;
  int64_t since_best_ = -1;  // -1: no evaluation yet
  std::vector<EpochResult> history_;
  std::vector<double> step_losses_;

  struct Session;
  struct Epoch;
  Result run(data::Loader& batches, data::Loader* held_out, const FitOptions& o);
  void begin(data::Loader& batches, const FitOptions& o);
  bool walk(data::Loader& batches, Epoch& e, Session& s);
  void settle(Epoch& e, Session& s);
  void end_epoch(Epoch& epoch, data::Loader* held_out, Session& s);
  Tensor step(data::Batch b, bool last_of_group, Session& session);
  Tensor add_gradients(const Tensor& x, const Tensor& y, const FitOptions& o);
  void move_weights(const FitOptions& o);
  Tensor compiled_step(const data::Batch& b, Session& session);
  Monitor::Finding replay(const Tensor& x, const Tensor& y, const Generator::State& before, const Session& session);
};

}  // namespace keel::train
#pragma GCC visibility pop
