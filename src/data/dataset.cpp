#include "keel/data/dataset.h"

#include <cmath>
#include <cstring>

#include "base/philox.h"
#include "core/impl.h"
#include "keel/error.h"
#include "keel/io/csv.h"
#include "keel/io/idx.h"
#include "keel/ops.h"

namespace keel::data {

double ExampleRandom::uniform() {
  const auto r = base::philox(low_++, high_, seed_);
  return double((uint64_t(r[0]) << 32 | r[1]) >> 11) * 0x1p-53;
}
int64_t ExampleRandom::integer(int64_t lo, int64_t hi) { return lo + int64_t(uniform() * double(hi - lo)); }
double ExampleRandom::normal() {
  const double u = 1 - uniform(), v = uniform();
  return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
}

namespace {

/// Copies rows `index` of a contiguous tensor.
Tensor take_rows(const Tensor& x, const Fetch& f) {
  Shape s = x.shape();
  s[0] = f.count;
  Tensor y = empty(s, {.dtype = x.dtype()});
  const size_t row = x.nbytes() / size_t(x.shape()[0] ? x.shape()[0] : 1);
  for (int64_t i = 0; i < f.count; ++i) std::memcpy(impl(y).data + size_t(i) * row, impl(x).data + size_t(f.index[i]) * row, row);
  return y;
}

}  // namespace

Batch Dataset::batch(const Fetch& f) const {
  for (int64_t i = 0; i < f.count; ++i)
    if (f.index[i] < 0 || f.index[i] >= size_)
      raise(Error(ErrorCode::index, "example " + std::to_string(f.index[i]) + " is out of range [0, " + std::to_string(size_ - 1) + "]").op("Dataset"));
  return fetch_(f);
}
Batch Dataset::operator[](int64_t i) const { return batch({&i, 1}); }

Dataset Dataset::from_tensors(const Tensor& x, const Tensor& y) {
  if (x.rank() == 0 || y.rank() == 0 || x.shape()[0] != y.shape()[0])
    raise(Error(ErrorCode::shape, "x and y must have the same first extent").op("Dataset").arg("x", to_string(impl(x).spec)).arg("y", to_string(impl(y).spec)).hint("row i of x belongs to row i of y"));
  const Tensor a = x.detach().contiguous(), b = y.detach().contiguous();
  return Dataset(x.shape()[0], [a, b](const Fetch& f) { return Batch{take_rows(a, f), take_rows(b, f)}; });
}

Dataset Dataset::from_function(int64_t size, Callback<Batch(int64_t)> example) {
  return Dataset(size, [example](const Fetch& f) {
    Tensors xs, ys;
    for (int64_t i = 0; i < f.count; ++i) {
      Batch b = example(f.index[i]);
      xs.push_back(std::move(b.x)), ys.push_back(std::move(b.y));
    }
    return Batch{stack(xs), stack(ys)};
  });
}

Dataset Dataset::map(Callback<Batch(Batch, const Fetch&)> g) const {
  return Dataset(size_, [inner = *this, g](const Fetch& f) { return g(inner.batch(f), f); });
}

Dataset Dataset::subset(std::vector<int64_t> index) const {
  const auto n = int64_t(index.size());
  return Dataset(n, [inner = *this, index = std::move(index)](const Fetch& f) {
    std::vector<int64_t> at;
    for (int64_t i = 0; i < f.count; ++i) at.push_back(index[size_t(f.index[i])]);
    return inner.batch({at.data(), f.count, f.seed, f.epoch});
  });
}

Dataset mnist(const std::string& folder, const MnistOptions& o) {
  const std::string stem = folder + (o.train ? "/train" : "/t10k");
  auto read = [&](const std::string& name) {
    Result<Tensor> packed = io::read_idx(name + ".gz");
    if (packed) return std::move(packed).value();
    Result<Tensor> plain = io::read_idx(name);
    if (plain) return std::move(plain).value();
    raise(Error(ErrorCode::io, packed.message()).op("mnist").hint("the folder holds the four IDX files, .gz or not; data::digits draws digits where there is no MNIST"));
  };
  const Tensor images = read(stem + "-images-idx3-ubyte"), labels = read(stem + "-labels-idx1-ubyte");
  if (images.dtype() != u8 || labels.dtype() != u8 || images.rank() != 3 || labels.rank() != 1 || images.shape()[0] != labels.shape()[0])
    raise(Error(ErrorCode::io, stem + ": images and labels do not belong together").op("mnist").arg("images", to_string(impl(images).spec)).arg("labels", to_string(impl(labels).spec)));
  const int64_t n = images.shape()[0], h = images.shape()[1], w = images.shape()[2];
  std::vector<float> value(256);
  for (int i = 0; i < 256; ++i) value[size_t(i)] = float((i / 255.0 - o.mean) / o.stddev);
  return Dataset(n, [images, labels, value, h, w](const Fetch& f) {
    Batch b{empty(Shape({f.count, 1, h, w}), {.dtype = f32}), empty(Shape({f.count}), {.dtype = i64})};
    float* x = b.x.data<float>();
    int64_t* y = b.y.data<int64_t>();
    const uint8_t *pixels = images.data<uint8_t>(), *label = labels.data<uint8_t>();
    const float* const of = value.data();
    constexpr int64_t kAhead = 4, kLine = 64;
    for (int64_t i = 0; i < f.count; ++i) {
      const uint8_t* p = pixels + f.index[i] * h * w;
      // Images in any order come from memory; those that follow are on their way meanwhile, which takes two thirds off the time.
      if (i + kAhead < f.count)
        for (int64_t k = 0; k < h * w; k += kLine) __builtin_prefetch(pixels + f.index[i + kAhead] * h * w + k);
      int64_t k = 0;
      for (; k + 8 <= h * w; k += 8, x += 8) {  // eight pixels a load
        uint64_t eight;
        std::memcpy(&eight, p + k, sizeof eight);
        for (int j = 0; j < 8; ++j) x[j] = of[eight >> 8 * j & 255];
      }
      for (; k < h * w; ++k) *x++ = of[p[k]];
      y[i] = label[f.index[i]];
    }
    return b;
  });
}

Dataset csv(const std::string& path, const CsvDatasetOptions& o) {
  auto table = io::read_csv(path, {.header = o.header});
  if (!table) raise(Error(ErrorCode::io, table.message()).op("csv"));
  auto numbers = table->numbers();
  if (!numbers) raise(Error(ErrorCode::io, path + ": " + numbers.message()).op("csv"));
  const int64_t rows = table->rows(), columns = rows ? table->columns() : 0, target = o.target < 0 ? o.target + columns : o.target;
  if (rows == 0 || target < 0 || target >= columns) raise(Error(ErrorCode::value, path + ": no column " + std::to_string(o.target) + " among " + std::to_string(columns)).op("csv"));
  Tensor x = empty(Shape({rows, columns - 1}), {.dtype = f32}), y = empty(Shape({rows}), {.dtype = o.classes ? i64 : f32});
  for (int64_t r = 0; r < rows; ++r) {
    int64_t k = 0;
    for (int64_t c = 0; c < columns; ++c) {
      const double v = (*numbers)[size_t(r * columns + c)];
      if (c != target) x.data<float>()[r * (columns - 1) + k++] = float(v);
      else if (o.classes) y.data<int64_t>()[r] = int64_t(v);
      else y.data<float>()[r] = float(v);
    }
  }
  return Dataset::from_tensors(x, y);
}

}  // namespace keel::data
