#include "keel/nn/containers.h"

#include "keel/error.h"
#include "nn/access.h"

namespace keel::nn {

AnyModule::Holder::~Holder() = default;

AnyModule::AnyModule(AnyModule&& o) noexcept : held_(std::exchange(o.held_, nullptr)) {
  if (held_) ModuleAccess::cache(held_->module()).forget();  // its place among its neighbours may be another now
}
AnyModule& AnyModule::operator=(AnyModule o) noexcept {
  std::swap(held_, o.held_);
  if (held_) ModuleAccess::cache(held_->module()).forget();
  return *this;
}
AnyModule::~AnyModule() { delete held_; }

ModuleBase& AnyModule::module() const {
  if (!held_) raise(Error(ErrorCode::value, "an empty AnyModule holds no module").op("module"));
  return held_->module();
}
Tensor AnyModule::operator()(const Tensor& x) const {
  if (!held_) raise(Error(ErrorCode::value, "an empty AnyModule cannot be called").op("AnyModule"));
  return held_->call(x);
}

Sequential& Sequential::append(AnyModule m) {
  layers_.push_back(std::move(m));
  return *this;
}

Tensor Sequential::forward(const Tensor& x) const {
  Tensor y = x;
  for (const AnyModule& layer : layers_) y = layer(y);
  return y;
}

}  // namespace keel::nn
