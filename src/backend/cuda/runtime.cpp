// The entry of the library and what it knows of devices.
#include "backend/cuda/runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>

#include "backend/cuda/architectures.h"
#include "backend/cuda/cudnn.h"
#include "backend/cuda/gemm.h"
#include "backend/device_kernels.h"
#include "keel/shape.h"
#include "keel/version.h"

namespace keel {

// The library holds none of Keel's core; the one function of Dims that headers may call ends the program here.
void Dims::too_long(int64_t) { __builtin_trap(); }

namespace cuda {
namespace {

thread_local int current = -1;
thread_local std::string error_text;

struct DeviceState {
  cudaStream_t stream = nullptr;
  cudaDeviceProp properties{};
  cudaError_t failed = cudaSuccess;  // of setting it up
  FaultBoard* board = nullptr;       // on the device
  FaultBoard::Found* found = nullptr;
  Exchange* exchange = nullptr;  // on the device
};
constinit OnEachDevice<DeviceState> states;
DeviceState& state(int device) {
  return states.at(device, [device](DeviceState& s) {
    const auto must = [&](cudaError_t e) {
      if (s.failed == cudaSuccess) s.failed = e;
      return e == cudaSuccess;
    };
    must(cudaSetDevice(device)) && must(cudaGetDeviceProperties(&s.properties, device)) &&
        must(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking)) &&
        must(cudaMalloc(reinterpret_cast<void**>(&s.board), sizeof(FaultBoard))) &&
        must(cudaMalloc(reinterpret_cast<void**>(&s.exchange), sizeof(Exchange))) &&
        must(cudaHostAlloc(reinterpret_cast<void**>(&s.found), sizeof(FaultBoard::Found), cudaHostAllocMapped));
    if (s.failed != cudaSuccess) return;
    current = device;
    std::memset(static_cast<void*>(s.found), 0, sizeof *s.found);
    const FaultBoard clear{~0ull, 0, s.found};
    must(cudaMemcpyAsync(s.board, &clear, sizeof clear, cudaMemcpyHostToDevice, s.stream));
    must(cudaMemsetAsync(s.exchange, 0, sizeof(Exchange), s.stream));
    must(cudaStreamSynchronize(s.stream));
  });
}

const char* copy(int device, void* to, const void* from, size_t bytes, CopyWay way) {
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  if (way != CopyWay::within && spoils(device, "a copy between host and device")) return "a copy between host and device while recording";
  if (way != CopyWay::to_host)
    if (const char* wrong = settle(device, to, static_cast<char*>(to) + bytes)) return wrong;
  const cudaStream_t s = stream_of(device);
  const cudaMemcpyKind kind = way == CopyWay::to_host     ? cudaMemcpyDeviceToHost
                              : way == CopyWay::to_device ? cudaMemcpyHostToDevice
                                                          : cudaMemcpyDeviceToDevice;
  cudaError_t e = cudaMemcpyAsync(to, from, bytes, kind, s);
  if (e == cudaSuccess && way == CopyWay::to_host) e = cudaStreamSynchronize(s);
  return text_of(e, way == CopyWay::to_host ? "copying to the host" : way == CopyWay::to_device ? "copying to the device" : "copying");
}

const char* synchronize(int device) {
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  if (spoils(device, "a wait for the device")) return "a wait for the device while recording";
  return text_of(cudaStreamSynchronize(queue_of(device)), "waiting for the device");
}

bool fault(int device, DeviceFault* to) {
  DeviceState& s = state(device);
  if (!s.found || s.found->code == 0) return false;
  *to = {s.found->call, s.found->code, s.found->axis, s.found->got, s.found->limit, s.found->what};
  s.found->code = 0;
  if (ready(device) == cudaSuccess) cudaMemsetAsync(&s.board->best, 0xff, sizeof s.board->best, s.stream);
  return true;
}

void describe(int device, char* text, size_t room) {
  const DeviceState& s = state(device);
  const cudaDeviceProp& p = s.properties;
  if (s.failed != cudaSuccess) {
    std::snprintf(text, room, "%s%s%s", p.name, *p.name ? ": " : "", text_of(s.failed, "setting up the device"));
    return;
  }
  int driver = 0;
  cudaDriverGetVersion(&driver);
  const int n = std::snprintf(text, room, "%s, %.0f GiB, compute capability %d.%d, driver for CUDA %d.%d, built with CUDA %d.%d", p.name,
                              double(p.totalGlobalMem) / 0x1p30, p.major, p.minor, driver / 1000, driver % 1000 / 10,
                              CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  std::string libraries;
  for (const char* refusal : {gemm_refusal(), cudnn_refusal()})
    if (refusal) libraries += std::string(", ") + refusal;
  std::snprintf(text + n, room - size_t(n), "%s, %s", libraries.c_str(), fusion_text().c_str());
}

/// Why device `i` is not for this library; empty where it is. Sets nothing up.
std::string unserved(int i) {
  int major = 0, minor = 0;
  cudaDeviceProp p{};
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, i);
  if (serves(architectures(), major * 100 + minor * 10)) return {};
  cudaGetDeviceProperties(&p, i);
  return std::string(p.name) + " has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
         ", and this build has kernels for " + names_of(architectures()) + " only (CMAKE_CUDA_ARCHITECTURES)";
}

/// How many devices there are, up to the first one that this build has no kernels for; where none, why.
int count_devices(const char** why) {
  static std::string text;
  int driver = 0, n = 0;
  cudaDriverGetVersion(&driver);
  const cudaError_t e = cudaGetDeviceCount(&n);
  if (e == cudaSuccess && n > 0) {
    int usable = 0;
    while (usable < std::min(n, kMaxDevices) && (text = unserved(usable)).empty()) ++usable;
    *why = text.c_str();
    return usable;
  }
  cudaGetLastError();
  const auto number = [](int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); };
  if (driver == 0)
    text = "no NVIDIA driver is installed";
  else if (e == cudaErrorInsufficientDriver)
    text = "the NVIDIA driver is too old: it serves CUDA " + number(driver) + ", and this build needs " + number(CUDART_VERSION);
  else if (e == cudaErrorNoDevice || e == cudaSuccess)
    text = "the driver sees no CUDA device (CUDA_VISIBLE_DEVICES may hide them)";
  else
    text = cudaGetErrorString(e);
  *why = text.c_str();
  return 0;
}

}  // namespace

