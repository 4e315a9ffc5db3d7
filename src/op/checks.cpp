#include "op/checks.h"

#include <algorithm>
#include <cstdio>

#include "core/impl.h"
#include "op/scope.h"

namespace keel {
namespace {

std::string range_text(int rank) { return "[" + std::to_string(-rank) + ", " + std::to_string(rank - 1) + "]"; }

std::string describe(const Tensor& t) {
  const TensorImpl& ti = impl(t);
  if (ti.weak) return to_string(scalar_of(t));
  std::string s = to_string(ti.spec);
  if (ti.device.type != DeviceType::cpu) s += " on " + to_string(ti.device);
  return s;
}

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", v);
  return text;
}

}  // namespace

Error about_call(Error e) {
  const Scope& s = scope();
  const Frame* f = s.frame;
  if (f) {
    while (f->up) f = f->up;  // the op that the program called, not a part of its decomposition
    e.op(f->op->name);
    for (int i = 0; i < f->n_inputs; ++i) {
      if (!f->inputs[i]->defined()) continue;
      const int def = std::min(i, f->op->in.size() - 1);
      std::string role = f->op->in[def].name;
      if (f->op->in[def].variadic) role += "[" + std::to_string(i - def) + "]";
      if (i - def == 4 && f->n_inputs - i > 2) {
        e.note("(" + std::to_string(f->n_inputs - i) + " more)");
        break;
      }
      e.arg(role, describe(*f->inputs[i]));
    }
    const std::string params = f->op->params.text(f->params);
    if (!params.empty()) e.note("with " + params);
  }
  if (*s.path) e.path(s.path);
  return e;
}
Error op_error(ErrorCode code, std::string message) { return about_call(Error(code, std::move(message))); }
void fail(ErrorCode code, std::string message) { raise(op_error(code, std::move(message))); }
void fail(ErrorCode code, std::string message, std::string_view hint) { raise(op_error(code, std::move(message)).hint(hint)); }

int check_axis(int64_t axis, int rank) {
  const int r = rank == 0 ? 1 : rank;  // a 0-d tensor takes axis 0 and -1, as NumPy's reductions do
  if (axis < -r || axis >= r) fail(ErrorCode::index, "axis " + std::to_string(axis) + " is out of range " + range_text(r), "negative axes count from the end");
  return int(axis < 0 ? axis + r : axis);
}
int check_axis(int64_t axis, const Spec& s) { return check_axis(axis, s.shape.rank()); }

Axes check_axes(const Axes& axes, const Spec& s) {
  bool used[kMaxRank] = {};
  const int rank = s.shape.rank();
  for (int64_t a : axes) {
    const int i = check_axis(a, rank);
    if (used[i]) fail(ErrorCode::value, "axis " + std::to_string(a) + " is given twice", "negative axes count from the end: -1 and " + std::to_string(rank - 1) + " are the same");
    used[i] = true;
  }
  Axes out;
  for (int i = 0; i < rank; ++i)
    if (used[i] || axes.empty()) out.push_back(i);
  return out;
}

Shape broadcast(const Shape& a, const Shape& b) {
  Shape out;
  const int n = std::max(a.rank(), b.rank());
  out.resize(n);
  std::string differ;
  for (int i = 1; i <= n; ++i) {
    const int64_t x = i <= a.rank() ? a[-i] : 1, y = i <= b.rank() ? b[-i] : 1;
    if (x != y && x != 1 && y != 1) {
      const std::string one = "axis " + std::to_string(-i) + " (" + std::to_string(x) + " vs " + std::to_string(y) + ")";
      differ = differ.empty() ? one : one + ", " + differ;
    }
    out[n - i] = x == 1 ? y : x;
  }
  if (!differ.empty())
    fail(ErrorCode::shape, "shapes " + to_string(a) + " and " + to_string(b) + " do not broadcast: " + differ, "axes are aligned from the right; each must be equal or 1");
  return out;
}

Shape broadcast_all(Specs in, int first) {
  Shape s = in[first].shape;
  for (int i = first + 1; i < in.size(); ++i)
    if (in.has(i) && !(in[i].shape == s)) s = broadcast(s, in[i].shape);
  return s;
}

void check_same_shape(const Spec& a, const Spec& b, std::string_view what) {
  if (!(a.shape == b.shape)) fail(ErrorCode::shape, std::string(what) + " must have the same shape, got " + to_string(a.shape) + " and " + to_string(b.shape), "reshape or expand makes shapes equal");
}
void check_rank(const Spec& s, int rank, std::string_view role) {
  if (s.shape.rank() != rank) fail(ErrorCode::shape, std::string(role) + " must have rank " + std::to_string(rank) + ", got " + to_string(s),
         s.shape.rank() + 1 == rank ? "unsqueeze(" + std::string(role) + ", 0) adds an axis in front, for a batch of one" : s.shape.rank() < rank ? "reshape or unsqueeze adds axes" : "flatten or reshape merges axes");
}
void check_min_rank(const Spec& s, int rank, std::string_view role) {
  if (s.shape.rank() < rank) fail(ErrorCode::shape, std::string(role) + " must have at least rank " + std::to_string(rank) + ", got " + to_string(s), "unsqueeze(" + std::string(role) + ", 0) adds an axis");
}
void check_value(bool ok, std::string_view name, std::string_view rule, double got) {
  if (!ok) fail(ErrorCode::value, std::string(name) + " must be " + std::string(rule) + ", got " + number(got));
}
void check_shape(bool ok, std::string message, std::string_view hint) {
  if (ok) return;
  if (hint.empty()) fail(ErrorCode::shape, std::move(message));
  fail(ErrorCode::shape, std::move(message), hint);
}

void check_result(const Shape& s, DType t) {
  if (std::string wrong = wrong_extents(s, t); !wrong.empty()) fail(ErrorCode::value, std::move(wrong), "extents are the numbers of elements along each axis, at least 0");
}

namespace {
/// What to say about a number outside of the range of integer dtype `t`.
Error misfit(DType t, Scalar v) {
  const int spare = 64 - 8 * int(size_of(t));
  const bool is_signed = t >= i8 && t <= i64;
  const std::string least = is_signed ? std::to_string(INT64_MIN >> spare) : "0",
                    most = is_signed ? std::to_string(INT64_MAX >> spare) : std::to_string(UINT64_MAX >> spare);
  DType roomy = f32;
  for (DType wider : {u64, i64, i32, i16})
    if (holds(wider, v)) roomy = wider;
  return op_error(ErrorCode::value, to_string(v) + " does not fit " + name_of(t) + ", which holds " + least + " to " + most)
      .hint(std::string(name_of(roomy)) + " has room for it, as in x.astype(" + name_of(roomy) + ")");
}
}  // namespace

void check_holds(DType t, Scalar v) {
  if (!holds(t, v)) raise(misfit(t, v));
}
void check_holds(DType t, Scalar v, std::string_view where) {
  if (!holds(t, v)) raise(misfit(t, v).op(std::string(where)));
}

Shape reduced_shape(const Shape& s, const Axes& axes, bool keepdim) {
  Shape out;
  int k = 0;
  for (int i = 0; i < s.rank(); ++i) {
    if (k < axes.rank() && axes[k] == i) {
      ++k;
      if (keepdim) out.push_back(1);
    } else {
      out.push_back(s[i]);
    }
  }
  return out;
}

}  // namespace keel
