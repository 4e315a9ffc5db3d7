// Kernels of chains: source by fuse_source.cpp, machine code from the disk or, beside the program, from the run-time compiler. What was
// made stays until the program ends; recorded graphs refer to it.
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "backend/cuda/fuse_cache.h"
#include "backend/cuda/fuse_norm.h"
#include "backend/cuda/nvrtc_library.h"
#include "backend/cuda/runtime.h"

namespace keel::cuda {
namespace {

/// The kernels of one source.
struct Kernels {
  std::string key, source;
  int arch = 0;
  bool has_packs = false;
  std::atomic<bool> compiled{false};  // what follows is written before it
  std::vector<char> code;
  std::string refusal;
  // Under Workshop::loading.
  bool loaded = false;
  cudaLibrary_t library = nullptr;
  cudaKernel_t packs = nullptr, single = nullptr;
};
struct Chain {
  Kernels* kernels = nullptr;
  FuseSource source;
  std::unique_ptr<NormSum> norm;  // instead of both
};
thread_local std::string text;

/// One thread compiles, in the order of the requests.
struct Workshop {
  const NvrtcLibrary compiler{CUDART_VERSION};
  const std::string folder = fuse_cache_folder();
  std::mutex mutex, loading;
  std::condition_variable called;
  std::map<std::string, std::unique_ptr<Kernels>> all;
  std::deque<Kernels*> waiting;
  std::thread thread;
  bool stop = false;
  const pid_t process = getpid();

