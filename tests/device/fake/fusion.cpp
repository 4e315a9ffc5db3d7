// Chains on the fake device, where KEEL_FAKE_KERNELS is set: each op of a program by the CPU's kernel for it, on dense copies of its
// operands. What a result overwrites is read before.
#include "device/fake/fusion.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "backend/device_fusion.h"
#include "core/device_driver.h"
#include "device/fake/queue.h"
#include "op/scope.h"

namespace keel {

int fake_fusion_delay = 0;
int64_t fake_fusion_runs = 0;

namespace {

const KernelEntry* kernel_of(const FusedOp& o, const DType* in, const Shape& shape) {
  const OpDef* op = registry().find(o.op);
  if (!op) return nullptr;
  std::vector<Spec> specs;
  std::vector<const Spec*> list;
  for (int i = 0; i < o.n_in; ++i) specs.push_back({in[i], shape});
  for (const Spec& s : specs) list.push_back(&s);
  for (const KernelEntry* k = cpu_kernels().first(*op); k; k = k->next)
    if (contains(k->dtypes, in[0]) && !(k->refuses && k->refuses(o.params, Specs(list.data(), int(list.size()))))) return k;
  return nullptr;
}

struct Program {
  struct Op {
    const char* name;
    const KernelEntry* kernel;
    std::vector<std::byte> params;
    DType dtype;
    std::vector<FusedSlot> in;
    int outputs;
  };
  struct Source {
    DType dtype;
    bool number;
    std::byte value[16];
    Strides strides;
  };
  Shape shape;
  std::vector<Source> sources;
  std::vector<Op> ops;
  std::vector<FusedResult> results;
  int asked = 0;

