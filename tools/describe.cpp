#include "tools/describe.h"

#include <algorithm>
#include <set>

#include "formats/gguf_split.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/ascii_case.h"
#include "lib/error.h"
#include "tools/describe_tokenizer.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

Json number_or_null(std::optional<double> value) { return value ? Json(*value) : Json(nullptr); }

/// The method's own parameters beside factor and original context.
void add_method_keys(Json& json, const RopeSpec& rope) {
  if (const auto* yarn = std::get_if<RopeYarn>(&rope.scaling)) {
    json["beta_fast"] = yarn->beta_fast;
    json["beta_slow"] = yarn->beta_slow;
    json["truncate"] = yarn->truncate;
  } else if (const auto* dynamic = std::get_if<RopeDynamicYarn>(&rope.scaling)) {
    json["beta_fast"] = dynamic->beta_fast;
    json["beta_slow"] = dynamic->beta_slow;
  } else if (const auto* llama3 = std::get_if<RopeLlama3>(&rope.scaling)) {
    json["low_freq_factor"] = llama3->low_freq_factor;
    json["high_freq_factor"] = llama3->high_freq_factor;
  }
}

}  // namespace

Json rope_json(const RopeSpec& rope, int context) {
  const auto original = rope_original_context(rope);
  Json json = {{"method", rope_method_name(rope)},
               {"theta", rope.theta},
               {"rotary_dim", rope.rotary_dim},
               {"factor", number_or_null(rope_factor(rope))},
               {"original_context", original ? Json(*original) : Json(nullptr)},
               {"attention_factor", rope_table(rope, context).attention_factor},
               {"frequency_divisors", !rope.frequency_divisors.empty()}};
  add_method_keys(json, rope);
  json["text"] = describe(rope);
  Json provenance = Json::array();
  for (const RopeProvenance& from : rope.provenance)
    provenance.push_back({{"field", from.field}, {"source", from.source}, {"pointer", from.pointer}});
  json["provenance"] = provenance;
  return json;
}

std::map<DType, std::uint64_t> tensors_by_dtype(const std::vector<TensorPtr>& tensors) {
  std::map<DType, std::uint64_t> counts;
  for (const TensorPtr& tensor : tensors) ++counts[tensor->dtype()];
  return counts;
}

DType dominant_dtype(const std::vector<TensorPtr>& tensors) {
  std::map<DType, std::uint64_t> elements;
  for (const TensorPtr& tensor : tensors) elements[tensor->dtype()] += tensor->info().elements();
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == elements.end() ? DType::f32 : most->first;
}

std::uint64_t total_bytes(const std::vector<TensorPtr>& tensors) {
  std::uint64_t n = 0;
  for (const TensorPtr& tensor : tensors) n += tensor->info().bytes();
  return n;
}

std::uint64_t total_elements(const std::vector<TensorPtr>& tensors) {
  std::uint64_t n = 0;
  for (const TensorPtr& tensor : tensors) n += tensor->info().elements();
  return n;
}

namespace {

/// What an adapter's or a named folder's tokenizer has that the base's has not.
std::string changes_of_base(const formats::Source& source) {
  if (!source.checkpoint.vocabulary || !source.hf || source.tokenizer_origin == "base") return "";
  try {
    const auto base = formats::read_hf_vocabulary(source.hf->folder);
    return base ? vocabulary_changes(*base, *source.checkpoint.vocabulary) : "";
  } catch (const Error&) {
    return "";  // a base whose tokenizer is not read has nothing to compare
  }
}

}  // namespace

std::string tokenizer_text(const formats::Source& source) {
  const std::optional<Vocabulary>& vocabulary = source.checkpoint.vocabulary;
  const int rows = source.checkpoint.config.n_vocab;
  std::string more;
  if (vocabulary && id_count(*vocabulary) != rows)
    more = std::to_string(id_count(*vocabulary)) + " ids for " + std::to_string(rows) + " rows of the embedding";
  if (const std::string changes = changes_of_base(source); !changes.empty())
    more += (more.empty() ? "" : "; ") + changes;
  return source.tokenizer_origin + (more.empty() ? "" : " (" + more + ")");
}

std::string geometry_text(const ModelConfig& config) {
  std::string out = plural(static_cast<std::uint64_t>(config.n_layers), "layer") + " of width " +
                    std::to_string(config.d_model) + ", " + std::to_string(config.n_heads) + " heads of " +
                    std::to_string(config.head_dim);
  if (config.n_kv_heads != config.n_heads) out += " (" + std::to_string(config.n_kv_heads) + " for keys and values)";
  out += ", MLP " + std::to_string(config.d_ff);
  if (config.tied_head) out += ", tied head";
  if (config.attention_bias) out += ", attention biases";
  if (config.mlp_bias) out += ", MLP biases";
  if (config.sliding_window) out += ", sliding window " + std::to_string(*config.sliding_window);
  return out;
}

