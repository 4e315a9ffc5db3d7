// keel precision: what casts to narrower floats would do to the tensors of a file.
#include <filesystem>
#include <memory>

#include "common.h"

namespace keel::app {
namespace {

struct PrecisionFlags {
  std::string file, svg, html;
  bool as_json = false, round_up = false;
};

/// The weights of a run's folder, or the file itself.
std::string weights_of(const std::string& path) {
  if (!std::filesystem::is_directory(path)) return path;
  const std::string model = path + "/model.safetensors";
  return exists(model) ? model : path + "/checkpoint.keel";
}

void write_page(const std::string& path, const std::string& content) {
  if (path.empty()) return;
  if (auto ok = io::write_file(path, content); !ok) raise(Error(ErrorCode::io, ok.message()));
}

int precision(const PrecisionFlags& o) {
  const StateDict tensors = load(weights_of(o.file));
  const PrecisionProfile p = precision_profile(tensors, {.round_up = o.round_up});
  write_page(o.svg, p.svg());
  write_page(o.html, p.html());
  if (o.as_json) {
    fmt::print("{}\n", p.json());
    return kOk;
  }
  fmt::print("{}", p.text());
  PrecisionReport all;
  for (const auto& e : p.entries) all.add(e.report);
  fmt::print("\n{} tensors, {} of them floating; all values together:\n{}", tensors.size(), p.entries.size(), all.text());
  return kOk;
}

}  // namespace

void add_precision(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("precision", "Foretell what casts to f16, bf16, fp8 and MX blocks do to a file's tensors");
  auto o = std::make_shared<PrecisionFlags>();
  a->add_option("file", o->file, "A safetensors, .keel, .npy or .npz file, or a run's folder")->required();
  a->add_flag("--json", o->as_json, "JSON, with the counts of all exponents");
  a->add_option("--svg", o->svg, "Write the picture of all exponents to this file");
  a->add_option("--html", o->html, "Write a page with the picture and the table to this file");
  a->add_flag("--round-up", o->round_up, "MX scales that let no value overflow, instead of OCP's rule");
  a->callback([o, &out] { out.code = precision(*o); });
}

}  // namespace keel::app
