// llama.cpp: what convert_hf_to_gguf.py writes, as the loader of the same version reads it. 0.5.0 was run beside
// transformers 4.57.6 and 5.23.0 (src/llama-model.cpp, src/llama-context.cpp, src/models/*.cpp,
// ggml/src/ggml-cpu/ops.cpp); 2025-02 (builds around b4700) is from source.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "formats/engines/llamacpp_convert.h"
#include "formats/engines/rules.h"
#include "formats/gguf_rope.h"
#include "lib/number_text.h"

namespace ropewalk::formats::engines {
namespace {

HfVersion beside(const std::string& text) {
  HfVersion version;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int number = 0;
    const auto [next, status] = std::from_chars(at, end, number);
    if (status != std::errc()) break;
    version.numbers.push_back(number);
    at = next + (next < end);
  }
  if (version.numbers.empty()) not_followed("'" + text.substr(0, 40) + "' is no release of transformers", "");
  return version;
}

class Loader {
 public:
  Loader(Walk& walk, EngineReading& reading, const ConvertedRope& file, bool current)
      : walk_(walk), reading_(reading), file_(file), current_(current) {}

  void load() {
    const int trained = tokens(file_.context, "required argument is not an integer");
    reading_.context = walk_.options.context.value_or(trained);
    // get_key of original_context_length; the context asks n_ctx_orig_yarn only where it is not 0
    original_ = file_.find("rope.scaling.original_context_length") ? *file_.find("rope.scaling.original_context_length")
                                                                   : file_.context;
    if (is_number(original_.json) && number(original_, "") == 0) original_ = file_.context;
    std::optional<Value> base;
    if (const Value* in_file = file_.find("rope.freq_base")) base = *in_file;
    if (flags().theta) base = told(*flags().theta);
    reading_.ropes.push_back(rope("", base ? &*base : nullptr, true));
    if (const Value* sliding = file_.find("rope.freq_base_swa"); sliding && file_.arch == "gemma3") {
      reading_.ropes[0].layer_type = "full_attention";
      reading_.ropes.push_back(rope("sliding_attention", sliding, false));  // scale 1, whatever the file says
    }
    notice_of_keys();
  }

 private:
  const LlamaCppFlags& flags() const { return flags_; }
  /// llama_context's constructor takes what is not >= 0 for not given.
  static LlamaCppFlags obeyed(LlamaCppFlags flags) {
    for (std::optional<double>* one : {&flags.beta_fast, &flags.beta_slow, &flags.ext_factor, &flags.attn_factor})
      if (*one && !(**one >= 0)) one->reset();
    return flags;
  }
  /// A key or tensor of a GGUF, which has no lines to point at; a place in config.json is shown by whoever asks.
  static std::string named(const std::string& pointer) {
    return pointer.empty() || pointer.starts_with("/") ? "" : pointer + ": ";
  }
  static Value told(const Json& value) { return {value, "", "command line"}; }

  EngineRope rope(const std::string& layer_type, const Value* theta, bool scaled) {
    Draft draft(walk_);
    draft.rope.layer_type = layer_type;
    draft.rope.arithmetic = EngineArithmetic::ggml;
    RopeSpec& spec = draft.spec();
    spec.theta = double(float(record_number(draft, "theta", theta ? *theta : walk_.defaulted(10000.0), "")));
    spec.rotary_dim = file_.rotary_dim;
    draft.record("rotary_dim", file_.rotary_dim_from);
    spec.context = *reading_.context;
    if (!(spec.theta > 0)) not_followed(named(theta->pointer) + "a base of " + Json(spec.theta).dump(), theta->pointer);
    if (scaled) scale(draft);
    return draft.finish();
  }

