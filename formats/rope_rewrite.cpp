#include "formats/rope_rewrite.h"

#include "formats/config_file.h"
#include "formats/json_fields.h"
#include "formats/rope_base.h"
#include "formats/rope_layers.h"
#include "formats/rope_meaning.h"

namespace ropewalk::formats {

ModelConfig rope_base_model(const WantedRope& before, const std::string& model_type, int n_vocab) {
  ModelConfig base;
  base.model_type = model_type;
  base.rope = before.layers.at(0).spec;
  base.context = base.rope.context;
  base.head_dim = paired_channels(base.rope);
  base.n_vocab = n_vocab;
  return base;
}

RewrittenRope rewrite_rope(const Json& config, const WantedRope& before, std::string_view spec) {
  const Json type = config.value("model_type", Json()), vocabulary = config.value("vocab_size", Json());
  const bool known = vocabulary.is_number_integer() && vocabulary > 0 && vocabulary <= 1 << 30;
  RewrittenRope out;
  out.base =
      rope_base_model(before, type.is_string() ? type.get<std::string>() : "llama", known ? vocabulary.get<int>() : 0);
  out.request = parse_rope_spec(spec, out.base);
  out.config = config_with_rope(config, out.request, out.base);
  out.target = {out.request.spec, out.request.served};
  return out;
}

std::optional<Error> class_refusal(const std::string& path, const std::string& text, const Json& config) {
  const ModelPart part = model_part(config);
  if (compared_model_type(config) && !part.nested()) return std::nullopt;
  return Error(
      ErrorKind::unsupported, json_place(path, text, part.pointer + "/model_type"),
      "model_type is " + shown(part.json->value("model_type", Json())) +
          (part.nested() ? ", inside a file of several models" : "") +
          ": extend takes classes whose rope was compared with what engines compute, and this is none",
      "it takes llama, mistral, qwen2, qwen3, phi3, gpt_oss, gemma3 and olmo3; ropewalk rope shows what engines make "
      "of others as they are");
}

RopeRewrite rope_rewrite(const std::string& path, const std::string& text, const Json& config,
                         const std::string& spec) {
  RopeRewrite out;
  if (const auto before = layer_ropes(config, spec)) {
    out.before = *before;
    out.after = parse_layer_ropes(spec, *before, config);
    return out;
  }
  const RopeBase base = rope_base(path, text, config, spec);
  RopeMeaning meaning = read_rope_meaning(path, text, base.config);  // a class without a rope is told by this
  out.refused = class_refusal(path, text, config);
  out.before = std::move(meaning.rope);
  out.warnings = std::move(meaning.warnings);
  if (base.warning) out.warnings.push_back(*base.warning);
  out.one = rewrite_rope(*model_part(config).json, out.before, spec);
  out.after = wanted_rope(out.one->target.spec, out.one->target.context);
  return out;
}

EmittedRope RopeRewrite::emit(const Json& config, std::span<const EngineVersion> engines) const {
  if (refused) throw *refused;
  if (one) return emit_rope(one->config, one->base, one->target, engines);
  return emit_layer_ropes(config, after, engines);
}

}  // namespace ropewalk::formats
