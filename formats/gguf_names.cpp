#include <array>
#include <charconv>

#include "formats/gguf_model.h"

namespace ropewalk::formats {
namespace {

struct NamePair {
  std::string_view canonical, gguf;
};
// Stems of arch llama, with what may follow them in a file the converter writes (llama.cpp 0.5, src/models/llama.cpp).
constexpr std::array kGlobal = {NamePair{"model.embed_tokens.weight", "token_embd.weight"},
                                NamePair{"model.norm.weight", "output_norm.weight"},
                                NamePair{"lm_head.weight", "output.weight"}};
constexpr std::array kNorms = {NamePair{"input_layernorm", "attn_norm"},
                               NamePair{"post_attention_layernorm", "ffn_norm"}};
constexpr std::array kLinears = {NamePair{"self_attn.q_proj", "attn_q"}, NamePair{"self_attn.k_proj", "attn_k"},
                                 NamePair{"self_attn.v_proj", "attn_v"}, NamePair{"self_attn.o_proj", "attn_output"},
                                 NamePair{"mlp.gate_proj", "ffn_gate"},  NamePair{"mlp.up_proj", "ffn_up"},
                                 NamePair{"mlp.down_proj", "ffn_down"}};
constexpr std::string_view kLayers = "model.layers.", kBlocks = "blk.";

/// "PREFIX<number>.REST" taken apart.
struct Numbered {
  std::string number;
  std::string_view rest;
};
std::optional<Numbered> numbered(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  unsigned layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  const std::string_view digits = name.substr(0, static_cast<std::size_t>(end - name.data()));
  if (digits != std::to_string(layer)) return std::nullopt;  // "00"
  return Numbered{std::string(digits), name.substr(digits.size() + 1)};
}

struct Direction {
  std::string_view NamePair::*from, NamePair::*to;
  std::string_view from_prefix, to_prefix;
};

std::optional<std::string> translate(std::string_view name, const Direction& way) {
  for (const NamePair& pair : kGlobal)
    if (pair.*way.from == name) return std::string(pair.*way.to);
  const std::optional<Numbered> in_layer = numbered(name, way.from_prefix);
  if (!in_layer) return std::nullopt;
  const std::size_t dot = in_layer->rest.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view stem = in_layer->rest.substr(0, dot), suffix = in_layer->rest.substr(dot);
  const auto out = [&](std::string_view to) {
    return std::string(way.to_prefix) + in_layer->number + "." + std::string(to) + std::string(suffix);
  };
  for (const NamePair& pair : kNorms)
    if (pair.*way.from == stem && suffix == ".weight") return out(pair.*way.to);
  for (const NamePair& pair : kLinears)
    if (pair.*way.from == stem && (suffix == ".weight" || suffix == ".bias")) return out(pair.*way.to);
  return std::nullopt;
}

}  // namespace

std::optional<std::string> gguf_tensor_name(std::string_view canonical) {
  return translate(canonical, {&NamePair::canonical, &NamePair::gguf, kLayers, kBlocks});
}
std::optional<std::string> canonical_tensor_name(std::string_view gguf) {
  return translate(gguf, {&NamePair::gguf, &NamePair::canonical, kBlocks, kLayers});
}

}  // namespace ropewalk::formats
