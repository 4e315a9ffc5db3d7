#pragma once
#include <string>

#include "keel/base/small_vector.h"
#include "keel/dtype.h"
#include "keel/shape.h"

#pragma GCC visibility push(default)
namespace keel {

/// What is known of a tensor without its data.
struct Spec {
  DType dtype = DType::none;
  Shape shape;
  bool operator==(const Spec&) const = default;
};
using SpecList = SmallVector<Spec, 2>;
/// "f32[2, 3]"
std::string to_string(const Spec& s);

}  // namespace keel
#pragma GCC visibility pop
