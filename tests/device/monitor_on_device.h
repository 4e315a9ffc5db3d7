#pragma once
#include <string>

#include "device/on_device.h"

namespace keel {

/// Counts what makes the host wait for the device, while it lives.
struct Waits {
  explicit Waits(Device d) : driver(const_cast<DeviceDriver*>(&driver_of(d))), before(*driver) {
    count = 0, was = &before;
    driver->copy = [](int i, void* to, const void* from, size_t n, CopyWay way) {
      return count += way == CopyWay::to_host, was->copy(i, to, from, n, way);
    };
    driver->synchronize = [](int i) { return ++count, was->synchronize(i); };
    driver->collected = [](int i, uint64_t ticket, bool wait, bool* made) { return count += wait, was->collected(i, ticket, wait, made); };
  }
  ~Waits() { *driver = before; }
  DeviceDriver* driver;
  DeviceDriver before;
  static inline int count;
  static inline const DeviceDriver* was;
};

/// Tests of what a monitor says of programs on a device.
class MonitorOnDevice : public DeviceTest {
 protected:
  static std::string line(const Monitor::Finding& f) {
    return "step " + std::to_string(f.step) + ", " + f.phase + ": " + f.detector + " " + f.kind + " by " + f.op + " in '" + f.path + "', " +
           std::to_string(f.elements) + " values, " + std::to_string(f.count) + " times";
  }
  static std::string all(const Monitor& m) {
    std::string text;
    for (const auto& f : m.findings()) text += "fault, " + line(f) + "\n";
    for (const auto& f : m.warnings()) text += "warning, " + line(f) + "\n";
    return text;
  }
  /// Notes too.
  static std::string everything(const Monitor& m) {
    std::string text = all(m);
    for (const auto& f : m.notes()) text += "note, " + line(f) + "\n";
    return text;
  }
  /// What a monitor says of `steps` calls of body(device, step), here and there.
  template <class F>
  std::string same(int steps, F&& body, MonitorOptions o = {}) {
    o.budget = 0;  // every step as a whole
    const auto run = [&](Device where) {
      manual_seed(11);
      Monitor m(o);
      for (int s = 1; s <= steps; ++s) {
        m.step();
        body(where, s);
      }
      m.step();
      return all(m);
    };
    const std::string here = run(cpu_device), there = run(d);
    EXPECT_EQ(there, here);
    return there;
  }
};

}  // namespace keel
