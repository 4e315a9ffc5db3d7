#include <memory>

#include "common.h"
#include "keel/cpu.h"

namespace keel::app {
namespace {

int doctor(bool as_json) {
  const Cpu cpu = cpu_info();
  if (as_json) {
    json features = json::array();
    for (const CpuFeature& f : cpu_features()) features.push_back({{"name", f.name}, {"found", f.found}, {"used", f.used}, {"why", f.why}});
    fmt::print("{}\n", json{{"version", version()}, {"build", build_id()}, {"cpu", cpu.name}, {"isa", cpu.isa}, {"threads", num_threads()}, {"features", features}, {"note", cpu_refusal()}, {"ops", registry().size()},
                            {"devices", json::array({"cpu"})}, {"data", data_folder()}, {"data_present", exists(data_folder())}}.dump(1));
    return kOk;
  }
  fmt::print("keel {} ({})\n{}threads     {}\nops         {}\ndevices     cpu; no other backend is part of this build\ndata        {} ({})\n", version(), build_id(), cpu.text, num_threads(), registry().size(),
             data_folder(), exists(data_folder()) ? "present" : "missing; `keel demo` draws its own digits");
  return kOk;
}

}  // namespace

void add_doctor(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("doctor", "Say what was found on this machine, what is used, and why something is not");
  auto as_json = std::make_shared<bool>(false);
  a->add_flag("--json", *as_json, "One JSON object");
  a->callback([as_json, &out] { out.code = doctor(*as_json); });
}

}  // namespace keel::app
