// llama.cpp 0.5's reading: src/llama-model.cpp (hyperparameters), src/llama-context.cpp (context), ggml/src/ggml.c and
// ggml-cpu/ops.cpp (kernel).
#include <cmath>
#include <limits>

#include "formats/gguf_rope.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kType = "llama.rope.scaling.type";
constexpr const char* kFactor = "llama.rope.scaling.factor";
constexpr const char* kLegacyFactor = "llama.rope.scale_linear";
constexpr const char* kOriginal = "llama.rope.scaling.original_context_length";
constexpr const char* kAttention = "llama.rope.scaling.attn_factor";
constexpr const char* kTheta = "llama.rope.freq_base";
constexpr const char* kContext = "llama.context_length";

class GgufRopeReader {
 public:
  GgufRopeReader(const GgufFile& file, const std::string& path) : file_(file), path_(path) {}

  RopeSpec read() {
    RopeSpec spec;
    spec.rotary_dim = head_dim();
    spec.context = count(kContext).value_or(0);
    if (spec.context == 0)
      fail(std::string("there is no ") + kContext, "write the file again with a current converter");
    const std::string type = scaling_type();
    spec.theta = number(kTheta, "theta", 10000);
    if (!(spec.theta > 0)) fail(std::string(kTheta) + " is not above 0", "correct the key");
    const double s = type == "none" ? 1 : factor();
    const double attention = number(kAttention, "attention_factor", 1);
    // the engine multiplies by any number: with 0 every score is 0, below it no model was trained
    if (!(attention > 0)) fail(std::string(kAttention) + " is not above 0", "write what the model was trained with");
    const int original = count(kOriginal).value_or(0) > 0 ? *count(kOriginal) : spec.context;
    read_divisors(spec, original);

    if (type == "yarn") {
      if (spec.theta == 1) fail(std::string(kTheta) + " is 1, with which YaRN's ramp has no bounds", "correct the key");
      record("original_context", count(kOriginal).value_or(0) > 0 ? kOriginal : kContext);
      record("factor", kFactor);
      record("beta_fast", "");
      record("beta_slow", "");
    }
    run_gguf_scaling(spec, type, s, original, attention);
    if (type != "yarn" && !spec.frequency_divisors.empty() && original != spec.context) {
      spec.original_context = original;  // what the divisors scale; the engine computes nothing from it
      record("original_context", kOriginal);
    }
    spec.provenance = std::move(provenance_);
    return spec;
  }

 private:
  [[noreturn]] void fail(const std::string& problem, const std::string& fix,
                         ErrorKind kind = ErrorKind::bad_input) const {
    throw Error(kind, {path_, std::nullopt, std::nullopt, std::nullopt}, problem, fix);
  }
  void record(const char* field, const std::string& key) {
    provenance_.push_back({field, key.empty() ? "default of llama.cpp 0.5" : path_, key});
  }

  std::optional<int> count(const char* key) const {
    const std::optional<std::uint64_t> value = file_.integer(key);
    if (!value) return std::nullopt;
    if (*value > std::uint64_t(std::numeric_limits<int>::max()))
      fail(std::string(key) + " is " + std::to_string(*value) + ", at most 2147483647 was expected", "correct the key");
    return int(*value);
  }
  double number(const char* key, const char* field, double otherwise) {
    const std::optional<double> value = file_.number(key);
    record(field, value ? key : "");
    if (value && !std::isfinite(*value)) fail(std::string(key) + " is not a finite number", "correct the key");
    return value.value_or(otherwise);
  }

  std::string scaling_type() {
    const std::optional<std::string> type = file_.string(kType);
    record("method", type ? kType : "");
    if (!type) return "linear";
    if (*type != "none" && *type != "linear" && *type != "yarn" && *type != "longrope")
      fail(std::string(kType) + " is '" + type->substr(0, 60) + "', at which llama.cpp 0.5 aborts",
           "none, linear, yarn and longrope are known", ErrorKind::unsupported);
    return *type;
  }

  /// 0 counts as absent, and only if the key is absent the old name is asked.
  double factor() {
    const char* key = file_.find(kFactor) ? kFactor : file_.find(kLegacyFactor) ? kLegacyFactor : nullptr;
    const double s = key ? number(key, "factor", 0) : 0;
    if (s == 0) return 1;
    if (s < 0) fail(std::string(key) + " is below 0", "correct the key");
    return s;
  }

  int head_dim() const {
    std::optional<int> dim = count("llama.attention.key_length");
    if (!dim) {  // head_count may be an array with a number per layer, which is only looked at where it is needed
      const std::optional<int> heads = count("llama.attention.head_count"), width = count("llama.embedding_length");
      if (heads && width && *heads > 0) dim = *width / *heads;
    }
    if (!dim)
      fail(
          "neither llama.attention.key_length nor llama.embedding_length and llama.attention.head_count say how wide a "
          "head is",
          "write the file again with a current converter");
    const int rotated = count("llama.rope.dimension_count").value_or(*dim);
    if (rotated != *dim)
      fail("llama.rope.dimension_count is " + std::to_string(rotated) + " in heads of " + std::to_string(*dim) +
               ", which llama.cpp 0.5 refuses for this arch",
           "correct the key");
    if (*dim < 2 || *dim % 2 != 0)
      fail("a head has " + std::to_string(*dim) + " channels, an even number from 2 was expected", "correct the key");
    return *dim;
  }

  void read_divisors(RopeSpec& spec, int original) {
    const char* name = kGgufRopeFreqs;
    TensorPtr tensor = find(name);
    if (!tensor)
      tensor = find(name = spec.context > original ? "rope_factors_long.weight" : "rope_factors_short.weight");
    if (!tensor) return;
    const std::uint64_t expected = std::uint64_t(spec.rotary_dim) / 2;
    if (tensor->info().elements() != expected || tensor->dtype() != DType::f32)
      fail("tensor '" + std::string(name) + "' has " + std::to_string(tensor->info().elements()) + " elements, " +
               std::to_string(expected) + " of type f32 were expected",
           "convert the model again");
    std::vector<float> values(expected);
    tensor->prepare();
    tensor->read_f32({0, tensor->info().rows()}, values);
    for (float value : values)
      if (!(value > 0))
        fail("tensor '" + std::string(name) + "' has an element that is not above 0", "convert the model again");
    spec.frequency_divisors.assign(values.begin(), values.end());
    record("frequency_divisors", name);
  }
  TensorPtr find(std::string_view name) const {
    for (const TensorPtr& tensor : file_.tensors)
      if (tensor->name() == name) return tensor;
    return nullptr;
  }

  const GgufFile& file_;
  const std::string& path_;
  std::vector<RopeProvenance> provenance_;
};

}  // namespace

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

RopeSpec read_gguf_rope(const GgufFile& file, const std::string& path) { return GgufRopeReader(file, path).read(); }

}  // namespace ropewalk::formats
