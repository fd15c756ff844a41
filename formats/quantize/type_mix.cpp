#include "formats/quantize/type_mix.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "formats/quantize/mix_rules.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

bool contains(const std::string& name, std::string_view part) { return name.find(part) != std::string::npos; }

TensorRole role_of(const std::string& name) {
  struct Part {
    const char* part;
    TensorRole role;
  };
  // in this order: a name may hold several
  static constexpr std::array kParts = {
      Part{"attn_qkv.weight", TensorRole::attn_v}, Part{"attn_kv_b.weight", TensorRole::attn_v},
      Part{"attn_v.weight", TensorRole::attn_v},   Part{"attn_k.weight", TensorRole::attn_k},
      Part{"attn_q.weight", TensorRole::attn_q},   Part{"attn_output.weight", TensorRole::attn_output},
      Part{"ffn_up", TensorRole::ffn_up},          Part{"ffn_gate", TensorRole::ffn_gate},
      Part{"ffn_down", TensorRole::ffn_down}};
  if (name == "output.weight") return TensorRole::output;
  if (name == "token_embd.weight" || name == "per_layer_token_embd.weight") return TensorRole::embedding;
  for (const Part& part : kParts)
    if (contains(name, part.part)) return part.role;
  return TensorRole::other;
}

/// Axes without those of length 1 at the outer end, as ggml counts them: [1, 512] is a vector.
std::size_t axes_of(const MixTensor& tensor) {
  std::size_t ones = 0;
  while (ones < tensor.shape.size() && tensor.shape[ones] == 1) ++ones;
  return std::max<std::size_t>(1, tensor.shape.size() - ones);
}

std::uint64_t columns_of(const MixTensor& tensor) { return tensor.shape.empty() ? 1 : tensor.shape.back(); }
bool fits(const MixTensor& tensor, DType dtype) {
  return columns_of(tensor) % std::uint64_t(info(dtype).block_elements) == 0;
}

[[noreturn]] void throw_no_fit(const MixTensor& tensor, DType dtype, const char* fix) {
  throw Error(ErrorKind::unsupported, {},
              "tensor '" + tensor.name + "' has rows of " + std::to_string(columns_of(tensor)) + ", and " +
                  std::string(info(dtype).name) + " takes " + std::to_string(info(dtype).block_elements) +
                  " weights a block",
              fix);
}

bool may_be_quantized(const MixTensor& tensor, const MixModel& model, const MixOptions& options) {
  const std::string& name = tensor.name;
  if (axes_of(tensor) < 2 || !name.ends_with("weight")) return false;
  if (name == "output.weight" && options.leave_output) return false;
  if (name == "position_embd.weight" || name == "token_types.weight") return false;
  const auto in_name = [&](const char* part) { return contains(name, part); };
  if (std::any_of(kKeptTensors.begin(), kKeptTensors.end(), in_name)) return false;
  return model.architecture != "glm5-next" ||
         std::none_of(kKeptTensorsOfGlm5Next.begin(), kKeptTensorsOfGlm5Next.end(), in_name);
}

/// The shapes that llama.cpp 0.5 calls "70B": their attn_v is small beside the rest and gets more bits.
bool is_70b(const MixModel& model) {
  const std::string& name = model.architecture;
  if (name == "jais2") return model.n_layers == 68;
  if (model.n_layers != 80) return false;
  if (name == "llama" || name == "llama-embed") return model.n_experts != 8 && model.n_heads != model.n_kv_heads;
  return name == "deci" || name == "olmo" || name == "qwen2";
}

bool needs_importance(const std::string& name, DType dtype, FileType type) {
  const TensorRole role = role_of(name);
  if (role == TensorRole::output || role == TensorRole::embedding) return false;
  static constexpr std::array kNeed = {DType::iq3_xxs, DType::iq2_xxs, DType::iq2_xs,
                                       DType::iq2_s,   DType::iq1_m,   DType::iq1_s};
  return std::find(kNeed.begin(), kNeed.end(), dtype) != kNeed.end() ||
         (dtype == DType::q2_k && type == FileType::q2_k_s);
}

