#include <cmath>
#include <unistd.h>

#include <memory>

#include "digit_models.h"
#include "runs.h"

namespace keel::app {

StateDict run_weights(const std::string& dir) {
  const std::string model = dir + "/model.safetensors", checkpoint = dir + "/checkpoint.keel";
  if (exists(model) || !exists(checkpoint)) return load(model);
  fmt::print(stderr, "{} has not ended; its last checkpoint is taken\n", dir);
  return load(checkpoint).strip("model.");
}

RunConfig::RunConfig(const std::string& dir) : file_(dir + "/config.json") {
  if (!exists(file_))
    raise(Error(ErrorCode::io, dir + ": is no folder that `keel train` wrote: there is no config.json")
              .op("load")
              .hint("`keel train mnist` writes runs/mnist-cnn, for example"));
  values_ = json::parse(io::read_text(file_), nullptr, false);
  if (!values_.is_object()) refuse("is no JSON object");
}
std::string RunConfig::text(const char* name) const {
  const auto at = values_.find(name);
  if (at == values_.end() || !at->is_string()) refuse(fmt::format("has no text '{}'", name));
  return at->get<std::string>();
}
int64_t RunConfig::count(const char* name) const {
  const auto at = values_.find(name);
  if (at == values_.end() || !at->is_number_integer() || *at < 1 || *at > INT32_MAX)
    refuse(fmt::format("has no positive whole number '{}'", name));
  return at->get<int64_t>();
}
void RunConfig::refuse(const std::string& why) const {
  raise(Error(ErrorCode::io, file_ + ": " + why).op("load").hint("`keel train` writes this file when a run begins"));
}

ImageModel load_image_model(const std::string& dir) {
  const RunConfig config(dir);
  const std::string name = config.model();
  if (!is_image_model(name))
    raise(Error(ErrorCode::value, dir + ": holds a model of kind '" + name + "', not an image model")
              .op("load")
              .hint("`keel sample` writes text with a char-gpt, `keel eval RUN --text FILE` measures it"));
  const StateDict state = run_weights(dir);
  return with_image_model(name, [&]<class Net>(Net fresh) {
    auto net = std::make_shared<Net>(std::move(fresh));
    net->load_state_dict(state), net->eval();
    return ImageModel{name, config.text("dataset", ""), [net](const Tensor& x) { return (*net)(x); }};
  });
}

std::vector<std::string> picture(const Tensor& image) {
  const Tensor x = image.reshape({28, 28}).contiguous();
  const float* p = static_cast<const Tensor&>(x).data<float>();
  std::vector<std::string> rows;
  constexpr const char* shades[] = {" ", "░", "▒", "▓", "█"};
  for (int y = 0; y < 28; y += 2) {
    std::string row;
    for (int k = 0; k < 28; ++k) {
      const float v = std::min(1.0f, std::max(0.0f, (p[y * 28 + k] + p[(y + 1) * 28 + k]) / 2));
      row += shades[int(v * 4.99f)];
    }
    rows.push_back(row);
  }
  return rows;
}

namespace {

struct PredictOptions {
  std::string dir, data = data_folder(), text;
  int64_t count = 4, first = 0;
  bool as_json = false;
};

int predict(const PredictOptions& o) {
  NoGrad off;
  const ImageModel model = load_image_model(o.dir);
  const ImageSets sets = image_sets(o.data, true);
  std::vector<int64_t> at;
  for (int64_t i = 0; i < o.count; ++i) at.push_back((o.first + i) % sets.test.size());
  const data::Batch b = sets.test.batch({at.data(), int64_t(at.size())});
  const Tensor p = softmax(model.predict(b.x), {.axis = -1}), best = argmax(p, {.axis = -1});
  json rows = json::array();
  for (int64_t i = 0; i < o.count; ++i) {
    std::vector<double> probabilities;
    for (int64_t k = 0; k < 10; ++k) probabilities.push_back(p[{i, k}].item());
    const auto said = best[{i}].item<int64_t>(), truth = b.y[{i}].item<int64_t>();
    rows.push_back({{"example", at[size_t(i)]}, {"prediction", said}, {"label", truth}, {"probabilities", probabilities}});
    if (o.as_json) continue;
    const std::vector<std::string> image = picture(b.x[i] * 0.3081 + 0.1307);
    for (size_t r = 0; r < image.size(); ++r) {
      std::string side;
      if (r == 0) side = fmt::format("predicted {}, is {}{}", said, truth, said == truth ? "" : "  (wrong)");
      if (r >= 2 && r < 12) {
        const double v = probabilities[r - 2];
        std::string bar;
        for (int k = 0; k < int(v * 20 + 0.5); ++k) bar += "■";
        side = fmt::format("{} {:6.2f} % {}", r - 2, 100 * v, bar);
      }
      fmt::print("  {}  {}\n", image[r], side);
    }
    fmt::print("\n");
  }
  if (o.as_json) fmt::print("{}\n", rows.dump());
  return kOk;
}

/// A char-gpt of a run folder.
struct TextModel {
  Gpt net;
  text::CharTokenizer chars;
};
TextModel load_text_model(const std::string& dir) {
  const RunConfig c(dir);
  if (c.model() != "char-gpt")
    raise(Error(ErrorCode::value, dir + ": holds a model of kind '" + c.model() + "', no char-gpt")
              .op("load")
              .hint("`keel train char-gpt --text FILE` makes one"));
  TextModel m{Gpt({.vocab = c.count("vocab"),
                   .context = c.count("context"),
                   .layers = c.count("layers"),
                   .width = c.count("width"),
                   .heads = c.count("heads")}),
              text::CharTokenizer::from_characters(c.text("characters"))};
  m.net.load_state_dict(run_weights(dir));
  m.net.eval();
  return m;
}

int evaluate_text(const PredictOptions& o) {
  NoGrad off;
  const TextModel m = load_text_model(o.dir);
  const TextSets sets = text_sets(m.chars, read_corpus(o.text), o.text, m.net.config.context, 1);
  double loss = 0;
  int64_t hits = 0, count = 0;
  for (auto [x, y] : data::Loader(sets.held_out, {.batch_size = 32})) {
    const Tensor logits = m.net(x);
    loss += cross_entropy(logits, y).item() * double(y.size());
    hits += sum(argmax(logits, {.axis = -1}) == y).item<int64_t>(), count += y.size();
  }
  const auto n = double(count);
  if (o.as_json)
    fmt::print(
        "{}\n",
        json{{"model", "char-gpt"}, {"text", o.text}, {"characters", count}, {"accuracy", double(hits) / n}, {"loss", number(loss / n)}}
            .dump());
  else
    fmt::print("char-gpt on the last tenth of {}: loss {:.4f} nats a character, accuracy {:.4f} ({} characters)\n", o.text, loss / n,
               double(hits) / n, count);
  return kOk;
}

int evaluate(const PredictOptions& o) {
  NoGrad off;
  if (RunConfig(o.dir).model() == "char-gpt") {
    if (o.text.empty()) usage_error("--text is required to evaluate a char-gpt");
    return evaluate_text(o);
  }
  const ImageModel model = load_image_model(o.dir);
  const ImageSets sets = image_sets(o.data, true);
  int64_t hits = 0;
  double loss = 0;
  for (auto [x, y] : data::Loader(sets.test, {.batch_size = 500})) {
    const Tensor out = model.predict(x);
    hits += sum(argmax(out, {.axis = -1}) == y).item<int64_t>();
    loss += cross_entropy(out, y).item() * double(x.shape()[0]);
  }
  const auto n = double(sets.test.size());
  if (o.as_json)
    fmt::print("{}\n", json{{"model", model.name},
                            {"dataset", sets.name},
                            {"examples", sets.test.size()},
                            {"accuracy", double(hits) / n},
                            {"loss", loss / n}}
                           .dump());
  else
    fmt::print("{} on {}: accuracy {:.4f}, loss {:.4f} ({} examples)\n", model.name, sets.name, double(hits) / n, loss / n,
               sets.test.size());
  return kOk;
}

struct SampleOptions {
  std::string dir, prompt;
  int64_t tokens = 500, seed = 0, top_k = 0;
  double temperature = 0.8;
  bool as_json = false;
};

int sample(const SampleOptions& o) {
  NoGrad off;
  const TextModel m = load_text_model(o.dir);
  const Gpt& net = m.net;
  const text::CharTokenizer& chars = m.chars;
  manual_seed(uint64_t(o.seed));
  std::string begin = o.prompt;  // without one, a new line, or what sorts first
  if (begin.empty()) begin = chars.characters().find('\n') != std::string::npos ? "\n" : chars.decode(zeros({1}, {.dtype = i64}));
  Tensor ids = chars.encode(begin).reshape({1, -1});
  std::string written;
  if (!o.as_json) fmt::print("{}", o.prompt);
  for (int64_t i = 0; i < o.tokens; ++i) {
    ids = ids[{all, slice(-net.config.context, none)}];
    const Tensor logits = net(ids)[{all, -1}];
    Tensor next;
    if (o.temperature <= 0) {
      next = argmax(logits, {.axis = -1}).reshape({1, 1});
    } else if (o.top_k > 0) {
      const auto best = topk(logits / o.temperature, std::min(o.top_k, chars.vocab_size()), {.axis = -1});
      next = gather(best.indices, multinomial(softmax(best.values, {.axis = -1}), 1), {.axis = 1});
    } else {
      next = multinomial(softmax(logits / o.temperature, {.axis = -1}), 1);
    }
    ids = concat({ids, next}, {.axis = 1});
    const std::string piece = chars.decode(next);
    written += piece;
    if (!o.as_json) fmt::print("{}", piece), std::fflush(stdout);
  }
  if (o.as_json) fmt::print("{}\n", json{{"prompt", o.prompt}, {"text", written}}.dump());
  else fmt::print("\n");
  return kOk;
}

}  // namespace

void add_eval(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("eval", "Evaluate a trained model on held-out data");
  auto o = std::make_shared<PredictOptions>();
  a->add_option("run", o->dir, "Folder that `keel train` wrote")->required();
  a->add_option("--data", o->data, "Folder with mnist/")->check(CLI::ExistingDirectory)->capture_default_str();
  a->add_option("--text", o->text, "The text that a char-gpt is measured on, its last tenth")->check(CLI::ExistingFile);
  a->add_flag("--json", o->as_json, "One JSON object");
  a->callback([o, &out] { out.code = evaluate(*o); });
}

void add_predict(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("predict", "Show a trained model's predictions on held-out images");
  auto o = std::make_shared<PredictOptions>();
  a->add_option("run", o->dir, "Folder that `keel train` wrote")->required();
  a->add_option("--data", o->data, "Folder with mnist/")->check(CLI::ExistingDirectory)->capture_default_str();
  a->add_option("--count", o->count, "How many images")->check(whole(1, 10000))->capture_default_str();
  a->add_option("--first", o->first, "The first one")->check(whole(0))->capture_default_str();
  a->add_flag("--json", o->as_json, "One JSON array");
  a->callback([o, &out] { out.code = predict(*o); });
}

void add_sample(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("sample", "Write text with a trained char-gpt");
  auto o = std::make_shared<SampleOptions>();
  a->add_option("run", o->dir, "Folder that `keel train char-gpt` wrote")->required();
  a->add_option("--prompt", o->prompt, "How the text begins");
  a->add_option("--tokens", o->tokens, "Characters to write")->check(whole(0))->capture_default_str();
  a->add_option("--temperature", o->temperature, "0: always the likeliest")->check(not_negative())->capture_default_str();
  a->add_option("--top-k", o->top_k, "Choose among the k likeliest; 0: all")->check(whole(0));
  a->add_option("--seed", o->seed, "Seed")->check(whole(0))->capture_default_str();
  a->add_flag("--json", o->as_json, "One JSON object");
  a->callback([o, &out] { out.code = sample(*o); });
}

}  // namespace keel::app
