#include <memory>

#include "common.h"

namespace keel::app {
namespace {

int doctor(bool as_json) {
  const Cpu cpu = cpu_info();
  if (as_json) {
    fmt::print("{}\n", json{{"version", version()}, {"build", build_id()}, {"cpu", cpu.name}, {"isa", cpu.isa}, {"threads", num_threads()}, {"report", cpu.text}, {"ops", registry().size()},
                            {"devices", json::array({"cpu"})}, {"data", data_folder()}, {"data_present", exists(data_folder())}}.dump(1));
    return kOk;
  }
  fmt::print("keel {} ({})\n{}threads     {}\nops         {}\ndevices     cpu; no other backend is part of this build\ndata        {} ({})\n", version(), build_id(), cpu.text, num_threads(), registry().size(),
             data_folder(), exists(data_folder()) ? "present" : "missing; `keel demo` draws its own digits");
  return kOk;
}

constexpr const char* kBash = R"bash(_keel() {
  local words="train eval predict sample inspect bench doctor demo completion"
  local cur="${COMP_WORDS[COMP_CWORD]}"
  if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W "$words --help --version" -- "$cur")); return; fi
  case "${COMP_WORDS[1]}" in
    train) [ "$COMP_CWORD" = 2 ] && COMPREPLY=($(compgen -W "mnist char-gpt" -- "$cur")) && return
           COMPREPLY=($(compgen -W "$(keel train ${COMP_WORDS[2]} --help 2>/dev/null | grep -o -- '--[a-z-]*')" -- "$cur") $(compgen -f -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W "$(keel ${COMP_WORDS[1]} --help 2>/dev/null | grep -o -- '--[a-z-]*')" -- "$cur") $(compgen -f -- "$cur")) ;;
  esac
}
complete -F _keel keel
)bash";
constexpr const char* kZsh = "autoload -U +X bashcompinit && bashcompinit\n";

}  // namespace

void add_doctor(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("doctor", "Say what was found on this machine, what is used, and why something is not");
  auto as_json = std::make_shared<bool>(false);
  a->add_flag("--json", *as_json, "One JSON object");
  a->callback([as_json, &out] { out.code = doctor(*as_json); });
}

void add_completion(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("completion", "Print a completion script: eval \"$(keel completion bash)\"");
  auto shell = std::make_shared<std::string>();
  a->add_option("shell", *shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}));
  a->callback([shell, &out] {
    fmt::print("{}{}", *shell == "zsh" ? kZsh : "", kBash);
    out.code = kOk;
  });
}

}  // namespace keel::app
