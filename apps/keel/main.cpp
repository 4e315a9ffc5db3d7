// keel: train, evaluate and look into models from the command line.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common.h"
#include "keel/cpu.h"

namespace {

int exit_code(const keel::Error& e) {
  switch (e.code()) {
    case keel::ErrorCode::device: return keel::app::kNoDevice;
    case keel::ErrorCode::numeric: return keel::app::kNumericalStop;
    case keel::ErrorCode::interrupted: return keel::app::kInterrupted;
    default: return keel::app::kFailed;
  }
}

/// The innermost verb that the command line names, and its path.
std::pair<const CLI::App*, std::string> verb_of(const CLI::App& root, int argc, char** argv) {
  std::pair<const CLI::App*, std::string> at{&root, "keel"};
  for (int i = 1; i < argc; ++i) {
    const CLI::App* next = nullptr;
    for (const CLI::App* sub : at.first->get_subcommands({}))
      if (sub->get_name() == argv[i]) next = sub;
    if (!next) break;
    at = {next, at.second + " " + argv[i]};
  }
  return at;
}

/// Letters that two names have in common at their beginning, in order: what a slip of the finger leaves.
size_t likeness(const std::string& a, const std::string& b) {
  size_t n = 0, j = 0;
  for (char c : a)
    if (const size_t at = b.find(c, j); at != std::string::npos && at - j < 3) j = at + 1, ++n;
  return 2 * n >= std::max(a.size(), b.size()) ? n * 100 / std::max(a.size(), b.size()) : 0;
}

/// What the user may have meant by a word that nobody knows.
std::string meant(const CLI::App& verb, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* sub : verb.get_subcommands({})) names.push_back(sub->get_name());
  for (const CLI::Option* o : verb.get_options())
    for (const std::string& name : o->get_lnames()) names.push_back("--" + name);
  std::string best;
  size_t most = 50;
  for (const std::string& name : names)
    if (const size_t n = likeness(word, name); n > most) best = name, most = n;
  return best;
}

/// Says what is wrong with the command line, and how it should be.
int usage(const CLI::App& root, int argc, char** argv, const CLI::ParseError& e) {
  const auto [verb, path] = verb_of(root, argc, argv);
  std::string message = e.what();
  std::string unknown;
  if (dynamic_cast<const CLI::ExtrasError*>(&e) || (e.get_name() == "RequiredError" && !verb->get_subcommands({}).empty())) {
    const size_t depth = size_t(std::count(path.begin(), path.end(), ' ')) + 1;
    for (int i = int(depth); i < argc && unknown.empty(); ++i) {
      const std::string word = std::string(argv[i]).substr(0, std::string_view(argv[i]).find('='));
      const bool option = word.starts_with("-");
      if (i == int(depth) && !option && !verb->get_subcommands({}).empty()) unknown = word;
      if (option && !verb->get_option_no_throw(word)) unknown = word;
    }
    if (!unknown.empty()) {
      message = "'" + unknown + "' was not expected";
      if (const std::string other = meant(*verb, unknown); !other.empty()) message += "; did you mean '" + other + "'?";
    }
  }
  fmt::print(stderr, "{}: {}\n\n{}", path, message, verb->help(path.substr(0, path.rfind(' ') == std::string::npos ? 0 : path.rfind(' '))));
  return keel::app::kUsage;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Keel " + std::string(keel::version()) + ": train, evaluate and look into models", "keel");
  app.require_subcommand(1);
  app.set_version_flag("--version", keel::version());
  keel::app::Outcome out;
  keel::app::add_train(app, out);
  keel::app::add_eval(app, out);
  keel::app::add_predict(app, out);
  keel::app::add_sample(app, out);
  keel::app::add_inspect(app, out);
  keel::app::add_precision(app, out);
#ifdef KEEL_CLI_BENCH
  keel::app::add_bench(app, out);
#endif
  keel::app::add_monitor(app, out);
  keel::app::add_doctor(app, out);
  keel::app::add_demo(app, out);
  keel::app::add_completion(app, out);
  const bool computes = argc > 1 && std::any_of(argv + 1, argv + 2, [](std::string_view v) {
                          return v != "doctor" && v != "completion" && v != "inspect" && v != "monitor" && !v.starts_with("-");
                        });
  if (const std::string refused = keel::cpu_refusal(); computes && !refused.empty()) {
    std::fprintf(stderr, "keel: %s; `keel doctor` says what there is\n", refused.c_str());
    return keel::app::kUsage;
  }
  if (computes)
    for (const std::string& complaint : keel::environment_complaints()) std::fprintf(stderr, "warning: %s\n", complaint.c_str());
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? app.exit(e) : usage(app, argc, argv, e);
  } catch (const keel::Error& e) {
    std::fprintf(stderr, "keel: %s\n", e.what());
    return exit_code(e);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "keel: %s\n", e.what());
    return keel::app::kFailed;
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    std::fprintf(stderr, "keel: cannot write to the standard output: %s\n", std::strerror(errno));
    return out.code == keel::app::kOk ? keel::app::kFailed : out.code;
  }
  return out.code;
}
