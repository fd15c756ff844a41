#include <charconv>
#include <cmath>

#include "formats/engines/flags_private.h"
#include "lib/number_text.h"

namespace ropewalk::formats {
namespace {

/// One word for a POSIX shell.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// A JSON value as a Python expression.
std::string python(const Json& value) {
  if (value.is_null()) return "None";
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  if (!value.is_structured()) return value.dump();
  std::string out;
  for (const auto& item : value.items())
    out += (out.empty() ? "" : ", ") + (value.is_object() ? Json(item.key()).dump() + ": " : std::string()) +
           python(item.value());
  return value.is_object() ? "{" + out + "}" : "[" + out + "]";
}

class Line {
 public:
  void flag(const std::string& name) { text_ += (text_.empty() ? "" : " ") + name; }
  void flag(const std::string& name, const std::string& value) { flag(name + " " + value); }
  void number(const char* name, const std::optional<double>& value) {
    if (value) flag(name, engines::number_text(*value));
  }
  void tokens(const char* name, const std::optional<int>& value) {
    if (value) flag(name, std::to_string(*value));
  }
  std::string text() const { return text_; }

 private:
  std::string text_;
};

std::string llama_cpp_line(const FlagSet& flags, const std::string& arch) {
  Line line;
  const LlamaCppFlags& rope = flags.llama_cpp;
  line.tokens("-c", flags.context);
  if (rope.scaling) line.flag("--rope-scaling", *rope.scaling);
  line.number("--rope-scale", rope.factor);
  line.number("--rope-freq-base", rope.theta);
  line.tokens("--yarn-orig-ctx", rope.original_context);
  line.number("--yarn-ext-factor", rope.ext_factor);
  line.number("--yarn-attn-factor", rope.attn_factor);
  line.number("--yarn-beta-slow", rope.beta_slow);
  line.number("--yarn-beta-fast", rope.beta_fast);
  if (rope.attn_factor_key)
    line.flag("--override-kv", arch + ".rope.scaling.attn_factor=float:" + engines::number_text(*rope.attn_factor_key));
  for (const auto& item : flags.overrides.items())  // lengths alone
    line.flag("--override-kv", arch + "." + item.key() + "=int:" + item.value().dump());
  return line.text();
}

Json placed(const FlagSet& flags, const Json& overrides) {
  return flags.in_text_config ? Json{{"text_config", overrides}} : overrides;
}

/// Up to 0.9 the rope has flags of its own; --hf-overrides takes the rest, and everything from then on.
std::string vllm_line(const EngineVersion& engine, const FlagSet& flags) {
  Line line;
  Json rest = flags.overrides;
  if (!engine.at_least({0, 10}) && !flags.in_text_config) {
    if (rest.contains("rope_scaling") && rest["rope_scaling"].is_object()) {
      line.flag("--rope-scaling", quoted(rest["rope_scaling"].dump()));
      rest.erase("rope_scaling");
    }
    if (rest.contains("rope_theta")) {
      line.flag("--rope-theta", engines::number_text(rest["rope_theta"].get<double>()));
      rest.erase("rope_theta");
    }
  }
  if (!rest.empty()) line.flag("--hf-overrides", quoted(placed(flags, rest).dump()));
  line.tokens("--max-model-len", flags.context);
  if (flags.remote_code) line.flag("--trust-remote-code");
  return (flags.allow_longer_context ? "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 " : "") + line.text();
}

std::string sglang_line(const FlagSet& flags) {
  Line line;
  if (!flags.overrides.empty()) line.flag("--json-model-override-args", quoted(placed(flags, flags.overrides).dump()));
  line.tokens("--context-length", flags.context);
  if (flags.remote_code) line.flag("--trust-remote-code");
  return (flags.allow_longer_context ? "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 " : "") + line.text();
}

std::string transformers_line(const FlagSet& flags) {
  if (flags.overrides.empty() && !flags.remote_code) return "";
  std::string out = "AutoConfig.from_pretrained(MODEL";
  if (flags.remote_code) out += ", trust_remote_code=True";
  for (const auto& item : flags.overrides.items()) out += ", " + item.key() + "=" + python(item.value());
  return out + ")";
}

}  // namespace

namespace engines {

std::string number_text(double value) { return round_trip_text(value); }

}  // namespace engines

bool FlagSet::empty() const {
  return !context && overrides.empty() && !llama_cpp.any() && !exllamav2.any() && !allow_longer_context && !remote_code;
}

std::string flags_line(const EngineVersion& engine, const FlagSet& flags, const std::string& arch) {
  Line line;
  switch (engine.engine) {
    case Engine::llama_cpp: return llama_cpp_line(flags, arch);
    case Engine::vllm: return vllm_line(engine, flags);
    case Engine::sglang: return sglang_line(flags);
    case Engine::transformers: return transformers_line(flags);
    case Engine::exllamav3: line.tokens("-cs", flags.context); return line.text();
    case Engine::exllamav2: break;
  }
  line.tokens("-l", flags.context);
  line.number("-rs", flags.exllamav2.scale);
  line.number("-ra", flags.exllamav2.alpha);
  line.number("-ry", flags.exllamav2.yarn);
  return line.text();
}

}  // namespace ropewalk::formats
