#include <algorithm>
#include <memory>

#include "common.h"
#include "keel/cpu.h"

namespace keel::app {
namespace {

/// A line a CUDA device, or one that says why there is none.
std::string cuda_lines() {
  std::string text;
  for (int i = 0; i < std::max(1, device_count(DeviceType::cuda)); ++i)
    text += "            " + device_text({DeviceType::cuda, uint8_t(i)}) + "\n";
  return text;
}

int doctor(bool as_json) {
  const Cpu cpu = cpu_info();
  if (as_json) {
    json features = json::array();
    for (const CpuFeature& f : cpu_features()) features.push_back({{"name", f.name}, {"found", f.found}, {"used", f.used}, {"why", f.why}});
    json devices = json::array({"cpu"});
    for (int i = 0; i < device_count(DeviceType::cuda); ++i) devices.push_back(device_text({DeviceType::cuda, uint8_t(i)}));
    fmt::print("{}\n", json{{"version", version()},
                            {"build", build_id()},
                            {"cpu", cpu.name},
                            {"isa", cpu.isa},
                            {"threads", num_threads()},
                            {"features", features},
                            {"note", cpu_refusal()},
                            {"environment", environment_complaints()},
                            {"ops", registry().size()},
                            {"devices", devices},
                            {"cuda", device_text({DeviceType::cuda, 0})},
                            {"data", data_folder()},
                            {"data_present", exists(data_folder())}}
                           .dump(1));
    return kOk;
  }
  fmt::print("keel {} ({})\n{}threads     {}\nops         {}\ndevices     cpu\n{}data        {} ({})\n", version(), build_id(), cpu.text,
             num_threads(), registry().size(), cuda_lines(), data_folder(),
             exists(data_folder()) ? "present" : "missing; `keel demo` draws its own digits");
  for (const std::string& complaint : environment_complaints()) fmt::print("warning     {}\n", complaint);
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
