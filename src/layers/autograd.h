#pragma once
// The graph that the autograd layer records.
#include <vector>

#include "core/impl.h"
#include "keel/autograd.h"
#include "op/scope.h"

namespace keel {

struct Node;

/// Where the gradient of one input goes: output `slot` of `node`, or a leaf; neither for an untracked input.
struct Edge {
  Ref<NodeBase> node;
  Tensor leaf;
  uint32_t slot = 0;
  bool valid() const { return node || leaf.defined(); }
};
Edge edge_of(const Tensor& t);

/// A tensor kept for the gradient, with the version that its memory had.
struct Saved {
  Tensor t;
  uint32_t version = 0;
};

/// One op that was run with gradients wanted. Freed iteratively: a chain of a million ops does not recurse.
struct Node : NodeBase {
  static constexpr int kInlineParams = 128;
  uint64_t seq = 0;  // order of creation: a node comes after everything it depends on
  const OpDef* op = nullptr;
  const char* name = "";
  SmallVector<Edge, 3> edges;          // one an input
  SmallVector<Spec, 3> in_specs;
  SmallVector<Spec, 1> out_specs;
  Strides in_strides;                  // of a slice's input: its gradient gets the same order in memory
  SmallVector<Saved, 3> saved_in;      // one an input, undefined where not saved
  SmallVector<Saved, 1> saved_out;     // one an output, without node
  Needs needs;
  bool released = false;
  Determinism determinism = Determinism::run;  // of the call
  const char* path = "";
  const void* site = nullptr;
  struct OutHook {
    int64_t id;
    uint32_t slot;
    GradHook hook;
  };
  std::vector<std::pair<int64_t, Callback<void(Tensors&)>>> hooks;
  std::vector<OutHook> out_hooks;  // called with the complete gradient of one output
  Callback<Tensors(Node&, const Tensors&, bool create_graph)> custom;  // for nodes that are no op
  alignas(16) std::byte inline_params[kInlineParams];
  std::byte* params = inline_params;

  Node* next_dead = nullptr;  // in the list of nodes to free

  static Ref<Node> create(const char* name);
  void set_params(const OpDef& op, const void* p);
  /// Gradients of the inputs; undefined where none flows. `second`: what the row is to add to cotangents[0] itself.
  Tensors run(const Tensors& cotangents, bool create_graph, const Tensor* second = nullptr);
  void release_saved();
};

/// Hooks of one tensor.
struct TensorHooks {
  std::vector<std::pair<int64_t, GradHook>> grad;
  std::vector<std::pair<int64_t, Callback<void(const Tensor&)>>> post;
};

extern OpDef op_slice_view;

/// Whether the pass in progress on this thread adds to the `.grad` of leaves, as `backward` does and `grad` does not.
bool accumulating();
/// Makes `out` the result `slot` of `n`.
void attach(const Tensor& out, const Ref<Node>& n, uint32_t slot);
/// Sums broadcast axes away and casts, so that `g` has the dtype and shape of the input it belongs to.
Tensor conform(Tensor g, const Spec& to);

/// Where set, called with every leaf whose gradient was accumulated.
extern constinit std::atomic<void (*)(const Tensor& leaf)> leaf_watch;

struct BackwardRequest {
  const Tensors& outputs;
  const Tensors& cotangents;
  const Tensors* inputs = nullptr;  // null: accumulate into leaves
  bool retain_graph = false, create_graph = false, allow_unused = false;
};
Tensors run_backward(const BackwardRequest& r);

}  // namespace keel
