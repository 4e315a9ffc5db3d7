// Saving and loading by name.
#include "core/impl.h"
#include "keel/autograd.h"
#include "keel/error.h"
#include "nn/access.h"

namespace keel::nn {
namespace {

/// One parameter or buffer and all its names, the first being the one it is saved under.
struct Slot {
  Tensor tensor;
  SmallVector<std::string, 1> names;
};

std::vector<Slot> slots_of(const ModuleBase& m) {
  std::vector<Slot> slots;
  std::string prefix;
  auto each = [&](const std::string& name, PartKind, Tensor& t) {
    for (Slot& s : slots)
      if (s.tensor.is(t)) {
        s.names.push_back(name);
        return;
      }
    slots.push_back({t, {name}});
  };
  each_tensor(m, prefix, each);
  return slots;
}

}  // namespace

StateDict ModuleBase::state_dict() const {
  StateDict out;
  for (const Slot& s : slots_of(*this)) out.set(s.names[0], s.tensor.detach());
  return out;
}

LoadResult ModuleBase::load_state_dict(const StateDict& state, const LoadOptions& o) {
  LoadResult result;
  std::vector<std::pair<Tensor, Tensor>> writes;
  std::vector<std::string> wrong;
  StateDict known;
  for (const Slot& s : slots_of(*this)) {
    const Tensor* value = nullptr;
    std::string_view found;
    for (const std::string& name : s.names) {
      known.set(name, s.tensor);
      if (!value) value = state.find(name), found = name;
    }
    if (!value || !value->defined()) {
      result.missing.push_back(s.names[0]);
    } else if (!(value->shape() == s.tensor.shape())) {
      wrong.push_back(std::string(found) + " is " + to_string(impl(s.tensor).spec) + ", the state has " + to_string(impl(*value).spec));
    } else {
      writes.emplace_back(s.tensor, *value);
    }
  }
  for (const StateDict::Entry& e : state)
    if (!known.contains(e.name)) result.unexpected.push_back(e.name);

  if (!wrong.empty() || (o.strict && (!result.missing.empty() || !result.unexpected.empty()))) {
    std::string what;
    auto count = [&](size_t n, const char* kind) {
      if (n) what += (what.empty() ? "" : ", ") + std::to_string(n) + " " + kind;
    };
    count(result.missing.size(), "missing"), count(result.unexpected.size(), "unexpected"), count(wrong.size(), "of another shape");
    Error e(wrong.empty() ? ErrorCode::value : ErrorCode::shape, "the state does not fit " + std::string(type_name()) + ": " + what);
    e.op("load_state_dict");
    for (const std::string& name : result.missing) e.arg("missing", name);
    for (const std::string& name : result.unexpected) e.arg("unexpected", name);
    for (const std::string& text : wrong) e.arg("shape", text);
    if (!wrong.empty()) e.hint("a tensor of another shape cannot be loaded; was the model made with the options of the one that was saved?");
    else e.hint("{.strict = false} loads what fits and tells what is left");
    raise(e);
  }

  NoGrad off;
  for (auto& [to, value] : writes) {
    if (impl(to).storage->readonly) {
      const Tensor fresh = value.to(to.dtype()).to(to.device()).clone();
      TensorImpl &x = impl(to), &y = impl(fresh);
      x.strides = y.strides, x.offset = y.offset, x.data = y.data, x.storage = y.storage;
    } else {
      to.copy_(value.device() == to.device() ? value : value.to(to.device()));
    }
  }
  return result;
}

}  // namespace keel::nn
