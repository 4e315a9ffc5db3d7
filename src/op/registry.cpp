#include <atomic>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "backend/kernel.h"
#include "base/threads.h"
#include "core/impl.h"
#include "keel/error.h"
#include "op/scope.h"

namespace keel {

void register_builtin_ops(Registry& r);          // generated from the rows in src/ops
void register_cpu_kernels(KernelTable& t);       // generated from src/backend/cpu
void register_reference_kernels(KernelTable& t);  // generated from src/backend/reference

namespace {

struct RegistryState {
  std::vector<OpDef*> ops;
  size_t checked = 0;
};
RegistryState& state() {
  static RegistryState s;
  return s;
}

/// Calls `f(info, member)` for each field of the params at `p`.
template <class F>
void each_field(const ParamsType& t, const void* p, F&& f) {
  FieldSink sink{&f, [](void* context, const FieldInfo& info, void* member) { (*static_cast<F*>(context))(info, member); }};
  t.visit(const_cast<void*>(p), sink);
}

std::string field_text(const FieldInfo& info, const void* m) {
  char text[40];
  switch (info.kind) {
    case FieldKind::boolean: return *static_cast<const bool*>(m) ? "true" : "false";
    case FieldKind::integer: return std::to_string(*static_cast<const int64_t*>(m));
    case FieldKind::number: std::snprintf(text, sizeof text, "%.17g", *static_cast<const double*>(m)); return text;
    case FieldKind::scalar: return to_string(*static_cast<const Scalar*>(m));
    case FieldKind::dtype: return name_of(*static_cast<const DType*>(m));
    case FieldKind::dims: return to_string(*static_cast<const Dims*>(m));
    case FieldKind::enumeration: return info.choices[*static_cast<const int32_t*>(m)];
    case FieldKind::symbol: return static_cast<const Symbol*>(m)->c_str();
    case FieldKind::device: return to_string(*static_cast<const Device*>(m));
  }
  return "";
}

std::vector<std::string> field_texts(const ParamsType& t, const void* p) {
  std::vector<std::string> out;
  each_field(t, p, [&](const FieldInfo& info, void* m) { out.push_back(field_text(info, m)); });
  return out;
}

}  // namespace

bool ParamsType::equal(const void* a, const void* b) const { return field_texts(*this, a) == field_texts(*this, b); }

uint64_t ParamsType::hash(const void* p) const {
  uint64_t h = 0xcbf29ce484222325;
  for (const std::string& s : field_texts(*this, p)) {
    for (char c : s) h = (h ^ uint8_t(c)) * 0x100000001b3;
    h = (h ^ 0xff) * 0x100000001b3;
  }
  return h;
}

std::string ParamsType::text(const void* p) const {
  alignas(16) char plain[1024];
  KEEL_ASSERT(size <= sizeof plain);
  construct(plain);
  const std::vector<std::string> defaults = field_texts(*this, plain);
  std::string out;
  size_t i = 0;
  each_field(*this, p, [&](const FieldInfo& info, void* m) {
    const std::string s = field_text(info, m);
    if (s != defaults[i++]) out += (out.empty() ? "" : ", ") + std::string(info.name) + "=" + s;
  });
  return out;
}

const char* intern(std::string_view text) {
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  static base::Mutex mutex;
  static auto* pool = new std::unordered_set<std::string, Hash, std::equal_to<>>;  // never freed: interned text lives until the process ends
  if (text.empty()) return "";
  std::lock_guard lock(mutex);
  auto it = pool->find(text);
  if (it == pool->end()) it = pool->emplace(text).first;
  return it->c_str();
}

Symbol::Symbol(const char* text) : text_(intern(text)) {}

namespace detail {
constinit std::atomic<bool> registry_ready{false};
constinit KernelTable cpu_table, reference_table;
}  // namespace detail

Registry& registry() {
  static Registry r;
  static const bool filled = [] {
    register_builtin_ops(r);
    r.validate();
    register_cpu_kernels(detail::cpu_table);
    register_reference_kernels(detail::reference_table);
    detail::registry_ready.store(true, std::memory_order_release);
    return true;
  }();
  (void)filled;
  return r;
}

KernelTable& cpu_kernels() { return registry(), detail::cpu_table; }
KernelTable& reference_kernels() { return registry(), detail::reference_table; }

void Registry::enroll(OpDef& d, const char* name, ParamsType params) {
  KEEL_ASSERT(state().ops.size() < KernelTable::kMaxOps);
  if (d.name) raise(Error(ErrorCode::value, "op is registered twice").op(name));
  for (const OpDef* o : state().ops)
    if (std::strcmp(o->name, name) == 0) raise(Error(ErrorCode::value, "an op of this name exists already").op(name));
  d.name = name, d.id = uint16_t(state().ops.size()), d.params = params;
  state().ops.push_back(&d);
}

int64_t Registry::size() const { return int64_t(state().ops.size()); }
const OpDef& Registry::op(int64_t id) const { return *state().ops[size_t(id)]; }
const OpDef* Registry::find(const char* name) const {
  for (const OpDef* o : state().ops)
    if (std::strcmp(o->name, name) == 0) return o;
  return nullptr;
}

void Registry::validate() {
  RegistryState& s = state();
  for (; s.checked < s.ops.size(); ++s.checked) {
    const OpDef& d = *s.ops[s.checked];
    if (!d.infer) raise(Error(ErrorCode::internal, "the row has no `infer`").op(d.name));
    if (!d.decompose && !d.is_primitive && !d.view) raise(Error(ErrorCode::internal, "the row has neither `decompose` nor `primitive()`").op(d.name));
    if (d.out.size() == 0) raise(Error(ErrorCode::internal, "the row names no output").op(d.name));
  }
}

[[gnu::tls_model("initial-exec")]] thread_local constinit Scope detail::thread_scope;

}  // namespace keel
