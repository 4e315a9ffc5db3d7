// What users get for their mistakes, word for word: tests/golden/errors.txt. After a change of texts run `KEEL_REGENERATE=1 keel_test_unit --gtest_filter='ErrorTexts.*'` and read the difference.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "keel/keel.h"
#include "temp_dir.h"

namespace keel {
namespace {

struct Mistake {
  const char* name;
  std::function<void(const TempDir&)> make;
};

struct Tower : nn::Module<Tower> {
  nn::Linear first{4, 8};
  nn::Sequential tail{nn::ReLU(), nn::Linear(9, 2)};
  static void fields(auto& m, auto&& f) { f("first", m.first)("tail", m.tail); }
  Tensor forward(const Tensor& x) const { return tail(first(x)); }
};

std::string with_header(std::string header) {  // a .npy file, version 1
  std::string file("\x93NUMPY\x01\x00", 8);
  file += char(header.size() & 255), file += char(header.size() >> 8);
  return file + header;
}

// Every entry names something that people do. Sorted by what they were doing.
const std::vector<Mistake>& mistakes() {
  static const std::vector<Mistake> all{
      // making tensors
      {"literal with rows of different length", [](auto&) { tensor({{1, 2, 3}, {4, 5}}); }},
      {"literal with a number where a row belongs", [](auto&) { tensor({{1, 2}, 3}); }},
      {"negative extent", [](auto&) { zeros({2, -3}); }},
      {"more elements than an address can count", [](auto&) { zeros({int64_t(1) << 40, int64_t(1) << 40}); }},
      {"nine axes", [](auto&) { zeros({1, 1, 1, 1, 1, 1, 1, 1, 1}); }},
      {"range with step 0", [](auto&) { arange(0, 10, 0); }},
      {"range to NaN", [](auto&) { arange(NAN); }},
      {"random integers from an empty range", [](auto&) { randint(5, 5, {3}); }},
      {"normal numbers of an integer dtype", [](auto&) { randn({3}, {.dtype = i32}); }},
      {"probability above 1", [](auto&) { dropout(ones({4}), {.p = 1.5}); }},
      {"gradient of integers", [](auto&) { zeros({3}, {.dtype = i64, .requires_grad = true}); }},
      {"unknown device", [](auto&) { zeros({3}, {.device = device("gpu0")}); }},
      {"device that is not there", [](auto&) { zeros({3}).to(device("cuda:1")); }},
      {"op on an empty handle", [](auto&) { relu(Tensor()); }},
      // shapes
      {"add: shapes do not broadcast", [](auto&) { zeros({2, 3}) + zeros({2, 4}); }},
      {"where: two axes differ", [](auto&) { where(zeros({2, 3, 4}) > 0, zeros({5, 4}), zeros({2, 3, 7})); }},
      {"matmul: inner extents", [](auto&) { matmul(zeros({3, 4}), zeros({5, 6})); }},
      {"matmul: forgotten transpose", [](auto&) { matmul(zeros({8, 128, 64}), zeros({8, 32, 64})); }},
      {"matmul: a number", [](auto&) { matmul(zeros({}), zeros({3, 3})); }},
      {"matmul: batches", [](auto&) { matmul(zeros({2, 3, 4}), zeros({5, 4, 6})); }},
      {"reshape: wrong count", [](auto&) { zeros({2, 3}).reshape({4, 2}); }},
      {"reshape: two unknown extents", [](auto&) { zeros({2, 3}).reshape({-1, -1}); }},
      {"reshape: does not divide", [](auto&) { zeros({2, 3}).reshape({-1, 4}); }},
      {"view of a transposed tensor", [](auto&) { zeros({2, 3}).transpose().view({6}); }},
      {"permute: too few axes", [](auto&) { zeros({2, 3, 4}).permute({1, 0}); }},
      {"permute: an axis twice", [](auto&) { zeros({2, 3, 4}).permute({1, 1, 0}); }},
      {"transpose of a vector", [](auto&) { zeros({5}).transpose(); }},
      {"expand of an axis that is longer", [](auto&) { zeros({2, 3}).expand({4, 3}); }},
      {"expand: more elements than an address can count", [](auto&) { zeros({1, 1}).expand({int64_t(1) << 40, int64_t(1) << 40}); }},
      {"flip: the same axis twice", [](auto&) { flip(zeros({2, 3}), {1, -1}); }},
      {"concat: another axis differs", [](auto&) { concat({zeros({2, 3}), zeros({2, 4})}, {.axis = 0}); }},
      {"concat: ranks differ", [](auto&) { concat({zeros({2, 3}), zeros({3})}, {.axis = 0}); }},
      {"stack: shapes differ", [](auto&) { stack({zeros({2}), zeros({3})}); }},
      {"split: sizes do not add up", [](auto&) { split(zeros({10}), {3, 3}); }},
      {"item of several elements", [](auto&) { tensor({1, 2, 3}).item(); }},
      {"TensorOf: rank", [](auto&) { TensorOf<float, 2> m = zeros({2, 3, 4}); }},
      {"TensorOf: dtype", [](auto&) { TensorOf<double, 2> m = zeros({2, 3}); }},
      {"shape taken apart with the wrong rank", [](auto&) { const auto [n, c] = zeros({2, 3, 4}).shape().as<2>(); (void)n, (void)c; }},
      // axes and indices
      {"sum: axis", [](auto&) { sum(zeros({2, 3}), {.axis = 2}); }},
      {"softmax: axis", [](auto&) { softmax(zeros({2, 3}), {.axis = 4}); }},
      {"sum: the same axis twice", [](auto&) { sum(zeros({2, 3}), {0, -2}); }},
      {"index beyond the end", [](auto&) { zeros({2, 3})[{0, 3}]; }},
      {"too many indices", [](auto&) { zeros({2, 3})[{0, 0, 0}]; }},
      {"index array beyond the end", [](auto&) { Tensor x = zeros({4, 3}), i = tensor({0, 9, 1}); Tensor y = x[i]; }},
      {"index array of floats", [](auto&) { Tensor x = zeros({4, 3}), i = tensor({0.0, 1.0}); Tensor y = x[i]; }},
      {"mask of the wrong length", [](auto&) { Tensor x = zeros({4, 3}), m = zeros({5}) > 0; Tensor y = x[m]; }},
      {"slice with step 0", [](auto&) { zeros({4})[{slice(0, 4, 0)}]; }},
      {"assignment that does not fit", [](auto&) { Tensor x = zeros({4, 3}); x[{0}] = zeros({2}); }},
      {"gather: rank", [](auto&) { gather(zeros({2, 3}), tensor({0, 1}), {.axis = 1}); }},
      {"topk: more than there are", [](auto&) { topk(zeros({3}), 5); }},
      // reductions of nothing
      {"max of nothing", [](auto&) { max(zeros({0})); }},
      {"argmax of nothing along an axis", [](auto&) { argmax(zeros({2, 0}), {.axis = 1}); }},
      // dtypes
      {"no common dtype", [](auto&) { zeros({2}, {.dtype = f8e4m3fn}) + zeros({2}, {.dtype = f8e5m2}); }},
      {"logic on floats", [](auto&) { zeros({2}) & zeros({2}); }},
      {"data<T> of another type", [](auto&) { Tensor x = zeros({2}); x.data<double>(); }},
      {"number beyond the dtype", [](auto&) { zeros({2}, {.dtype = u8}) + 300; }},
      {"element beyond the dtype", [](auto&) { Tensor x = zeros({2}, {.dtype = u8}); x[0] = -1; }},
      {"literal beyond the dtype", [](auto&) { tensor({1, 70000}, {.dtype = i16}); }},
      {"numbers where a mask belongs", [](auto&) { masked_fill(zeros({2}), zeros({2}), 1); }},
      {"in place with a wider dtype", [](auto&) { Tensor x = zeros({2}, {.dtype = i32}); x.add_(0.5); }},
      {"float embedding ids", [](auto&) { embedding(zeros({2}), zeros({10, 4})); }},
      // layers and losses
      {"linear: features", [](auto&) { linear(zeros({2, 5}), zeros({3, 4})); }},
      {"module called with wrong features", [](auto&) { Tower()(zeros({1, 5})); }},
      {"module inside a module", [](auto&) { Tower()(zeros({1, 4})); }},
      {"conv2d: an image without its batch axis", [](auto&) { nn::Conv2d(3, 8, {.kernel = 3})(zeros({3, 32, 32})); }},
      {"conv2d: channels", [](auto&) { nn::Conv2d(3, 8, {.kernel = 3})(zeros({1, 1, 32, 32})); }},
      {"conv2d: window larger than the image", [](auto&) { conv2d(zeros({1, 3, 4, 4}), zeros({8, 3, 7, 7})); }},
      {"Conv2d: groups do not divide", [](auto&) { nn::Conv2d(6, 8, {.kernel = 3, .groups = 4}); }},
      {"conv2d: groups do not divide", [](auto&) { conv2d(zeros({1, 6, 8, 8}), zeros({7, 3, 3, 3}), {.groups = 2}); }},
      {"max_pool2d: kernel 0", [](auto&) { max_pool2d(zeros({1, 1, 4, 4}), {.kernel = 0}); }},
      {"layer_norm: trailing axis", [](auto&) { nn::LayerNorm(8)(zeros({2, 7})); }},
      {"BatchNorm2d: channels", [](auto&) { nn::BatchNorm2d(4)(zeros({2, 3, 8, 8})); }},
      {"batch norm of one value", [](auto&) { nn::BatchNorm1d(4)(zeros({1, 4})); }},
      {"attention: heads of another width", [](auto&) { attention(zeros({1, 2, 4, 8}), zeros({1, 2, 4, 16}), zeros({1, 2, 4, 16})); }},
      {"MultiheadAttention: width and heads", [](auto&) { nn::MultiheadAttention(10, 4); }},
      {"cross_entropy: negative class", [](auto&) { cross_entropy(zeros({2, 3}), tensor({0, -1})); }},
      {"cross_entropy: class beyond the last", [](auto&) { cross_entropy(zeros({2, 3}), tensor({0, 3})); }},
      {"cross_entropy: target of the wrong shape", [](auto&) { cross_entropy(zeros({2, 3}), tensor({0, 1, 2})); }},
      {"cross_entropy: float classes", [](auto&) { cross_entropy(zeros({2, 3}), tensor({0.0, 1.0})); }},
      {"mse_loss: shapes", [](auto&) { mse_loss(zeros({4, 1}), zeros({4})); }},
      {"embedding: id beyond the table", [](auto&) { nn::Embedding(10, 4)(tensor({1, 10})); }},
      // gradients
      {"backward of a tensor without gradient", [](auto&) { zeros({}).backward(); }},
      {"backward of a vector", [](auto&) { (ones({3}, {.requires_grad = true}) * 2).backward(); }},
      {"backward twice", [](auto&) { Tensor y = sum(square(ones({3}, {.requires_grad = true}))); y.backward(), y.backward(); }},
      {"in place on a leaf", [](auto&) { ones({3}, {.requires_grad = true}).add_(1.0); }},
      {"in place on a saved tensor", [](auto&) { Tensor w = ones({3}, {.requires_grad = true}), h = w * 2, k = h * h; h.add_(1.0); sum(k).backward(); }},
      {"cotangent of another shape", [](auto&) { (ones({3}, {.requires_grad = true}) * 2).backward(ones({2})); }},
      {"gradient of an input that does not matter", [](auto&) { Tensor a = ones({2}, {.requires_grad = true}), b = ones({2}, {.requires_grad = true}); grad(sum(a * 2), {b}); }},
      {"requires_grad_ off on a result", [](auto&) { (ones({3}, {.requires_grad = true}) * 2).requires_grad_(false); }},
      {"function of one's own: gradient of another shape",
       [](auto&) {
         struct Wrong {
           static Tensor forward(FunctionContext&, const Tensor& x) { return x * 2; }
           static Tensors backward(FunctionContext&, const Tensor&) { return {ones({3})}; }
         };
         sum(apply<Wrong>(ones({2, 2}, {.requires_grad = true}))).backward();
       }},
      {"function of one's own: gradient of fewer axes",
       [](auto&) {
         struct Wrong {
           static Tensor forward(FunctionContext&, const Tensor& x) { return x * 2; }
           static Tensors backward(FunctionContext&, const Tensor& g) { return {sum(g)}; }
         };
         sum(apply<Wrong>(ones({2, 2}, {.requires_grad = true}))).backward();
       }},
      {"function of one's own: fewer gradients than inputs",
       [](auto&) {
         struct Wrong {
           static Tensor forward(FunctionContext&, const Tensor& x, const Tensor& y) { return x * y; }
           static Tensors backward(FunctionContext&, const Tensor& g) { return {g}; }
         };
         sum(apply<Wrong>(ones({2}, {.requires_grad = true}), ones({2}))).backward();
       }},
      {"function of one's own: a tensor that was not saved",
       [](auto&) {
         struct Wrong {
           static Tensor forward(FunctionContext& ctx, const Tensor& x) { return ctx.save(x), x * x; }
           static Tensors backward(FunctionContext& ctx, const Tensor& g) { return {g * ctx.saved(1)}; }
         };
         sum(apply<Wrong>(ones({2}, {.requires_grad = true}))).backward();
       }},
      {"function of one's own: nothing returned",
       [](auto&) {
         struct Wrong {
           static Tensor forward(FunctionContext&, const Tensor&) { return Tensor(); }
           static Tensors backward(FunctionContext&, const Tensor& g) { return {g}; }
         };
         apply<Wrong>(ones({2}, {.requires_grad = true}));
       }},
      {"checkpoint of a function that returns nothing", [](auto&) { checkpoint([](const Tensor&) { return Tensor(); }, ones({2}, {.requires_grad = true})); }},
      // optimisers and schedules
      {"optimiser without parameters", [](auto&) { optim::SGD(Tensors{}, {.lr = 0.1}); }},
      {"optimiser on a result", [](auto&) { optim::Adam({ones({3}, {.requires_grad = true}) * 2}); }},
      {"negative learning rate", [](auto&) { optim::Adam(Tower().parameters(), {.lr = -1}); }},
      {"betas out of range", [](auto&) { optim::AdamW(Tower().parameters(), {.betas = {0.9, 1.0}}); }},
      {"unknown setting", [](auto&) { Tower net; optim::Adam(net.parameters()).set(0, "momentum", 0.9); }},
      {"cosine without its length", [](auto&) { Tower net; optim::SGD opt(net.parameters(), {.lr = 0.1}); optim::CosineAnnealing(opt, {}); }},
      {"plateau without its measure", [](auto&) { Tower net; optim::SGD opt(net.parameters(), {.lr = 0.1}); optim::ReduceOnPlateau(opt, {}).step(); }},
      // states
      {"state_dict: missing, unexpected, mismatched",
       [](auto&) {
         StateDict s = Tower().state_dict();
         s.erase("tail.1.bias"), s.erase("first.weight"), s.set("first.weights", zeros({8, 4})), s.set("head.bias", zeros({2})), s.set("tail.1.weight", zeros({2, 8}));
         Tower().load_state_dict(s);
       }},
      {"Sequential: a module beyond the last", [](auto&) { Tower().tail[2]; }},
      {"ModuleList: a module of an empty list", [](auto&) { nn::ModuleList<nn::Linear>()[-1]; }},
      {"state_dict: an entry beyond the last", [](auto&) { Tower().state_dict().at(4); }},
      {"state_dict: no such name", [](auto&) { Tower().state_dict()["first.weights"]; }},
      // data
      {"batch size 0", [](auto&) { data::Loader(data::digits({.size = 4}), {.batch_size = 0}); }},
      {"x and y of different length", [](auto&) { data::Dataset::from_tensors(zeros({4, 2}), zeros({3})); }},
      {"negative weight of an example", [](auto&) { data::weighted({0.5, -1.0}, 4); }},
      {"MNIST that is not there", [](const TempDir& d) { data::mnist(d.path()); }},
      {"CSV with text in a column of numbers", [](const TempDir& d) { data::csv(d.put("table.csv", "1,2\n3,four\n")); }},
      {"character that the tokenizer does not know", [](auto&) { text::CharTokenizer("abc").encode("abd"); }},
      // files
      {"load: no such file", [](const TempDir& d) { load(d.file("nothing.safetensors")); }},
      {"load: a folder", [](const TempDir& d) { load(d.path()); }},
      {"load: an empty file", [](const TempDir& d) { load(d.put("empty.safetensors", "")); }},
      {"load: neither format", [](const TempDir& d) { load(d.put("model.txt", "this is a text, not a model, and long enough to be looked at")); }},
      {"load: truncated safetensors",
       [](const TempDir& d) {
         save(d.file("a.safetensors"), {{"weight", ones({64})}});
         std::stringstream all;
         all << std::ifstream(d.file("a.safetensors"), std::ios::binary).rdbuf();
         load(d.put("b.safetensors", all.str().substr(0, all.str().size() - 8)));
       }},
      {"load: truncated checkpoint",
       [](const TempDir& d) {
         save(d.file("a.keel"), {{"weight", ones({64})}});
         std::stringstream all;
         all << std::ifstream(d.file("a.keel"), std::ios::binary).rdbuf();
         load(d.put("b.keel", all.str().substr(0, all.str().size() - 8)));
       }},
      {"load: checkpoint with a changed byte",
       [](const TempDir& d) {
         save(d.file("a.keel"), {{"weight", ones({64})}});
         std::stringstream all;
         all << std::ifstream(d.file("a.keel"), std::ios::binary).rdbuf();
         std::string bytes = all.str();
         bytes[bytes.size() - 3] ^= 1;
         load(d.put("b.keel", bytes));
       }},
      {"load: npy with a bad header", [](const TempDir& d) { load(d.put("a.npy", with_header("{'descr': '<f4', 'fortran_order': maybe, 'shape': (2,), }\n"))); }},
      {"load: npy of objects", [](const TempDir& d) { load(d.put("a.npy", with_header("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n"))); }},
      {"load: npy with too few numbers", [](const TempDir& d) { load(d.put("a.npy", with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000,), }\n"))); }},
      {"save: unknown ending", [](const TempDir& d) { save(d.file("a.pt"), {{"weight", ones({2})}}); }},
      {"save: two tensors in one .npy", [](const TempDir& d) { save(d.file("a.npy"), {{"a", ones({2})}, {"b", ones({2})}}); }},
      {"save: into a folder that is not there", [](const TempDir& d) { save(d.file("no/such/a.keel"), {{"weight", ones({2})}}); }},
      {"resume without a checkpoint", [](const TempDir& d) { Tower net; optim::SGD opt(net.parameters(), {.lr = 0.1}); train::Trainer(net, opt, nn::CrossEntropyLoss()).resume(d.path()); }},
      {"resume from something else",
       [](const TempDir& d) { save(d.file("a.keel"), {{"weight", ones({2})}}); Tower net; optim::SGD opt(net.parameters(), {.lr = 0.1}); train::Trainer(net, opt, nn::CrossEntropyLoss()).resume(d.file("a.keel")); }},
      // memory
      {"more memory than the limit allows",
       [](auto&) {
         struct Limit {
           Limit() { release_cached_memory(), set_memory_limit(memory_stats().bytes_reserved + (1 << 20)); }
           ~Limit() { set_memory_limit(0); }
         } limit;
         zeros({1 << 22});
       }},
  };
  return all;
}

/// What is said about one mistake; the folder's name, and in a memory report all numbers, stand for themselves.
std::string said_about(const Mistake& m) {
  const TempDir dir;
  std::string text;
  try {
    m.make(dir);
    return "NO ERROR";
  } catch (const Error& e) {
    text = e.what();
  }
  for (size_t at; (at = text.find(dir.path())) != std::string::npos;) text.replace(at, dir.path().size(), "DIR");
  if (text.starts_with("MemoryError")) {
    std::string masked;
    for (char c : text)
      if (c < '0' || c > '9') masked += c;
      else if (masked.empty() || masked.back() != '#') masked += '#';
    text = masked;
    for (const char* size : {"#.# MiB", "#.# KiB", "# B"})  // how much is kept, hence its unit, depends on the allocator's build
      for (size_t at; (at = text.find(size)) != std::string::npos;) text.replace(at, std::strlen(size), "SIZE");
  }
  return text;
}

std::string golden_path() { return KEEL_GOLDEN "/errors.txt"; }

TEST(ErrorTexts, AreTheGoldenOnes) {
  manual_seed(0);  // a text may say where in the stream of random numbers it stood
  std::string all;
  if (device_count(DeviceType::cuda) > 0) GTEST_SKIP() << "the texts are those of a machine without a GPU";
  for (const Mistake& m : mistakes()) all += "== " + std::string(m.name) + "\n" + said_about(m) + "\n";
  if (std::getenv("KEEL_REGENERATE")) {
    std::ofstream(golden_path()) << all;
    return;
  }
  std::stringstream golden;
  golden << std::ifstream(golden_path()).rdbuf();
  std::stringstream want(golden.str()), got(all);
  std::string at, a, b;
  while (std::getline(want, a)) {
    if (a.starts_with("== ")) at = a;
    ASSERT_TRUE(std::getline(got, b)) << at;
    ASSERT_EQ(b, a) << at;
  }
  EXPECT_FALSE(std::getline(got, b)) << b;
}

TEST(ErrorTexts, SayWhatWhereAndHow) {
  EXPECT_GE(mistakes().size(), 100u);
  for (const Mistake& m : mistakes()) {
    const std::string text = said_about(m);
    EXPECT_NE(text.find("Error in "), std::string::npos) << m.name << "\n" << text;
    bool helps = text.starts_with("MemoryError") || text.starts_with("IOError");  // the file or the report says what to do
    for (std::string_view rule : {"hint: ", " must be ", " must have ", " must not ", "out of range [0, "}) helps |= text.find(rule) != std::string::npos;
    EXPECT_TRUE(helps) << m.name << "\n" << text;
    EXPECT_EQ(text.find("Error in : "), std::string::npos) << text;
    for (std::string_view ours : {"std::", "nullptr", "impl", "KEEL_ASSERT"}) EXPECT_EQ(text.find(ours), std::string::npos) << m.name << "\n" << text;
  }
}

}  // namespace
}  // namespace keel
