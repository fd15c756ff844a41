// What convert_hf_to_gguf.py of llama.cpp 0.5 writes for llama and mistral beside transformers 5.23.0.
#include "formats/engines/llamacpp_convert.h"
#include "formats/gguf_rope.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

[[noreturn]] void fail(const std::string& problem) {
  throw Error(ErrorKind::unsupported, {}, problem + ", at which convert_hf_to_gguf.py of llama.cpp 0.5 fails",
              "leave out --compat");
}

GgufValue gguf_value(const engines::ConvertedKey& key) {
  using Type = engines::ConvertedKey::Type;
  const Json& value = key.value.json;
  if (key.type == Type::text) return gguf_string(value.get<std::string>());
  if (key.type == Type::u32) return gguf_u32(value.get<std::uint32_t>());
  return gguf_f32(value.is_boolean() ? float(value.get<bool>()) : value.get<float>());
}

}  // namespace

GgufRope gguf_rope_compat(const Json& config) {
  const EngineVersion engine = newest(Engine::llama_cpp);
  const EngineOptions options;
  engines::Walk walk(engine, config, options);
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (const Json* rope = walk.raw(key);
        rope && rope->is_object() && (rope->contains("full_attention") || rope->contains("sliding_attention")))
      fail("rope parameters stand per layer type");
  try {
    const engines::ConvertedRope converted = engines::convert_0_5(walk, {{5, 23, 0}});
    GgufRope out;
    for (const engines::ConvertedKey& key : converted.keys) out.keys.push_back({"llama." + key.name, gguf_value(key)});
    out.frequency_divisors = converted.freqs;
    return out;
  } catch (const engines::Raised& raised) {
    fail(raised.error.kind + " (" + raised.error.text + ")" +
         (raised.error.pointer.empty() ? "" : " for " + raised.error.pointer.substr(1)));
  }
}

}  // namespace ropewalk::formats
