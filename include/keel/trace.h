#pragma once
#include <string>
#include <type_traits>

#include "keel/base/callback.h"
#include "keel/base/ref.h"
#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel {

struct GraphData;

/// A recorded run: ops in order, with what flowed between them. Copies share it. Made by `trace` or `Trace`.
class Graph {
 public:
  Graph() noexcept;
  explicit Graph(GraphData* data);
  Graph(const Graph&) noexcept;
  Graph(Graph&&) noexcept;
  Graph& operator=(const Graph&) noexcept;
  ~Graph();

  /// Runs the ops again, in the same order and with the same kernels, so that the results equal those of the recorded code to the bit.
  /// `inputs` take the place of the recorded ones and must have their dtypes
  /// and shapes (ShapeError, DTypeError). Tensors that were only used are read as they are now; writes (in-place ops, optimiser steps) go
  /// to the same tensors again; gradients land in `.grad` of the same leaves;
  /// random ops draw on from this thread's default generator, as the recorded code would. No gradient is recorded through a replay.
  Tensors run(const Tensors& inputs = {}) const;
  /// How many ops were recorded.
  int64_t size() const;
  /// One line an op.
  std::string text() const;
  /// For Graphviz.
  std::string dot() const;
  /// Whether op `i` and the later op `j` touch the same memory, one of them writing: they must stay in this order.
  bool conflicts(int64_t i, int64_t j) const;

 private:
  Ref<GraphData> data_;
};

/// Records every op of this thread, also those of backward passes and optimiser steps, while they run as usual.
///
///     Trace trace;
///     {
///       auto guard = trace.record({x, y});
///       loss = ...; loss.backward(); optimizer.step();
///     }
///     Graph step = trace.graph({loss});
///     step.run({next_x, next_y});
///
/// What the host does between ops (control flow, values read with `item()`) is not recorded: a replay repeats the ops as they came. An op
/// whose result's shape depends on data is refused while recording,
/// UnsupportedError. What the recorded code makes on its first run only, such as an optimiser's state, should exist before.
class Trace {
 public:
  Trace();
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /// Records while it lives. On the thread that made it; not inside another recording.
  class Recording {
   public:
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

   private:
    explicit Recording(struct Recorder* r);
    Recorder* recorder_;
    friend class Trace;
  };
  /// `inputs`: tensors that may be others in each replay. A new recording starts afresh.
  [[nodiscard]] Recording record(const Tensors& inputs = {});
  /// What was recorded. `outputs`: tensors of the recording that `run` is to give.
  Graph graph(const Tensors& outputs = {}) const;

 private:
  Recorder* recorder_;
};

namespace detail {
Graph trace(const Callback<Tensors(const Tensors&)>& f, const Tensors& inputs);
/// `f`, which gives a Tensor, Tensors or nothing, as a function that gives Tensors.
template <class F>
auto giving_tensors(F f) {
  return [f = std::move(f)](const Tensors& in) mutable -> Tensors {
    using R = decltype(f(in));
    if constexpr (std::is_void_v<R>)
      return f(in), Tensors();
    else if constexpr (std::is_convertible_v<R, Tensor>)
      return {Tensor(f(in))};
    else
      return f(in);
  };
}
}  // namespace detail
/// Runs `f(inputs)`, which gives a Tensor, Tensors or nothing, and records it.
template <class F>
requires std::is_invocable_v<F&, const Tensors&> Graph trace(F f, const Tensors& inputs) {
  return detail::trace(detail::giving_tensors(std::move(f)), inputs);
}

}  // namespace keel
#pragma GCC visibility pop
