// Tensors in files: safetensors, checkpoints, npy and npz, IDX; load and save.
#include <gtest/gtest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "io/bytes.h"
#include "keel/error.h"
#include "keel/io.h"
#include "keel/numerics/types.h"
#include "keel/ops.h"
#include "keel/tensor.h"
#include "sanitized.h"
#include "temp_dir.h"
#include "test_data.h"

namespace keel::io {
namespace {

constexpr DType kAll[] = {DType::boolean, u8,     u16, u32,  u64, i8,  i16,       i32,       i64,
                          f8e4m3fn,       f8e5m2, f16, bf16, f32, f64, complex64, complex128};

// A tensor of any dtype with distinct valid bytes.
Tensor sample(DType t, const Shape& s) {
  Tensor x = empty(s, {.dtype = t});
  auto* p = static_cast<uint8_t*>(x.raw_data());
  for (size_t i = 0; i < x.nbytes(); ++i) p[i] = static_cast<uint8_t>(t == DType::boolean ? i % 2 : i * 7 + 1);
  return x;
}
std::string raw(const Tensor& x) {
  const Tensor c = x.contiguous();
  return std::string(static_cast<const char*>(c.raw_data()), c.nbytes());
}
void expect_same(const Tensor& a, const Tensor& b) {
  ASSERT_TRUE(a.defined() && b.defined());
  EXPECT_EQ(a.dtype(), b.dtype());
  EXPECT_EQ(a.shape(), b.shape());
  EXPECT_TRUE(a.nbytes() == 0 || raw(a) == raw(b));
}
bool same_values(const Tensor& a, const Tensor& b) { return a.shape() == b.shape() && raw(a.astype(f64)) == raw(b.astype(f64)); }
StateDict zoo(bool complex_too = true) {
  StateDict d;
  for (const DType t : kAll)
    if (t != complex128 || complex_too) d.set(std::string("w.") + name_of(t), sample(t, {2, 3}));
  d.set("scalar", sample(f32, {}));
  d.set("nothing", sample(f64, {0, 4}));
  d.set("strided", sample(i32, {3, 4}).transpose());
  return d;
}
void expect_same(const StateDict& a, const StateDict& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, t] : a) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(b.contains(name));
    expect_same(t, b[name]);
  }
}

TEST(Safetensors, Corpus) {
  SKIP_WITHOUT_DATA();
  const std::string dir = data_dir() + "/safetensors-corpus/";
  std::istringstream manifest(slurp(dir + "MANIFEST.tsv"));
  int good = 0, bad = 0, exact = 0;
  for (std::string line; std::getline(manifest, line);) {
    std::istringstream in(line);
    std::string kind, file;
    in >> kind >> file;
    if (kind != "good" && kind != "bad") continue;
    SCOPED_TRACE(line);
    const auto r = read_safetensors(dir + file);
    EXPECT_EQ(r.ok(), kind == "good") << r.message();
    const std::string content = slurp(dir + file);
    EXPECT_EQ(parse_safetensors(content).ok(), kind == "good");
    if (kind == "bad") {
      ++bad;
      EXPECT_EQ(r.message().find(dir + file + ": "), 0u);
      EXPECT_LT(r.message().size(), dir.size() + 300);
      EXPECT_EQ(r.message().find('\n'), std::string::npos);
      EXPECT_THROW(load(dir + file), Error);
      continue;
    }
    ++good;
    if (line.find("byte-exact") == std::string::npos) continue;
    ++exact;
    const auto again = to_safetensors(r->tensors, r->metadata);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(*again, content);
  }
  EXPECT_EQ(good, 10);
  EXPECT_EQ(bad, 12);
  EXPECT_EQ(exact, 4);
}

std::string with_header(const std::string& json, size_t data) {
  std::string s;
  append_le<uint64_t>(s, json.size());
  return s + json + std::string(data, '\1');
}

