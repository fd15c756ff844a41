#include "formats/tensor_inventory.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "lib/error.h"
#include "lib/nearest_word.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kUnusedNamed = 8;  // in warnings, one by one

struct InventoryCheck {
  const ModelConfig& config;
  const std::string& path;
  const std::string& config_place;
  std::size_t n_unused = 0;

  [[noreturn]] void fail(const std::string& problem, const std::string& fix,
                         ErrorKind kind = ErrorKind::bad_input) const {
    throw Error(kind, {.path = path}, problem, fix);
  }

  /// About a tensor that is there: its own file, a shard of several, is the place.
  [[noreturn]] void fail(const LazyTensor& tensor, const std::string& problem, const std::string& fix,
                         ErrorKind kind = ErrorKind::bad_input) const {
    const std::string origin = std::string(tensor.file());
    throw Error(kind, {.path = origin.empty() ? path : origin}, problem, fix);
  }

  void check_known(const LazyTensor& tensor, const ExpectedTensor& expected) const {
    if (tensor.info().shape != expected.shape)
      fail(tensor,
           "tensor '" + expected.name + "' has shape " + shape_text(tensor.info().shape) + ", expected " +
               shape_text(expected.shape) + " by " + config_place,
           "weights and configuration belong to different models, or one of them was edited");
    if (!is_float(tensor.dtype()) && !is_block_type(tensor.dtype()))
      fail(tensor,
           "tensor '" + expected.name + "' holds " + std::string(info(tensor.dtype()).name) +
               ", expected floating point",
           "quantized weights without a quantization_config cannot be interpreted", ErrorKind::unsupported);
  }

  /// What says by its name that a model was saved with something still in it or packed: better known by that than by the
  /// tensors that are missing.
  void check_name(const LazyTensor& tensor) const {
    const std::string& name = tensor.name();
    const auto holds = [&](std::string_view part) { return name.find(part) != std::string::npos; };
    if (holds(".base_layer.") || holds(".lora_A.") || holds(".lora_B."))
      fail(tensor, "tensor '" + name + "' is of a model that was saved with PEFT's adapter layers in it",
           "save what merge_and_unload() returns, or the base and the adapter apart", ErrorKind::unsupported);
    if (holds(".quant_state.bitsandbytes") || name.ends_with(".weight.absmax") || name.ends_with(".weight.quant_map") ||
        name.ends_with(".SCB"))
      fail(tensor,
           "tensor '" + name + "' is part of a weight that bitsandbytes packed and " + config_place +
               " does not describe",
           "put back the quantization_config that it was saved with", ErrorKind::unsupported);
  }

  /// A tensor that expected_tensors() does not list. True: keep it.
  bool check_unknown(const LazyTensor& tensor, const std::vector<std::string>& candidates,
                     std::vector<std::string>& warnings) {
    const std::string& name = tensor.name();
    if (const auto layer = layer_of(name)) {
      if (*layer >= std::uint64_t(config.n_layers))
        fail(tensor,
             "tensor '" + name + "' belongs to layer " + std::to_string(*layer) + ", but " + config_place +
                 " says num_hidden_layers is " + std::to_string(config.n_layers),
             "correct num_hidden_layers, or take configuration and weights from the same model");
      if (name.ends_with(".bias"))
        fail(tensor, "tensor '" + name + "' is a bias, but " + config_place + " says this model has none there",
             config.model_type == "llama" ? "set attention_bias or mlp_bias if the model was trained with biases"
                                          : "the architecture of this model is not " + config.model_type);
      const std::string near = nearest_word(name, candidates, name.size() / 4).value_or("");
      fail(tensor,
           "tensor '" + name + "' is not part of a " + config.model_type + " layer" +
               (near.empty() ? "" : " (nearest: '" + near + "')"),
           "the weights belong to another architecture than " + config_place + " says");
    }
    if (n_unused++ < kUnusedNamed)
      warnings.push_back("tensor '" + name + "' is not part of a " + config.model_type +
                         " model: nothing uses it, and outputs that cannot hold it go without");
    return true;
  }
};

}  // namespace

std::optional<std::uint64_t> layer_of(std::string_view name) {
  if (!name.starts_with(kLayerPrefix)) return std::nullopt;
  name.remove_prefix(kLayerPrefix.size());
  const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  if (digits == 0 || digits > 9 || digits == name.size() || name[digits] != '.') return std::nullopt;
  return std::stoull(std::string(name.substr(0, digits)));
}

