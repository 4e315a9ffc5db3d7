#include "keel/dtype.h"

#include <cstdio>
#include <cstring>

#include "keel/scalar.h"

namespace keel {

DType dtype_from_name(const char* name) {
  for (int i = 1; i < kDTypes; ++i)
    if (std::strcmp(name, name_of(DType(i))) == 0) return DType(i);
  struct Alias {
    const char* name;
    DType t;
  };
  constexpr Alias aliases[] = {{"float32", f32}, {"float64", f64},   {"float16", f16},  {"bfloat16", bf16}, {"int8", i8},   {"int16", i16},   {"int32", i32},
                               {"int64", i64},   {"uint8", u8},      {"uint16", u16},   {"uint32", u32},    {"uint64", u64}, {"float", f32},   {"double", f64},
                               {"half", f16},    {"float8_e4m3fn", f8e4m3fn},           {"float8_e5m2", f8e5m2},            {"bool_", boolean}};
  for (const Alias& a : aliases)
    if (std::strcmp(name, a.name) == 0) return a.t;
  return DType::none;
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (a == DType::boolean) return b;
  if (b == DType::boolean) return a;
  if (is_complex(a) || is_complex(b)) {
    const bool wide = a == complex128 || b == complex128 || a == f64 || b == f64;
    if (contains(kinds::fp8, a) || contains(kinds::fp8, b)) return DType::none;
    return wide ? complex128 : complex64;
  }
  if (contains(kinds::fp8, a) || contains(kinds::fp8, b)) return DType::none;
  if (is_floating(a) && is_floating(b)) {
    if (a == f64 || b == f64) return f64;
    return f32;  // f32 with anything smaller, and f16 with bf16
  }
  if (is_floating(a)) return a;
  if (is_floating(b)) return b;
  if (is_unsigned(a) == is_unsigned(b)) return size_of(a) > size_of(b) ? a : b;
  const DType u = is_unsigned(a) ? a : b, s = is_unsigned(a) ? b : a;
  if (size_of(s) > size_of(u)) return s;
  switch (u) {
    case u8: return i16;
    case u16: return i32;
    case u32: return i64;
    default: return DType::none;
  }
}

std::string to_string(const Scalar& s) {
  if (s.kind() == DType::boolean) return s.to_bool() ? "true" : "false";
  if (s.kind() == u64) return std::to_string(uint64_t(s.to_int()));
  if (s.kind() == i64) return std::to_string(s.to_int());
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", s.to_double());
  return text;
}

}  // namespace keel
