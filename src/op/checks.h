#pragma once
// The only place that writes texts about shapes and dtypes. Ops call these from `infer`; the op's name and its arguments come from the call in progress.
#include <string>
#include <string_view>

#include "keel/error.h"
#include "keel/op.h"

namespace keel {

/// An error about the op in progress, arguments and module path filled in; the caller may add a hint and must raise it.
Error op_error(ErrorCode code, std::string message);
/// `op_error` raised at once.
[[noreturn]] void fail(ErrorCode code, std::string message);
[[noreturn]] void fail(ErrorCode code, std::string message, std::string_view hint);

/// `axis` counted from the front; IndexError "axis 4 is out of range [-2, 1]" where it does not exist. `rank` 0 accepts axis 0 and -1 with `allow_scalar`.
int check_axis(int64_t axis, const Spec& s);
int check_axis(int64_t axis, int rank);
/// All axes, from the front, sorted; empty means all. Refuses repeats.
Axes check_axes(const Axes& axes, const Spec& s);
/// The broadcast shape; ShapeError that names every axis that differs.
Shape broadcast(const Shape& a, const Shape& b);
Shape broadcast_all(Specs in, int first = 0);
void check_same_shape(const Spec& a, const Spec& b, std::string_view what);
void check_rank(const Spec& s, int rank, std::string_view role);
void check_min_rank(const Spec& s, int rank, std::string_view role);
/// ValueError "kernel must be positive, got 0" unless `ok`.
void check_value(bool ok, std::string_view name, std::string_view rule, double got);
void check_shape(bool ok, std::string message, std::string_view hint = "");
/// ValueError where a result cannot have this shape: a negative extent, or more bytes than an address can count.
void check_result(const Shape& s, DType t);
/// ValueError "300 does not fit u8, which holds 0 to 255": a number must not wrap around in silence.
void check_holds(DType t, Scalar v);
/// The same for a number outside of any op, which is given to `where`.
void check_holds(DType t, Scalar v, std::string_view where);
/// Shape after a reduction over `axes` (already checked).
Shape reduced_shape(const Shape& s, const Axes& axes, bool keepdim);

}  // namespace keel
