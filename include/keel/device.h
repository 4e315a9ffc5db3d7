#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#pragma GCC visibility push(default)
namespace keel {

enum class DeviceType : uint8_t { cpu, cuda, webgpu };

/// Where a tensor's bytes live.
struct Device {
  DeviceType type = DeviceType::cpu;
  uint8_t index = 0;
  constexpr bool operator==(const Device&) const = default;
};
inline constexpr Device cpu_device{};

/// How many devices of a kind can be used; 0 where the library or the driver for it is missing.
int device_count(DeviceType t);
/// A line for people: "cuda:0: " and the model, its memory and versions, or why there is none.
std::string device_text(Device d);
/// Waits until everything that was asked of `d` has been done; raises DeviceError where some of it failed. Nothing to wait for on the CPU.
void synchronize(Device d);

/// Parses "cpu", "cuda", "cuda:1" or "auto" (the best device present; the choice is logged). Raises DeviceError for a device that is not there, and says why.
Device device(std::string_view name);
std::string to_string(Device d);

}  // namespace keel
#pragma GCC visibility pop
