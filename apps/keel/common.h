#pragma once
// What the verbs share.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <memory>
#include <string>

#include "keel/keel.h"

namespace keel::app {

using nlohmann::json;

/// Exit codes: fixed, scripts depend on them.
enum Exit { kOk = 0, kFailed = 1, kUsage = 2, kNoDevice = 3, kNumericalStop = 4, kInterrupted = 130 };

/// Ends the program with code 2, the message and the help of the verb.
[[noreturn]] void usage_error(const std::string& message);

/// Checks of options' values, with texts that people can read.
CLI::Validator whole(int64_t least, int64_t most = INT64_MAX);
CLI::Validator positive();
CLI::Validator not_negative();
/// Some of a name out of `rows`, which the message lists.
CLI::Validator part_of_a_name(std::vector<std::string> rows);
/// A device that may be missing here, but whose name is one.
CLI::Validator device_name();

/// What a verb ended with; set by the verb's callback.
struct Outcome {
  int code = kOk;
};

struct Cpu {
  std::string name, isa;
  std::string text;  // several lines: what was found, what is used, and why one is not
};
Cpu cpu_info();
int64_t peak_rss_bytes();
/// KEEL_DATA, else data.
std::string data_folder();
bool exists(const std::string& path);
void write_json(const std::string& path, const json& j);
/// A number that JSON can hold: NaN and infinities become null.
json number(double v);

void add_train(CLI::App& root, Outcome& out);
void add_eval(CLI::App& root, Outcome& out);
void add_predict(CLI::App& root, Outcome& out);
void add_sample(CLI::App& root, Outcome& out);
void add_inspect(CLI::App& root, Outcome& out);
void add_bench(CLI::App& root, Outcome& out);
void add_monitor(CLI::App& root, Outcome& out);
void add_precision(CLI::App& root, Outcome& out);
void add_doctor(CLI::App& root, Outcome& out);
void add_demo(CLI::App& root, Outcome& out);
void add_completion(CLI::App& root, Outcome& out);

}  // namespace keel::app
