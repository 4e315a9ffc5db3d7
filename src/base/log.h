#pragma once
#include <keel/log.h>

#include <atomic>
#include <string_view>

#pragma GCC visibility push(default)  // the io library uses it too
namespace keel::base {

namespace detail {
extern std::atomic<int> g_log_level;  // -1 until KEEL_VERBOSE has been read
bool log_enabled_slow(LogLevel level);
}  // namespace detail

/// Whether a record of this level would reach anyone: one load, so that callers make no text for nothing.
inline bool log_enabled(LogLevel level) {
  const int now = detail::g_log_level.load(std::memory_order_relaxed);
  return now < 0 ? detail::log_enabled_slow(level) : now >= static_cast<int>(level);
}

/// Whether KEEL_VERBOSE names this topic (or `all`). Records of an enabled topic are written whatever the level.
bool log_topic(std::string_view topic);

/// Writes a record if its level or its topic is enabled.
void log(LogLevel level, std::string_view topic, std::string_view text);

/// Ends the program after writing `text` to standard error, whatever the level: for a fault of the program itself, after which nothing can
/// be trusted.
[[noreturn]] void abort_with(std::string_view text);

/// For tests: behaves as if KEEL_VERBOSE were `words` from now on.
void configure_log(std::string_view words);

}  // namespace keel::base
#pragma GCC visibility pop
