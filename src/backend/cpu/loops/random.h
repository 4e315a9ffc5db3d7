#pragma once
// Loops over random words, dispatched to the active instruction set. Same bits on every target: integer arithmetic, correctly rounded
// operations and explicit FMA only.
#include <cstddef>
#include <cstdint>

namespace keel::cpu {

/// Four 32-bit words for each of the counters counter, counter + 1, ...: Philox4x32-10 of (counter, seed).
void philox_words(uint64_t seed, uint64_t counter, uint32_t* words, int64_t blocks);

/// Standard normal numbers by Box-Muller; n even. Pair j takes words a = words[2j], b = words[2j + 1]: r = sqrt(-2 log u) with u = (a +
/// 1/2) 2^-32, angle = 2 pi (b >> 8) 2^-24 (f64: 64-bit words, u = ((a >> 12) + 1/2) 2^-52, angle = 2 pi (b >> 12) 2^-52), and gives r
/// cos(angle), r sin(angle).
void box_muller(const uint32_t* words, float* z, int64_t n);
void box_muller(const uint64_t* words, double* z, int64_t n);

/// -log u with u = ((word >> 12) + 1/2) 2^-52: exponential numbers with mean 1.
void exponential(const uint64_t* words, double* y, int64_t n);

/// y = word < threshold ? 0 : x * scale.
void dropout_loop(const uint32_t* words, uint32_t threshold, const float* x, float* y, int64_t n, float scale);

}  // namespace keel::cpu
