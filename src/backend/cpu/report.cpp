#include "backend/cpu/isa.h"
#include "base/env.h"
#include "keel/cpu.h"

namespace keel {

std::string cpu_isa() { return cpu::isa_name(cpu::active_isa()); }

std::vector<CpuFeature> cpu_features() {
  std::vector<CpuFeature> all;
  for (const cpu::IsaEntry& e : cpu::describe_cpu().entries) all.push_back({e.name, e.found, e.used, e.reason});
  return all;
}
std::string cpu_refusal() { return cpu::describe_cpu().note; }
std::vector<std::string> environment_complaints() { return base::env_complaints(); }

std::string cpu_report() {
  const cpu::CpuReport r = cpu::describe_cpu();
  std::string s = "processor   " + r.model + "\nkernels     " + cpu::isa_name(r.isa) + "\n";
  if (!r.note.empty()) s += "            " + r.note + "\n";
  for (const cpu::IsaEntry& e : r.entries)
    s += "  " + std::string(e.name) + std::string(e.name ? 14 - std::min<size_t>(13, std::string(e.name).size()) : 1, ' ') + (e.used ? "used" : e.found ? "found, not used: " : "not found: ") + (e.used ? "" : e.reason) + "\n";
  s += "caches      L1 " + std::to_string(r.l1d_bytes / 1024) + " KiB, L2 " + std::to_string(r.l2_bytes / 1024) + " KiB, L3 " + std::to_string(r.l3_bytes / 1024) + " KiB\n";
  return s;
}

}  // namespace keel