namespace {

std::vector<std::uint64_t> ranks(const formats::PeftAdapter& adapter) {
  std::set<std::uint64_t> all;
  for (const formats::AdapterModule& module : adapter.modules)
    if (module.rank > 0) all.insert(module.rank);
  return {all.begin(), all.end()};
}

/// Of what target_modules names; patterns may give each its own.
std::set<double> own_scales(const formats::PeftAdapter& adapter) {
  std::set<double> all;
  for (const formats::AdapterModule& module : adapter.modules)
    if (module.by_targets) all.insert(module.scale);
  return all;
}

std::size_t targets(const formats::PeftAdapter& adapter) {
  return std::size_t(std::ranges::count_if(adapter.modules, &formats::AdapterModule::by_targets));
}

/// As the merge report names it: of what target_modules names, or of anything.
std::string kind_word(const formats::PeftAdapter& adapter) {
  for (const formats::AdapterModule& module : adapter.modules)
    if (module.by_targets) return module.kind;
  return adapter.modules.empty() ? "lora" : adapter.modules.front().kind;
}

/// Its alpha, under either name.
Json alpha_of(const formats::PeftAdapter& adapter) {
  for (const char* name : {"lora_alpha", "alpha"})
    if (adapter.config.contains(name) && adapter.config[name].is_number()) return adapter.config[name];
  return nullptr;
}

/// "model" of "model-f16" and of "model.Q8_0".
std::string without_type(const std::string& stem) {
  const std::size_t mark = stem.find_last_of("-.");
  if (mark == std::string::npos) return stem;
  const std::string type = lower_case(stem.substr(mark + 1));
  const std::string base = type.ends_with("_s") || type.ends_with("_m") || type.ends_with("_l")
                               ? type.substr(0, type.size() - 2)  // a mix: q4_k_m
                               : type;
  return dtype_from_name(type) || dtype_from_name(base) ? stem.substr(0, mark) : stem;
}

}  // namespace

std::string adapter_text(const formats::PeftAdapter& adapter, double scale) {
  std::string out = adapter.kind + " of " + plural(targets(adapter), "module");
  const std::vector<std::uint64_t> all = ranks(adapter);
  for (std::size_t i = 0; i < all.size(); ++i) out += (i > 0 ? ", " : ", rank ") + std::to_string(all[i]);
  if (const Json alpha = alpha_of(adapter); !alpha.is_null()) out += ", alpha " + number_text(alpha.get<double>(), 6);
  if (const std::set<double> scales = own_scales(adapter); !scales.empty()) {
    out += ", scale " + number_text(scale * *scales.begin(), 6);
    if (scales.size() > 1) out += " to " + number_text(scale * *scales.rbegin(), 6);
  }
  std::map<std::string, std::uint64_t> others;
  for (const formats::AdapterModule& module : adapter.modules)
    if (!module.by_targets) ++others[module.kind];
  for (const auto& [kind, count] : others) {
    if (kind == "saved") out += ", " + plural(count, "whole tensor");
    else if (kind == "rows") out += ", rows of " + plural(count, "embedding");
    else out += count == 1 ? std::string(", 1 bias") : ", " + std::to_string(count) + " biases";
  }
  return out + (adapter.base_model.empty() ? "" : ", made for '" + adapter.base_model + "'");
}

Json adapter_json(const formats::PeftAdapter& adapter, double scale) {
  const std::set<double> scales = own_scales(adapter);
  return {{"path", adapter.folder.string()},
          {"kind", kind_word(adapter)},
          {"base", adapter.base_model},
          {"modules", targets(adapter)},
          {"others", adapter.modules.size() - targets(adapter)},
          {"ranks", ranks(adapter)},
          {"alpha", alpha_of(adapter)},
          {"scale", scales.size() == 1 ? Json(scale * *scales.begin()) : Json(nullptr)}};
}

double adapter_scale(const formats::Source& source, std::size_t i) {
  const std::size_t alone = source.adapters.size() - source.spec.adapters.size();  // SOURCE was an adapter's folder
  return i < alone ? 1 : source.spec.adapters[i - alone].scale;
}

std::string model_name(const formats::Source& source) {
  namespace fs = std::filesystem;
  if (source.hf) {
    const fs::path folder = fs::weakly_canonical(source.hf->folder);
    if (folder.parent_path().filename() == "snapshots") {  // Hub cache: models--org--name/snapshots/REV
      const std::string repository = folder.parent_path().parent_path().filename().string();
      return repository.substr(repository.rfind("--") == std::string::npos ? 0 : repository.rfind("--") + 2);
    }
    return folder.filename().string();
  }
  const auto shard = formats::parse_shard_name(source.spec.model);
  return without_type(shard ? shard->stem : fs::path(source.spec.model).stem().string());
}

std::string described_by(const formats::Source& source) {
  if (source.gguf) return source.gguf->files.front()->path();
  if (source.hf) return (source.hf->folder / "config.json").lexically_normal().string();
  return source.spec.model;
}

}  // namespace ropewalk::tools