  DType dtype_of(FusedSlot s) const {
    return size_t(s) < sources.size() ? sources[size_t(s)].dtype : ops[size_t(s) - sources.size()].dtype;
  }
  template <class F>
  void each(const Strides& st, F f) const {
    each_of(shape, st, f);
  }
  /// Along an axis of extent 1 the results of a row lie.
  Shape row_shape() const {
    Shape s = shape;
    s[-1] = 1;
    return s;
  }
  template <class F>
  static void each_of(const Shape& shape, const Strides& st, F f) {
    for (int64_t i = 0; i < shape.numel(); ++i) {
      int64_t rest = i, at = 0;
      for (int k = shape.rank() - 1; k >= 0; --k) at += rest % shape[k] * st[k], rest /= shape[k];
      f(i, at);
    }
  }
  void run(const std::vector<char*>& from, const std::vector<char*>& to) const {
    const auto n = size_t(shape.numel());
    const Strides dense = contiguous_strides(shape), none;
    const Shape scalar;
    std::vector<std::vector<char>> data;
    std::vector<TensorView> views;
    for (size_t i = 0; i < sources.size(); ++i) {
      const Source& s = sources[i];
      const size_t size = size_of(s.dtype);
      data.emplace_back(size * (s.number ? 1 : n) + 64);
      char* const to_here = data.back().data();
      if (s.number)
        std::memcpy(to_here, s.value, size);
      else
        each(s.strides, [&](int64_t k, int64_t at) { std::memcpy(to_here + size_t(k) * size, from[i] + at * int64_t(size), size); });
      views.push_back({to_here, s.dtype, s.number ? &scalar : &shape, s.number ? &none : &dense, true});
    }
    const Shape line = shape.rank() ? Shape({shape[-1]}) : Shape(), row = shape.rank() ? row_shape() : Shape();
    const Strides step = contiguous_strides(line), row_dense = contiguous_strides(row);
    std::map<std::pair<FusedSlot, int>, TensorView> parts;
    for (const Op& o : ops) {
      data.emplace_back(size_of(o.dtype) * n + 64);
      char* const mine = data.back().data();
      std::vector<TensorView> in, out;
      for (const FusedSlot s : o.in) in.push_back(views[size_t(s)]);
      const std::string_view op = o.name;
      const bool backward = op == "layer_norm_backward" || op == "rms_norm_backward";
      const size_t by_row = op == "layer_norm_backward" ? 4 : op == "rms_norm_backward" ? 3 : 1;  // operands 2 ... are one element a row
      for (size_t i = 1; i < in.size() && o.outputs > 1; ++i) {
        if (i >= by_row) {
          in[i].shape_ = &line, in[i].strides_ = &step;  // one row for all: the first is it
        } else if (i >= 2) {
          const size_t size = size_of(in[i].dtype);
          data.emplace_back(size_t(row.numel()) * size + 64);
          for (int64_t r = 0; r < row.numel(); ++r)
            std::memcpy(data.back().data() + size_t(r) * size, static_cast<char*>(in[i].data) + size_t(r * shape[-1]) * size, size);
          in[i] = {data.back().data(), in[i].dtype, &row, &row_dense, true};
        }
      }
      const auto slot = FusedSlot(views.size());
      views.push_back({mine, o.dtype, &shape, &dense, true});
      out.push_back(views.back());
      for (int i = 1; i < o.outputs; ++i) {
        data.emplace_back(size_t(row.numel() + line.numel()) * 8 + 64);
        if (backward)
          out.push_back({data.back().data(), o.dtype, &line, &step, true});
        else
          out.push_back({data.back().data(), accumulate_dtype(o.dtype), &row, &row_dense, true});
        parts[{slot, i}] = out.back();
      }
      KernelArgs a;
      a.params = o.params.data(), a.in = in.data(), a.out = out.data(), a.n_in = int(in.size()), a.n_out = int(out.size());
      const size_t room = o.kernel->workspace ? o.kernel->workspace(a) : 0;
      std::vector<std::byte> workspace(room + 64);
      a.workspace = workspace.data();
      if (o.kernel->run(a).code) std::abort();
    }
    for (size_t i = 0; i < results.size(); ++i) {
      const int part = results[i].part;
      const TensorView& v = part ? parts.at({results[i].slot, part}) : views[size_t(results[i].slot)];
      const size_t size = size_of(v.dtype);
      const bool one = v.rank() == 0;
      each_of(part ? v.shape() : shape, results[i].strides, [&](int64_t k, int64_t at) {
        std::memcpy(to[i] + at * int64_t(size), static_cast<const char*>(v.data) + (one ? 0 : size_t(k) * size), size);
      });
    }
    ++fake_fusion_runs;
  }
};
using Handle = std::shared_ptr<Program>;

const char* takes(const FusedOp& o, const DType* in, const Shape& shape) {
  return kernel_of(o, in, shape) ? nullptr : "there is no kernel";
}
const char* make(int, const FusedProgram& p, void** made) {
  auto mine = std::make_shared<Program>();
  mine->shape = p.shape;
  for (int i = 0; i < p.n_sources; ++i) {
    Program::Source s{p.sources[i].dtype, p.sources[i].number != nullptr, {}, p.sources[i].strides};
    if (s.number) std::memcpy(s.value, p.sources[i].number, size_of(s.dtype));
    mine->sources.push_back(s);
  }
  for (int i = 0; i < p.n_ops; ++i) {
    const FusedOp& o = p.ops[i];
    DType in[FusedOp::kMostInputs] = {};
    for (int k = 0; k < o.n_in; ++k) in[k] = p.dtype_of(o.in[k]);
    const auto* params = static_cast<const std::byte*>(o.params);
    mine->ops.push_back({registry().find(o.op)->name,
                         kernel_of(o, in, p.shape),
                         {params, params + registry().find(o.op)->params.size},
                         o.dtype,
                         {o.in, o.in + o.n_in},
                         int(registry().find(o.op)->out.size())});
  }
  mine->results.assign(p.results, p.results + p.n_results);
  *made = new Handle(std::move(mine));
  return nullptr;
}
const char* ready(int, void* made, bool* is) {
  if (fake_fusion_delay < 0) return "the test refuses it";
  *is = (*static_cast<Handle*>(made))->asked++ >= fake_fusion_delay;
  return nullptr;
}
const char* run(int device, void* made, const void* const* sources, void* const* results) {
  const FakeQueue& q = *static_cast<FakeQueue*>(driver_of({DeviceType::webgpu, uint8_t(device)}).stream(device));
  struct Call {
    Handle program;
    std::vector<char*> from, to;
  };
  auto* call = new Call{*static_cast<Handle*>(made), {}, {}};
  for (size_t i = 0; i < call->program->sources.size(); ++i)
    call->from.push_back(call->program->sources[i].number ? nullptr : static_cast<char*>(q.open(const_cast<void*>(sources[i]))));
  for (size_t i = 0; i < call->program->results.size(); ++i) call->to.push_back(static_cast<char*>(q.open(results[i])));
  const auto go = [](void* p) {
    const Call& c = *static_cast<Call*>(p);
    c.program->run(c.from, c.to);
  };
  const auto drop = [](void* p) { delete static_cast<Call*>(p); };
  if (q.recording()) return q.keep(go, drop, call), nullptr;
  go(call), drop(call);
  return nullptr;
}
void forget(int, void* made) { delete static_cast<Handle*>(made); }

class FakeFusion : public ::testing::Environment {
  void SetUp() override {
    if (!std::getenv("KEEL_FAKE_KERNELS")) return;
    const DeviceDriver* driver = device_driver(DeviceType::webgpu);
    if (!driver) return;
    static constexpr DeviceFusion fusion{takes, make, ready, run, forget};
    const_cast<DeviceDriver*>(driver)->fusion = &fusion;
  }
};
[[maybe_unused]] const auto* const added = ::testing::AddGlobalTestEnvironment(new FakeFusion);

}  // namespace
}  // namespace keel
