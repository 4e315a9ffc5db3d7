// f32 matrix products against oneDNN, in turns. usage: gemm [threads] [square|skinny|batch|all] [seconds a row]; OMP_NUM_THREADS must equal
// threads.
#include "backend/cpu/gemm/gemm.h"

#include <cmath>
#include <cstring>
#include <string>
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>

#include "backend/cpu/isa.h"
#include "interleave.h"
#include "keel/parallel.h"

namespace {
struct Shape {
  const char* group;
  int64_t m, n, k, batch;
  bool transposed;  // B lies as [n, k]
};
constexpr Shape kShapes[] = {{"square", 64, 64, 64, 1, 0},       {"square", 128, 128, 128, 1, 0},    {"square", 256, 256, 256, 1, 0},
                             {"square", 384, 384, 384, 1, 0},    {"square", 512, 512, 512, 1, 0},    {"square", 768, 768, 768, 1, 0},
                             {"square", 1024, 1024, 1024, 1, 0}, {"square", 2048, 2048, 2048, 1, 0}, {"square", 4096, 4096, 4096, 1, 0},
                             {"skinny", 1, 4096, 4096, 1, 1},    {"skinny", 2, 4096, 4096, 1, 1},    {"skinny", 4, 4096, 4096, 1, 1},
                             {"skinny", 8, 4096, 4096, 1, 1},    {"skinny", 16, 4096, 4096, 1, 1},   {"skinny", 32, 4096, 4096, 1, 1},
                             {"skinny", 128, 4096, 4096, 1, 1},  {"skinny", 1, 4096, 4096, 1, 0},    {"skinny", 4, 4096, 4096, 1, 0},
                             {"skinny", 8, 4096, 4096, 1, 0},    {"skinny", 32, 4096, 4096, 1, 0},   {"skinny", 4096, 1, 4096, 1, 0},
                             {"skinny", 4096, 64, 4096, 1, 0},   {"skinny", 512, 5632, 2048, 1, 1},  {"skinny", 512, 512, 64, 1, 1},
                             {"small", 64, 128, 784, 1, 1},      {"small", 64, 10, 128, 1, 1},       {"small", 64, 784, 128, 1, 0},
                             {"small", 32, 64, 64, 1, 1},        {"small", 768, 384, 128, 1, 1},     {"small", 768, 128, 512, 1, 1},
                             {"small", 768, 65, 128, 1, 1},      {"batch", 16, 16, 16, 256, 0},      {"batch", 32, 32, 32, 256, 0},
                             {"batch", 64, 64, 64, 128, 0},      {"batch", 128, 128, 64, 64, 1},     {"batch", 64, 64, 32, 48, 1},
                             {"batch", 512, 512, 64, 16, 1}};
}  // namespace

