#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "keel/dtype.h"

#pragma GCC visibility push(default)
namespace keel {

/// Which dtype ops that gain by a 16-bit one compute in, layer by layer; a precision profile proposes one.
struct AutocastPolicy {
  struct Rule {
    std::string path;           ///< of the module, which stands for all in it; empty: everywhere
    std::string op;             ///< empty: every op
    DType dtype = DType::none;  ///< f16, bf16 or f32
  };
  DType low = DType::bf16;  ///< where no rule matches
  std::vector<Rule> rules;  ///< of those that match, the one with the longest path holds, one that names the op before one that does not

  DType dtype_for(std::string_view path, std::string_view op) const;
  /// {"low": "bf16", "rules": [{"path": "Net.out", "op": "matmul", "dtype": "f32"}]}
  std::string json() const;
  /// Reads what `json` writes. ValueError where it is something else.
  static AutocastPolicy from_json(std::string_view text);
};

/// Mixed precision: while it lives, ops of this thread that gain by it (matrix products, convolution, attention) take their f32 inputs in a
/// 16-bit dtype, and ops that need it (exp, log, sums, softmax, norms, losses) take 16-bit inputs in f32. The rest take what they get.
/// Which
/// op does what is the column `cast` of its row. Parameters stay as they are: gradients flow through the casts and arrive in f32. f64 and
/// complex are left alone. A leaf that requires a gradient is cast once a guard, until it is written. The backward pass uses the dtypes of
/// the forward pass and needs no guard.
///
///     { Autocast guard(bf16); loss = cross_entropy(net(x), y); }
///     loss.backward();
class Autocast {
 public:
  /// `low` is f16 or bf16, else DTypeError; `DType::none`, or `enabled` false, turns autocast off inside.
  explicit Autocast(DType low, bool enabled = true);
  /// With a dtype for each op as the policy says. DTypeError where it names one that is not f16, bf16 or f32.
  explicit Autocast(const AutocastPolicy& policy, bool enabled = true);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  struct AutocastCache* cache_ = nullptr;
  void* outer_cache_;
  DType outer_;
};
/// The dtype that an Autocast of this thread lowers to; none where there is none.
DType autocast_dtype();

}  // namespace keel
#pragma GCC visibility pop
