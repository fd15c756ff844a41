// R31: heads and their channels.
#include <cmath>

#include "formats/lint/linter.h"

namespace ropewalk::formats::linting {
namespace {

/// Heads and their channels; false where there is no rope to speak of.
bool geometry(Linter& lint) {
  bool good = true;
  for (const char* key : {"head_dim", "num_attention_heads", "hidden_size"}) {
    const Json* value = lint.find(key);
    if (!value || !(value->is_number() || value->is_string() || value->is_boolean())) continue;  // lists: one a layer
    const double most = std::string_view(key) == "head_dim" ? 65536 : 2147483647, n = lint.number(key).value_or(0);
    if (value->is_number() && n >= 1 && n <= most && n == std::floor(n)) continue;
    good = false;
    lint.add("R31", Severity::error, lint.at(key),
             std::string(key) + " is " + shown(*value) + ", a whole number from 1 to " + trimmed(most) +
                 " was expected: engines stop where they build the model",
             value->is_string() ? "write it without quotes" : "correct the geometry");
  }
  if (!good) lint.explain_all();
  return good;
}

/// Without a width the class's own counts (4096 channels and 32 heads in most of those compared, 5.23.0), whatever the
/// weights are; converters raise KeyError.
void width_given(Linter& lint) {
  if (!lint.compared || !lint.prefix.empty() || lint.find("head_dim")) return;  // a text_config leaves defaults out
  for (const char* key : {"hidden_size", "num_attention_heads"}) {
    if (lint.find(key)) continue;
    lint.add("R31", Severity::warning, lint.prefix,
             std::string("there is no ") + key +
                 " and no head_dim: transformers, and vllm and sglang through it, take the number of its class, "
                 "whatever the weights have; converters stop",
             std::string("add ") + key);
    lint.explain_all();
  }
}

/// Without head_dim the division must come out. transformers 5.23 refuses the file for llama and gemma (ValueError:
/// the hidden size is not a multiple of the number of attention heads) and rounds down for others.
void whole_heads(Linter& lint) {
  const auto hidden = lint.number("hidden_size"), heads = lint.number("num_attention_heads");
  const Json* given = lint.find("head_dim");
  const std::string& type = lint.model_type;
  if (!hidden || !heads || (given && !given->is_null()) || lint.latent() || std::fmod(*hidden, *heads) == 0) return;
  const bool derived = type == "llama" || type == "mistral" || type == "mixtral" || type == "qwen2" || type == "phi3";
  if (!derived) return;  // others have a head_dim of their own where the file has none
  const bool refused = type == "llama";
  lint.add("R31", refused ? Severity::error : Severity::warning, lint.at("num_attention_heads"),
           "hidden_size " + trimmed(*hidden) + " is no multiple of num_attention_heads " + trimmed(*heads) +
               ", and there is no head_dim" + (refused ? ": transformers raises ValueError" : ""),
           refused ? "correct the geometry" : "write head_dim, or correct the geometry");
  if (refused) lint.explain_all();
}

/// The share of a head's channels that rotate.
void share(Linter& lint, const Json* value, const std::string& pointer) {
  if (!value || value->is_null()) return;
  const double n = value->is_number() ? value->get<double>() : 0;
  if (n > 0 && n <= 1) {
    const int head = lint.latent() ? 0 : lint.head_dim(), rotate = int(head * n);
    if (head < 2 || (rotate >= 2 && rotate % 2 == 0)) return;
    lint.add("R31", lint.compared ? Severity::error : Severity::warning, pointer,
             "partial_rotary_factor is " + shown(*value) + ", by which " + std::to_string(rotate) + " of " +
                 std::to_string(head) + " channels rotate: an even number from 2 was expected",
             "write the share of a head's channels that rotate");
    if (lint.compared) lint.explain_all();
    return;
  }
  lint.add("R31", pointer, "partial_rotary_factor is " + shown(*value) + ", a share in (0, 1] was expected",
           value->is_string() ? "write it without quotes" : "write the share of a head's channels that rotate");
  lint.explain_all();
}

void rotated_channels(Linter& lint) {
  share(lint, lint.find("partial_rotary_factor"), lint.at("partial_rotary_factor"));
  for (const RopeDict& dict : lint.dicts)  // one in quotes there is R20's
    if (dict.number("partial_rotary_factor"))
      share(lint, dict.find("partial_rotary_factor"), dict.at("partial_rotary_factor"));
  const int d = lint.head_dim();
  if (d > 4 && d % 2 != 0 && !lint.number("partial_rotary_factor")) {
    lint.add("R31", lint.find("head_dim") ? lint.at("head_dim") : lint.at("hidden_size"),
             "a head has " + std::to_string(d) + " channels, and channels rotate in pairs", "correct the geometry");
    lint.explain_all();
  }
}

/// R31 about engines that split the width although the file has a head_dim.
void ignored_head_dim(Linter& lint) {
  const auto head = lint.number("head_dim"), hidden = lint.number("hidden_size"),
             heads = lint.number("num_attention_heads");
  if (!head || !hidden || !heads || *heads < 1 || *head == std::floor(*hidden / *heads)) return;
  std::vector<std::size_t> hurt;
  for (std::size_t i = 0; i < lint.engines.size(); ++i)
    for (const EngineRope& rope : lint.readings[i].ropes)
      if (rope.spec.rotary_dim == int(*hidden / *heads) && !lint.explained(i, Aspect::frequencies)) {
        if (lint.difference(lint.readings[i]).frequencies) hurt.push_back(i);
        break;
      }
  if (hurt.empty()) return;
  lint.add_for("R31", hurt, lint.at("head_dim"),
               lint.does(hurt, "ignores", "ignore") + " head_dim " + trimmed(*head) +
                   (hurt.size() == 1 ? " and rotates" : " and rotate") +
                   " hidden_size / num_attention_heads = " + trimmed(std::floor(*hidden / *heads)) + " channels",
               "use a version that reads it");
  lint.explain(hurt, Aspect::frequencies);
}

}  // namespace

void head_rules(Linter& lint) {
  if (!geometry(lint)) return;
  width_given(lint);
  whole_heads(lint);
  rotated_channels(lint);
  ignored_head_dim(lint);
}

}  // namespace ropewalk::formats::linting
