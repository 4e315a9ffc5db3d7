#include "keel/optim/optimizer.h"

#include <utility>

#include "core/impl.h"
#include "core/scope.h"
#include "keel/autograd.h"
#include "keel/error.h"
#include "keel/ops/cast.h"
#include "keel/ops/creation.h"
#include "keel/ops/elementwise.h"
#include "op/scope.h"
#include "optim/state.h"

namespace keel::optim {

using detail::Group;
using detail::OptimizerState;
using detail::Rule;

void OptimizerState::destroy(OptimizerState* s) {
  if (!s->reported) detail::report_unexpect();
  for (const Group& g : s->groups)
    for (const Tensor& p : g.parameters) --grad_meta(p).optimisers;
  delete s;
}

namespace {

OptimizerState& state_of(const Ref<OptimizerState>& s) {
  if (!s) raise(Error(ErrorCode::value, "an empty Optimizer").hint("make one of SGD, Adam, AdamW, RMSprop"));
  return *s;
}
Group& group_of(const Ref<OptimizerState>& state, int64_t i) {
  OptimizerState& s = state_of(state);
  if (i < 0 || i >= int64_t(s.groups.size())) raise(Error(ErrorCode::index, "group " + std::to_string(i) + " is out of range [0, " + std::to_string(int64_t(s.groups.size()) - 1) + "]").op(s.rule->name));
  return s.groups[size_t(i)];
}
double& setting_of(const Ref<OptimizerState>& state, int64_t group, std::string_view name) {
  Group& g = group_of(state, group);
  const int i = state->rule->find(name);
  if (i >= 0) return g.values()[i];
  std::string known;
  for (int k = 0; k < state->rule->setting_count(); ++k) known += std::string(k ? ", " : "") + state->rule->settings[k];
  raise(Error(ErrorCode::value, "has no setting '" + std::string(name) + "'").op(state->rule->name).hint("it has " + known));
}

DType state_dtype(DType t) { return t == f64 ? f64 : f32; }

/// While it lives, no trace records: state comes into being once, a replayed step must not make it anew.
class Untraced {
 public:
  Untraced() { scope().trace = nullptr; }

