#pragma once
#include <vector>

#include "keel/optim/optimizer.h"

#pragma GCC visibility push(default)
// The optimisers. Each takes parameters, or groups of them with settings of their own: `AdamW opt({{.params = matrices, .weight_decay = 0.1}, {.params = vectors}}, {.lr = 1e-3})`. Arithmetic follows PyTorch's,
// operation by operation; state is f32 for f16 and bf16 parameters. With `master_weights` each f16 or bf16 parameter also has an f32 master, which is what the step changes: the parameter is the master, rounded once, so that
// updates too small for 16 bits are not lost (Micikevicius et al. 2018). It is part of the state, as "state.0.master"; f32 and f64 parameters have none.
// Make the optimiser before `model.to(bf16)`: the masters then begin with all digits of the weights, not with the rounded ones, of which the first
// small steps would not move a single bit.
namespace keel::optim {

struct SGDOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  bool maximize = false;
  bool master_weights = false;
};
/// g += weight_decay p; b = momentum b + (1 - dampening) g, or g at first; p -= lr b. With `nesterov` p -= lr (g + momentum b).
class SGD : public Optimizer {
 public:
  using Options = SGDOptions;
  struct Group {
    [[no_unique_address]] ByName by_name = ByName();
    Tensors params = {};
    double lr = kInherit;
    double momentum = kInherit;
    double dampening = kInherit;
    double weight_decay = kInherit;
  };
  explicit SGD(const Tensors& parameters, const Options& o = {});
  explicit SGD(std::initializer_list<Group> groups, const Options& o = {});
  explicit SGD(const std::vector<Group>& groups, const Options& o = {});
  void add_param_group(const Group& g);

 private:
  Options options_;
};

struct AdamOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double lr = 1e-3;
  Betas betas = {};
  double eps = 1e-8;
  double weight_decay = 0;
  bool amsgrad = false;
  bool maximize = false;
  bool master_weights = false;
};
/// Kingma and Ba 2015; `amsgrad` as Reddi et al. 2018. Weight decay adds to the gradient.
class Adam : public Optimizer {
 public:
  using Options = AdamOptions;
  struct Group {
    [[no_unique_address]] ByName by_name = ByName();
    Tensors params = {};
    double lr = kInherit;
    Betas betas = {kInherit, kInherit};
    double eps = kInherit;
    double weight_decay = kInherit;
  };
  explicit Adam(const Tensors& parameters, const Options& o = {});
  explicit Adam(std::initializer_list<Group> groups, const Options& o = {});
  explicit Adam(const std::vector<Group>& groups, const Options& o = {});
  void add_param_group(const Group& g);

 private:
  Options options_;
};

struct AdamWOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double lr = 1e-3;
  Betas betas = {};
  double eps = 1e-8;
  double weight_decay = 1e-2;
  bool amsgrad = false;
  bool maximize = false;
  bool master_weights = false;
};
/// Adam whose weight decay shrinks parameters by lr * weight_decay, apart from the gradient (Loshchilov and Hutter 2019).
class AdamW : public Optimizer {
 public:
  using Options = AdamWOptions;
  using Group = Adam::Group;
  explicit AdamW(const Tensors& parameters, const Options& o = {});
  explicit AdamW(std::initializer_list<Group> groups, const Options& o = {});
  explicit AdamW(const std::vector<Group>& groups, const Options& o = {});
  void add_param_group(const Group& g);

 private:
  Options options_;
};

struct RMSpropOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double lr = 1e-2;
  double alpha = 0.99;
  double eps = 1e-8;
  double weight_decay = 0;
  double momentum = 0;
  bool centered = false;
  bool maximize = false;
  bool master_weights = false;
};
/// Divides the gradient by the root of its mean square (Hinton's lecture 6e); `centered`: by its deviation (Graves 2013).
class RMSprop : public Optimizer {
 public:
  using Options = RMSpropOptions;
  struct Group {
    [[no_unique_address]] ByName by_name = ByName();
    Tensors params = {};
    double lr = kInherit;
    double alpha = kInherit;
    double eps = kInherit;
    double weight_decay = kInherit;
    double momentum = kInherit;
  };
  explicit RMSprop(const Tensors& parameters, const Options& o = {});
  explicit RMSprop(std::initializer_list<Group> groups, const Options& o = {});
  explicit RMSprop(const std::vector<Group>& groups, const Options& o = {});
  void add_param_group(const Group& g);

 private:
  Options options_;
};

}  // namespace keel::optim
#pragma GCC visibility pop
