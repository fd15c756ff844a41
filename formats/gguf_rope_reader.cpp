// llama.cpp 0.5's reading: the engine's rule (engines/llamacpp.cpp) as a model's rope, its errors as ours.
#include <cmath>

#include "formats/engines/engine.h"
#include "formats/gguf_rope.h"
#include "formats/rope_fields.h"
#include "lib/error.h"

namespace ropewalk::formats {

void run_gguf_scaling(RopeSpec& spec, const std::string& type, double factor, int original_context,
                      double attn_factor) {
  if (type != "yarn") {
    if (factor != 1 && type != "none") spec.scaling = RopeLinear{factor};  // longrope scales by its factor too
    if (attn_factor != 1) spec.attention_factor = attn_factor;
    return;
  }
  const double last_pair = std::ceil(correction_dim(1, spec.rotary_dim, spec.theta, original_context));
  if (last_pair >= 0) {
    spec.scaling = RopeYarn{factor, original_context};
  } else {
    if (spec.frequency_divisors.empty()) spec.frequency_divisors.assign(std::size_t(spec.rotary_dim / 2), 1.0);
    for (std::size_t pair = 1; pair < spec.frequency_divisors.size(); ++pair) spec.frequency_divisors[pair] *= factor;
    spec.attention_factor = yarn_attention_factor(factor);
  }
  if (attn_factor != 1) spec.attention_factor = yarn_attention_factor(factor) * attn_factor;
}

RopeSpec read_gguf_rope(const GgufFile& file, const std::string& path) {
  EngineReading reading = read_as(newest(Engine::llama_cpp), file, path);
  if (reading.error) {
    const EngineError& error = *reading.error;
    const bool stops = error.kind != kNotFollowed;
    if (!stops && (error.pointer.ends_with("rope.dimension_count") || error.pointer.ends_with("attention.key_length")))
      throw Error(ErrorKind::unsupported, {path}, error.pointer + ": " + error.text + " is past what ropewalk follows",
                  "use a model with narrower heads");
    throw Error(stops && error.pointer.ends_with("rope.scaling.type") ? ErrorKind::unsupported : ErrorKind::bad_input,
                {path},
                (stops                                                 ? "llama.cpp 0.5 stops at "
                 : error.text.find(error.pointer) == std::string::npos ? error.pointer + ": "
                                                                       : "") +
                    error.text,
                "correct the file, or convert the model again");
  }
  RopeSpec spec = std::move(reading.ropes.at(0).spec);
  if (const auto fault = rope_fault(spec)) {
    const std::string key = pointer_of(spec, fault->field);
    throw Error(ErrorKind::bad_input, {path}, (key.empty() ? "" : key + ": ") + fault->problem, fault->fix);
  }
  RopeSpec own = spec;
  own.attention_factor = std::nullopt;
  if (spec.attention_factor == rope_table(own, 1).attention_factor) spec.attention_factor = std::nullopt;
  return spec;
}

}  // namespace ropewalk::formats