 private:
  ScopeGuard keep_;
};

bool is_low(const Tensor& p) { return p.dtype() == f16 || p.dtype() == bf16; }

/// Zeros that lie in memory as the parameter does.
Tensor state_like(const Tensor& p) {
  Untraced off;
  const TensorImpl& x = impl(p);
  Tensor t = is_dense(x.spec.shape, x.strides) ? make_tensor(state_dtype(x.spec.dtype), x.spec.shape, x.strides, x.device) : make_tensor(state_dtype(x.spec.dtype), x.spec.shape, x.device);
  t.zero_();
  return t;
}

bool has_gradient(const Tensor& p) { return impl(p).grad && impl(p).grad->grad.defined(); }

/// What a master begins with: the parameter, but with the digits that a cast since it was given to the optimiser cut off. Where it was written
/// in between, it differs from that cast, and counts as it is.
Tensor first_master(const Tensor& given, const Tensor& p) {
  Tensor m = state_like(p);
  m.copy_(p);
  if (!given.defined()) return m;
  const Tensor wide = given.to(m.dtype()).to(p.device());
  m.copy_(where(wide.to(p.dtype()) == p, wide, m));
  return m;
}

/// The state tensor of a parameter, made or converted where it does not fit the parameter, which may have been moved or cast.
const Tensor& fitting(Tensor& t, const Tensor& p) {
  Untraced off;
  if (!t.defined()) t = state_like(p);
  else if (const TensorImpl& x = impl(p); impl(t).spec.dtype != state_dtype(x.spec.dtype) || impl(t).device != x.device) t = t.to(state_dtype(x.spec.dtype)).to(x.device);
  return t;
}
const Tensor& fitting_count(Tensor& t, const Tensor& p) {
  Untraced off;
  if (!t.defined()) t = zeros(Shape(), {.dtype = f64, .device = p.device()});
  else if (impl(t).device != impl(p).device) t = t.to(p.device());
  return t;
}

/// Steps the parameters of a group that have masters, or those that have none.
void step_group(const OptimizerState& s, Group& g, bool masters, const Tensor& skip, const void* site) {
  const int64_t n = g.parameters.size();
  const bool apart = s.flags & detail::kMaster;
  const auto takes = [&](const Tensor& p) { return has_gradient(p) && (apart && is_low(p)) == masters; };
  SmallVector<const Tensor*, 64> in;
  in.push_back(&g.hyper);
  in.push_back(&skip);
  for (int64_t i = 0; i < n; ++i)
    if (takes(g.parameters[i])) in.push_back(&g.parameters[i]);
  const int64_t live = in.size() - 2;
  if (!live) return;
  for (int64_t i = 0; i < n; ++i)
    if (takes(g.parameters[i])) in.push_back(&impl(g.parameters[i]).grad->grad);
  bool counts = s.rule->always_counts;
  for (int64_t i = 0; masters && i < n; ++i)
    if (Tensor& m = g.states[detail::kStates - 1][size_t(i)]; takes(g.parameters[i]) && !m.defined()) {
      Untraced off;
      m = first_master(std::exchange(g.given[size_t(i)], Tensor()), g.parameters[i]);
    }
  for (int k = 0; k < detail::kStates; ++k) {
    const bool master = k == detail::kStates - 1;
    if (master ? !masters : !s.uses(k, g)) continue;
    counts |= !master;
    for (int64_t i = 0; i < n; ++i)
      if (takes(g.parameters[i])) in.push_back(&fitting(g.states[k][size_t(i)], g.parameters[i]));
  }
  for (int64_t i = 0; counts && i < n; ++i)
    if (takes(g.parameters[i])) in.push_back(&fitting_count(g.steps[size_t(i)], g.parameters[i]));
  for (int64_t i = 2; i < in.size(); ++i)
    if (i < 2 + live || i >= 2 + 2 * live) note_write(*in[i], s.rule->name);
  s.rule->run(Inputs(in.data(), int(in.size())), masters ? s.flags : s.flags & ~uint32_t(detail::kMaster), g.values(), site);
}

}  // namespace

Optimizer::Optimizer() noexcept = default;
Optimizer::Optimizer(const Optimizer&) noexcept = default;
Optimizer::Optimizer(Optimizer&&) noexcept = default;
Optimizer& Optimizer::operator=(const Optimizer&) noexcept = default;
Optimizer& Optimizer::operator=(Optimizer&&) noexcept = default;
Optimizer::~Optimizer() = default;

Optimizer::Optimizer(const Rule& rule, uint32_t flags) : state_(new OptimizerState) {
  state_->rule = &rule, state_->flags = flags;
  detail::report_expect();
}

void Optimizer::add_group(const Tensors& parameters, std::initializer_list<double> settings, std::initializer_list<double> defaults) {
  OptimizerState& s = *state_;
  Group g;
  g.hyper = make_tensor(f64, Shape({int64_t(settings.size())}));
  for (size_t i = 0; i < settings.size(); ++i) {
    const double given = settings.begin()[i], v = given == given ? given : defaults.begin()[i];
    if (!(v >= 0)) raise(Error(ErrorCode::value, std::string(s.rule->settings[i]) + " must not be negative, got " + to_string(Scalar(v))).op(s.rule->name));
    g.values()[i] = v;
  }
  if (parameters.empty()) raise(Error(ErrorCode::value, "got no parameters").op(s.rule->name).hint("a module names them in `fields`; Module::parameters() lists them"));
  for (const Tensor& p : parameters) {
    const std::string at = "parameter " + std::to_string(g.parameters.size());
    if (!p.defined()) raise(Error(ErrorCode::value, at + " is an empty tensor").op(s.rule->name).hint("a default-constructed Tensor has no value yet"));
    if (!p.is_leaf()) raise(Error(ErrorCode::autograd, at + " is a result, not a leaf").op(s.rule->name).arg("parameter", to_string(impl(p).spec)).hint("train the tensors that it was computed from"));
    if (!contains(kinds::floating, p.dtype())) raise(Error(ErrorCode::dtype, at + " is not of a floating dtype").op(s.rule->name).arg("parameter", to_string(impl(p).spec)).hint("x.astype(f32) makes a float copy"));
    auto is_p = [&](const Tensors& list) {
      for (const Tensor& q : list)
        if (q.is(p)) return true;
      return false;
    };
    bool twice = is_p(g.parameters);
    for (const Group& other : s.groups) twice = twice || is_p(other.parameters);
    if (twice) raise(Error(ErrorCode::value, at + " is given twice").op(s.rule->name).arg("parameter", to_string(impl(p).spec)).hint("Module::parameters() lists tied parameters once"));
    g.parameters.push_back(p);
    g.given.push_back((s.flags & detail::kMaster) && !is_low(p) ? p.detach() : Tensor());
  }
  for (auto& list : g.states) list.resize(size_t(g.parameters.size()));
  g.steps.resize(size_t(g.parameters.size()));
  for (const Tensor& p : g.parameters) ++grad_meta(p).optimisers;
  s.groups.push_back(std::move(g));
}

void Optimizer::step() { step_with(Tensor(), __builtin_return_address(0)); }
void Optimizer::step_unless(const Tensor& skip) {
  if (!skip.defined()) raise(Error(ErrorCode::value, "'skip' is an empty tensor").op("step_unless").hint("step() always steps"));
  step_with(skip, __builtin_return_address(0));
}

void Optimizer::step_with(const Tensor& skip, const void* site) {
  OptimizerState& s = state_of(state_);
  if (!s.reported) detail::report_first_step(s);
  ScopeGuard guard;
  Scope& scope_now = scope();
  scope_now.grad = false, scope_now.autocast = DType::none, scope_now.phase = Phase::optimiser;
  for (Group& g : s.groups) {
    const Device d = g.parameters[0].device();
    const Tensor there = skip.defined() && skip.device() != d ? skip.to(d) : skip;
    for (const bool masters : {false, true}) step_group(s, g, masters, there, site);
  }
}

void Optimizer::zero_grad() {
  for (const Group& g : state_of(state_).groups)
    for (const Tensor& p : g.parameters) Tensor(p).zero_grad();
}

int64_t Optimizer::groups() const { return int64_t(state_of(state_).groups.size()); }
const Tensors& Optimizer::parameters(int64_t group) const { return group_of(state_, group).parameters; }
Tensors Optimizer::parameters() const {
  Tensors all;
  for (const Group& g : state_of(state_).groups) all.append(g.parameters.begin(), g.parameters.end());
  return all;
}
double Optimizer::get(int64_t group, std::string_view name) const { return setting_of(state_, group, name); }
void Optimizer::set(int64_t group, std::string_view name, double value) {
  setting_of(state_, group, name) = value;
  note_write(group_of(state_, group).hyper, "set");
}
bool Optimizer::has(std::string_view name) const { return state_of(state_).rule->find(name) >= 0; }
double Optimizer::lr(int64_t group) const { return group_of(state_, group).values()[0]; }
void Optimizer::set_lr(int64_t group, double lr) { set(group, "lr", lr); }
void Optimizer::set_lr(double lr) {
  for (int64_t i = 0; i < groups(); ++i) set(i, "lr", lr);
}
const char* Optimizer::name() const { return state_of(state_).rule->name; }
const std::vector<std::string>& Optimizer::untrained() const { return state_of(state_).untrained; }
const std::vector<std::string>& Optimizer::without_gradient() const { return state_of(state_).without_gradient; }

SplitByRank split_by_rank(const Tensors& parameters) {
  SplitByRank s;
  for (const Tensor& p : parameters) (p.rank() >= 2 ? s.matrices : s.vectors).push_back(p);
  return s;
}

// ---- state ----

namespace {
/// Settings as PyTorch groups them: the two betas are one entry.
struct Entry {
  std::string name;
  int first, count;
};
std::vector<Entry> entries_of(const Rule& r) {
  std::vector<Entry> out;
  for (int i = 0; i < r.setting_count(); ++i) {
    if (std::string_view(r.settings[i]) == "beta1") out.push_back({"betas", i, 2}), ++i;
    else out.push_back({r.settings[i], i, 1});
  }
  return out;
}
}  // namespace

StateDict Optimizer::state_dict() const {
  OptimizerState& s = state_of(state_);
  StateDict out;
  int64_t index = 0;
  for (const Group& g : s.groups)
    for (size_t i = 0; i < g.steps.size(); ++i, ++index) {
      const std::string at = "state." + std::to_string(index) + ".";
      if (g.steps[i].defined()) out.set(at + "step", g.steps[i].detach());
      for (int k = 0; k < detail::kStates; ++k)
        if (g.states[k][i].defined()) out.set(at + s.rule->states[k].name, g.states[k][i].detach());
    }
  index = 0;
  for (size_t k = 0; k < s.groups.size(); ++k) {
    const std::string at = "param_groups." + std::to_string(k) + ".";
    const TensorImpl& h = impl(s.groups[k].hyper);
    for (const Entry& e : entries_of(*s.rule)) out.set(at + e.name, make_view(h.storage, f64, e.count == 1 ? Shape() : Shape({e.count}), e.count == 1 ? Strides() : Strides({1}), h.offset + e.first));
    const int64_t n = s.groups[k].parameters.size();
    out.set(at + "params", arange(index, index + n));
    index += n;
  }
  return out;
}

void Optimizer::load_state_dict(const StateDict& d) {
  OptimizerState& s = state_of(state_);
  std::vector<std::pair<const char*, std::string>> wrong;
  StateDict known;
  auto find = [&](const std::string& name, const Shape& shape) -> const Tensor* {
    known.set(name, Tensor());
    const Tensor* t = d.find(name);
    if (t && !(t->shape() == shape)) {
      wrong.emplace_back("shape", name + " is " + to_string(impl(*t).spec) + ", expected " + to_string(shape));
      return nullptr;
    }
    return t;
  };
  struct Loaded {
    Group* group;
    size_t i;
    const Tensor* step;
    const Tensor* states[detail::kStates];
  };
  std::vector<Loaded> loaded;
  std::vector<std::pair<double*, double>> settings;
  int64_t index = 0;
  for (size_t k = 0; k < s.groups.size(); ++k) {
    Group& g = s.groups[k];
    const std::string group_at = "param_groups." + std::to_string(k) + ".";
    for (const Entry& e : entries_of(*s.rule)) {
      const Tensor* t = find(group_at + e.name, e.count == 1 ? Shape() : Shape({e.count}));
      if (!d.contains(group_at + e.name)) wrong.emplace_back("missing", group_at + e.name);
      if (!t) continue;
      const Tensor v = t->to(f64).to(cpu_device).reshape({-1});
      for (int j = 0; j < e.count; ++j) settings.emplace_back(g.values() + e.first + j, v.data<double>()[j]);
    }
    find(group_at + "params", Shape({g.parameters.size()}));
    for (int64_t i = 0; i < g.parameters.size(); ++i, ++index) {
      const std::string at = "state." + std::to_string(index) + ".";
      Loaded l{&g, size_t(i), find(at + "step", Shape()), {}};
      bool any = d.contains(at + "step");
      for (int j = 0; j < detail::kStates; ++j)
        if (s.rule->states[j].name) l.states[j] = find(at + s.rule->states[j].name, g.parameters[i].shape()), any |= d.contains(at + s.rule->states[j].name);
      for (int j = 0; any && j < detail::kStates; ++j)
        if (const Rule::State& r = s.rule->states[j]; r.name && (r.when == 0 || (r.when > 0 && (s.flags & uint32_t(r.when)))) && (r.when != detail::kMaster || is_low(g.parameters[i])) && !d.contains(at + r.name)) wrong.emplace_back("missing", at + r.name);
      if (any && s.rule->always_counts && !d.contains(at + "step")) wrong.emplace_back("missing", at + "step");
      loaded.push_back(l);
    }
  }
  for (const StateDict::Entry& e : d)
    if (!known.contains(e.name)) wrong.emplace_back("unexpected", e.name);
  if (!wrong.empty()) {
    Error e(ErrorCode::value, "the state does not fit: " + std::to_string(s.groups.size()) + " groups of " + std::to_string(index) + " parameters");
    e.op("load_state_dict");
    for (auto& [role, text] : wrong) e.arg(role, text);
    raise(e);
  }

  NoGrad off;
  for (auto& [to, v] : settings) *to = v;
  for (const Loaded& l : loaded) {
    Tensor& step = l.group->steps[l.i];
    bool any = false;
    for (int j = 0; j < detail::kStates; ++j) {
      Tensor& t = l.group->states[j][l.i];
      t = Tensor();
      if (!l.states[j]) continue;
      any = true;
      t = state_like(l.group->parameters[int64_t(l.i)]);
      t.copy_(l.states[j]->to(t.device()));
    }
    step = Tensor();
    if (l.states[detail::kStates - 1]) l.group->given[l.i] = Tensor();
    if (!l.step && !any) continue;
    step = full(Shape(), l.step ? l.step->item() : 1.0, {.dtype = f64});  // a momentum buffer without a count, as PyTorch saves it, has seen a step
  }
}

}  // namespace keel::optim