TEST(Safetensors, RefusalsSayWhatIsWrong) {
  const auto why = [](const std::string& json, size_t data = 0) { return parse_safetensors(with_header(json, data)).message(); };
  EXPECT_EQ(why(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})", 16),
            "header is not valid JSON: a key appears twice in the object that ends at line 1, column 108");
  EXPECT_EQ(why(R"({"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", 8), "tensor 'a' has no known dtype: 'F33'");
  EXPECT_EQ(why(R"({"a\n":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), "tensor 'a\\x0a' has no valid shape");
  EXPECT_EQ(why(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8), "tensor 'a' has no valid shape");
  EXPECT_EQ(why(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), "tensor 'a' has no valid data_offsets");
  EXPECT_EQ(why(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 8),
            "tensor 'a' needs 8 bytes by its shape and dtype, its data_offsets span 4");
  EXPECT_EQ(why(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12),
            "tensor 'a' begins at byte 4 of the data, the one before ends at 0");
  EXPECT_EQ(why(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3), "tensors hold 2 bytes, the file has 3 after its header");
  EXPECT_EQ(why(R"({"__metadata__":{"a":1}})"), "__metadata__ 'a' is no text");
  EXPECT_EQ(why("[]"), "header is no JSON object");
  EXPECT_EQ(why(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1), "tensor 'a' has 9 axes, more than 8");
  EXPECT_EQ(why(R"({"a":{"dtype":"U8","shape":[0,9000000000000000000,9],"data_offsets":[0,0]}})"), "tensor 'a' has a shape that overflows");
  EXPECT_EQ(why(R"({"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", 2), "");
  std::string bad = with_header(R"({"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", 2);
  bad.back() = 2;
  EXPECT_EQ(parse_safetensors(bad).message(), "tensor 'a' has a bool that is neither 0 nor 1");
}

TEST(Safetensors, PackedDtypesBecomeBytes) {
  const auto r = parse_safetensors(with_header(
      R"({"a":{"dtype":"F4","shape":[3,4],"data_offsets":[0,6]},"b":{"dtype":"F8_E8M0","shape":[],"data_offsets":[6,7]},)"
      R"("c":{"dtype":"F4","shape":[2,3],"data_offsets":[7,10]}})",
      10));
  ASSERT_TRUE(r.ok()) << r.message();
  EXPECT_EQ(r->tensors["a"].shape(), Shape({3, 2}));
  EXPECT_EQ(r->tensors["a"].dtype(), u8);
  EXPECT_EQ(r->tensors["b"].size(), 1);
  EXPECT_EQ(r->tensors["c"].shape(), Shape({3}));
  EXPECT_EQ(r->entries[0].dtype, "F4");
}

TEST(Safetensors, MapsWithoutCopying) {
  const TempDir dir;
  const std::string path = dir.file("a.safetensors");
  const StateDict state = zoo(false);
  ASSERT_TRUE(write_safetensors(path, state, {{"b", "2"}, {"a", "1"}}).ok());
  StateDict back;
  {
    const auto r = read_safetensors(path);
    ASSERT_TRUE(r.ok()) << r.message();
    EXPECT_EQ(r->metadata, (Metadata{{"a", "1"}, {"b", "2"}}));
    back = r->tensors;
  }
  std::filesystem::remove(path);  // the mapping holds the bytes
  expect_same(state, back);
  EXPECT_THROW(back["w.f32"].fill_(1.0), Error);  // read-only
  Tensor copy = back["w.f32"].clone();
  copy.fill_(1.0);
  EXPECT_EQ(copy.data<float>()[5], 1.0f);
  EXPECT_EQ(write_safetensors(path, zoo(true)).message(),
            "cannot write " + path + ": tensor 'w.complex128' has dtype complex128, which safetensors cannot hold");
  EXPECT_FALSE(std::filesystem::exists(path));
}

constexpr const char* kSafetensorsPeer = R"PY(
import sys
try:
    import torch
    from safetensors.torch import load_file, save
except ImportError:
    sys.exit(77)
d = sys.argv[1]
x = load_file(d + "/ours.safetensors")
assert x["strided"].shape == (4, 3) and x["scalar"].shape == () and x["nothing"].shape == (0, 4)
assert x["w.bf16"].dtype == torch.bfloat16 and x["w.f8e4m3fn"].dtype == torch.float8_e4m3fn
for metadata in (None, {"format": "pt"}):
    open(d + ("/theirs2" if metadata else "/theirs"), "wb").write(save({k: v.contiguous() for k, v in x.items()}, metadata))
)PY";
TEST(Safetensors, SameBytesAsTheReferenceWriter) {
  const TempDir dir;
  ASSERT_TRUE(write_safetensors(dir.file("ours.safetensors"), zoo(false)).ok());
  const int rc = run_python(dir, kSafetensorsPeer, dir.path());
  if (rc == 77) GTEST_SKIP() << "needs python3 with torch and safetensors";
  ASSERT_EQ(rc, 0);
  EXPECT_EQ(slurp(dir.file("ours.safetensors")), slurp(dir.file("theirs")));
  EXPECT_EQ(*to_safetensors(zoo(false), {{"format", "pt"}}), slurp(dir.file("theirs2")));
}

TEST(Safetensors, ForeignWeights) {
  SKIP_WITHOUT_DATA();
  const auto r = read_safetensors(data_dir() + "/burn-mnist/mnist.safetensors");
  ASSERT_TRUE(r.ok()) << r.message();
  EXPECT_GT(r->tensors.size(), 4);
  const auto logits = read_npy(data_dir() + "/burn-mnist/t10k_logprobs_safetensors_torch1.13.npy");
  ASSERT_TRUE(logits.ok()) << logits.message();
  EXPECT_EQ(logits->shape(), Shape({10000, 10}));
}

// A small address space and little time, for files that claim much.
TEST(Safetensors, HostileHeadersCostLittle) {
  const pid_t child = fork();
  if (child == 0) {
    size_t pages = 0;  // that this process has already
    std::istringstream(slurp("/proc/self/statm")) >> pages;
    const size_t most = pages * 4096 + (size_t(800) << 20), n = kSanitized ? 1'000'000 : 60'000'000;
    const rlimit limit{most, most};
    if (!kSanitized) setrlimit(RLIMIT_AS, &limit);
    std::string many = "{\"a\":[";
    while (many.size() < n) many += "0,";
    bool refused = !parse_safetensors(with_header(many + "0]}", 0)).ok();
    refused &= !parse_safetensors(with_header(std::string(n, '['), 0)).ok();
    refused &= !parse_safetensors(with_header("{\"" + std::string(n, 'x') + "\":1}", 0)).ok();
    _exit(refused ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(Checkpoint, RoundTrip) {
  const TempDir dir;
  const StateDict state = zoo();
  const Metadata metadata{{"step", "12"}, {"trainer", R"({"loss": [1.5, 2]})"}};
  ASSERT_TRUE(write_checkpoint(dir.file("a.keel"), state, metadata).ok());
  const auto r = read_checkpoint(dir.file("a.keel"));
  ASSERT_TRUE(r.ok()) << r.message();
  EXPECT_EQ(r->metadata, metadata);
  expect_same(state, r->tensors);
  for (int64_t i = 0; i < state.size(); ++i) EXPECT_EQ(state.at(i).name, r->tensors.at(i).name);  // order too
  const auto parsed = parse_checkpoint(slurp(dir.file("a.keel")));
  ASSERT_TRUE(parsed.ok()) << parsed.message();
  expect_same(state, parsed->tensors);
  ASSERT_TRUE(write_checkpoint(dir.file("b.keel"), r->tensors, r->metadata).ok());
  EXPECT_EQ(slurp(dir.file("a.keel")), slurp(dir.file("b.keel")));
  EXPECT_FALSE(write_checkpoint(dir.file("c.keel"), state, {{"a", "1"}, {"a", "2"}}).ok());
  ASSERT_TRUE(write_checkpoint(dir.file("empty.keel"), {}).ok());
  EXPECT_EQ(read_checkpoint(dir.file("empty.keel"))->tensors.size(), 0);
}

TEST(Checkpoint, EveryChangedByteIsNoticed) {
  const TempDir dir;
  ASSERT_TRUE(write_checkpoint(dir.file("a.keel"), {{"x", sample(f32, {16})}, {"y", sample(i64, {8})}}, {{"k", "v"}}).ok());
  const std::string good = slurp(dir.file("a.keel"));
  ASSERT_TRUE(parse_checkpoint(good).ok());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    EXPECT_FALSE(parse_checkpoint(bad).ok()) << i;
  }
  for (size_t n = 0; n < good.size(); ++n) ASSERT_FALSE(parse_checkpoint(std::string_view(good).substr(0, n)).ok()) << n;
  EXPECT_FALSE(parse_checkpoint(good + "x").ok());
  std::string bad = good;
  bad.back() ^= 1;
  dir.put("bad.keel", bad);
  EXPECT_EQ(read_checkpoint(dir.file("bad.keel")).message(), dir.file("bad.keel") + ": damaged checkpoint: tensor 'y': checksum");
  EXPECT_TRUE(read_checkpoint(dir.file("bad.keel"), false).ok());
}

// A checkpoint with an index of the caller's making and valid checksums.
std::string forged(std::string index, const std::string& data, uint32_t version = 1) {
  index.append((64 - index.size() % 64) % 64, ' ');
  std::string head = "KEELCKPT";
  append_le(head, version), append_le<uint32_t>(head, 0), append_le<uint64_t>(head, index.size()), append_le<uint64_t>(head, data.size());
  const std::string covered = head + index;
  const auto digest = base::sha256(covered.data(), covered.size());
  return head + std::string(reinterpret_cast<const char*>(digest.data()), 32) + index + data;
}
TEST(Checkpoint, ForgedIndexIsBounded) {
  const std::string data(128, '\0');
  const auto entry = [&](const char* name, const char* shape, const char* offset, const char* bytes) {
    return std::string("{\"name\":\"") + name + "\",\"dtype\":\"u8\",\"shape\":" + shape + ",\"offset\":" + offset + ",\"bytes\":" + bytes +
           ",\"sha256\":\"" + base::hex(base::sha256(data.data(), 64)) + "\"}";
  };
  const auto why = [&](const std::string& entries) {
    return parse_checkpoint(forged("{\"metadata\":{},\"tensors\":[" + entries + "]}", data)).message();
  };
  EXPECT_EQ(why(entry("a", "[64]", "0", "64") + "," + entry("b", "[8,8]", "64", "64")), "");
  EXPECT_EQ(why(entry("a", "[64]", "0", "64") + "," + entry("b", "[64]", "0", "64")),
            "damaged checkpoint: tensor 'b' overlaps another or lies outside the file");
  EXPECT_EQ(why(entry("a", "[64]", "128", "64")), "damaged checkpoint: tensor 'a' overlaps another or lies outside the file");
  EXPECT_EQ(why(entry("a", "[64]", "1", "64")), "damaged checkpoint: tensor 'a' overlaps another or lies outside the file");
  EXPECT_EQ(why(entry("a", "[64]", "9223372036854775744", "64")),
            "damaged checkpoint: tensor 'a' overlaps another or lies outside the file");
  EXPECT_EQ(why(entry("a", "[65]", "0", "64")), "damaged checkpoint: tensor 'a' has 64 bytes, which its shape and dtype do not need");
  EXPECT_EQ(why(entry("a", "[64]", "0", "64") + "," + entry("a", "[64]", "64", "64")), "damaged checkpoint: tensor 'a' appears twice");
  EXPECT_EQ(why("3"), "damaged checkpoint: a tensor has no name");
  EXPECT_EQ(parse_checkpoint(forged("{}", "")).message(), "damaged checkpoint: the index lacks metadata or tensors");
  EXPECT_EQ(parse_checkpoint(forged("{\"metadata\":{},\"tensors\":[]}", "", 2)).message(),
            "checkpoint of version 2; this library reads version 1");
  EXPECT_EQ(parse_checkpoint("something else").message(), "not a Keel checkpoint");
}

constexpr const char* kNumpyWrites = R"PY(
import sys
try:
    import numpy as np, ml_dtypes
except ImportError:
    sys.exit(77)
d = sys.argv[1] + "/"
def raw(t, shape):
    n = int(np.prod(shape)) * np.dtype(t).itemsize
    return (np.arange(n, dtype=np.int64) * 7 + 1).astype(np.uint8).view(t).reshape(shape)
types = "u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 c8 c16".split()
for t in types:
    np.save(d + t, raw(t, (2, 3)))
    np.save(d + t + "_fortran", np.asfortranarray(raw(t, (2, 3))))
    np.save(d + t + "_big", raw(t, (2, 3)).astype(np.dtype(t).newbyteorder(">")))
np.save(d + "b1", (np.arange(6) % 2 == 1).reshape(2, 3))
np.save(d + "bf16", raw(ml_dtypes.bfloat16, (2, 3)))
np.save(d + "fortran3", np.asfortranarray(np.arange(24, dtype=np.int32).reshape(2, 3, 4)))
np.save(d + "scalar", np.float32(2.5))
np.save(d + "empty", np.zeros((0, 5), np.int16))
np.save(d + "long", np.zeros((3,), np.float32))
for v in ((2, 0), (3, 0)):
    with open(d + f"version{v[0]}.npy", "wb") as f:
        np.lib.format.write_array(f, np.arange(4.0), version=v)
np.save(d + "text", np.array(["a", "b"]))
np.save(d + "record", np.zeros(2, [("a", "f4"), ("b", "i4")]))
np.save(d + "v1", raw(ml_dtypes.float8_e4m3fn, (2,)))
np.savez(d + "plain", a=np.arange(3), b=np.eye(2, dtype=np.float32))
np.savez_compressed(d + "packed", a=np.arange(1000), b=np.zeros((10, 1000), np.float32))
)PY";
constexpr const char* kNumpyReads = R"PY(
import sys, numpy as np, ml_dtypes
d = sys.argv[1] + "/"
kinds = "bool u8 u16 u32 u64 i8 i16 i32 i64 f8e4m3fn f8e5m2 f16 bf16 f32 f64 complex64 complex128".split()
for name in ["w." + k for k in kinds] + ["scalar", "nothing", "strided"]:
    for file in ("zoo.npz", "packed.npz"):
        x = np.load(d + file)[name]
        y = np.load(d + name + ".npy")
        assert x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes(), name
    np.save(d + "again", y)
    if x.dtype not in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        assert open(d + "again.npy", "rb").read() == open(d + name + ".npy", "rb").read(), name
assert np.load(d + "strided.npy").shape == (4, 3) and np.load(d + "w.bf16.npy").dtype == ml_dtypes.bfloat16
)PY";

TEST(Npy, ReadsWhatNumpyWrites) {
  const TempDir dir;
  const int rc = run_python(dir, kNumpyWrites, dir.path());
  if (rc == 77) GTEST_SKIP() << "needs python3 with numpy and ml_dtypes";
  ASSERT_EQ(rc, 0);
  const std::pair<const char*, DType> types[] = {{"u1", u8},  {"u2", u16},       {"u4", u32},        {"u8", u64}, {"i1", i8},
                                                 {"i2", i16}, {"i4", i32},       {"i8", i64},        {"f2", f16}, {"f4", f32},
                                                 {"f8", f64}, {"c8", complex64}, {"c16", complex128}};
  for (const auto& [code, t] : types)
    for (const char* form : {"", "_fortran", "_big"}) {
      SCOPED_TRACE(std::string(code) + form);
      const auto x = read_npy(dir.file(std::string(code) + form + ".npy"));
      ASSERT_TRUE(x.ok()) << x.message();
      expect_same(*x, sample(t, {2, 3}));
      EXPECT_EQ(x->is_contiguous(), std::string(form) != "_fortran");
    }
  expect_same(*read_npy(dir.file("b1.npy")), sample(DType::boolean, {2, 3}));
  expect_same(*read_npy(dir.file("bf16.npy")), sample(bf16, {2, 3}));
  EXPECT_TRUE(same_values(*read_npy(dir.file("fortran3.npy")), arange(24, {.dtype = i32}).reshape({2, 3, 4})));
  EXPECT_EQ(read_npy(dir.file("scalar.npy"))->item(), 2.5);
  EXPECT_EQ(read_npy(dir.file("scalar.npy"))->rank(), 0);
  EXPECT_EQ(read_npy(dir.file("empty.npy"))->shape(), Shape({0, 5}));
  for (const char* v : {"version2.npy", "version3.npy"}) EXPECT_TRUE(same_values(*read_npy(dir.file(v)), arange(4, {.dtype = f64})));
  EXPECT_EQ(read_npy(dir.file("text.npy")).message(), dir.file("text.npy") + ": arrays of text (dtype '<U1') are not supported");
  EXPECT_EQ(read_npy(dir.file("record.npy")).message(), dir.file("record.npy") + ": structured dtypes are not supported");
  EXPECT_NE(read_npy(dir.file("v1.npy")).message().find("does not say which"), std::string::npos);
  for (const char* file : {"plain.npz", "packed.npz"}) {
    const auto z = read_npz(dir.file(file));
    ASSERT_TRUE(z.ok()) << z.message();
    EXPECT_EQ(z->size(), 2);
    EXPECT_TRUE(same_values((*z)["a"], arange(file[1] == 'l' ? 3 : 1000)));
  }
}

TEST(Npy, NumpyReadsWhatWeWrite) {
  const TempDir dir;
  const StateDict state = zoo();
  for (const auto& [name, t] : state) ASSERT_TRUE(write_npy(dir.file(name + ".npy"), t).ok());
  ASSERT_TRUE(write_npz(dir.file("zoo.npz"), state).ok());
  ASSERT_TRUE(write_npz(dir.file("packed.npz"), state, true).ok());
  for (const auto& [name, t] : state) expect_same(*read_npy(dir.file(name + ".npy")), t);
  for (const char* file : {"zoo.npz", "packed.npz"}) expect_same(state, *read_npz(dir.file(file)));
  const int rc = run_python(
      dir, std::string("import sys\ntry:\n    import numpy, ml_dtypes\nexcept ImportError:\n    sys.exit(77)\n") + kNumpyReads, dir.path());
  if (rc == 77) GTEST_SKIP() << "needs python3 with numpy and ml_dtypes";
  EXPECT_EQ(rc, 0);
}

TEST(Npy, Refuses) {
  const auto npy = [](const std::string& dict, size_t data) {
    std::string s("\x93NUMPY\x01\x00", 8);
    append_le(s, static_cast<uint16_t>(dict.size()));
    return s + dict + std::string(data, '\0');
  };
  const auto why = [&](const std::string& dict, size_t data = 0) { return parse_npy(npy(dict, data)).message(); };
  EXPECT_EQ(why("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", 8), "");
  EXPECT_EQ(why("{\"shape\":(2L,3),'fortran_order':True,'descr':'|u1'}", 6), "");
  EXPECT_EQ(why("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 9), "array needs 8 bytes, the file has 9 after its header");
  EXPECT_EQ(why("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999), }"), "shape overflows");
  EXPECT_EQ(why("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807), }"), "array has a shape that overflows");
  EXPECT_EQ(why("{'descr': '<f4', 'fortran_order': False, }"), "header lacks one of 'descr', 'fortran_order', 'shape'");
  EXPECT_EQ(why("{'descr': '<f4', 'fortran_order': False, 'shape': (1), 'x': 'y'}", 4),
            "header has the key 'x' that it should not have, or twice");
  EXPECT_EQ(why("{'descr': '<q4', 'fortran_order': False, 'shape': (1,)}", 4), "dtype '<q4' is not supported");
  EXPECT_EQ(why("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 4),
            "object arrays hold pickles, which can run code, and are refused");
  for (const char* bad :
       {"", "{", "{'descr'", "{'descr':", "__import__('os')", "{'descr': '<f4', 'fortran_order': 1, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}"})
    EXPECT_NE(why(bad, 8), "") << bad;
  EXPECT_EQ(parse_npy("PK").message(), "not a .npy file");
  EXPECT_EQ(parse_npy(std::string("\x93NUMPY\x04\x00..", 10)).message(), ".npy version 4.0 is not supported");
  SKIP_WITHOUT_DATA();
  for (const char* name : {"py2-np0-objarr", "py2-objarr", "py3-objarr"}) {
    const std::string path = data_dir() + "/numpy-format/" + name + ".npy";
    EXPECT_EQ(read_npy(path).message(), path + ": object arrays hold pickles, which can run code, and are refused");
  }
  for (const char* name : {"py2-objarr", "py3-objarr"})
    EXPECT_NE(read_npz(data_dir() + "/numpy-format/" + name + ".npz").message().find("pickles"), std::string::npos);
}

TEST(Idx, ReadsAndRefuses) {
  const std::string head("\0\0\x0b\2\0\0\0\2\0\0\0\3", 12), data("\0\1\0\2\0\3\0\4\0\5\xff\xff", 12);
  const auto x = parse_idx(head + data);
  ASSERT_TRUE(x.ok()) << x.message();
  EXPECT_TRUE(same_values(*x, tensor({{1, 2, 3}, {4, 5, -1}})));
  EXPECT_EQ(x->dtype(), i16);
  EXPECT_EQ(parse_idx(head + data + "x").message(), "array needs 12 bytes, the file has 13 after its header");
  EXPECT_EQ(parse_idx(head.substr(0, 10)).message(), "ends inside its header");
  EXPECT_EQ(parse_idx("nothing").message(), "not an IDX file");
  EXPECT_EQ(parse_idx(std::string("\0\0\x08\4", 4) + std::string(16, '\xff')).message(), "shape overflows");
  EXPECT_FALSE(parse_idx(std::string("\0\0\x08\xff", 4) + std::string(255 * 4, '\0')).ok());
  SKIP_WITHOUT_DATA();
  for (const auto& [name, n] : {std::pair("train", 60000), std::pair("t10k", 10000)}) {
    const auto images = read_idx(data_dir() + "/mnist/" + name + "-images-idx3-ubyte.gz"),
               labels = read_idx(data_dir() + "/mnist/" + name + "-labels-idx1-ubyte.gz");
    ASSERT_TRUE(images.ok() && labels.ok()) << images.message() << labels.message();
    EXPECT_EQ(images->shape(), Shape({n, 28, 28}));
    EXPECT_EQ(labels->shape(), Shape({n}));
  }
}

TEST(Load, KnowsFormatsByTheirFirstBytes) {
  const TempDir dir;
  const StateDict state{{"a", sample(f32, {2, 2})}, {"b", sample(i64, {3})}};
  for (const char* name : {"x.safetensors", "x.keel", "x.npz"}) {
    save(dir.file(name), state);
    std::filesystem::rename(dir.file(name), dir.file("renamed"));
    expect_same(state, load(dir.file("renamed")));
  }
  save(dir.file("x.npy"), {{"a", state["a"]}});  // as write_npy does; the name is not kept
  expect_same(load(dir.file("x.npy"))["arr_0"], state["a"]);
  const auto error_of = [](auto&& f) {
    try {
      f();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::io);
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_NE(error_of([&] { load(dir.file("none")); }).find(dir.file("none") + ": No such file"), std::string::npos);
  EXPECT_NE(error_of([&] { load(dir.put("short", "abc")); }).find("shorter than"), std::string::npos);
  EXPECT_NE(error_of([&] { save(dir.file("x.bin"), state); }).find("hint: endings are"), std::string::npos);
  EXPECT_NE(error_of([&] { read_text(dir.file("none")); }).find("read_text"), std::string::npos);
  EXPECT_EQ(read_text(dir.put("t", "text\n")), "text\n");
}

TEST(Load, SavingOverWhatIsMappedIsSafe) {
  const TempDir dir;
  const std::string path = dir.file("x.safetensors");
  save(path, {{"a", sample(f32, {100})}});
  const StateDict mapped = load(path);
  save(path, {{"a", mapped["a"] + mapped["a"]}, {"b", sample(u8, {7})}});
  expect_same(mapped["a"], sample(f32, {100}));
  EXPECT_EQ(load(path).size(), 2);
}

}  // namespace
}  // namespace keel::io
