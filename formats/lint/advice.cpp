// What to do about an engine that reads a file wrongly: the command that writes what it reads, or that none does.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "formats/gguf_rope.h"
#include "formats/lint/linter.h"
#include "formats/rope_base.h"
#include "formats/rope_layers.h"
#include "formats/rope_rewrite.h"
#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::formats::linting {
namespace {

/// extend --rope native can write this rope for all of these, and keeps the context.
bool writable(const Linter& lint, const std::vector<EngineVersion>& engines) {
  WantedRope ropes;
  for (const EngineRope& one : lint.declared) ropes.layers.push_back({one.layer_type, one.spec});
  ropes.context = lint.context;
  try {
    if (ropes.layers.size() == 1 && ropes.layers[0].layer_type.empty()) {
      if (!lint.compared || !lint.prefix.empty()) return false;  // extend takes no others
      const RewrittenRope rewritten = rewrite_rope(lint.file.json, ropes, "native");
      emit_rope(rewritten.config, rewritten.base, rewritten.target, engines);
    } else {
      emit_layer_ropes(lint.file.json, parse_layer_ropes("native", ropes, lint.file.json), engines);
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// A GGUF that ropewalk writes says it, although llama.cpp's converter loses it.
bool in_gguf(const Linter& lint) {
  if (lint.declared.size() != 1 || !lint.prefix.empty() || (lint.model_type != "llama" && lint.model_type != "mistral"))
    return false;
  try {
    const GgufRope rope = gguf_rope(lint.declared.front().spec, lint.head_dim(), lint.context, RopeEncoding::automatic);
    return std::none_of(rope.losses.begin(), rope.losses.end(), [](const Loss& one) { return one.changes_logits; });
  } catch (const Error&) {
    return false;
  }
}

/// The rule that finds it.
std::string rule_of(const RopeContradiction& one) {
  if (one.field == RopeContradiction::Field::theta) return "R07";
  if (one.field == RopeContradiction::Field::original_context) return "R09";
  return one.pointer.ends_with("/type") ? "R02" : "R05";
}

/// The SPEC that says what a type means which transformers does not know; empty: there is none.
std::string replacing_spec(const Linter& lint) {
  const RopeDict* dict = lint.flat();
  if (!dict || !lint.declared.empty() || !lint.compared || !lint.prefix.empty()) return "";
  const auto factor = dict->number("factor"), alpha = dict->number("alpha");
  std::string spec;
  if (dict->type == "ntk-by-parts" && factor && *factor >= 1) spec = "ntk-by-parts,factor=" + trimmed(*factor);
  else if (dict->type == "ntk" && factor && *factor >= 1) spec = "ntk,alpha=" + trimmed(*factor);
  else if (dict->type == "dynamic" && !dict->find("factor") && alpha && *alpha >= 1)
    spec = "ntk,alpha=" + trimmed(*alpha);
  if (spec.empty()) return "";
  auto original = dict->number("original_max_position_embeddings");
  if (!original) original = lint.number("original_max_position_embeddings");
  return spec + ",original=" + (original ? trimmed(*original) : "L, L the context before scaling");
}

/// One word for a POSIX shell.
std::string word(const std::string& text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._-/").find(c) != std::string_view::npos;
  });
  if (plain && !text.empty() && text[0] != '-') return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string at_version(const EngineVersion& engine) {
  return std::string(engine_name(engine.engine)) + "@" + engine.text;
}

}  // namespace

std::optional<Json> whole_number_meant(const Json& value) {
  if (value.is_number_float()) {
    const double n = value.get<double>();
    return n == std::floor(n) && std::abs(n) < 1e15 ? std::optional<Json>(std::int64_t(n)) : std::nullopt;
  }
  if (!value.is_string()) return std::nullopt;
  const std::string& text = value.get_ref<const std::string&>();
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return error == std::errc() && end == text.data() + text.size() ? std::optional<Json>(n) : std::nullopt;
}

std::string source_of(const Linter& lint) {
  const std::filesystem::path path = lint.file.path;
  if (path.filename() != "config.json") return "MODEL";
  return path.has_parent_path() ? word(path.parent_path().string()) : ".";
}

std::string rewrite_advice(const Linter& lint, const std::vector<std::size_t>& hurt, const std::string& pointer) {
  for (const RopeContradiction& one : rope_contradictions(lint.file.json))  // extend refuses it
    return "settle " + rule_of(one) + " first: the file contradicts itself";
  const std::string trip = lint.reference.error ? lint.reference.error->pointer : "";
  const bool in_rope = trip.find("/rope_") != std::string::npos;
  if (!in_rope && !trip.empty() && trip != pointer) return "correct " + trip.substr(1, 100) + " first";
  if (const std::string spec = replacing_spec(lint); in_rope && !spec.empty())
    return "replace it: ropewalk extend " + source_of(lint) + " -o NEW --rope " + spec;
  if ((lint.reference.error && !in_rope) || lint.context == 0 || lint.declared.empty())
    return pointer.empty() ? "correct the file" : "correct " + pointer.substr(1, 100);
  std::vector<EngineVersion> can;
  std::vector<std::string> cannot;
  for (const std::size_t i : hurt) {
    if (writable(lint, {lint.engines[i]})) can.push_back(lint.engines[i]);
    else cannot.push_back(lint.engines[i].title());
  }
  std::vector<EngineVersion> others;  // that need a folder of their own
  if (can.size() > 1 && !writable(lint, can))
    others.assign(can.begin() + 1, can.end()), can.erase(can.begin() + 1, can.end());
  // the command comes last, so that nothing behind it is taken for a part of it
  std::string command, before;
  if (!can.empty()) {
    command = "write what " + std::string(can.size() == 1 && hurt.size() > 1 ? can[0].title() + " reads" : "is read") +
              ": ropewalk extend " + source_of(lint) + " -o NEW --rope native";
    for (const EngineVersion& engine : can) command += " --engine " + at_version(engine);
    const auto window = lint.number("sliding_window");
    if (lint.model_type == "mistral" && window && *window < lint.wanted) command += " --allow-loss sliding_window";
    for (const EngineVersion& engine : others)
      before += "for " + engine.title() + " another folder, with --engine " + at_version(engine) + ", ";
  }
  if (cannot.empty()) return before + command;
  const auto llama_cpp = std::find_if(hurt.begin(), hurt.end(), [&](std::size_t i) {
    return lint.engines[i].engine == Engine::llama_cpp && lint.engines[i].at_least({2025, 12});
  });
  if (cannot.size() == 1 && llama_cpp != hurt.end() && lint.engines[*llama_cpp].title() == cannot[0] && in_gguf(lint)) {
    const std::string gguf = "no config.json makes " + cannot[0] + " run it, a GGUF does";
    const std::string convert = "ropewalk convert " + source_of(lint) + " -o NEW.gguf --type f16";
    return command.empty() ? gguf + ": " + convert : gguf + " (" + convert + "), " + before + command;
  }
  const bool known = lint.compared || !lint.options.engines.empty();
  const std::string none = "no config.json that ropewalk can write makes " + listed(cannot) + " run it" +
                           (known ? "" : ", whose rules for this model type were not compared");
  if (command.empty()) return none + ": leave that engine out, or take another rope";
  return none + ", for the others " + before + command;
}

}  // namespace ropewalk::formats::linting
