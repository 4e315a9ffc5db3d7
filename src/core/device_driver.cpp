// Opening of device libraries. The name of the entry is `keel_<name>_driver`; the library is looked for in the folders of
// KEEL_BACKEND_PATH, beside the program or library that holds Keel, where `cmake --install` puts it, and last where the system looks.
#include "core/device_driver.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <vector>

#include "base/env.h"
#include "base/log.h"
#include "base/threads.h"
#include "core/scope.h"
#include "keel/error.h"
#include "keel/version.h"

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#define KEEL_HAS_DLOPEN 1
#endif

namespace keel {
namespace {

struct Slot {
  base::Mutex mutex;
  std::atomic<bool> tried{false};  // the rest is written before it and never after
  const DeviceDriver* driver = nullptr;
  std::string refusal;
};
Slot& slot(DeviceType t) {
  static Slot* const slots = new Slot[3];  // never destroyed: tensors may be freed while the program ends
  return slots[int(t)];
}
constexpr const char* kNames[] = {"cpu", "cuda", "webgpu"};

#if defined(KEEL_HAS_DLOPEN)
/// Where the program or library that holds Keel lies: as it was named, and in truth where that is another place. A program that was found
/// through PATH was named without any.
std::vector<std::string> folders_of_keel() {
  Dl_info here{};
  std::vector<std::string> all;
  const auto add = [&](const std::string& file) {
    if (const size_t cut = file.rfind('/'); cut != std::string::npos) all.push_back(file.substr(0, cut));
  };
  if (!dladdr(reinterpret_cast<const void*>(&device_driver), &here) || !here.dli_fname) return all;
  const std::string self = here.dli_fname;
  add(self);
  if (char* const real = realpath(self.find('/') == std::string::npos ? "/proc/self/exe" : self.c_str(), nullptr)) {
    if (real != self) add(real);
    std::free(real);
  }
  return all;
}

std::vector<std::string> places(const std::string& file) {
  std::vector<std::string> all;
  std::string_view path = base::env_string("KEEL_BACKEND_PATH");
  while (!path.empty()) {
    const size_t end = std::min(path.find(':'), path.size());
    if (end) all.push_back(std::string(path.substr(0, end)) + "/" + file);
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  for (const std::string& folder : folders_of_keel())
    for (const char* below : {"/", "/../" KEEL_LIBDIR "/keel/", "/keel/"}) all.push_back(folder + below + file);
  all.push_back(file);
  return all;
}

void open(DeviceType t, Slot& s) {
  const std::string name = kNames[int(t)], file = "libkeel_" + name + ".so";
  void* library = nullptr;
  std::string broken;  // why a library that exists does not load
  for (const std::string& place : places(file)) {
    if ((library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE))) break;
    const char* why = dlerror();
    const std::string text = why ? why : "", missing = file + ": cannot open shared object file: ";
    const bool absent = text.find(missing + "No such file") != std::string::npos || text.find(missing + "Not a directory") != std::string::npos;
    if (!absent) broken = text;
  }
  if (!library)
    return void(s.refusal = file + (broken.empty() ? " is not beside this program, nor in a folder of KEEL_BACKEND_PATH"
                                                   : " does not load: " + broken));
  using Entry = const DeviceDriver* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(library, ("keel_" + name + "_driver").c_str()));
  if (!entry) return void(s.refusal = file + " is no Keel library");
  const DeviceDriver* d = entry();
  if (d->size != sizeof(DeviceDriver) || std::string_view(d->build) != build_id())
    return void(s.refusal = file + " was built for another Keel (" + (d->size == sizeof(DeviceDriver) ? d->build : "of another layout") +
                            "; this is " + build_id() + ")");
  if (d->count == 0) return void(s.refusal = d->refusal);
  s.driver = d;
}
#else
void open(DeviceType, Slot& s) { s.refusal = "this platform opens no libraries at run time"; }
#endif

const Slot& opened(DeviceType t) {
  Slot& s = slot(t);
  if (s.tried.load(std::memory_order_acquire)) return s;  // every allocation comes by here
  const std::lock_guard lock(s.mutex);
  if (s.tried.load(std::memory_order_relaxed)) return s;
  if (t == DeviceType::cpu)
    s.refusal = "the CPU needs no driver";
  else
    open(t, s);
  s.tried.store(true, std::memory_order_release);
  return s;
}

/// How many devices there are, and why one more is none.
std::string number_of_devices(const DeviceDriver& d) {
  return std::to_string(d.count) + (*d.refusal ? "; " : "") + d.refusal;
}

}  // namespace

