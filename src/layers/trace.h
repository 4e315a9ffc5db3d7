#pragma once
// What a trace records. Passes and compilers work on this structure.
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/impl.h"
#include "core/scope.h"
#include "keel/trace.h"
#include "op/scope.h"

namespace keel {

/// Something that flows between ops.
struct GraphValue {
  enum class Kind : uint8_t { input, captured, number, key, result, alias };
  Kind kind = Kind::result;
  Spec spec;
  Strides strides;
  int64_t offset = 0;
  Tensor held;   // captured: the tensor; number: its value
  double given = 0;  // number: as the program wrote it, before the call's dtype rounded it
  int root = 0;  // the value that owns the memory; itself, but for views and aliases
};

/// A touch of memory: of the storage that value `root` owns, when that had been written `version` times since the recording began.
struct GraphAccess {
  int root;
  uint32_t version;
};

struct GraphNode {
  enum class Kind : uint8_t { op, alias, gradient };
  Kind kind = Kind::op;
  const OpDef* op = nullptr;
  std::unique_ptr<std::byte[]> params;
  SmallVector<int, 4> in,
      // values; -1 for absent ones. alias: `out` is another object on `in`; gradient: leaf and value, which becomes the leaf's `.grad`
      out;
  SmallVector<GraphAccess, 4> reads;
  SmallVector<GraphAccess, 1> writes;
  SmallVector<int, 2> last;  // values that nobody uses after this node
  bool recording = false;    // aux outputs were wanted
  Phase phase = Phase::forward;
  Determinism determinism = Determinism::run;
  const char* path = "";
  const void* site = nullptr;
};

struct GraphData : RefCounted {
  std::vector<GraphValue> values;
  std::vector<GraphNode> nodes;
  SmallVector<int, 4> inputs, outputs;
  int64_t random_blocks = 0;  // how far the generator moved
  int64_t host_reads = 0;     // values of the recording that the host looked at
  static void destroy(GraphData* g) { delete g; }
};

/// Whether a module is in training, in the hands of recordings too, which may outlive the module.
struct ModuleMode : RefCounted {
  bool training, alive = true;
  explicit ModuleMode(bool training) : training(training) {}
  static void destroy(ModuleMode* m) { delete m; }
};
/// A module that a recording depends on, and what it was in when the recording began.
struct KnownMode {
  Ref<ModuleMode> mode;
  bool training;
  bool holds() const { return mode->alive && mode->training == training; }
};

/// Fills a graph while ops run. `scope().trace` points to it.
struct Recorder : TraceSink {
  Tensors (*watch)(Recorder& r, Call& c) = nullptr;  // where set, nothing is recorded: it runs the op below the trace, and looks on
  Ref<GraphData> graph;
  uint64_t id = 0;  // marks tensors and storages that were made while this one recorded
  bool recording = false;
  bool lenient = false;   // what cannot be recorded is noted in `trouble` instead of refused; nothing is recorded from there on
  std::string trouble;
  Tensor key;  // the generator's, when the recording began
  std::unordered_map<const TensorImpl*, int> externals;
  struct Memory {
    int root;
    uint32_t first_version;
  };
  std::unordered_map<const Storage*, Memory> memory;  // of externals
  SmallVector<const Storage*, 4> pending;             // written by the op that comes next
  std::vector<KnownMode> modes;                       // of modules that were asked whether they are in training, or told

  void begin(const Tensors& inputs);
  void end();
  int value_of(const Tensor& t);
  int add_value(GraphValue v);
  void bind(const Tensor& t, int value);
  GraphAccess access(const Tensor& t, int value);
  /// The program asks for this mode, or changes it next.
  void depends_on(ModuleMode& mode);
  void add_node(GraphNode n);
  Graph finish(const Tensors& outputs) const;
};

/// One walk over the nodes of a graph.
struct GraphWalk {
  const GraphData& graph;
  std::vector<Tensor> values;  // by index; what nodes make comes in and goes after its last use
  bool collect = false;        // gradients are put into `gradients`, the last one of each leaf, instead of into the leaves
  std::vector<std::pair<int, Tensor>> gradients;
  const Device* recorded = nullptr;  // where given: the device that records the walk, and is told what its nodes touch
  const Device* home = nullptr;  // where given: `stray` is the first op that made something elsewhere
  const OpDef* stray = nullptr;

  /// Finds the values that nodes take from outside; raises where one is not as it was when the graph was recorded.
  GraphWalk(const GraphData& g, const Tensors& inputs);
  void run();
  void run_node(const GraphNode& n);
  Tensors outputs() const;
  /// Tells the device that records what work on these tensors touches; `written` says which of them.
  void tell(const Tensor* const* t, const char* written, int64_t n) const;
};

/// One that hears of everything that a recording must know.
std::unique_ptr<Recorder> new_recorder();

}  // namespace keel
