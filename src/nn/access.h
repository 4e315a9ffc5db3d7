#pragma once
// How nn's own code walks modules.
#include <string>

#include "keel/nn/module.h"

namespace keel::nn {

struct ModuleAccess {
  static void visit(ModuleBase& m, detail::PartVisitor& v) { m.type_->visit(m, v); }
  static detail::PathCache& cache(ModuleBase& m) { return m.cache_; }
  static const detail::PathCache& cache(const ModuleBase& m) { return m.cache_; }
  static bool& training(ModuleBase& m) { return m.training_; }
};

using PartKind = detail::PartVisitor::Kind;

/// Calls f(name, kind, part) for every direct part of `m`. Nothing is written through a const module: handles are only read.
template <class F>
void each_part(const ModuleBase& m, F f) {
  struct Visitor : detail::PartVisitor {
    F& f;
    explicit Visitor(F& g) : PartVisitor([](PartVisitor& self, const char* name, Kind kind, void* part) { static_cast<Visitor&>(self).f(name, kind, part); }), f(g) {}
  } v(f);
  ModuleAccess::visit(const_cast<ModuleBase&>(m), v);
}

/// Calls f(name, kind, Tensor&) for every defined parameter and buffer in `m` and below, with its path behind `prefix`, which comes back unchanged.
template <class F>
void each_tensor(const ModuleBase& m, std::string& prefix, F& f) {
  each_part(m, [&](const char* name, PartKind kind, void* part) {
    const size_t n = prefix.size();
    prefix += name;
    if (kind == PartKind::module) {
      prefix += '.';
      each_tensor(*static_cast<ModuleBase*>(part), prefix, f);
    } else if (Tensor& t = *static_cast<Tensor*>(part); t.defined()) {
      f(static_cast<const std::string&>(prefix), kind, t);
    }
    prefix.resize(n);
  });
}
/// The same without names, so without any text being made.
template <class F>
void each_tensor_unnamed(const ModuleBase& m, F& f) {
  each_part(m, [&](const char*, PartKind kind, void* part) {
    if (kind == PartKind::module) each_tensor_unnamed(*static_cast<ModuleBase*>(part), f);
    else if (Tensor& t = *static_cast<Tensor*>(part); t.defined()) f(kind, t);
  });
}

}  // namespace keel::nn
