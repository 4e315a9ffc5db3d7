#pragma once
#include <cstdint>
#include <string_view>

#pragma GCC visibility push(default)
/// What Keel says beside its results. By default nothing: no library function writes to a stream unless a sink is set or the environment
/// variable KEEL_VERBOSE asks, and none ever writes to standard output. KEEL_VERBOSE is a comma-separated list of words: `error`,
/// `warning`, `info` (also `1`) or `debug` (also `2`) for the level, `json` for one JSON object a line, `all` for everything, and any other
/// word names a topic, such as `dispatch`. Its messages go to standard error.
namespace keel {

enum class LogLevel : uint8_t { off, error, warning, info, debug };

struct LogRecord {
  LogLevel level;
  std::string_view topic;  ///< the part of Keel that speaks
  std::string_view text;   ///< one or more lines, no newline at the end
};

/// Receives every record, from any thread, one at a time; must not throw and must not call back into the log.
using LogSink = void (*)(void* context, const LogRecord& record);

/// Sends the log to `sink`; null returns to the default. Where the level was off it becomes `info`.
void set_log_sink(LogSink sink, void* context = nullptr);

/// Records above `level` are dropped before their text is made.
void set_log_level(LogLevel level);
LogLevel log_level();

/// "error", "warning", "info" or "debug".
std::string_view to_string(LogLevel level);

}  // namespace keel
#pragma GCC visibility pop
