#include "base/log.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/json.h"
#include "base/threads.h"

namespace keel {
namespace base {
namespace detail {
constinit std::atomic<int> g_log_level{-1};
}  // namespace detail

namespace {

struct State {
  Mutex mutex;
  LogSink sink = nullptr;
  void* context = nullptr;
  std::vector<std::string> topics;
  bool all = false, json = false;
};
State& state() {
  static State* const s = new State;  // never destroyed: threads may log while the program ends
  return *s;
}

// Needs the mutex.
void configure(State& s, std::string_view words) {
  s.topics.clear();
  s.all = s.json = false;
  LogLevel level = LogLevel::off;
  bool explicit_level = false, any = false;
  while (!words.empty()) {
    const size_t comma = words.find(',');
    std::string_view w = words.substr(0, comma);
    words.remove_prefix(comma == words.npos ? words.size() : comma + 1);
    while (!w.empty() && w.front() == ' ') w.remove_prefix(1);
    while (!w.empty() && w.back() == ' ') w.remove_suffix(1);
    if (w.empty() || w == "0" || w == "off") continue;
    any = true;
    const auto set = [&](LogLevel l) { level = l, explicit_level = true; };
    if (w == "1")
      set(LogLevel::info);
    else if (w == "2")
      set(LogLevel::debug);
    else if (w == "json")
      s.json = true;
    else if (w == "all")
      s.all = true, set(LogLevel::debug);
    else {
      bool known = false;
      for (LogLevel l : {LogLevel::error, LogLevel::warning, LogLevel::info, LogLevel::debug})
        if (w == to_string(l)) set(l), known = true;
      if (!known) s.topics.emplace_back(w);
    }
  }
  if (any && !explicit_level) level = s.topics.empty() ? LogLevel::info : LogLevel::warning;
  detail::g_log_level.store(static_cast<int>(level), std::memory_order_relaxed);
}

// Needs the mutex.
void ensure_configured(State& s) {
  if (detail::g_log_level.load(std::memory_order_relaxed) < 0) configure(s, env_string("KEEL_VERBOSE"));
}

bool has_topic(const State& s, std::string_view topic) {
  if (s.all) return true;
  for (const auto& t : s.topics)
    if (t == topic) return true;
  return false;
}

}  // namespace

bool detail::log_enabled_slow(LogLevel level) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  ensure_configured(s);
  return g_log_level.load(std::memory_order_relaxed) >= static_cast<int>(level);
}

bool log_topic(std::string_view topic) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  ensure_configured(s);
  return has_topic(s, topic);
}

void log(LogLevel level, std::string_view topic, std::string_view text) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  ensure_configured(s);
  if (detail::g_log_level.load(std::memory_order_relaxed) < static_cast<int>(level) && !has_topic(s, topic)) return;
  if (s.sink != nullptr) return s.sink(s.context, {level, topic, text});
  std::string line;
  if (s.json) {
    JsonWriter w(line);
    w.begin_object().key("level").value(to_string(level)).key("topic").value(topic).key("text").value(text).end_object();
  } else {
    line.append("keel ").append(to_string(level)).append(" [").append(topic).append("] ").append(text);
  }
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void abort_with(std::string_view text) {
  const std::string line = "keel: " + std::string(text) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::abort();
}

void configure_log(std::string_view words) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  configure(s, words);
}

}  // namespace base

void set_log_sink(LogSink sink, void* context) {
  auto& s = base::state();
  const std::lock_guard lock(s.mutex);
  base::ensure_configured(s);
  s.sink = sink, s.context = context;
  if (sink != nullptr && base::detail::g_log_level.load(std::memory_order_relaxed) == 0)
    base::detail::g_log_level.store(static_cast<int>(LogLevel::info), std::memory_order_relaxed);
}

void set_log_level(LogLevel level) {
  auto& s = base::state();
  const std::lock_guard lock(s.mutex);
  base::ensure_configured(s);
  base::detail::g_log_level.store(static_cast<int>(level), std::memory_order_relaxed);
}

LogLevel log_level() {
  auto& s = base::state();
  const std::lock_guard lock(s.mutex);
  base::ensure_configured(s);
  return static_cast<LogLevel>(base::detail::g_log_level.load(std::memory_order_relaxed));
}

std::string_view to_string(LogLevel level) {
  constexpr std::string_view kNames[] = {"off", "error", "warning", "info", "debug"};
  return kNames[static_cast<size_t>(level)];
}

}  // namespace keel