  /// rope.scaling.* of the file, each replaced by its flag (llama_context's constructor).
  void scale(Draft& draft) {
    const Value* type = file_.find("rope.scaling.type");
    const Value chosen = flags().scaling ? told(*flags().scaling) : type ? *type : walk_.defaulted("linear");
    draft.record("method", chosen);
    const std::string name = chosen.json.get<std::string>();
    const double s = name == "none" ? 1 : factor(draft);
    const Value from = flags().original_context ? told(*flags().original_context) : original_;
    const int original = tokens(from, "required argument is not an integer");
    const bool blends = flags().ext_factor ? *flags().ext_factor != 0 : name == "yarn";
    if (blends) {
      draft.record("original_context", from);
      draft.record("beta_fast", flags().beta_fast ? told(*flags().beta_fast) : walk_.defaulted(32));
      draft.record("beta_slow", flags().beta_slow ? told(*flags().beta_slow) : walk_.defaulted(1));
    }
    divide(draft, tokens(original_, "required argument is not an integer"));  // the lists go by the file's alone
    const Value* key = file_.find("rope.scaling.attn_factor");
    std::optional<Value> attention;
    if (key) attention = *key;
    if (flags().attn_factor_key) attention = told(*flags().attn_factor_key);
    double a = attention ? double(float(record_number(draft, "attention_factor", *attention, ""))) : 1;
    if (!(a > 0))
      not_followed(named(attention->pointer) + "an attention factor of " + Json(a).dump(), attention->pointer);
    // overwritten by g(s) where angles are blended, from 0.5 on
    if (flags().attn_factor && (!blends || !current_)) a *= float(*flags().attn_factor);
    if (!blends && !draft.spec().frequency_divisors.empty() && from.json != file_.context.json) {
      draft.spec().original_context = original;  // what the divisors scale
      draft.record("original_context", from);
    }
    run_gguf_scaling(draft.spec(), blends ? "yarn" : name == "yarn" ? "linear" : name, s, original, a);
    if (blends) {
      if (const Value* log_multiplier = file_.find("rope.scaling.yarn_log_multiplier");
          log_multiplier && reads_log_multiplier())
        multiply(draft, *log_multiplier, s, a);
      if (file_.arch == "mistral3") read_betas(draft);
      blend(draft);
    }
    // 2025-02 has no guard below 1: 1 + 0.1 ln s
    if (!current_ && blends) draft.spec().attention_factor = (1 + 0.1 * std::log(s)) * a;
  }

  double factor(Draft& draft) {
    const Value* in_file = file_.find("rope.scaling.factor");
    if (!in_file) in_file = file_.find("rope.scale_linear");  // the old name; only GGUFs have it
    if (!in_file && !flags().factor) return 1;
    const Value value = flags().factor ? told(*flags().factor) : *in_file;
    const double s = double(float(record_number(draft, "factor", value, "")));
    if (s < 0) not_followed(named(value.pointer) + "a factor of " + Json(s).dump(), value.pointer);
    return s == 0 ? 1 : s;
  }

  /// The betas and the mix of the command line.
  void blend(Draft& draft) {
    if (!flags().beta_fast && !flags().beta_slow && !flags().ext_factor) return;
    auto* yarn = std::get_if<RopeYarn>(&draft.spec().scaling);
    if (!yarn) not_followed("a correction range that is upside down, with --yarn-beta or --yarn-ext-factor", "");
    if (flags().beta_fast) yarn->beta_fast = double(float(*flags().beta_fast));
    if (flags().beta_slow) yarn->beta_slow = double(float(*flags().beta_slow));
    if (flags().ext_factor) yarn->extrapolation_factor = double(float(*flags().ext_factor));
  }

  /// src/models/deepseek2.cpp, deepseek32.cpp, mistral3.cpp.
  bool reads_log_multiplier() const {
    return file_.arch == "deepseek2" || file_.arch == "deepseek32" || file_.arch == "mistral3";
  }
  /// deepseek2 and mistral3: g(s, 1) / g(s, mscale_all_dim); in deepseek2 an mscale_all_dim other than 1 is taken for
  /// mscale too (src/llama-context.cpp).
  void multiply(Draft& draft, const Value& log_multiplier, double s, double a) {
    const double all_dim = record_number(draft, "attention_factor", log_multiplier, "");
    if (all_dim == 0) return;
    const double mscale = file_.arch == "deepseek2" && all_dim != 1 ? all_dim : 1;
    draft.spec().attention_factor = yarn_attention_factor(s, mscale) / yarn_attention_factor(s, all_dim) * a;
  }
  /// src/models/mistral3.cpp.
  void read_betas(Draft& draft) {
    auto* yarn = std::get_if<RopeYarn>(&draft.spec().scaling);
    for (const auto& [key, beta] : {std::pair{"rope.scaling.yarn_beta_fast", yarn ? &yarn->beta_fast : nullptr},
                                    std::pair{"rope.scaling.yarn_beta_slow", yarn ? &yarn->beta_slow : nullptr}})
      if (const Value* value = file_.find(key); value && beta) *beta = record_number(draft, key, *value, "");
  }

