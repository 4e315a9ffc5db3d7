#pragma once
#include <exception>
#include <string>
#include <string_view>

#include "keel/base/ref.h"

#pragma GCC visibility push(default)
namespace keel {

enum class ErrorCode : uint8_t { shape, dtype, index, value, device, autograd, io, memory, unsupported, numeric, interrupted, internal };

/// "ShapeError", "DTypeError", ...
const char* name_of(ErrorCode c);

/// What went wrong: the op, its arguments as the caller passed them, what was expected, a hint, and where in the model.
///
///     ShapeError in matmul: inner dimensions differ (64 vs 32)
///         a: f32[8, 128, 64]
///         b: f32[8, 32, 64]
///         hint: matmul(a, transpose(b)) would give inner dimension 64
///         while layers.3.attn.q_proj
///
/// Built step by step, then given to `raise`. `op`, arguments and `path` are filled in from the call in progress, so that code below the choke point names only what is wrong.
class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message);
  Error(const Error&) noexcept;
  Error(Error&&) noexcept;
  Error& operator=(const Error&) noexcept;
  ~Error() override;

  Error& op(std::string_view name) &;
  /// Adds a line "role: text"; `text` is dtype[shape] for tensors.
  Error& arg(std::string_view role, std::string_view text) &;
  Error& hint(std::string_view text) &;
  Error& path(std::string_view module_path) &;
  Error& note(std::string_view line) &;
  Error&& op(std::string_view name) && { return std::move(this->op(name)); }
  Error&& arg(std::string_view role, std::string_view text) && { return std::move(this->arg(role, text)); }
  Error&& hint(std::string_view text) && { return std::move(this->hint(text)); }
  Error&& path(std::string_view p) && { return std::move(this->path(p)); }
  Error&& note(std::string_view line) && { return std::move(this->note(line)); }

  ErrorCode code() const noexcept;
  std::string_view op() const noexcept;
  std::string_view message() const noexcept;
  std::string_view hint() const noexcept;
  /// Names of the modules that were running, outermost first, joined by dots, without the root's type name; empty outside modules.
  std::string_view path() const noexcept;
  int64_t arg_count() const noexcept;
  std::string_view arg_role(int64_t i) const noexcept;
  std::string_view arg_text(int64_t i) const noexcept;
  const char* what() const noexcept override;

  struct Data;

 private:
  Ref<Data> d_;
  Data& edit();
};

/// The one way out for every error. Throws; without exceptions, prints and aborts.
[[noreturn]] void raise(const Error& e);

}  // namespace keel
#pragma GCC visibility pop
