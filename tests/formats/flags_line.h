#pragma once

// A line of flags as a shell and the engine's argument parser take it apart: the inverse of flags_line, written from
// the engines' documentation and not from it.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "formats/engines/flags.h"

namespace ropewalk::formats::testing {

/// Words of a POSIX shell: single quotes, and \' outside them.
inline std::vector<std::string> shell_words(const std::string& line) {
  std::vector<std::string> words;
  bool open = false, quoted = false;
  for (std::size_t at = 0; at < line.size(); ++at) {
    const char c = line[at];
    if (!quoted && c == ' ') {
      open = false;
      continue;
    }
    if (!open) words.emplace_back(), open = true;
    if (c == '\'') quoted = !quoted;
    else if (!quoted && c == '\\' && at + 1 < line.size()) words.back() += line[++at];
    else words.back() += c;
  }
  return words;
}

/// The keywords of "AutoConfig.from_pretrained(MODEL, key=value, ...)": Python literals without strings that hold
/// True, False or None.
inline Json python_keywords(const std::string& call) {
  const std::string head = "AutoConfig.from_pretrained(MODEL";
  if (call.rfind(head, 0) != 0) throw std::runtime_error(call);
  std::string rest = call.substr(head.size(), call.size() - head.size() - 1), json = "{";
  int depth = 0;
  for (std::size_t at = 0; at < rest.size(); ++at) {
    if (rest[at] == '{' || rest[at] == '[') ++depth;
    if (rest[at] == '}' || rest[at] == ']') --depth;
    if (depth == 0 && rest[at] == ',') {  // ", key="
      const std::size_t equals = rest.find('=', at);
      json += (json.size() > 1 ? ",\"" : "\"") + rest.substr(at + 2, equals - at - 2) + "\":";
      at = equals;
      continue;
    }
    json += rest[at];
  }
  for (const auto& [from, to] : {std::pair{"False", "false"}, {"True", "true"}, {"None", "null"}})
    for (std::size_t at = json.find(from); at != std::string::npos; at = json.find(from))
      json.replace(at, std::string(from).size(), to);
  return Json::parse(json + "}");
}

inline FlagSet parse_flags_line(const EngineVersion& engine, const std::string& line) {
  FlagSet flags;
  if (engine.engine == Engine::transformers) {
    if (!line.empty()) flags.overrides = python_keywords(line);
    flags.remote_code = flags.overrides.erase("trust_remote_code") > 0;
    return flags;
  }
  const std::vector<std::string> words = shell_words(line);
  for (std::size_t at = 0; at < words.size(); ++at) {
    const std::string& name = words[at];
    if (name == "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1" || name == "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1") {
      flags.allow_longer_context = true;
      continue;
    }
    if (name == "--trust-remote-code") {
      flags.remote_code = true;
      continue;
    }
    if (at + 1 == words.size()) throw std::runtime_error("no value: " + line);
    const std::string& value = words[++at];
    LlamaCppFlags& rope = flags.llama_cpp;
    if (name == "-c" || name == "--max-model-len" || name == "--context-length" || name == "-l" || name == "-cs")
      flags.context = std::stoi(value);
    else if (name == "--hf-overrides" || name == "--json-model-override-args") {
      Json overrides = Json::parse(value);
      flags.in_text_config = overrides.contains("text_config");
      if (flags.in_text_config) overrides = Json(overrides["text_config"]);
      for (const auto& item : overrides.items()) flags.overrides[item.key()] = item.value();
    } else if (name == "--rope-scaling" && engine.engine == Engine::vllm)
      flags.overrides["rope_scaling"] = Json::parse(value);
    else if (name == "--rope-theta") flags.overrides["rope_theta"] = std::stod(value);
    else if (name == "--rope-scaling") rope.scaling = value;
    else if (name == "--rope-scale") rope.factor = std::stof(value);
    else if (name == "--rope-freq-base") rope.theta = std::stof(value);
    else if (name == "--yarn-orig-ctx") rope.original_context = std::stoi(value);
    else if (name == "--yarn-ext-factor") rope.ext_factor = std::stof(value);
    else if (name == "--yarn-attn-factor") rope.attn_factor = std::stof(value);
    else if (name == "--yarn-beta-slow") rope.beta_slow = std::stof(value);
    else if (name == "--yarn-beta-fast") rope.beta_fast = std::stof(value);
    else if (name == "--override-kv") {
      const std::string key = ".rope.scaling.attn_factor=float:", length = ".context_length=int:";
      const std::size_t from = value.find(key), place = value.find(length);
      if (from != std::string::npos) rope.attn_factor_key = double(float(std::atof(value.c_str() + from + key.size())));
      else if (place != std::string::npos)
        flags.overrides["context_length"] = std::stoi(value.substr(place + length.size()));
      else throw std::runtime_error(value);
    } else if (name == "-rs") flags.exllamav2.scale = std::stod(value);
    else if (name == "-ra") flags.exllamav2.alpha = std::stod(value);
    else if (name == "-ry") flags.exllamav2.yarn = std::stod(value);
    else throw std::runtime_error("unknown flag " + name);
  }
  return flags;
}

}  // namespace ropewalk::formats::testing
