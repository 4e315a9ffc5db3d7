// f32 convolution of channels-last images against oneDNN (nhwc, its own weight layout), in turns: forward, gradient to the input, gradient
// to the weight. usage: conv [threads] [resnet18|resnet50|lenet|depthwise|all] [seconds a row] [images]; OMP_NUM_THREADS must equal
// threads.
#include "backend/cpu/conv/conv.h"

#include <cmath>
#include <cstring>
#include <string>
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>

#include "backend/cpu/isa.h"
#include "interleave.h"
#include "keel/parallel.h"

namespace {
struct Layer {
  const char* group;
  int64_t n, c, o, hw, k, s, p, count, groups = 1;
};
constexpr Layer kLayers[] = {{"lenet", 64, 1, 6, 28, 5, 1, 0, 1},
                             {"lenet", 64, 6, 16, 12, 5, 1, 0, 1},
                             {"resnet18", 32, 3, 64, 32, 3, 1, 1, 1},
                             {"resnet18", 32, 64, 64, 32, 3, 1, 1, 4},
                             {"resnet18", 32, 64, 128, 32, 3, 2, 1, 1},
                             {"resnet18", 32, 64, 128, 32, 1, 2, 0, 1},
                             {"resnet18", 32, 128, 128, 16, 3, 1, 1, 3},
                             {"resnet18", 32, 128, 256, 16, 3, 2, 1, 1},
                             {"resnet18", 32, 128, 256, 16, 1, 2, 0, 1},
                             {"resnet18", 32, 256, 256, 8, 3, 1, 1, 3},
                             {"resnet18", 32, 256, 512, 8, 3, 2, 1, 1},
                             {"resnet18", 32, 256, 512, 8, 1, 2, 0, 1},
                             {"resnet18", 32, 512, 512, 4, 3, 1, 1, 3},
                             {"resnet50", 8, 3, 64, 224, 7, 2, 3, 1},
                             {"resnet50", 8, 64, 64, 56, 3, 1, 1, 3},
                             {"resnet50", 8, 64, 256, 56, 1, 1, 0, 4},
                             {"resnet50", 8, 256, 64, 56, 1, 1, 0, 2},
                             {"resnet50", 8, 128, 128, 56, 3, 2, 1, 1},
                             {"resnet50", 8, 512, 128, 28, 1, 1, 0, 3},
                             {"resnet50", 8, 128, 128, 28, 3, 1, 1, 3},
                             {"resnet50", 8, 256, 256, 14, 3, 1, 1, 5},
                             {"resnet50", 8, 256, 1024, 14, 1, 1, 0, 6},
                             {"resnet50", 8, 512, 512, 14, 3, 2, 1, 1},
                             {"resnet50", 8, 512, 1024, 28, 1, 2, 0, 1},
                             {"resnet50", 8, 512, 512, 7, 3, 1, 1, 2},
                             {"depthwise", 8, 96, 96, 56, 3, 1, 1, 1, 96},
                             {"depthwise", 8, 384, 384, 14, 3, 1, 1, 1, 384},
                             {"depthwise", 8, 144, 144, 56, 5, 2, 2, 1, 144}};
}  // namespace