cudaError_t ready(int device) {
  const DeviceState& s = state(device);
  if (s.failed != cudaSuccess) return s.failed;
  if (current == device) return cudaSuccess;
  const cudaError_t e = cudaSetDevice(device);
  current = e == cudaSuccess ? device : -1;
  return e;
}
void use(int device) { ready(device); }  // where it fails, so does the launch that follows
FaultBoard* faults_of(int device) { return state(device).board; }
Exchange* exchange_of(int device) { return state(device).exchange; }
cudaStream_t queue_of(int device) { return state(device).stream; }
int processors(int device) { return state(device).properties.multiProcessorCount; }
int arch_of(int device) { return state(device).properties.major * 10 + state(device).properties.minor; }

const char* text_of(cudaError_t e, const char* doing) {
  if (e == cudaSuccess) return nullptr;
  cudaGetLastError();
  error_text = std::string("CUDA: ") + cudaGetErrorString(e) + " (" + cudaGetErrorName(e) + ") while " + doing;
  return error_text.c_str();
}

const DeviceKernels& kernels();  // the list that the build makes; registration.cpp

}  // namespace cuda
}  // namespace keel

extern "C" __attribute__((visibility("default"))) const keel::DeviceDriver* keel_cuda_driver() {
  using namespace keel;
  static DeviceDriver d;
  static std::once_flag once;
  std::call_once(once, [] {
    d.build = build_id(), d.name = "cuda";
    d.count = cuda::count_devices(&d.refusal);
    d.allocate = cuda::allocate, d.free = cuda::release;
    d.copy = cuda::copy, d.copies = cuda::copies, d.synchronize = cuda::synchronize, d.fault = cuda::fault;
    d.pin = cuda::pin, d.unpin = cuda::unpin, d.upload = cuda::upload, d.join = cuda::join, d.await = cuda::await;
    d.fetch = cuda::fetch, d.collect = cuda::collect, d.collected = cuda::collected;
    d.record_begin = cuda::record_begin, d.record_end = cuda::record_end, d.piece = cuda::piece;
    d.replay = cuda::replay, d.forget = cuda::forget;
    d.stream = [](int device) -> void* { return cuda::stream_of(device); };
    d.memory = cuda::memory_of, d.reset_peak = cuda::reset_peak, d.set_limit = cuda::set_limit;
    d.release_cached = cuda::release_cached, d.memory_report = cuda::memory_report;
    d.describe = cuda::describe;
    d.kernels = &cuda::kernels(), d.fusion = cuda::fusion();
  });
  return &d;
}
