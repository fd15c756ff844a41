// The rope of a GGUF as its loader finds it, whatever wrote the file (src/llama-model.cpp of llama.cpp 0.5, load_hparams).
#include <cmath>
#include <limits>

#include "formats/engines/llamacpp_convert.h"
#include "formats/engines/rules.h"
#include "lib/number_text.h"

namespace ropewalk::formats::engines {
namespace {

class GgufKeys {
 public:
  GgufKeys(const GgufFile& file, const std::string& path) : file_(file), path_(path) {
    out_.arch = file.string("general.architecture").value_or("");
    if (out_.arch.empty()) not_followed("the file has no general.architecture", "");
  }

  ConvertedRope read() {
    const std::optional<int> context = count("context_length");
    if (!context) not_followed("the file has no " + key("context_length"), "");
    out_.context = value("context_length", *context);
    dimension();
    add_number("rope.freq_base");
    add_number("rope.freq_base_swa");
    if (const std::optional<std::string> type = file_.string(key("rope.scaling.type"))) {
      if (*type != "none" && *type != "linear" && *type != "yarn" && *type != "longrope")
        raise("error",
              key("rope.scaling.type") + " '" + type->substr(0, 60) +
                  "': GGML_ASSERT(hparams.rope_scaling_type_train != LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED) failed",
              key("rope.scaling.type"));
      out_.keys.push_back({"rope.scaling.type", ConvertedKey::Type::text, value("rope.scaling.type", *type)});
    }
    for (const char* name :
         {"rope.scaling.factor", "rope.scale_linear", "rope.scaling.attn_factor", "rope.scaling.yarn_log_multiplier",
          "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast",
          "rope.scaling.yarn_beta_slow"})
      add_number(name);
    if (const std::optional<int> original = count("rope.scaling.original_context_length"))
      out_.keys.push_back({"rope.scaling.original_context_length", ConvertedKey::Type::u32,
                           value("rope.scaling.original_context_length", *original)});
    tensor("rope_freqs.weight", out_.freqs);
    tensor("rope_factors_long.weight", out_.factors_long);
    tensor("rope_factors_short.weight", out_.factors_short);
    return std::move(out_);
  }

 private:
  std::string key(const std::string& name) const { return out_.arch + "." + name; }
  Value value(const std::string& name, const Json& json) const { return {json, key(name), path_}; }

  std::optional<int> count(const std::string& name) const {
    const std::optional<std::uint64_t> number = file_.integer(key(name));
    if (number && *number > std::uint64_t(std::numeric_limits<int>::max()))
      not_followed(key(name) + " is " + round_trip_text(*number), key(name));
    return number ? std::optional<int>(int(*number)) : std::nullopt;
  }
  void add_number(const std::string& name) {
    const std::optional<double> number = file_.number(key(name));
    if (!number) return;
    if (!std::isfinite(*number)) not_followed(key(name) + " is not a finite number", key(name));
    // deepseek2's and deepseek32's converter writes a tenth of mscale_all_dim, and the loader takes it back
    const bool tenth = name.ends_with("log_multiplier") && out_.arch.starts_with("deepseek");
    out_.keys.push_back({name, ConvertedKey::Type::f32, value(name, tenth ? double(float(*number) / 0.1f) : *number)});
  }
  /// attention.key_length, else the width by the heads; llama's loader refuses a partial rotation.
  void dimension() {
    std::optional<int> head = count("attention.key_length");
    if (!head) {
      const std::optional<int> width = count("embedding_length"), heads = count("attention.head_count");
      if (!width || !heads || *heads < 1) not_followed("the file does not say how wide a head is", "");
      head = *width / *heads;
    }
    const std::optional<int> rotated = count("rope.dimension_count");
    out_.rotary_dim = rotated.value_or(*head);
    out_.rotary_dim_from = value(rotated ? "rope.dimension_count" : "attention.key_length", out_.rotary_dim);
    if (out_.rotary_dim != *head && out_.arch == "llama")
      raise("error",
            key("rope.dimension_count") + ": invalid n_rot: " + std::to_string(out_.rotary_dim) + ", expected " +
                std::to_string(*head),
            key("rope.dimension_count"));
    channels(out_.rotary_dim, out_.rotary_dim_from.pointer);
  }
  void tensor(const char* name, std::vector<float>& into) {
    for (const TensorPtr& found : file_.tensors) {
      if (found->name() != name) continue;
      if (found->dtype() != DType::f32 || found->info().elements() != std::uint64_t(out_.rotary_dim) / 2)
        raise("error",
              std::string("tensor '") + name + "' has wrong shape: " + std::to_string(found->info().elements()) +
                  " elements of type " + std::string(ropewalk::info(found->dtype()).name) + ", expected " +
                  std::to_string(out_.rotary_dim / 2) + " of type f32",
              name);
      into.resize(std::size_t(out_.rotary_dim / 2));
      found->prepare();
      found->read_f32({0, found->info().rows()}, into);
      out_.freqs_pointer = name;
    }
  }

  const GgufFile& file_;
  const std::string& path_;
  ConvertedRope out_;
};

}  // namespace

ConvertedRope rope_of_gguf(const GgufFile& file, const std::string& path) { return GgufKeys(file, path).read(); }

}  // namespace ropewalk::formats::engines
