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

size_t detail::place_of(int64_t i, int64_t size, const char* container) {
  if (i < -size || i >= size) {
    const std::string range = size ? " is out of range [" + std::to_string(-size) + ", " + std::to_string(size - 1) + "]" : ": there are no modules";
    raise(Error(ErrorCode::index, "module " + std::to_string(i) + range).op(container).hint("modules count from 0, negative numbers from the end"));
  }
  return size_t(i < 0 ? i + size : i);
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