int main(int argc, char** argv) {
  using namespace dnnl;
  using namespace keel::cpu;
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const std::string which = argc > 2 ? argv[2] : "all";
  const double seconds = argc > 3 ? std::atof(argv[3]) : 0.4;
  const int64_t images = argc > 4 ? std::atoll(argv[4]) : 0;  // 0: each row's own
  keel::set_num_threads(threads);
  bench::one_thread = threads == 1;
  const auto report = describe_cpu();
  std::printf("# %s, isa %s, %d threads; GFLOP/s median keel / oneDNN, median ratio (10th to 90th percentile); above 1 keel is faster\n",
              report.model.c_str(), isa_name(report.isa), threads);
  engine eng(engine::kind::cpu, 0);
  stream str(eng);
  double total[2][3] = {};
  for (Layer l : kLayers) {
    if (images) l.n = images;
    if (which != "all" && which != l.group) continue;
    const int64_t o = (l.hw + 2 * l.p - l.k) / l.s + 1;
    const ConvShape s{l.n, l.c, l.hw, l.hw, l.o, o, o, l.k, l.k, l.s, l.s, l.p, l.p, 1, 1, l.groups};
    using tag = memory::format_tag;
    const auto f32 = memory::data_type::f32;
    const memory::dims ds{l.n, l.c, l.hw, l.hw},
        dw = l.groups == 1 ? memory::dims{l.o, l.c, l.k, l.k} : memory::dims{l.groups, l.o / l.groups, l.c / l.groups, l.k, l.k},
        dd{l.n, l.o, o, o}, st{l.s, l.s}, pd{l.p, l.p};
    const memory::desc ms(ds, f32, tag::nhwc), mw(dw, f32, tag::any), md(dd, f32, tag::nhwc),
        mw_plain(dw, f32, l.groups == 1 ? tag::oihw : tag::goihw);
    const auto alg = algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
    const auto f = convolution_forward::primitive_desc(eng, prop_kind::forward_training, alg, ms, mw, md, st, pd, pd);
    const auto bd = convolution_backward_data::primitive_desc(eng, alg, ms, mw, md, st, pd, pd, f);
    const auto bw = convolution_backward_weights::primitive_desc(eng, alg, ms, mw, md, st, pd, pd, f);
#else
    const auto f = convolution_forward::primitive_desc({prop_kind::forward_training, alg, ms, mw, md, st, pd, pd}, eng);
    const auto bd = convolution_backward_data::primitive_desc({alg, ms, mw, md, st, pd, pd}, eng, f);
    const auto bw = convolution_backward_weights::primitive_desc({alg, ms, mw, md, st, pd, pd}, eng, f);
#endif
    const size_t nx = size_t(l.n * l.c * l.hw * l.hw), nw = size_t(l.o * l.c / l.groups * l.k * l.k), ny = size_t(l.n * l.o * o * o);
    float *x = bench::floats(nx, 1), *w = bench::floats(nw, 2), *y = bench::floats(ny, 3), *y2 = bench::floats(ny, 4),
          *dx = bench::floats(nx, 5), *dx2 = bench::floats(nx, 6);
    float *grad = bench::floats(ny, 7), *dwp = bench::floats(nw, 8), *dw2 = bench::floats(nw, 9);
    memory X(ms, eng, x), Y(md, eng, y2), G(md, eng, grad), DX(ms, eng, dx2), W(mw_plain, eng, w), DW(mw_plain, eng, dw2);
    memory Wf(f.weights_desc(), eng), Wb(bd.weights_desc(), eng), DWb(bw.diff_weights_desc(), eng);
    reorder(W, Wf).execute(str, W, Wf), reorder(W, Wb).execute(str, W, Wb), str.wait();
    convolution_forward pf(f);
    convolution_backward_data pb(bd);
    convolution_backward_weights pw(bw);
    const std::unordered_map<int, memory> af{{DNNL_ARG_SRC, X}, {DNNL_ARG_WEIGHTS, Wf}, {DNNL_ARG_DST, Y}},
        ab{{DNNL_ARG_DIFF_SRC, DX}, {DNNL_ARG_WEIGHTS, Wb}, {DNNL_ARG_DIFF_DST, G}},
        aw{{DNNL_ARG_SRC, X}, {DNNL_ARG_DIFF_WEIGHTS, DWb}, {DNNL_ARG_DIFF_DST, G}};
    const double gf = 2e-9 * double(l.n * l.o * o * o) * double(l.c / l.groups * l.k * l.k);
    const int64_t bytes = std::max(
        {conv_forward_workspace(Elem::f32, s), conv_backward_input_workspace(Elem::f32, s), conv_backward_weight_workspace(Elem::f32, s)});
    void* space = std::aligned_alloc(4096, size_t(bytes + 4095) / 4096 * 4096);
    const bench::Result r[3] = {bench::interleave([&] { conv_forward(Elem::f32, s, x, w, nullptr, y, nullptr, space); },
                                                  [&] { pf.execute(str, af), str.wait(); }, seconds),
                                bench::interleave([&] { conv_backward_input(Elem::f32, s, grad, w, dx, nullptr, space); },
                                                  [&] { pb.execute(str, ab), str.wait(); }, seconds),
                                bench::interleave([&] { conv_backward_weight(Elem::f32, s, grad, x, dwp, nullptr, space); },
                                                  [&] { pw.execute(str, aw), str.wait(); }, seconds)};
    reorder(DWb, DW).execute(str, DWb, DW), str.wait();
    const auto wrong = [](const float* a, const float* b, size_t n, double k) {
      double most = 0;
      for (size_t i = 0; i < n; ++i) most = std::max(most, double(std::abs(a[i] - b[i])));
      return most > 1e-5 * std::sqrt(k) * 10 ? " WRONG" : "";
    };
    std::printf("%-8s %4ldx%-4ld @%-3ld k%ld s%ld b%-2ld x%ld", l.group, l.c, l.o, l.hw, l.k, l.s, l.n, l.count);
    const char* names[3] = {"fwd", "bwd_d", "bwd_w"};
    for (int i = 0; i < 3; ++i) {
      std::printf("  %s %6.1f / %6.1f %.2f (%.2f-%.2f)", names[i], gf / r[i].median[0], gf / r[i].median[1], r[i].ratio, r[i].low,
                  r[i].high);
      for (int j = 0; j < 2; ++j) total[j][i] += r[i].median[j] * double(l.count);
    }
    std::printf("%s%s%s\n", wrong(y, y2, ny, double(l.c * l.k * l.k)), wrong(dx, dx2, nx, double(l.o * l.k * l.k)),
                wrong(dwp, dw2, nw, double(l.n * o * o)));
    std::fflush(stdout);
    for (float* p : {x, w, y, y2, dx, dx2, grad, dwp, dw2}) std::free(p);
    std::free(space);
  }
  std::printf("total ms, weighted: fwd %.2f / %.2f  bwd_d %.2f / %.2f  bwd_w %.2f / %.2f\n", total[0][0] * 1e3, total[1][0] * 1e3,
              total[0][1] * 1e3, total[1][1] * 1e3, total[0][2] * 1e3, total[1][2] * 1e3);
}
