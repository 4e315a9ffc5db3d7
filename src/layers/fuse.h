#pragma once
// Chains of elementwise ops, and of softmax and norms among them, in a graph, each of which a device can run as one kernel.
#include "backend/device_fusion.h"
#include "layers/trace.h"

namespace keel {

/// Ops that become one. Slots as in a FusedProgram.
struct FuseChain {
  struct Op {
    int node;
    SmallVector<FusedSlot, FusedOp::kMostInputs> in;
  };
  struct Result {
    FusedSlot slot;
    int value;    // what it makes, or whose memory it writes into
    bool writes;  // memory that was there before
    int part = 0;  // as in FusedResult
  };
  std::vector<int> nodes;       // of the graph, in order; `ops` has no copies and no writes, which only say where values go
  std::vector<int> one_by_one;  // what runs in place of the kernel: `nodes` and all aliases and gradients among them
  std::vector<int> after;       // of those, what is still to be done after the kernel
  std::vector<int> sources;     // values
  std::vector<Op> ops;
  std::vector<Result> results;
  Shape shape;
  bool rows = false;  // some ops are on rows
};
/// An order of a graph's nodes in which chains are whole. The same values come out.
struct FusePlan {
  struct Step {
    int node = -1, chain = -1;  // one of them
    SmallVector<int, 2> last;   // values that nobody uses after it
  };
  std::vector<Step> steps;
  std::vector<FuseChain> chains;
  /// Kernels that the plan saves.
  int64_t saved() const;
};

/// `takes` as in DeviceFusion; null: every op that can be part of a chain may be.
FusePlan find_chains(const GraphData& g, const char* (*takes)(const FusedOp& o, const DType* in, const Shape& shape));

/// "add, gelu, mul: f32[64, 128]"
std::string chain_text(const GraphData& g, const FuseChain& c);

/// The chain as a device takes it; it points into `g` and into itself.
struct ChainProgram {
  std::vector<FusedSource> sources;
  std::vector<FusedOp> ops;
  std::vector<FusedResult> results;
  FusedProgram program;
  ChainProgram(const GraphData& g, const FuseChain& c);
  ChainProgram(const ChainProgram&) = delete;
};

/// The kernels of a graph's chains on a device.
class FusedKernels {
 public:
  /// Finds the chains of `g`, which must outlive it, and has the device begin to make kernels of them.
  FusedKernels(const GraphData& g, Device d);
  ~FusedKernels();
  FusedKernels(const FusedKernels&) = delete;
  FusedKernels& operator=(const FusedKernels&) = delete;

  /// Asks for the kernels that are not there yet; whether every one is there or refused.
  bool settled();
  /// How many are there.
  int64_t ready() const;
  /// Runs the graph, chains by their kernels where these are there, else one by one. As GraphWalk::run.
  void run(GraphWalk& w) const;
  /// A line a chain, and a sum: for people.
  std::string text() const;

 private:
  const GraphData& graph_;
  Device device_;
  FusePlan plan_;
  struct Made {
    void* kernel = nullptr;
    bool ready = false;
    std::string refusal;
  };
  std::vector<Made> made_;  // one a chain
  void run_chain(GraphWalk& w, size_t i) const;
};

}  // namespace keel
