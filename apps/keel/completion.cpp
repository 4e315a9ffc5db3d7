// Completion scripts, written from the verbs and options themselves.
#include "common.h"

namespace keel::app {
namespace {

/// Calls f(path, app) for `app` and all verbs below; a path is "train mnist".
template <class F>
void each_verb(const CLI::App& app, const std::string& path, F&& f) {
  f(path, app);
  for (const CLI::App* sub : app.get_subcommands({})) each_verb(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), f);
}
/// The values between which an option lets choose.
std::vector<std::string> choices(const CLI::Option& o) {
  const std::string type = o.get_type_name();  // TEXT:{mlp,cnn}
  const size_t begin = type.find('{'), end = type.find('}');
  return begin < end && end != std::string::npos ? CLI::detail::split(type.substr(begin + 1, end - begin - 1), ',')
                                                 : std::vector<std::string>();
}
std::vector<std::string> names(const CLI::App& app, bool options) {
  std::vector<std::string> out;
  for (const CLI::App* sub : app.get_subcommands({})) out.push_back(sub->get_name());
  if (!options) return out;
  for (const CLI::Option* o : app.get_options())
    if (o->get_positional())
      for (const std::string& value : choices(*o)) out.push_back(value);
  for (const CLI::Option* o : app.get_options())
    for (const std::string& name : o->get_lnames()) out.push_back("--" + name);
  return out;
}
std::string quoted(const std::string& s) {  // for a shell, between single quotes
  std::string out = "'";
  for (char c : s) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

std::string bash(const CLI::App& root) {
  std::string cases, verbs, values;
  each_verb(root, "", [&](const std::string& path, const CLI::App& app) {
    if (!path.empty()) verbs += fmt::format("{}{}", verbs.empty() ? "" : "|", quoted(path));
    cases += fmt::format("    {}) words={} ;;\n", quoted(path), quoted(fmt::format("{}", fmt::join(names(app, true), " "))));
    for (const CLI::Option* o : app.get_options())
      for (const std::string& name : o->get_lnames())
        if (const std::vector<std::string> of = choices(*o); !of.empty())
          values += fmt::format("    {}) words={} ;;\n", quoted(path + " --" + name), quoted(fmt::format("{}", fmt::join(of, " "))));
  });
  return fmt::format(R"bash(_keel() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" verb="" words="" w i
  for ((i = 1; i < COMP_CWORD; i++)); do
    w="${{verb:+$verb }}${{COMP_WORDS[i]}}"
    case "$w" in {}) verb="$w" ;; esac
  done
  case "$verb" in
{}  esac
  case "$verb ${{COMP_WORDS[COMP_CWORD-1]}}" in
{}  esac
  if [[ "$cur" == -* || "$words" != -* ]]; then COMPREPLY=($(compgen -W "$words" -- "$cur")); fi
  if [ ${{#COMPREPLY[@]}} = 0 ]; then COMPREPLY=($(compgen -f -- "$cur")); fi
}}
complete -o filenames -F _keel keel
)bash",
                     verbs, cases, values);
}

std::string fish(const CLI::App& root) {
  std::string out = "complete -c keel -e\n";
  each_verb(root, "", [&](const std::string& path, const CLI::App& app) {
    std::string seen = path.empty() ? "true" : "";
    for (size_t at = 0; at < path.size();) {
      const size_t end = std::min(path.find(' ', at), path.size());
      seen += (seen.empty() ? "" : "; and ") + ("__fish_seen_subcommand_from " + path.substr(at, end - at));
      at = end + 1;
    }
    const std::vector<std::string> below = names(app, false);
    const std::string here = below.empty() ? seen : fmt::format("{}; and not __fish_seen_subcommand_from {}", seen, fmt::join(below, " "));
    for (const CLI::App* sub : app.get_subcommands({}))
      out += fmt::format("complete -c keel -f -n {} -a {} -d {}\n", quoted(here), sub->get_name(), quoted(sub->get_description()));
    for (const CLI::Option* o : app.get_options()) {
      const std::string of = fmt::format("{}", fmt::join(choices(*o), " ")),
                        values = of.empty() ? "" : fmt::format(" -f -a {}", quoted(of));
      if (o->get_positional() && !of.empty()) out += fmt::format("complete -c keel -n {}{}\n", quoted(here), values);
      for (const std::string& name : o->get_lnames())
        out += fmt::format("complete -c keel -n {} -l {}{}{} -d {}\n", quoted(here), name, o->get_items_expected_max() > 0 ? " -r" : "",
                           values, quoted(o->get_description()));
    }
  });
  return out;
}

std::string completion(const CLI::App& root, const std::string& shell) {
  if (shell == "fish") return fish(root);
  return (shell == "zsh"
              ? "(( $+functions[compdef] )) || { autoload -U compinit && compinit }\nautoload -U +X bashcompinit && bashcompinit\n"
              : "") +
         bash(root);
}

}  // namespace

void add_completion(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("completion", "Print a completion script: eval \"$(keel completion bash)\"");
  auto shell = std::make_shared<std::string>();
  a->add_option("shell", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  a->callback([shell, &root, &out] {
    fmt::print("{}", completion(root, *shell));
    out.code = kOk;
  });
}

}  // namespace keel::app
