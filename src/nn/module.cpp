#include "keel/nn/module.h"

#include <unordered_set>

#include "base/threads.h"
#include "core/impl.h"
#include "core/scope.h"
#include "keel/autograd.h"
#include "keel/error.h"
#include "layers/trace.h"
#include "nn/access.h"

namespace keel::nn {
namespace {

/// The objects met so far. Few are compared one by one; from some number on a hash table is cheaper.
class Seen {
 public:
  /// Whether `t` was not met before.
  bool add(const Tensor& t) {
    const void* p = t.impl();
    if (many_.empty()) {
      for (const void* q : few_)
        if (q == p) return false;
      few_.push_back(p);
      if (few_.size() == 64) many_.insert(few_.begin(), few_.end());
      return true;
    }
    return many_.insert(p).second;
  }

 private:
  SmallVector<const void*, 64> few_;
  std::unordered_set<const void*> many_;
};

/// The path of `wanted` below `m`, or empty.
bool find_module(const ModuleBase& m, const ModuleBase* wanted, std::string& path) {
  bool found = false;
  each_part(m, [&](const char* name, PartKind kind, void* part) {
    if (found || kind != PartKind::module) return;
    const size_t n = path.size();
    if (n) path += '.';
    path += name;
    found = part == wanted || find_module(*static_cast<ModuleBase*>(part), wanted, path);
    if (!found) path.resize(n);
  });
  return found;
}

/// Names a parameter for messages. A longer path of the same parameter, as the outermost module gives it, replaces a shorter one.
void name_parameter(const Tensor& t, std::string_view name) {
  GradMeta* g = impl(t).grad;
  if (!g) return;
  const char* old = g->name.load(std::memory_order_relaxed);
  const std::string_view was = old ? old : "";
  if (name.size() > was.size() && name.ends_with(was)) g->name.store(intern(name), std::memory_order_relaxed);
}

/// The name by which a module that was called from outside any other stands in paths: its type, without namespaces and arguments.
std::string root_name(const ModuleBase& m) {
  const std::string_view type = m.type_name(), plain = type.substr(0, type.find('<'));
  const size_t colons = plain.rfind("::");
  return std::string(colons == plain.npos ? plain : plain.substr(colons + 2));
}

/// The path of `m`, called from inside `parent` (null: from outside any module) while the path was `above`. The outermost module is named by its type, what is inside it by the names in `fields`.
const char* resolve_path(const ModuleBase& m, const ModuleBase* parent, const char* above) {
  std::string path;
  if (parent) find_module(*parent, &m, path);
  const bool outermost = !parent && !*above, top = outermost || (parent && above == root_name(*parent));
  const char* full = outermost ? intern(root_name(m)) : path.empty() ? above : intern(top ? path : std::string(above) + "." + path);
  each_part(m, [&](const char* name, PartKind kind, void* part) {
    const Tensor* t = static_cast<Tensor*>(part);
    if (kind == PartKind::weight && t->defined()) name_parameter(*t, outermost ? std::string(name) : std::string(full) + "." + name);
  });
  return full;
}

/// Makes `t` name the memory and dtype of `from`, whose shape is the same. The object stays, so ties and optimisers do too.
void replace_storage(const Tensor& t, const Tensor& from) {
  TensorImpl &x = impl(t), &y = impl(from);
  const uint32_t version = x.storage ? x.storage->version.load(std::memory_order_relaxed) + 1 : 0;
  if (y.storage && y.storage.use_count() == 1) y.storage->version.store(std::max(version, y.storage->version.load(std::memory_order_relaxed)), std::memory_order_relaxed);
  x.spec = y.spec, x.strides = y.strides, x.offset = y.offset, x.data = y.data, x.storage = y.storage, x.device = y.device;
}

template <class Convert>
void convert_all(const ModuleBase& m, Convert convert) {
  NoGrad off;
  Seen seen;
  auto each = [&](PartKind kind, Tensor& t) {
    if (!seen.add(t)) return;
    const Tensor grad = t.grad();
    if (Tensor moved = convert(t, kind); moved.defined()) replace_storage(t, moved);
    if (grad.defined())
      if (Tensor moved = convert(grad, kind); moved.defined()) t.set_grad(moved);
  };
  each_tensor_unnamed(m, each);
}

}  // namespace

// ---- Weight ----

Weight::Weight(const Tensor& t) {
  if (!t.defined()) return;
  if (t.is_leaf() && t.requires_grad()) {
    static_cast<Tensor&>(*this) = t;
    return;
  }
  static_cast<Tensor&>(*this) = t.detach();
  if (is_inexact(dtype())) requires_grad_();
}

// ---- paths ----

namespace {
/// Without the namespaces of no name that g++ and clang spell differently.
std::string_view named_part(std::string_view type) {
  for (std::string_view mark : {std::string_view("{anonymous}::"), std::string_view("(anonymous namespace)::")})
    if (const size_t at = type.rfind(mark, type.find('<')); at != type.npos) type.remove_prefix(at + mark.size());
  return type;
}
}  // namespace

std::string_view detail::type_name(const char* signature) {
  const std::string_view s(signature);
  const std::string_view marks[] = {"M = ", "T = "};
  for (std::string_view mark : marks)
    if (const size_t at = s.find(mark); at != s.npos) {
      const size_t begin = at + mark.size();
      return named_part(s.substr(begin, s.find_first_of(";]", begin) - begin));
    }
  return s;
}

const char* detail::PathCache::find(const void* parent, const char* above) const {
  const uint32_t v = version_.load(std::memory_order_acquire);
  if (v & 1) return nullptr;
  const void* p = parent_.load(std::memory_order_acquire);
  const char* a = above_.load(std::memory_order_acquire);
  const char* path = path_.load(std::memory_order_acquire);
  return p == parent && a == above && version_.load(std::memory_order_relaxed) == v ? path : nullptr;
}

void detail::PathCache::store(const void* parent, const char* above, const char* path) {
  uint32_t v = version_.load(std::memory_order_relaxed);
  if (v & 1 || !version_.compare_exchange_strong(v, v + 1, std::memory_order_acquire)) return;  // another thread is at it
  parent_.store(parent, std::memory_order_release);
  above_.store(above, std::memory_order_release);
  path_.store(path, std::memory_order_release);
  version_.store(v + 2, std::memory_order_release);
}

detail::Enter::Enter(const ModuleBase& m) {
  Scope& s = scope();
  module_ = s.module, path_ = s.path;
  if (s.module == &m) return;  // from its own forward
  const auto& cache = ModuleAccess::cache(m);
  const char* path = cache.find(s.module, s.path);
  if (!path) {
    path = resolve_path(m, static_cast<const ModuleBase*>(s.module), s.path);
    const_cast<PathCache&>(cache).store(s.module, s.path, path);
  }
  s.path = path, s.module = &m;
}

detail::Enter::~Enter() {
  Scope& s = scope();
  s.module = module_, s.path = path_;
}

// ---- hooks ----

struct ModuleBase::Hooks {
  std::vector<std::pair<int64_t, ForwardPreHook>> before;
  std::vector<std::pair<int64_t, ForwardHook>> after;
};

namespace {
std::atomic<int64_t> next_hook{1};
}

// ---- mode ----

/// A recording holds for the mode that this module is in.
void ModuleBase::tell_recording() const {
  static base::Mutex mutex;
  {
    const std::lock_guard lock(mutex);
    if (!mode_) mode_ = new ModuleMode(training_), mode_->refs = 1;
  }
  static_cast<Recorder*>(scope().trace)->depends_on(*mode_);
}
bool ModuleBase::is_training() const {
  if (scope().trace) [[unlikely]]
    tell_recording();
  return training_;
}
void ModuleBase::train(bool on) {
  for_each(
      [](void* c, ModuleBase& m) {
        if (scope().trace) m.tell_recording();
        m.training_ = *static_cast<bool*>(c);
        if (m.mode_) m.mode_->training = m.training_;
      },
      &on);
}

ModuleBase::ModuleBase(const ModuleBase& o) : type_(o.type_), hooks_(o.hooks_ ? new Hooks(*o.hooks_) : nullptr), training_(o.training_) {}
ModuleBase& ModuleBase::operator=(const ModuleBase& o) {
  if (this == &o) return *this;
  delete hooks_;
  hooks_ = o.hooks_ ? new Hooks(*o.hooks_) : nullptr;
  training_ = o.training_;
  if (mode_) mode_->training = training_;
  return *this;
}
ModuleBase::~ModuleBase() {
  delete hooks_;
  if (mode_) mode_->alive = false, Ref<ModuleMode>::adopt(mode_).reset();
}

int64_t ModuleBase::register_forward_pre_hook(ForwardPreHook hook) {
  if (!hooks_) hooks_ = new Hooks;
  hooks_->before.emplace_back(next_hook++, std::move(hook));
  return hooks_->before.back().first;
}
int64_t ModuleBase::register_forward_hook(ForwardHook hook) {
  if (!hooks_) hooks_ = new Hooks;
  hooks_->after.emplace_back(next_hook++, std::move(hook));
  return hooks_->after.back().first;
}
void ModuleBase::remove_hook(int64_t id) {
  if (!hooks_) return;
  std::erase_if(hooks_->before, [&](auto& h) { return h.first == id; });
  std::erase_if(hooks_->after, [&](auto& h) { return h.first == id; });
  if (hooks_->before.empty() && hooks_->after.empty()) delete hooks_, hooks_ = nullptr;
}
void ModuleBase::before(Tensors& inputs) const {
  const auto hooks = hooks_->before;  // a hook may remove itself
  const int64_t n = inputs.size();
  for (auto& [id, hook] : hooks) {
    hook(inputs);
    if (inputs.size() != n) raise(Error(ErrorCode::value, "a pre-hook changed the number of inputs from " + std::to_string(n) + " to " + std::to_string(inputs.size())).op(type_name()).path(scope().path));
  }
}
void ModuleBase::after(const Tensors& inputs, Tensors& outputs) const {
  if (!hooks_) return;
  const auto hooks = hooks_->after;
  const int64_t n = outputs.size();
  for (auto& [id, hook] : hooks) {
    hook(inputs, outputs);
    if (outputs.size() != n) raise(Error(ErrorCode::value, "a hook changed the number of results from " + std::to_string(n) + " to " + std::to_string(outputs.size())).op(type_name()).path(scope().path));
  }
}

// ---- parts ----

std::vector<NamedTensor> ModuleBase::named_parameters() const {
  std::vector<NamedTensor> out;
  Seen seen;
  std::string prefix;
  auto each = [&](const std::string& name, PartKind kind, Tensor& t) {
    if (kind != PartKind::weight || !seen.add(t)) return;
    name_parameter(t, name);
    out.push_back({name, t});
  };
  each_tensor(*this, prefix, each);
  return out;
}
Tensors ModuleBase::parameters() const {
  Tensors out;
  Seen seen;
  auto each = [&](PartKind kind, Tensor& t) {
    if (kind == PartKind::weight && seen.add(t)) out.push_back(t);
  };
  each_tensor_unnamed(*this, each);
  return out;
}
std::vector<NamedTensor> ModuleBase::named_buffers() const {
  std::vector<NamedTensor> out;
  Seen seen;
  std::string prefix;
  auto each = [&](const std::string& name, PartKind kind, Tensor& t) {
    if ((kind == PartKind::buffer || kind == PartKind::statistic) && seen.add(t)) out.push_back({name, t});
  };
  each_tensor(*this, prefix, each);
  return out;
}

namespace {
void list_modules(ModuleBase& m, std::string& prefix, std::vector<NamedModule>& out) {
  out.push_back({prefix, &m});
  each_part(m, [&](const char* name, PartKind kind, void* part) {
    if (kind != PartKind::module) return;
    const size_t n = prefix.size();
    if (n) prefix += '.';
    prefix += name;
    list_modules(*static_cast<ModuleBase*>(part), prefix, out);
    prefix.resize(n);
  });
}
}  // namespace

std::vector<NamedModule> ModuleBase::named_modules() {
  std::vector<NamedModule> out;
  std::string prefix;
  list_modules(*this, prefix, out);
  return out;
}

int64_t ModuleBase::num_parameters() const {
  int64_t n = 0;
  for (const Tensor& t : parameters()) n += t.size();
  return n;
}

void ModuleBase::for_each(void (*f)(void*, ModuleBase&), void* context) {
  each_part(*this, [&](const char*, PartKind kind, void* part) {
    if (kind == PartKind::module) static_cast<ModuleBase*>(part)->for_each(f, context);
  });
  f(context, *this);
}

void ModuleBase::zero_grad() {
  auto each = [](PartKind kind, Tensor& t) {
    if (kind == PartKind::weight) t.zero_grad();
  };
  each_tensor_unnamed(*this, each);
}
void ModuleBase::requires_grad_(bool on) {
  auto each = [&](PartKind kind, Tensor& t) {
    if (kind == PartKind::weight && is_inexact(t.dtype())) t.requires_grad_(on);
  };
  each_tensor_unnamed(*this, each);
}

void ModuleBase::to(Device d) {
  convert_all(*this, [&](const Tensor& t, PartKind) { return t.device() == d ? Tensor() : t.to(d); });
}
void ModuleBase::to(DType t) {
  if (!is_inexact(t)) raise(Error(ErrorCode::dtype, std::string("a module's parameters cannot become ") + name_of(t)).op("to").hint("a floating dtype, such as f32 or bf16"));
  convert_all(*this, [&](const Tensor& x, PartKind kind) {
    const DType to = kind == PartKind::statistic && size_of(t) < size_of(f32) ? f32 : t;
    return x.dtype() == to || !is_inexact(x.dtype()) || is_complex(x.dtype()) != is_complex(to) ? Tensor() : x.to(to);
  });
}

void detail::unshare(ModuleBase& m) {
  NoGrad off;
  std::vector<std::pair<Tensor, Tensor>> copies;  // the old handle keeps its object alive, so that no address is used twice
  auto each = [&](PartKind, Tensor& t) {
    for (auto& [from, to] : copies)
      if (from.is(t)) {
        t = to;
        return;
      }
    Tensor fresh = t.clone().detach();
    if (t.requires_grad()) fresh.requires_grad_();
    copies.emplace_back(t, fresh);
    t = fresh;
  };
  each_tensor_unnamed(m, each);
}

}  // namespace keel::nn
