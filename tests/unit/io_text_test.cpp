// CSV, charts, TensorBoard events, PNG.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "keel/io/svg_chart.h"
#include "keel/io/csv.h"
#include "keel/io/tensorboard.h"
#include "temp_dir.h"
#include "test_data.h"

namespace keel::io {
namespace {

TEST(Csv, Fields) {
  const auto t = parse_csv("name,\"a \"\"b\"\"\",c\r\n\r\nx,,\"two\nlines, and a comma\"\n1,2,3", {.header = true});
  ASSERT_TRUE(t.ok()) << t.message();
  EXPECT_EQ(t->header(), (std::vector<std::string>{"name", "a \"b\"", "c"}));
  ASSERT_EQ(t->rows(), 2);
  EXPECT_EQ(t->columns(), 3);
  EXPECT_EQ(t->at(0, 0), "x");
  EXPECT_EQ(t->at(0, 1), "");
  EXPECT_EQ(t->at(0, 2), "two\nlines, and a comma");
  EXPECT_EQ(t->at(1, 2), "3");
  EXPECT_EQ(t->at(2, 0), "");
  EXPECT_EQ(t->column("c"), 2);
  EXPECT_EQ(t->column("d"), -1);
  EXPECT_EQ(t->numbers(0).message(), "'x' is not a number at line 3, column 1");
  EXPECT_EQ(parse_csv("")->rows(), 0);
  EXPECT_EQ(parse_csv("\xef\xbb\xbf"
                      "1;2\n# note\n3;4\n",
                      {.delimiter = ';', .comment = "#"})
                ->numbers()
                .value(),
            (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(parse_csv("a,b\n")->columns(), 2);
  EXPECT_EQ(parse_csv("a,\n")->columns(), 2);
}

TEST(Csv, Numbers) {
  const auto v = parse_csv(" 1 ,-2.5e-3,+7,inf,1e999\n")->numbers();
  ASSERT_TRUE(v.ok()) << v.message();
  EXPECT_EQ(v->at(1), -2.5e-3);
  EXPECT_EQ(v->at(2), 7);
  EXPECT_TRUE(std::isinf(v->at(3)) && std::isinf(v->at(4)));
  for (const char* bad : {"", "x", "1 2", "0x10", "1e", "--1", "+-1"})
    EXPECT_FALSE(parse_csv(std::string("1,") + bad + ",2")->numbers().ok()) << bad;
  EXPECT_EQ(parse_csv("1,2\n3,4\n5,6")->numbers(1).value(), (std::vector<double>{2, 4, 6}));
  EXPECT_EQ(parse_csv("1\n")->numbers(3).message(), "row 0 has no column 3");
}

TEST(Csv, RefusalsSayWhere) {
  const auto why = [](const char* text) { return parse_csv(text).message(); };
  EXPECT_EQ(why("a,b\nc\n"), "record has 1 field, not 2 at line 2, column 1");
  EXPECT_EQ(why("a,b\"c\n"), "quote inside a field that does not begin with one at line 1, column 4");
  EXPECT_EQ(why("\"a\"b\n"), "text after a quoted field at line 1, column 4");
  EXPECT_EQ(why("x\n\"a\n\nb"), "a quoted field is not closed at line 4, column 2");
  EXPECT_TRUE(parse_csv("a,b\nc\n", {.same_width = false}).ok());
  EXPECT_NE(read_csv("/no/such.csv").message().find("/no/such.csv"), std::string::npos);
}

TEST(Csv, RealFile) {
  SKIP_WITHOUT_DATA();
  const auto t = read_csv(data_dir() + "/digits/digits.csv.gz");
  ASSERT_TRUE(t.ok()) << t.message();
  EXPECT_EQ(t->rows(), 1797);
  EXPECT_EQ(t->columns(), 65);
  const auto labels = t->numbers(64);
  ASSERT_TRUE(labels.ok()) << labels.message();
  for (const double v : *labels) EXPECT_TRUE(v >= 0 && v <= 9 && v == std::floor(v));
}

constexpr const char* kCheckXml = R"PY(
import sys, xml.etree.ElementTree as E
root = E.parse(sys.argv[1]).getroot()
lines = [e for e in root.iter() if e.tag.endswith("polyline")]
assert len(lines) == 3, len(lines)
for l in lines:
    for p in l.get("points").split():
        x, y = map(float, p.split(","))
        assert 0 <= x <= 720 and 0 <= y <= 420, p
first = [tuple(map(float, p.split(","))) for p in lines[0].get("points").split()]
assert all(a[0] < b[0] and a[1] < b[1] for a, b in zip(first, first[1:])), first   # falling loss: y grows downwards
)PY";

TEST(SvgChart, IsXmlWithTheLinesInside) {
  std::vector<double> x, y, z;
  for (int i = 1; i <= 50; ++i) x.push_back(i), y.push_back(3.0 / i), z.push_back(i == 20 ? NAN : 2.5 + std::sin(i * 0.3));
  const std::string svg = svg_chart({{"train <loss> & \"more\"", x, y}, {"test", x, z}, {"one point", {25}, {1}}, {"nothing", {}, {}}},
                                    {.title = "Loss", .x_label = "step", .y_label = "loss"});
  for (const char* part : {"train &lt;loss&gt; &amp; &quot;more&quot;", ">Loss<", ">step<", ">loss<", ">20<", ">3<", "<circle"})
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  const TempDir dir;
  const int rc = run_python(dir, kCheckXml, dir.put("a.svg", svg));
  if (rc == 77) GTEST_SKIP() << "needs python3";
  EXPECT_EQ(rc, 0);
}

TEST(SvgChart, OddInput) {
  for (const bool log : {false, true}) {
    const std::string empty = svg_chart({}, {.log_y = log}), flat = svg_chart({{"c", {1, 2}, {5, 5}}}, {.log_y = log});
    const std::string wide = svg_chart({{"w", {0, 1e300}, {1e-300, 1e300}}}, {.log_y = log}),
                      bad = svg_chart({{"b", {NAN, INFINITY}, {1, 2}}}, {.log_y = log});
    for (const std::string* s : {&empty, &flat, &wide, &bad}) {
      EXPECT_TRUE(s->ends_with("</svg>\n"));
      EXPECT_EQ(s->find("nan"), std::string::npos);
      EXPECT_EQ(s->find("inf"), std::string::npos);
      EXPECT_LT(s->size(), 20000u);
    }
  }
  const std::string log = svg_chart({{"l", {1, 2, 3, 4}, {0.001, 0, 1, 100}}}, {.log_y = true});
  EXPECT_NE(log.find(">0.001<"), std::string::npos);
  EXPECT_NE(log.find(">100<"), std::string::npos);
}

constexpr const char* kReadEvents = R"PY(
import sys
try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util
except ImportError:
    sys.exit(77)
a = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "histograms": 0, "images": 0, "tensors": 0})
a.Reload()
tags = a.Tags()
assert tags["scalars"] == ["loss", "lr"], tags
loss = [(e.step, e.value) for e in a.Scalars("loss")]
assert len(loss) == 20 and all(s == i and abs(v - 2.0 / (i + 1)) < 1e-7 for i, (s, v) in enumerate(loss)), loss
assert a.Scalars("lr")[0].wall_time == 1234.5 and a.Scalars("lr")[0].step == 5000000000
h = a.Histograms("weights")[0].histogram_value
assert (h.min, h.max, h.num, h.sum, h.sum_squares) == (-1.0, 2.0, 4, 1.5, 5.25), h
assert len(h.bucket) == len(h.bucket_limit) and sum(h.bucket) == 4
assert all(x < y for x, y in zip(h.bucket_limit, h.bucket_limit[1:]))
assert h.bucket_limit[-1] >= 2.0 > h.bucket_limit[-2] and h.bucket[-1] == 1
i = a.Images("picture")[0]
assert (i.width, i.height, i.step) == (3, 2, 7) and i.encoded_image_string.startswith(b"\x89PNG")
e = a.Tensors("note")[0]
assert tensor_util.make_ndarray(e.tensor_proto).tolist() == [b"**bold** \xc3\xa9"], e
assert a.SummaryMetadata("note").plugin_data.plugin_name == "text"
assert not a.Histograms("empty")[0].histogram_value.num
try:
    import io
    from PIL import Image
    p = Image.open(io.BytesIO(i.encoded_image_string))
    assert p.size == (3, 2) and p.tobytes() == bytes(range(18)), p.tobytes()
except ImportError:
    print("Pillow is missing: pixels not compared")
)PY";

