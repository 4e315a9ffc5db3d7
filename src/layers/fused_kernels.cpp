// Running a graph whose chains a device has made kernels of.
#include "core/device_driver.h"
#include "keel/error.h"
#include "layers/fuse.h"
#include "op/checks.h"

namespace keel {

FusedKernels::FusedKernels(const GraphData& g, Device d) : graph_(g), device_(d) {
  const DeviceFusion& fusion = *driver_of(d).fusion;
  plan_ = find_chains(g, fusion.takes);
  made_.resize(plan_.chains.size());
  for (size_t i = 0; i < made_.size(); ++i) {
    const ChainProgram p(g, plan_.chains[i]);
    if (const char* wrong = fusion.make(d.index, p.program, &made_[i].kernel)) made_[i].refusal = wrong;
  }
}
FusedKernels::~FusedKernels() {
  for (const Made& m : made_)
    if (m.kernel) driver_of(device_).fusion->forget(device_.index, m.kernel);
}

bool FusedKernels::settled() {
  bool all = true;
  for (Made& m : made_) {
    if (m.ready || !m.refusal.empty()) continue;
    if (const char* wrong = driver_of(device_).fusion->ready(device_.index, m.kernel, &m.ready)) m.refusal = wrong;
    all &= m.ready || !m.refusal.empty();
  }
  return all;
}
int64_t FusedKernels::ready() const {
  int64_t n = 0;
  for (const Made& m : made_) n += m.ready;
  return n;
}

void FusedKernels::run_chain(GraphWalk& w, size_t i) const {
  const FuseChain& c = plan_.chains[i];
  SmallVector<const void*, 24> sources;
  SmallVector<void*, 16> results;
  SmallVector<const Tensor*, 32> touched;
  SmallVector<char, 32> written;
  const auto touch = [&](int v, bool writes) { touched.push_back(&w.values[size_t(v)]), written.push_back(writes); };
  for (const int v : c.sources) touch(v, false);
  for (const FuseChain::Result& r : c.results)
    if (r.writes) touch(r.value, true);
  w.tell(touched.data(), written.data(), touched.size());
  for (const int v : c.sources) sources.push_back(impl(w.values[size_t(v)]).data);
  for (const FuseChain::Result& r : c.results) {
    Tensor& t = w.values[size_t(r.value)];
    const GraphValue& v = graph_.values[size_t(r.value)];
    if (r.writes)
      note_write(t, "assign");
    else
      t = make_tensor(v.spec.dtype, v.spec.shape, v.strides, device_);
    results.push_back(impl(t).data);
  }
  if (const char* wrong = driver_of(device_).fusion->run(device_.index, made_[i].kernel, sources.data(), results.data()))
    raise(Error(ErrorCode::device, wrong).op("compile").note("in the kernel of " + chain_text(graph_, c)));
  for (const int at : c.after) w.run_node(graph_.nodes[size_t(at)]);
}

void FusedKernels::run(GraphWalk& w) const {
  ScopeGuard guard;
  Scope& s = scope();
  s.grad = false, s.autocast = DType::none;
  const char* const outer = s.path;
  const auto node = [&](int at) {
    s.path = outer;
    w.run_node(graph_.nodes[size_t(at)]);
  };
  for (const FusePlan::Step& step : plan_.steps) {
    if (step.node >= 0)
      node(step.node);
    else if (made_[size_t(step.chain)].ready)
      run_chain(w, size_t(step.chain));
    else
      for (const int at : plan_.chains[size_t(step.chain)].one_by_one) node(at);
    for (const int v : step.last) w.values[size_t(v)] = Tensor();
  }
}

std::string FusedKernels::text() const {
  if (made_.empty()) return "no chains of elementwise ops\n";
  int64_t ops = 0, kernels = 0;
  std::string s;
  for (size_t i = 0; i < made_.size(); ++i) {
    const FuseChain& c = plan_.chains[i];
    if (made_[i].ready) ops += int64_t(c.nodes.size()), ++kernels;
    s += "  " + chain_text(graph_, c) +
         (made_[i].ready             ? ""
          : made_[i].refusal.empty() ? " (being made)"
                                     : " (not fused: " + made_[i].refusal + ")") +
         "\n";
  }
  return std::to_string(ops) + " ops run as " + std::to_string(kernels) + (kernels == 1 ? " kernel" : " kernels") + ", which saves " +
         std::to_string(ops - kernels) + " launches\n" + s;
}

}  // namespace keel