  /// Loaders of arch llama take rope_freqs and the two lists, phi3 the lists only (llama.cpp 0.5's list is in
  /// docs/rope-engines.md); others do not know the tensors.
  void divide(Draft& draft, int original) {
    const bool is_long = *reading_.context > original;
    const std::vector<float>& divisors = !file_.freqs.empty() ? file_.freqs
                                         : is_long            ? file_.factors_long
                                                              : file_.factors_short;
    if (divisors.empty()) return;
    draft.spec().frequency_divisors.assign(divisors.begin(), divisors.end());
    draft.spec().provenance.push_back(
        {"frequency_divisors",
         file_.rotary_dim_from.source.ends_with(".gguf") ? file_.rotary_dim_from.source : "config.json",
         file_.freqs_pointer});
    for (const char* key : {"long_factor", "short_factor"}) walk_.used({nullptr, file_.freqs_pointer + "/" + key});
    if (file_.freqs.empty())
      walk_.notice(std::string("the ") + (is_long ? "long" : "short") +
                       " list is used at every length, by the context asked for",
                   file_.freqs_pointer);
    for (const double divisor : draft.spec().frequency_divisors)
      if (!(divisor > 0))
        not_followed(named(file_.freqs_pointer) + "a divisor of " +
                         (std::isnan(divisor) ? std::string("NaN") : number_text(divisor, 6)),
                     file_.freqs_pointer);
  }

  void notice_of_keys() {
    const auto reads = [&](std::string_view key) {
      if (key.ends_with("log_multiplier")) return reads_log_multiplier();
      return file_.arch == "mistral3" && key.find("beta") != std::string_view::npos;
    };
    for (const char* key :
         {"rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast",
          "rope.scaling.yarn_beta_slow", "rope.scaling.yarn_log_multiplier"}) {
      const Value* value = file_.find(key);
      if (!value || reads(key)) continue;
      const bool converted = value->source == "config.json";
      walk_.notice((converted ? "the converter writes it as " + file_.arch + "." + key + ", which the loader of "
                              : "the loader of ") +
                       walk_.engine.title() + " does not read " + (converted ? "" : "it ") + "for this architecture",
                   value->pointer);
    }
  }

  Walk& walk_;
  const LlamaCppFlags flags_ = obeyed(walk_.options.llama_cpp);
  EngineReading& reading_;
  const ConvertedRope& file_;
  bool current_;
  Value original_;
};

}  // namespace

void read_as_llama_cpp_gguf(Walk& walk, EngineReading& reading, const ConvertedRope& file) {
  const bool current = walk.engine.at_least({2025, 12});
  if (!current) walk.notice("llama.cpp of 2025-02 was not run: its rules are from its source");
  Loader(walk, reading, file, current).load();
}

void read_as_llama_cpp(Walk& walk, EngineReading& reading) {
  const bool current = walk.engine.at_least({2025, 12});
  if (!current) walk.notice("llama.cpp of 2025-02 was not run: its rules are from its source");
  if (!family_of(walk.model_type()).known)
    walk.notice("model type '" + walk.model_type() +
                    "' was not compared with llama.cpp: the rules common to its architectures are used",
                walk.has("model_type") ? walk.pointer_to("model_type") : "");
  const ConvertedRope file =
      current ? convert_0_5(walk, beside(walk.options.converter_transformers)) : convert_2025_02(walk);
  Loader(walk, reading, file, current).load();
}

}  // namespace ropewalk::formats::engines