  bool same_compiler() const { return compiler.major * 1000 + compiler.minor * 10 == CUDART_VERSION / 10 * 10; }
  void work() {
    for (;;) {
      Kernels* k;
      {
        std::unique_lock lock(mutex);
        called.wait(lock, [&] { return stop || !waiting.empty(); });
        if (stop) return;
        k = waiting.front();
        waiting.pop_front();
      }
      k->code = compiler.compile(k->source, k->arch, k->refusal);
      if (k->code.empty()) {
        k->refusal = "the run-time compiler says: " + k->refusal.substr(0, k->refusal.find('\n'));
      } else {
        k->refusal.clear();
        keep_code(folder, k->key, k->code);
      }
      k->compiled.store(true, std::memory_order_release);
    }
  }
  void call(Kernels* k) {
    waiting.push_back(k);
    if (!thread.joinable()) {
      thread = std::thread([this] { work(); });
      // Before the compiler, which was opened earlier, takes itself down.
      std::atexit([] {
        Workshop& w = workshop();
        if (w.process != getpid()) return;  // forked: the thread stayed behind
        {
          const std::lock_guard lock(w.mutex);
          w.stop = true;
        }
        w.called.notify_one();
        w.thread.join();
      });
    }
    called.notify_one();
  }
  static Workshop& workshop() {
    static Workshop* const w = new Workshop;
    return *w;
  }
};

const char* takes(const FusedOp& o, const DType* in, const Shape& shape) {
  const char* refusal;
  if (begins_norm_sum(o, in, shape, &refusal)) return refusal;
  const Workshop& w = Workshop::workshop();
  return fuses(o, in, shape, w.same_compiler() || w.compiler.refusal);  // that there is none is said once, of the whole chain
}

const char* make(int device, const FusedProgram& p, void** made) {
  const char* refusal = nullptr;
  if (auto norm = p.n_ops ? norm_sum_of(p, &refusal) : nullptr) return *made = new Chain{nullptr, {}, std::move(norm)}, nullptr;
  if (refusal) return refusal;
  Workshop& w = Workshop::workshop();
  if (w.compiler.refusal) return w.compiler.refusal;
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  const int arch = arch_of(device);
  if (arch < 80) return "kernels of chains need compute capability 8.0";
  if (p.n_sources + p.n_results > kMostOperands) return "the chain has too many operands";
  auto chain = std::make_unique<Chain>(Chain{nullptr, fuse_source(p), nullptr});
  if (chain->source.words.size() > 500) return "the chain has too many operands";
  if ((chain->source.threads_of_single + chain->source.block - 1) / chain->source.block > INT32_MAX)
    return "the chain has too many elements";
  std::string key = "version " + std::to_string(w.compiler.major) + "." + std::to_string(w.compiler.minor) + "\n";
  for (const std::string& o : nvrtc_options(arch)) key += o + "\n";
  const FuseHeaders headers = fuse_headers();
  for (int i = 0; i < headers.count; ++i) key += headers.texts[i];
  key += chain->source.text;
  const std::lock_guard lock(w.mutex);
  std::unique_ptr<Kernels>& k = w.all[key];
  if (!k) {
    k = std::make_unique<Kernels>();
    k->key = key, k->source = chain->source.text, k->arch = arch, k->has_packs = chain->source.has_packs;
    k->code = cached_code(w.folder, key);
    if (k->code.empty())
      w.call(k.get());
    else
      k->compiled.store(true, std::memory_order_release);
  }
  chain->kernels = k.get();
  *made = chain.release();
  return nullptr;
}

const char* chain_ready(int device, void* made, bool* is) {
  if (static_cast<Chain*>(made)->norm) return *is = true, nullptr;
  Kernels& k = *static_cast<Chain*>(made)->kernels;
  *is = false;
  if (!k.compiled.load(std::memory_order_acquire)) return nullptr;
  const std::lock_guard lock(Workshop::workshop().loading);
  if (!k.loaded && k.refusal.empty()) {
    if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
    cudaError_t e = cudaLibraryLoadData(&k.library, k.code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
    if (e == cudaSuccess) e = cudaLibraryGetKernel(&k.single, k.library, "single");
    if (e == cudaSuccess && k.has_packs) e = cudaLibraryGetKernel(&k.packs, k.library, "packs");
    // The first launch loads: now, on no elements, not in the middle of a recording.
    std::vector<uint64_t> none(static_cast<Chain*>(made)->source.words.size());
    void* arguments[] = {none.data()};
    for (const cudaKernel_t kernel : {k.single, k.packs})
      if (e == cudaSuccess && kernel)
        e = cudaLaunchKernel(kernel, dim3(1), dim3(unsigned(static_cast<Chain*>(made)->source.block)), arguments, 0, queue_of(device));
    if (e != cudaSuccess) k.refusal = text_of(e, "loading the kernel of a chain");
    k.loaded = e == cudaSuccess;
  }
  if (!k.refusal.empty()) return text = k.refusal, text.c_str();
  *is = true;
  return nullptr;
}

const char* run(int device, void* made, const void* const* sources, void* const* results) {
  Chain& c = *static_cast<Chain*>(made);
  if (c.norm) return c.norm->run(device, sources, results);
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  bool packs = c.kernels->packs != nullptr;
  for (const FuseSource::Pointer& p : c.source.pointers) {
    const auto at = reinterpret_cast<uintptr_t>(p.result ? results[p.index] : sources[p.index]);
    c.source.words[size_t(p.word)] = at;
    packs = packs && (!p.align || at % uintptr_t(p.align) == 0);
  }
  const int64_t threads = packs ? c.source.threads_of_packs : c.source.threads_of_single;
  void* arguments[] = {c.source.words.data()};
  const auto blocks = unsigned((threads + c.source.block - 1) / c.source.block);
  return text_of(cudaLaunchKernel(packs ? c.kernels->packs : c.kernels->single, dim3(blocks), dim3(unsigned(c.source.block)), arguments, 0,
                                  stream_of(device)),
                 "starting the kernel of a chain");
}

void drop(int, void* made) { delete static_cast<Chain*>(made); }

}  // namespace

const DeviceFusion* fusion() {
  static constexpr DeviceFusion f{takes, make, chain_ready, run, drop};
  return &f;
}

std::string fusion_text() {
  const Workshop& w = Workshop::workshop();
  if (w.compiler.refusal) return std::string("no kernels of chains: ") + w.compiler.refusal;
  return "chains by NVRTC " + std::to_string(w.compiler.major) + "." + std::to_string(w.compiler.minor) +
         (w.same_compiler() ? "" : " (not the one of this build: exact functions only)");
}

}  // namespace keel::cuda
