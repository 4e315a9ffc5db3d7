#pragma once
// Tables of the vector functions, shared by all targets.
namespace keel::cpu {

/// erf(i / 64), i = 0...384.
extern const double kErfTable[385];
/// The derivative of erf at i / 64.
extern const double kErfSlopeTable[385];

}  // namespace keel::cpu
