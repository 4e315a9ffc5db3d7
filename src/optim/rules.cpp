#include "keel/optim/rules.h"

#include "keel/error.h"
#include "keel/ops/optim_step.h"
#include "optim/state.h"

namespace keel {
extern OpDef op_sgd_step, op_adam_step, op_rmsprop_step;
}

namespace keel::optim {
namespace detail {
namespace {

Tensor run_sgd(Inputs in, uint32_t flags, const double* hyper, const void* site) {
  const SgdStepParams p{.momentum = hyper[1] != 0, .nesterov = bool(flags & kNesterov), .maximize = bool(flags & kMaximize), .master = bool(flags & kMaster)};
  return dispatch_one(op_sgd_step, &p, in, site);
}
Tensor run_adam(Inputs in, uint32_t flags, const double*, const void* site) {
  const AdamStepParams p{.amsgrad = bool(flags & kAmsgrad), .decoupled = bool(flags & kDecoupled), .maximize = bool(flags & kMaximize), .master = bool(flags & kMaster)};
  return dispatch_one(op_adam_step, &p, in, site);
}
Tensor run_rmsprop(Inputs in, uint32_t flags, const double* hyper, const void* site) {
  const RmspropStepParams p{.centered = bool(flags & kCentered), .momentum = hyper[4] != 0, .maximize = bool(flags & kMaximize), .master = bool(flags & kMaster)};
  return dispatch_one(op_rmsprop_step, &p, in, site);
}

}  // namespace

// Settings stand in the order of the op's `hyper`, states in the order of its lists.
constinit const Rule kSgdRule{"SGD", {"lr", "momentum", "dampening", "weight_decay"}, {{"momentum_buffer", -2}, {}, {}, {"master", kMaster}}, false, run_sgd};
constinit const Rule kAdamRule{"Adam", {"lr", "beta1", "beta2", "eps", "weight_decay"}, {{"exp_avg", 0}, {"exp_avg_sq", 0}, {"max_exp_avg_sq", kAmsgrad}, {"master", kMaster}}, true, run_adam};
constinit const Rule kAdamWRule{"AdamW", {"lr", "beta1", "beta2", "eps", "weight_decay"}, {{"exp_avg", 0}, {"exp_avg_sq", 0}, {"max_exp_avg_sq", kAmsgrad}, {"master", kMaster}}, true, run_adam};
constinit const Rule kRmspropRule{"RMSprop", {"lr", "alpha", "eps", "weight_decay", "momentum"}, {{"square_avg", 0}, {"grad_avg", kCentered}, {"momentum_buffer", -5}, {"master", kMaster}}, true, run_rmsprop};

namespace {
template <class O>
uint32_t flags_of(const O& o) {
  uint32_t f = (o.maximize ? uint32_t(kMaximize) : 0u) | (o.master_weights ? uint32_t(kMaster) : 0u);
  if constexpr (requires { o.amsgrad; }) f |= o.amsgrad ? uint32_t(kAmsgrad) : 0u;
  if constexpr (requires { o.nesterov; }) f |= o.nesterov ? uint32_t(kNesterov) : 0u;
  if constexpr (requires { o.centered; }) f |= o.centered ? uint32_t(kCentered) : 0u;
  return f;
}
template <class G>
const std::vector<G>& some(const char* rule, const std::vector<G>& groups) {
  if (groups.empty()) raise(Error(ErrorCode::value, "got no parameters").op(rule).hint("a module names them in `fields`; Module::parameters() lists them"));
  return groups;
}
void check_betas(const char* rule, const Betas& b) {
  for (double v : {b.first, b.second})
    if (v < 0 || v >= 1) raise(Error(ErrorCode::value, "betas must be in [0, 1), got " + to_string(Scalar(v))).op(rule));
}
}  // namespace
}  // namespace detail

SGD::SGD(const Tensors& parameters, const Options& o) : SGD({Group{.params = parameters}}, o) {}
SGD::SGD(const std::vector<Group>& groups, const Options& o) : Optimizer(detail::kSgdRule, detail::flags_of(o)), options_(o) {
  for (const Group& g : detail::some("SGD", groups)) add_param_group(g);
}
SGD::SGD(std::initializer_list<Group> groups, const Options& o) : SGD(std::vector<Group>(groups), o) {}
void SGD::add_param_group(const Group& g) {
  const Options& o = options_;
  const double momentum = g.momentum == g.momentum ? g.momentum : o.momentum, dampening = g.dampening == g.dampening ? g.dampening : o.dampening;
  if (o.nesterov && (momentum <= 0 || dampening != 0)) raise(Error(ErrorCode::value, "nesterov needs a momentum and no dampening").op("SGD"));
  add_group(g.params, {g.lr, g.momentum, g.dampening, g.weight_decay}, {o.lr, o.momentum, o.dampening, o.weight_decay});
}

Adam::Adam(const Tensors& parameters, const Options& o) : Adam({Group{.params = parameters}}, o) {}
Adam::Adam(const std::vector<Group>& groups, const Options& o) : Optimizer(detail::kAdamRule, detail::flags_of(o)), options_(o) {
  for (const Group& g : detail::some("Adam", groups)) add_param_group(g);
}
Adam::Adam(std::initializer_list<Group> groups, const Options& o) : Adam(std::vector<Group>(groups), o) {}
void Adam::add_param_group(const Group& g) {
  const Options& o = options_;
  detail::check_betas("Adam", g.betas), detail::check_betas("Adam", o.betas);
  add_group(g.params, {g.lr, g.betas.first, g.betas.second, g.eps, g.weight_decay}, {o.lr, o.betas.first, o.betas.second, o.eps, o.weight_decay});
}

AdamW::AdamW(const Tensors& parameters, const Options& o) : AdamW({Group{.params = parameters}}, o) {}
AdamW::AdamW(const std::vector<Group>& groups, const Options& o) : Optimizer(detail::kAdamWRule, detail::flags_of(o) | detail::kDecoupled), options_(o) {
  for (const Group& g : detail::some("AdamW", groups)) add_param_group(g);
}
AdamW::AdamW(std::initializer_list<Group> groups, const Options& o) : AdamW(std::vector<Group>(groups), o) {}
void AdamW::add_param_group(const Group& g) {
  const Options& o = options_;
  detail::check_betas("AdamW", g.betas), detail::check_betas("AdamW", o.betas);
  add_group(g.params, {g.lr, g.betas.first, g.betas.second, g.eps, g.weight_decay}, {o.lr, o.betas.first, o.betas.second, o.eps, o.weight_decay});
}

RMSprop::RMSprop(const Tensors& parameters, const Options& o) : RMSprop({Group{.params = parameters}}, o) {}
RMSprop::RMSprop(const std::vector<Group>& groups, const Options& o) : Optimizer(detail::kRmspropRule, detail::flags_of(o)), options_(o) {
  for (const Group& g : detail::some("RMSprop", groups)) add_param_group(g);
}
RMSprop::RMSprop(std::initializer_list<Group> groups, const Options& o) : RMSprop(std::vector<Group>(groups), o) {}
void RMSprop::add_param_group(const Group& g) {
  const Options& o = options_;
  add_group(g.params, {g.lr, g.alpha, g.eps, g.weight_decay, g.momentum}, {o.lr, o.alpha, o.eps, o.weight_decay, o.momentum});
}

}  // namespace keel::optim
