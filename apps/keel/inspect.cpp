#include <memory>

#include "common.h"
#include "keel/io/checkpoint.h"
#include "keel/io/safetensors.h"

namespace keel::app {
namespace {

struct InspectOptions {
  std::string file;
  bool registry = false, as_json = false;
};

json dtypes_json(DTypeSet s) {
  json out = json::array();
  for (int t = 1; t < kDTypes; ++t)
    if (contains(s, DType(t))) out.push_back(name_of(DType(t)));
  return out;
}

json params_json(const ParamsType& p) {
  json out = json::array();
  alignas(16) char plain[1024];
  p.construct(plain);
  FieldSink sink{&out, [](void* context, const FieldInfo& info, void*) {
                   constexpr const char* kinds[] = {"bool", "int", "float", "scalar", "dtype", "dims", "enum", "symbol", "device"};
                   json field{{"name", info.name}, {"type", kinds[int(info.kind)]}, {"doc", info.doc}};
                   if (info.choices)
                     for (const char* const* c = info.choices; *c; ++c) field["choices"].push_back(*c);
                   static_cast<json*>(context)->push_back(field);
                 }};
  p.visit(plain, sink);
  return out;
}

json op_json(const OpDef& d) {
  constexpr const char* casts[] = {"keep", "lower", "fp32"};
  constexpr const char* costs[] = {"memory_bound", "compute_bound", "view"};
  json j{{"name", d.name},
         {"doc", d.doc},
         {"params", params_json(d.params)},
         {"cast", casts[int(d.cast)]},
         {"cost", costs[int(d.cost)]},
         {"primitive", d.is_primitive},
         {"elementwise", d.elementwise},
         {"random", d.random},
         {"gradient", d.vjp         ? "vjp"
                      : d.decompose ? "decomposition"
                                    : "none"},
         {"decomposition", d.decompose != nullptr},
         {"view", d.view != nullptr}};
  j["onnx"] = d.onnx ? json(d.onnx) : json(nullptr);
  j["no_oracle"] = d.why_no_oracle ? json(d.why_no_oracle) : json(nullptr);
  for (const ArgDef& a : d.in)
    j["inputs"].push_back({{"name", a.name},
                           {"dtypes", dtypes_json(a.kinds)},
                           {"optional", a.optional},
                           {"variadic", a.variadic},
                           {"promoted", a.grouped},
                           {"written", a.written}});
  for (const OutDef& o : d.out)
    j["outputs"].push_back({{"name", o.name}, {"alias_of", o.alias_of}, {"only_when_recording", o.only_when_recording}});
  for (const std::string& k : kernels_of(d)) j["kernels"].push_back(k);
  json judges = json::array({"strides", "threads", "red_zones", "errors", "trace", "monitor", "autocast"});
  if (!d.why_no_oracle) judges.push_back(d.decompose ? "decomposition_f64" : "reference_f64");
  if (d.vjp || d.decompose) judges.push_back("gradcheck"), judges.push_back("gradgradcheck"), judges.push_back("frozen_inputs");
  j["judges"] = judges;
  return j;
}

int inspect_registry(bool as_json) {
  json all = json::array();
  for (int64_t i = 0; i < registry().size(); ++i) all.push_back(op_json(registry().op(i)));
  if (as_json) {
    fmt::print("{}\n", all.dump(1));
    return kOk;
  }
  for (const json& j : all)
    fmt::print("{:<24} {:<14} {}\n", j["name"].get<std::string>(),
               j.contains("kernels")   ? "kernel"
               : j["view"].get<bool>() ? "view"
                                       : "decomposition",
               j["doc"].get<std::string>());
  fmt::print("{} ops\n", all.size());
  return kOk;
}

int inspect_file(const std::string& path, bool as_json) {
  const StateDict tensors = load(path);
  json j{{"file", path}, {"tensors", json::array()}};
  int64_t elements = 0, bytes = 0;
  for (const auto& [name, t] : tensors) {
    std::vector<int64_t> shape(t.shape().begin(), t.shape().end());
    j["tensors"].push_back({{"name", name}, {"dtype", name_of(t.dtype())}, {"shape", shape}, {"bytes", t.nbytes()}});
    elements += t.size(), bytes += int64_t(t.nbytes());
  }
  j["elements"] = elements, j["bytes"] = bytes;
  if (auto c = io::read_checkpoint(path, false); c)
    for (const auto& [k, v] : c->metadata) j["metadata"][k] = v;
  else if (auto s = io::read_safetensors(path); s)
    for (const auto& [k, v] : s->metadata) j["metadata"][k] = v;
  if (as_json) {
    fmt::print("{}\n", j.dump(1));
    return kOk;
  }
  for (const json& t : j["tensors"])
    fmt::print("{:<48} {}{}\n", t["name"].get<std::string>(), t["dtype"].get<std::string>(),
               to_string(Dims(t["shape"].get<std::vector<int64_t>>().data(), int64_t(t["shape"].size()))));
  if (j.contains("metadata"))
    for (const auto& [k, v] : j["metadata"].items()) fmt::print("  {} = {}\n", k, v.get<std::string>());
  fmt::print("{} tensors, {} elements, {:.2f} MB\n", j["tensors"].size(), elements, double(bytes) / 1e6);
  return kOk;
}

}  // namespace

void add_inspect(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("inspect", "Show what a file holds, or the registered ops");
  auto o = std::make_shared<InspectOptions>();
  auto* file = a->add_option("file", o->file, "A safetensors, .keel, .npy or .npz file");
  a->add_flag("--registry", o->registry, "Every op with its columns, kernels and judges")->excludes(file);
  a->add_flag("--json", o->as_json, "JSON");
  a->callback([o, &out] {
    if (!o->registry && o->file.empty()) throw CLI::RequiredError("file or --registry");
    out.code = o->registry ? inspect_registry(o->as_json) : inspect_file(o->file, o->as_json);
  });
}

}  // namespace keel::app