const DeviceDriver* device_driver(DeviceType t) { return opened(t).driver; }
const char* device_refusal(DeviceType t) { return opened(t).refusal.c_str(); }

const DeviceDriver& driver_of(Device d) {
  const DeviceDriver* driver = device_driver(d.type);
  if (!driver || d.index >= driver->count)
    raise(about_call(Error(ErrorCode::device, "device " + to_string(d) + " is not available: " +
                                                  (driver ? "there are " + number_of_devices(*driver) : device_refusal(d.type)))));
  return *driver;
}

void raise_fault(Device d) {
  const DeviceDriver& driver = driver_of(d);
  DeviceFault f;
  if (driver.fault && driver.fault(d.index, &f)) raise(late_error(f));
}

DeviceNotes& device_notes() {
  thread_local constinit DeviceNotes notes;
  return notes;
}
void DeviceNotes::note(int64_t& count) {
  if (copies + waits + host_runs == 0) {
    const Frame* f = scope().frame;
    while (f && f->up) f = f->up;  // the op that the program called
    op = f ? f->op : nullptr;
  }
  ++count;
}

void device_copy(Device d, void* to, const void* from, size_t bytes, CopyWay way) {
  if (way != CopyWay::within) device_notes().note(device_notes().copies);
  if (const char* wrong = driver_of(d).copy(d.index, to, from, bytes, way)) raise(about_call(Error(ErrorCode::device, wrong)));
  if (way == CopyWay::to_host) raise_fault(d);
}

void synchronize(Device d) {
  if (d.type == DeviceType::cpu) return;
  device_notes().note(device_notes().waits);
  if (const char* wrong = driver_of(d).synchronize(d.index)) raise(about_call(Error(ErrorCode::device, wrong).op("synchronize")));
  raise_fault(d);
}

MemoryStats memory_stats(Device d) { return d == cpu_device ? memory_stats() : driver_of(d).memory(d.index); }
void reset_peak_memory(Device d) { d == cpu_device ? reset_peak_memory() : driver_of(d).reset_peak(d.index); }
void set_memory_limit(Device d, int64_t bytes) { d == cpu_device ? set_memory_limit(bytes) : driver_of(d).set_limit(d.index, bytes); }
int64_t release_cached_memory(Device d) { return d == cpu_device ? release_cached_memory() : driver_of(d).release_cached(d.index); }

std::string device_text(Device d) {
  if (d == cpu_device) return "cpu";
  const DeviceDriver* driver = device_driver(d.type);
  if (!driver || d.index >= driver->count)
    return to_string(d) + ": " + (driver ? "there are " + number_of_devices(*driver) : device_refusal(d.type));
  char text[1024];
  driver->describe(d.index, text, sizeof text);
  return to_string(d) + ": " + text;
}

int device_count(DeviceType t) {
  if (t == DeviceType::cpu) return 1;
  const DeviceDriver* d = device_driver(t);
  return d ? d->count : 0;
}

Device device(std::string_view name) {
  if (name == "cpu") return cpu_device;
  if (name == "auto") {
    const Device best = device_count(DeviceType::cuda) ? Device{DeviceType::cuda, 0} : cpu_device;
    base::log(LogLevel::info, "device",
              "auto: " + to_string(best) + (best == cpu_device ? std::string("; ") + device_refusal(DeviceType::cuda) : ""));
    return best;
  }
  const std::string n(name);
  const std::string_view kind = name.substr(0, name.find(':')), index = name.substr(std::min(name.size(), kind.size() + 1));
  for (const DeviceType t : {DeviceType::cuda, DeviceType::webgpu}) {
    if (kind != kNames[int(t)]) continue;
    const auto i = kind.size() == name.size() ? std::optional<int64_t>(0) : base::leading_int(index);
    if (!i || *i > 255) break;
    const DeviceDriver* d = device_driver(t);
    if (!d)
      raise(Error(ErrorCode::device, "device " + n + " is not available: " + device_refusal(t))
                .op("device")
                .hint("device(\"auto\") takes the best one present; `keel doctor` says what was found"));
    if (*i >= d->count)
      raise(Error(ErrorCode::device, "device " + n + " is not available: this machine has " + number_of_devices(*d))
                .op("device")
                .hint("indices count from 0"));
    return {t, uint8_t(*i)};
  }
  raise(Error(ErrorCode::value, "unknown device '" + n + "'").op("device").hint("cpu, cuda, cuda:N or auto"));
}

}  // namespace keel
