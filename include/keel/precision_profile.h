#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "keel/autocast.h"
#include "keel/base/callback.h"
#include "keel/precision.h"
#include "keel/state_dict.h"

#pragma GCC visibility push(default)
namespace keel {

struct PrecisionProfileOptions {
  [[no_unique_address]] ByName by_name = ByName();
  DType low = bf16;       ///< what `policy` lowers to where it fits: f16 or bf16
  bool round_up = false;  ///< of MX scales, see PrecisionOptions
};

/// Exact counts of exponents of everything that a training step made, by op and layer, what casts would do to it, and what follows for
/// mixed precision.
struct PrecisionProfile {
  enum class Kind : uint8_t { value, gradient, parameter, parameter_gradient };
  /// One result of one op of one layer, over all its calls; or one parameter, or its gradient.
  struct Entry {
    std::string path;    ///< module path; empty outside modules
    std::string op;      ///< the op; of a parameter, its name
    std::string output;  ///< name of the result; empty for parameters
    Kind kind = Kind::value;
    int64_t calls = 0;
    PrecisionReport report;
  };
  /// What one op of one layer may compute in.
  struct Advice {
    std::string path, op;
    DType dtype = f32;    ///< the first of f8e4m3fn, f8e5m2 (each with a scale a tensor), bf16, f16, f32 that fits
    DType compute = f32;  ///< `low` where it fits, else f32
    std::string reason;   ///< what does not fit in the dtype before it, with numbers; empty where nothing
  };
  std::vector<Entry> entries;
  DType low = bf16;

  /// 2^(floor(log2(65504 / amax)) - 2) for the largest gradient: two bits below what f16 holds. 1 where there is no gradient.
  double loss_scale() const;
  /// For every op that ran forward. A dtype fits an op where the op's results and the parameters that it read, and all gradients of its
  /// layer, have no overflow and lose less than 1 % to zero; gradients in f16 times `loss_scale`.
  std::vector<Advice> advice() const;
  /// `advice` as autocast takes it: `Autocast guard(profile.policy())`.
  AutocastPolicy policy() const;

  /// The op or parameter of an entry in words.
  std::string label(const Entry& e) const;
  /// A table: layers, what they made, what casts lose, and the advice.
  std::string text() const;
  std::string json() const;
  /// Histograms of exponents, a row an entry, with the ranges of the formats drawn in. Needs no script, font or network.
  std::string svg() const;
  /// A page with the picture and the table.
  std::string html() const;
};
/// "value", "gradient", "parameter", "parameter gradient"
const char* name_of(PrecisionProfile::Kind k);

/// Runs `step`, one full step (forward, backward, as you like the optimiser too), and counts what its ops made on this thread: every
/// floating result in the forward pass, every one in the backward pass, parameters where they are first read, and their gradients. Nothing
/// is sampled; results of the step are those without. Not inside a Trace, and a Graph cannot run in it (UnsupportedError).
///
///     PrecisionProfile p = precision_profile([&] { opt.zero_grad(); loss_of(net, batch).backward(); });
///     std::puts(p.text().c_str());
///     Autocast guard(p.policy());
PrecisionProfile precision_profile(const Callback<void()>& step, const PrecisionProfileOptions& o = {});
/// The same table for tensors of a file; those that are not floating are left out.
PrecisionProfile precision_profile(const StateDict& tensors, const PrecisionProfileOptions& o = {});

}  // namespace keel
#pragma GCC visibility pop
