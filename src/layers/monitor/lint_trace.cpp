// The rules of lint_rules.h on a recording.
#include <memory>

#include "base/symbol.h"
#include "keel/lint.h"
#include "layers/monitor/lint_rules.h"
#include "layers/monitor/monitor.h"
#include "layers/trace.h"

namespace keel {
namespace {

struct Maker {
  const OpDef* op = nullptr;
  int from[2] = {-1, -1};
  bool twice = false;
};

std::vector<LintFinding> judge(const GraphData& g) {
  std::vector<Maker> makers(g.nodes.size());
  std::vector<int> made(g.values.size(), -1);  // the node that wrote a value last
  const LintMakers who{
      .of = &makers,
      .op = [](const void* of, int k) { return (*static_cast<const std::vector<Maker>*>(of))[size_t(k)].op; },
      .maker = [](const void* of, int k, int i) { return i < 2 ? (*static_cast<const std::vector<Maker>*>(of))[size_t(k)].from[i] : -1; },
      .twice = [](const void* of, int k) { return (*static_cast<const std::vector<Maker>*>(of))[size_t(k)].twice; },
      .exact = true};
  std::vector<LintFinding> found;
  for (size_t k = 0; k < g.nodes.size(); ++k) {
    const GraphNode& n = g.nodes[k];
    if (n.kind == GraphNode::Kind::gradient) continue;
    const auto value = [&](int i) -> const GraphValue* {
      return i < int(n.in.size()) && n.in[i] >= 0 ? &g.values[size_t(n.in[i])] : nullptr;
    };
    if (n.kind == GraphNode::Kind::alias || n.op->view) {  // what makes nothing is looked through
      const int from = n.in.size() && n.in[0] >= 0 ? made[size_t(n.in[0])] : -1;
      for (const int v : n.out)
        if (v >= 0) made[size_t(v)] = from;
      continue;
    }
    Maker& m = makers[k];
    m.op = n.op;
    for (int i = 0; i < 2; ++i)
      if (value(i)) m.from[i] = made[size_t(n.in[i])];
    m.twice = n.in.size() == 2 && n.in[0] == n.in[1] && n.in[0] >= 0;
    LintCall call{.op = n.op, .params = n.params.get(), .call = int(k), .phase = n.phase, .recording = n.recording};
    if (const GraphValue* x = value(0)) call.in = x->spec.dtype, call.shape = &x->spec.shape, call.in_elements = x->spec.shape.numel();
    if (n.out.size() && n.out[0] >= 0) {
      const Spec& y = g.values[size_t(n.out[0])].spec;
      call.out = y.dtype, call.out_elements = y.shape.numel();
    }
    for (int i = 0; i < 2; ++i)
      if (const GraphValue* x = value(i);
          x && x->kind == GraphValue::Kind::number && is_inexact(x->spec.dtype) && !is_complex(x->spec.dtype))
        call.numbers[i] = {x->given, read_double(impl(x->held).data, x->spec.dtype), x->spec.dtype};
    lint_rules(call, who, [&](const LintWord& w) {
      const GraphNode& to_blame = g.nodes[size_t(w.call)];
      LintFinding f{w.severity, w.rule,  to_blame.op->name, to_blame.path, base::describe_code(to_blame.site), phase_name(to_blame.phase),
                    w.text,     w.value, w.suggestion};
      for (LintFinding& other : found)
        if (other.rule == f.rule && other.op == f.op && other.path == f.path && other.site == f.site) {
          ++other.count;
          return;
        }
      found.push_back(std::move(f));
    });
    for (const int v : n.out)
      if (v >= 0) made[size_t(v)] = int(k);
  }
  return found;
}

}  // namespace

std::vector<LintFinding> detail::lint(const Callback<void()>& f) {
  const std::unique_ptr<Recorder> r = new_recorder();
  r->host_read = [](TraceSink*, const TensorImpl&) {};  // nothing will be replayed
  struct Ends {
    Recorder& r;
    ~Ends() { r.end(); }
  };
  {
    r->begin({});
    const Ends ends{*r};
    f();
  }
  return judge(*r->graph);
}

}  // namespace keel