std::vector<ExpectedTensor> expected_tensors(const ModelConfig& c) {
  using U = std::uint64_t;
  const U d = U(c.d_model), q = c.d_q(), kv = c.d_kv(), ff = U(c.d_ff), vocab = U(c.n_vocab);
  std::vector<ExpectedTensor> all;
  all.push_back({"model.embed_tokens.weight", {vocab, d}});
  for (int layer = 0; layer < c.n_layers; ++layer) {
    const std::string base = std::string(kLayerPrefix) + std::to_string(layer) + ".";
    const auto linear = [&](const char* name, U out, U in, bool bias, RotaryPairs pairs = RotaryPairs::none) {
      all.push_back({base + name + ".weight", {out, in}, pairs});
      if (bias) all.push_back({base + name + ".bias", {out}, pairs});
    };
    linear("self_attn.q_proj", q, d, c.attention_bias, c.rotary_pairs);
    linear("self_attn.k_proj", kv, d, c.attention_bias, c.rotary_pairs);
    linear("self_attn.v_proj", kv, d, c.attention_bias);
    linear("self_attn.o_proj", d, q, c.attention_bias);
    linear("mlp.gate_proj", ff, d, c.mlp_bias);
    linear("mlp.up_proj", ff, d, c.mlp_bias);
    linear("mlp.down_proj", d, ff, c.mlp_bias);
    all.push_back({base + "input_layernorm.weight", {d}});
    all.push_back({base + "post_attention_layernorm.weight", {d}});
  }
  all.push_back({"model.norm.weight", {d}});
  if (!c.tied_head) all.push_back({"lm_head.weight", {vocab, d}});
  return all;
}

std::vector<TensorPtr> check_inventory(const std::vector<TensorPtr>& tensors, const ModelConfig& config,
                                       const std::string& path, const std::string& config_place,
                                       std::vector<std::string>& warnings) {
  InventoryCheck check{config, path, config_place};
  const std::vector<ExpectedTensor> expected = expected_tensors(config);
  std::unordered_map<std::string_view, const ExpectedTensor*> open;
  std::vector<std::string> names;
  for (const ExpectedTensor& tensor : expected) {
    open.emplace(tensor.name, &tensor);
    names.push_back(tensor.name);
  }
  for (const TensorPtr& tensor : tensors) check.check_name(*tensor);
  std::vector<TensorPtr> kept;
  std::size_t dropped = 0;
  std::unordered_map<std::string_view, bool> seen;
  for (const TensorPtr& tensor : tensors) {
    const std::string& name = tensor->name();
    if (!seen.emplace(name, true).second)
      check.fail(*tensor, "tensor '" + name + "' is there twice, expected once",
                 "the checkpoint is damaged: fetch it again");
    if (name.ends_with("rotary_emb.inv_freq")) {
      ++dropped;  // old transformers saved this buffer; it is computed from the configuration
      continue;
    }
    const auto found = open.find(name);
    if (found == open.end()) {
      if (check.check_unknown(*tensor, names, warnings)) kept.push_back(tensor);
      continue;
    }
    check.check_known(*tensor, *found->second);
    kept.push_back(labelled(tensor, found->second->pairs));
    open.erase(found);
  }
  if (check.n_unused > kUnusedNamed)
    warnings.push_back(std::to_string(check.n_unused - kUnusedNamed) + " more tensors are not part of a " +
                       config.model_type + " model");
  if (dropped > 0)
    warnings.push_back(std::to_string(dropped) +
                       " rotary_emb.inv_freq tensors dropped: frequencies are computed from " + config_place);
  if (!open.empty()) {
    const auto first = std::find_if(expected.begin(), expected.end(),
                                    [&](const ExpectedTensor& tensor) { return open.contains(tensor.name); });
    const std::string more = open.size() > 1 ? " and " + std::to_string(open.size() - 1) + " more" : "";
    check.fail(
        "tensor '" + first->name + "' " + shape_text(first->shape) + more + " missing, expected by " + config_place,
        first->name == "lm_head.weight"
            ? "set tie_word_embeddings to true if the embedding is the head, else fetch the checkpoint again"
            : "the checkpoint is incomplete or its configuration belongs to another model: fetch it again");
  }
  return kept;
}

}  // namespace ropewalk::formats