int main(int argc, char** argv) {
  using namespace dnnl;
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const std::string which = argc > 2 ? argv[2] : "all";
  const double seconds = argc > 3 ? std::atof(argv[3]) : 0.6;
  keel::set_num_threads(threads);
  bench::one_thread = threads == 1;
  const auto report = keel::cpu::describe_cpu();
  std::printf("# %s, isa %s, %d threads; GFLOP/s best (median); ratio > 1: keel faster\n", report.model.c_str(),
              keel::cpu::isa_name(report.isa), threads);
  engine eng(engine::kind::cpu, 0);
  stream str(eng);
  for (const Shape& s : kShapes) {
    if (which != "all" && which != s.group) continue;
    const size_t na = size_t(s.batch * s.m * s.k), nb = size_t(s.batch * s.k * s.n), nc = size_t(s.batch * s.m * s.n);
    float *a = bench::floats(na, 1), *b = bench::floats(nb, 2), *c = bench::floats(nc), *c2 = bench::floats(nc);
    using tag = memory::format_tag;
    const bool bt = s.batch > 1;
    memory::dims da{s.m, s.k}, db{s.k, s.n}, dc{s.m, s.n};
    if (bt) da = {s.batch, s.m, s.k}, db = {s.batch, s.k, s.n}, dc = {s.batch, s.m, s.n};
    const auto f32 = memory::data_type::f32;
    memory::desc ma(da, f32, bt ? tag::abc : tag::ab), mc(dc, f32, bt ? tag::abc : tag::ab);
    memory::desc plain(db, f32, bt ? (s.transposed ? tag::acb : tag::abc) : (s.transposed ? tag::ba : tag::ab)),
        any(db, f32, bt ? (s.transposed ? tag::acb : tag::abc) : tag::any);
    const auto make = [&](const memory::desc& mb) {
#if DNNL_VERSION_MAJOR >= 3
      return matmul::primitive_desc(eng, ma, mb, mc);
#else
      return matmul::primitive_desc(matmul::desc(ma, mb, mc), eng);
#endif
    };
    const auto pd = make(any), pd_plain = make(plain);
    memory A(ma, eng, a), B(pd.weights_desc(), eng), Bp(plain, eng, b), C(mc, eng, c2);
    reorder(Bp, B).execute(str, Bp, B);
    str.wait();
    matmul packed(pd), unpacked(pd_plain);
    const std::unordered_map<int, memory> args{{DNNL_ARG_SRC, A}, {DNNL_ARG_WEIGHTS, B}, {DNNL_ARG_DST, C}},
        args_plain{{DNNL_ARG_SRC, A}, {DNNL_ARG_WEIGHTS, Bp}, {DNNL_ARG_DST, C}};

    keel::cpu::GemmArgs g;
    g.m = s.m, g.n = s.n, g.k = s.k, g.a = a, g.a_rs = s.k, g.b = b, g.c = c, g.ldc = s.n;
    if (s.transposed)
      g.b_rs = 1, g.b_cs = s.k;
    else
      g.b_rs = s.n;
    if (bt) g.batch_rank = 1, g.batch[0] = s.batch, g.a_bs[0] = s.m * s.k, g.b_bs[0] = s.k * s.n, g.c_bs[0] = s.m * s.n;
    const int64_t bytes = keel::cpu::gemm_workspace_bytes(g);
    void* w = std::malloc(size_t(bytes));
    const auto ours = [&] { keel::cpu::gemm(g, w, bytes); };
    const double gf = 2e-9 * double(s.m * s.n * s.k * s.batch);
    const auto r = bench::interleave(
        ours, [&] { packed.execute(str, args), str.wait(); }, seconds);
    double worst = 0;
    for (size_t i = 0; i < nc; ++i) worst = std::max(worst, double(std::abs(c[i] - c2[i])));
    std::printf("%-7s %5ldx%5ldx%5ld%s b%-3ld keel %6.1f (%6.1f)  dnnl packed %6.1f (%6.1f) ratio %.3f", s.group, s.m, s.n, s.k,
                s.transposed ? "t" : " ", s.batch, gf / r.best[0], gf / r.median[0], gf / r.best[1], gf / r.median[1], r.ratio);
    if (!bt) {
      const auto q = bench::interleave(
          ours, [&] { unpacked.execute(str, args_plain), str.wait(); }, seconds / 2);
      std::printf("  dnnl plain %6.1f ratio %.3f", gf / q.best[1], q.ratio);
      void* packed_b = std::malloc(size_t(keel::cpu::gemm_packed_b_bytes(g.in, s.k, s.n)));
      keel::cpu::gemm_pack_b(g.in, s.k, s.n, b, g.b_rs, g.b_cs, packed_b);
      g.packed_b = packed_b;
      const auto u = bench::interleave(
          ours, [&] { packed.execute(str, args), str.wait(); }, seconds / 2);
      std::printf("  keel packed %6.1f ratio %.3f", gf / u.best[0], u.ratio);
      std::free(packed_b);
    }
    std::printf("%s\n", worst > 1e-4 * std::sqrt(double(s.k)) ? "  WRONG" : "");
    std::fflush(stdout);
    std::free(w), std::free(a), std::free(b), std::free(c), std::free(c2);
  }
}
