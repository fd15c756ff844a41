#include "formats/rope_rewrite.h"

namespace ropewalk::formats {

ModelConfig rope_base_model(const WantedRope& before, const std::string& model_type) {
  ModelConfig base;
  base.model_type = model_type;
  base.rope = before.layers.at(0).spec;
  base.context = base.rope.context;
  base.head_dim = paired_channels(base.rope);
  return base;
}

RewrittenRope rewrite_rope(const Json& config, const WantedRope& before, std::string_view spec) {
  const Json type = config.value("model_type", Json());
  RewrittenRope out;
  out.base = rope_base_model(before, type.is_string() ? type.get<std::string>() : "llama");
  out.request = parse_rope_spec(spec, out.base);
  out.config = config_with_rope(config, out.request, out.base);
  out.target = {out.request.spec, out.request.served};
  return out;
}

}  // namespace ropewalk::formats