TEST(TensorBoard, ReadsBack) {
  const TempDir dir;
  {
    auto w = EventWriter::open(dir.file("a/b/run"), ".test");
    ASSERT_TRUE(w.ok()) << w.message();
    EXPECT_NE(w->path().find("/a/b/run/events.out.tfevents."), std::string::npos);
    for (int i = 0; i < 20; ++i) w->scalar("loss", 2.0 / (i + 1), i);
    w->scalar("lr", 0.5, 5'000'000'000, 1234.5);
    const std::vector<float> values{-1, 0.5, 0, 2, NAN, INFINITY};
    w->histogram("weights", values, 3);
    w->histogram("empty", std::span<const double>(), 3);
    std::vector<uint8_t> pixels(18);
    for (size_t i = 0; i < 18; ++i) pixels[i] = static_cast<uint8_t>(i);
    w->image("picture", encode_png(pixels, 3, 2, 3), 3, 2, 3, 7);
    w->text("note", "**bold** \xc3\xa9", 1);
    ASSERT_TRUE(w->flush().ok());
  }
  const int rc = run_python(dir, kReadEvents, dir.file("a/b/run"));
  if (rc == 77) GTEST_SKIP() << "needs python3 with tensorboard";
  EXPECT_EQ(rc, 0);
}

TEST(TensorBoard, Framing) {  // TFRecord: length, its masked CRC-32C, data, its masked CRC-32C
  const TempDir dir;
  auto w = EventWriter::open(dir.path());
  const std::string data = slurp(w->path());
  ASSERT_EQ(data.size(), 8 + 4 + 24 + 4u);
  EXPECT_EQ(data.substr(0, 8), std::string("\x18\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(data.substr(8, 4), "\xa3\x7f\x4b\x22");
  EXPECT_EQ(data.substr(21, 15),
            "\x1a\x0d"
            "brain.Event:2");
}

TEST(TensorBoard, Failures) {
  const TempDir dir;
  EXPECT_NE(EventWriter::open(dir.put("file", "x") + "/sub").message().find("cannot make folder"), std::string::npos);
  auto a = EventWriter::open(dir.path()), b = EventWriter::open(dir.path());
  EXPECT_NE(a->path(), b->path());
}

TEST(Png, Refuses) {
  const std::vector<uint8_t> pixels(6);
  EXPECT_TRUE(encode_png(pixels, 3, 2, 1).starts_with("\x89PNG"));
  EXPECT_EQ(encode_png(pixels, 3, 3, 1), "");
  EXPECT_EQ(encode_png(pixels, 3, 2, 5), "");
  EXPECT_EQ(encode_png(pixels, 0, 2, 1), "");
  EXPECT_EQ(encode_png(pixels, INT64_MAX, 2, 1), "");
}

}  // namespace
}  // namespace keel::io
