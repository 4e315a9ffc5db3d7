#include "keel/error.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/impl.h"

namespace keel {

struct Error::Data : RefCounted {
  ErrorCode code;
  std::string op, message, hint, path, what;
  std::vector<std::pair<std::string, std::string>> args;
  std::vector<std::string> notes;

  static void destroy(Data* d) { delete d; }
  void compose() {
    what = name_of(code);
    if (!op.empty()) what += " in " + op;
    what += ": " + message;
    for (const auto& [role, text] : args) what += "\n    " + role + ": " + text;
    for (const std::string& n : notes) what += "\n    " + n;
    if (!hint.empty()) what += "\n    hint: " + hint;
    if (!path.empty()) what += "\n    while " + path;
  }
};

const char* name_of(ErrorCode c) {
  constexpr const char* names[] = {"ShapeError", "DTypeError",  "IndexError",       "ValueError",     "DeviceError",      "AutogradError",
                                   "IOError",    "MemoryError", "UnsupportedError", "NumericalError", "InterruptedError", "InternalError"};
  return names[int(c)];
}

Error::Error(ErrorCode code, std::string message) : d_(new Data) {
  d_->code = code, d_->message = std::move(message);
  d_->compose();
}
Error::Error(const Error&) noexcept = default;
Error::Error(Error&&) noexcept = default;
Error& Error::operator=(const Error&) noexcept = default;
Error::~Error() = default;

Error::Data& Error::edit() {
  if (d_.use_count() > 1) {
    auto* copy = new Data;
    copy->code = d_->code, copy->op = d_->op, copy->message = d_->message, copy->hint = d_->hint, copy->path = d_->path, copy->args = d_->args, copy->notes = d_->notes;
    d_ = Ref<Data>(copy);
  }
  return *d_;
}
Error& Error::op(std::string_view name) & { return edit().op = name, d_->compose(), *this; }
Error& Error::arg(std::string_view role, std::string_view text) & { return edit().args.emplace_back(role, text), d_->compose(), *this; }
Error& Error::hint(std::string_view text) & { return edit().hint = text, d_->compose(), *this; }
Error& Error::path(std::string_view p) & { return edit().path = p, d_->compose(), *this; }
Error& Error::note(std::string_view line) & { return edit().notes.emplace_back(line), d_->compose(), *this; }

ErrorCode Error::code() const noexcept { return d_->code; }
std::string_view Error::op() const noexcept { return d_->op; }
std::string_view Error::message() const noexcept { return d_->message; }
std::string_view Error::hint() const noexcept { return d_->hint; }
std::string_view Error::path() const noexcept { return d_->path; }
int64_t Error::arg_count() const noexcept { return int64_t(d_->args.size()); }
std::string_view Error::arg_role(int64_t i) const noexcept { return d_->args[size_t(i)].first; }
std::string_view Error::arg_text(int64_t i) const noexcept { return d_->args[size_t(i)].second; }
const char* Error::what() const noexcept { return d_->what.c_str(); }

void raise(const Error& e) {
#if defined(__cpp_exceptions)
  throw e;
#else
  std::fprintf(stderr, "%s\n", e.what());
  std::abort();
#endif
}

void assert_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "keel: internal error at %s:%d: %s\n", file, line, expression);
  std::abort();
}

}  // namespace keel
