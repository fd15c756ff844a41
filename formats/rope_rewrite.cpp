#include "formats/rope_rewrite.h"

#include <algorithm>
#include <cmath>

#include "formats/config_file.h"
#include "formats/rope_config.h"
#include "formats/rope_fields.h"

namespace ropewalk::formats {

RewrittenRope rewrite_rope(const Json& config, const WantedRope& before, std::string_view spec) {
  RewrittenRope out;
  const Json type = model_part(config).json->value("model_type", Json());
  out.base.model_type = type.is_string() ? type.get<std::string>() : "llama";
  out.base.rope = before.layers.at(0).spec;
  out.base.context = out.base.rope.context;
  out.base.head_dim = out.base.rope.rotary_dim;
  const RopeRequest request = parse_rope_spec(spec, out.base);
  out.config = config_with_rope(config, request, out.base);
  // what the dictionary says by itself: a class may have a rope of its own where there is none (gpt_oss), or refuse it
  const Json dictionary = {{"rope_scaling", request.rope_parameters},
                           {"rope_theta", out.base.rope.theta},
                           {"max_position_embeddings", request.context}};
  std::vector<std::string> warnings;
  out.target = {request.meant
                    ? *request.meant
                    : read_transformers_rope("", "", dictionary, {out.base.head_dim, request.context}, warnings),
                request.context};
  if (const auto* dynamic = std::get_if<RopeDynamic>(&out.target.spec.scaling))
    out.target.context = int(std::min(std::round(dynamic->factor * dynamic->original_context), 2147483647.0));
  return out;
}

}  // namespace ropewalk::formats