/// blk.N. in front, or nullopt.
std::optional<int> layer_in(const std::string& name) {
  if (!name.starts_with("blk.")) return std::nullopt;
  int layer = 0;
  const auto [end, code] = std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  if (code != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  return layer;
}

/// One pass over the tensors: the rules' counters.
class Mixer {
 public:
  Mixer(const std::vector<MixTensor>& tensors, const MixModel& model, const MixOptions& options)
      : model_(model), options_(options), mask_(types(options.type)) {
    for (const MixTensor& tensor : tensors) {
      const TensorRole role = role_of(tensor.name);
      if (role == TensorRole::attn_v) ++n_attn_v_;
      if (role == TensorRole::output) tied_ = false;
    }
  }

  MixedTensor take(const MixTensor& tensor) {
    MixedTensor mixed{tensor.dtype, tensor.dtype};
    if (const auto exact = options_.exact.find(tensor.name); exact != options_.exact.end()) {
      if (!fits(tensor, exact->second)) throw_no_fit(tensor, exact->second, "choose another type for it");
      mixed.dtype = mixed.wanted = exact->second;
      return mixed;
    }
    if (!may_be_quantized(tensor, model_, options_)) return mixed;
    mixed.wanted = chosen(tensor);
    mixed.dtype = that_fits(tensor, mixed.wanted);
    mixed.needs_importance = needs_importance(tensor.name, mixed.dtype, options_.type);
    return mixed;
  }

 private:
  DType base() const { return info(options_.type).base; }
  const TensorTypeRule* rule_for(const std::string& name) const {
    for (const TensorTypeRule& rule : options_.rules)
      if (std::regex_search(name, rule.pattern)) return &rule;
    return nullptr;
  }
  DType chosen(const MixTensor& tensor);
  DType that_fits(const MixTensor& tensor, DType wanted) const;
  DType by_mix(const MixTensor& tensor);
  DType by_rules(const MixTensor& tensor, TensorRole role);
  DType of_output(const MixTensor& tensor) const;
  bool holds(unsigned when, int i, int n) const;
  int count(TensorRole role) { return counters_[static_cast<std::size_t>(role)]++; }

  const MixModel& model_;
  const MixOptions& options_;
  const std::uint64_t mask_;
  int n_attn_v_ = 0;
  bool tied_ = true;  // no output.weight: the embedding stands for it
  std::array<int, static_cast<std::size_t>(TensorRole::other) + 1> counters_{};
};

DType Mixer::chosen(const MixTensor& tensor) {
  const TensorRole role = role_of(tensor.name);
  const TensorTypeRule* rule = rule_for(tensor.name);
  // The per-layer embedding is a large table of its own: a pattern may name it.
  const bool named = rule && tensor.name == "per_layer_token_embd.weight";
  const std::optional<DType> given = role == TensorRole::embedding && !named ? options_.embedding
                                     : role == TensorRole::output            ? options_.output
                                                                             : std::nullopt;
  if (given && !fits(tensor, *given))  // no fallback: llama.cpp 0.5 writes cut rows and fails on them
    throw_no_fit(tensor, *given, "name another type for it");
  if (given) return *given;
  if (!is_block_type(base())) return base();
  return rule ? rule->dtype : options_.pure ? base() : by_mix(tensor);
}

/// `wanted`, or what llama.cpp 0.5 takes instead for rows that are no whole number of its blocks.
DType Mixer::that_fits(const MixTensor& tensor, DType wanted) const {
  if (fits(tensor, wanted)) return wanted;
  DType instead = wanted;  // 32 weights a block: there is nothing smaller to fall back to
  if (info(wanted).block_elements > 32) {
    const auto fallback = std::find_if(kMixFallbacks.begin(), kMixFallbacks.end(),
                                       [&](const MixFallback& row) { return row.wanted == wanted; });
    if (fallback == kMixFallbacks.end())
      throw_no_fit(tensor, wanted, "choose another type: llama.cpp 0.5 has no smaller one to fall back to");
    instead = fallback->instead;
  }
  return fits(tensor, instead) ? instead : DType::f16;
}

DType Mixer::by_mix(const MixTensor& tensor) {
  const TensorRole role = role_of(tensor.name);
  const auto has = [&](const char* part) { return contains(tensor.name, part); };
  if (model_.architecture == "glm5-next" && (has("attn_q_a") || has("attn_q_b") || has("nextn.eh_proj")))
    return DType::q8_0;
  if (role == TensorRole::output || (role == TensorRole::embedding && tied_))
    return options_.output ? *options_.output : of_output(tensor);
  if (options_.type == FileType::mxfp4_moe) {
    const bool stacked = tensor.shape.size() > 2 && tensor.shape[tensor.shape.size() - 3] > 1;
    const bool expert = role == TensorRole::ffn_up || role == TensorRole::ffn_gate || role == TensorRole::ffn_down;
    return stacked && (model_.architecture != "bailingmoe3" || expert) ? DType::mxfp4 : DType::q8_0;
  }
  return by_rules(tensor, role);
}

DType Mixer::of_output(const MixTensor& tensor) const {
  if (options_.type == FileType::mxfp4_moe || model_.architecture == "falcon" || !fits(tensor, base()))
    return DType::q8_0;
  if (mask_ & (kVeryLow | types(FileType::iq3_xxs))) return DType::q5_k;
  return base() == DType::q8_0 ? DType::q8_0 : DType::q6_k;
}

DType Mixer::by_rules(const MixTensor& tensor, TensorRole role) {
  const bool very_low = mask_ & kVeryLow;
  const bool in_layers =
      role == TensorRole::ffn_down || (!very_low && (role == TensorRole::ffn_gate || role == TensorRole::ffn_up));
  int i = role == TensorRole::attn_v || in_layers ? count(role) : 0;
  // Experts of old files are tensors of their own, in any order: counting them does not give the layer.
  if (in_layers && !very_low && model_.n_experts > 1) {
    const std::optional<int> layer = layer_in(tensor.name);
    if (!layer || *layer < 0 || *layer >= model_.n_layers)
      throw Error(ErrorKind::bad_input, {},
                  "tensor '" + tensor.name + "' names no layer of " + std::to_string(model_.n_layers),
                  "the mix of a model with experts goes by layers: check the file");
    i = *layer;
  }
  const int n = role == TensorRole::attn_v ? n_attn_v_ : model_.n_layers;
  const auto rule = std::find_if(kMixRules.begin(), kMixRules.end(), [&](const MixRule& row) {
    return row.role == role && (row.types & mask_) && holds(row.when, i, n);
  });
  DType dtype = rule == kMixRules.end() ? base() : rule->dtype;
  if (role == TensorRole::attn_v && !very_low) {
    if (is_70b(model_) && (dtype == DType::q3_k || dtype == DType::q4_k)) dtype = DType::q5_k;
    if (model_.n_experts == 8) dtype = DType::q8_0;
  }
  return dtype;
}

bool Mixer::holds(unsigned when, int i, int n) const {
  const int gqa = model_.n_kv_heads > 0 ? model_.n_heads / model_.n_kv_heads : 0;
  const bool falcon = model_.architecture == "falcon";
  const bool first = i < n / 8, last = i >= 7 * n / 8;
  const auto needs = [&](unsigned bit, bool condition) { return !(when & bit) || condition; };
  return needs(kGqa4, gqa >= 4) && needs(kWideValues, gqa >= 4 || model_.n_experts >= 4) &&
         needs(kExperts8, model_.n_experts == 8) && needs(kNotExperts8, model_.n_experts != 8) &&
         needs(kImportance, options_.importance) && needs(kNoImportance, !options_.importance) &&
         needs(kFirst2, i < 2) && needs(kFirst4, i < 4) && needs(kFirstEighth, first) &&
         needs(kFirstSixteenth, i < n / 16) && needs(kMoreBits, first || last || (i - n / 8) % 3 == 2) &&
         needs(kMiddle, !first && !last) && needs(kFalcon, falcon) && needs(kNotFalcon, !falcon);
}

/// A number, or the first element of an array with one for each layer.
std::optional<std::uint64_t> first_number(const GgufFile& file, const std::string& key) {
  const GgufValue* value = file.find(key);
  if (!value || value->type != GgufType::array) return file.integer(key);
  const GgufArray& array = *file.array(key);
  if (array.element_type != GgufType::i32 && array.element_type != GgufType::u32)
    throw Error(ErrorKind::bad_input, {.path = file.files.empty() ? "" : file.files.front()->path()},
                "key '" + key + "' is an array of " + gguf_type_name(array.element_type), "expected i32 or u32");
  if (array.packed.size() < sizeof(std::uint32_t)) return std::nullopt;
  std::uint32_t first;
  std::memcpy(&first, array.packed.data(), sizeof(first));
  return first;
}

}  // namespace

MixModel mix_model(const GgufFile& file) {
  MixModel model;
  model.architecture = file.string("general.architecture").value_or("");
  const auto number = [&](const char* name) { return first_number(file, model.architecture + "." + name); };
  const auto as_int = [](std::optional<std::uint64_t> value) {
    return int(std::min<std::uint64_t>(value.value_or(0), 1 << 20));
  };
  model.n_layers = as_int(number("block_count"));
  const auto heads = number("attention.head_count"), kv_heads = number("attention.head_count_kv");
  model.n_heads = as_int(heads);
  model.n_kv_heads = as_int(kv_heads ? kv_heads : heads);
  model.n_experts = as_int(number("expert_count"));
  return model;
}

std::vector<MixedTensor> mix_types(const std::vector<MixTensor>& tensors, const MixModel& model,
                                   const MixOptions& options) {
  Mixer mixer(tensors, model, options);
  std::vector<MixedTensor> mixed;
  mixed.reserve(tensors.size());
  for (const MixTensor& tensor : tensors) mixed.push_back(mixer.take(tensor));
  return mixed;
}

}  // namespace ropewalk::formats
