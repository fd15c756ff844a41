// G01 - G11: a GGUF's rope as llama.cpp 0.5 reads it. src/llama-model.cpp, src/llama-context.cpp, src/models/*.cpp.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "formats/lint/linter.h"
#include "lib/error.h"

namespace ropewalk::formats::linting {
namespace {

/// Whose loaders ask for rope_freqs.weight.
constexpr std::array kDivisorArchs = {
    "apertus",       "arcee",         "cogvlm",      "deci",     "dflash",           "eagle3",  "exaone",
    "exaone4",       "exaone-moe",    "falcon-h1",   "gemma4",   "gemma4-assistant", "granite", "granitemoe",
    "granitehybrid", "graniteswitch", "granite_swa", "llada",    "llada-moe",        "llama",   "llama-embed",
    "llama4",        "minicpm",       "mistral3",    "nanbeige", "pangu-embedded",   "refact",  "step35"};

constexpr const char* kUnread = "unread";  // for a rope.scaling.type that nobody knows

class GgufLinter {
 public:
  GgufLinter(const LintInput& input, const LintOptions& options)
      : file_(*input.gguf), path_(input.gguf_path), options_(options) {
    try {
      arch_ = file_.string("general.architecture").value_or("");
    } catch (const Error&) {
      arch_ = "";
    }
  }

  std::vector<Finding> run() {
    if (arch_.empty()) {
      add("R00", Severity::error, "general.architecture", "the file names no architecture",
          "write the file again with a current converter");
      return std::move(findings_);
    }
    if (!file_.find(key("context_length")) && !file_.find(key("rope.freq_base"))) return std::move(findings_);
    const std::string type = scaling_type();
    const double s = factor(type);
    context(type, s);
    unread_keys(type, s);
    base();
    divisors(type, s);
    if (const auto attention = number("rope.scaling.attn_factor"); attention && !(*attention > 0))
      add("G09", Severity::error, key("rope.scaling.attn_factor"),
          "rope.scaling.attn_factor is " + trimmed(*attention) + ": queries and keys are multiplied by it",
          "write what the model was trained with, or take it out");
    loads();
    return std::move(findings_);
  }

 private:
  /// What the rules above did not foresee.
  void loads() {
    if (std::any_of(findings_.begin(), findings_.end(),
                    [](const Finding& one) { return one.severity == Severity::error; }))
      return;
    try {
      if (!reading().error) return;
      if (!Linter::fails(reading()))  // llama.cpp goes on, with angles that are no rotation
        add("G09", Severity::error, reading().error->pointer, reading().error->text, "correct the file");
      else
        add("E01", Severity::error, reading().error->pointer, "llama.cpp does not load it: " + reading().error->text,
            "write the file again with a current converter");
    } catch (const Error& error) {
      add("E01", Severity::error, "", error.problem(), error.fix());
    }
  }

  std::string key(const char* name) const { return arch_ + "." + name; }

  /// Good until the next add(): what needs number(), which may add, comes before.
  Finding& add(std::string_view rule, Severity severity, const std::string& where, std::string message,
               std::string fix) {
    Finding finding;
    finding.rule = rule;
    finding.severity = severity;
    finding.file = path_;
    finding.pointer = where;
    finding.message = std::move(message);
    finding.fix = std::move(fix);
    finding.engines = {newest(Engine::llama_cpp).title()};
    findings_.push_back(std::move(finding));
    return findings_.back();
  }

  /// A finite number; nullopt, and a finding when it is asked for first, if the key holds something else.
  std::optional<double> number(const char* name) {
    const std::string where = key(name);
    if (!file_.find(where)) return std::nullopt;
    const auto no_number = [&](std::string problem, std::string fix) {
      if (no_numbers_.insert(where).second) add("G09", Severity::error, where, std::move(problem), std::move(fix));
    };
    try {
      const std::optional<double> value = file_.number(where);
      if (value && std::isfinite(*value)) return value;
      no_number(where + " is not finite: every angle made of it is neither", "write the number");
    } catch (const Error& error) {
      no_number(error.problem(), error.fix());
    }
    return std::nullopt;
  }
  std::optional<double> count(const char* name) {
    const std::string where = key(name);
    const GgufValue* value = file_.find(where);
    if (!value || value->type == GgufType::array) return std::nullopt;
    return number(name);
  }

  /// kUnread: one at which llama.cpp stops, and G05 has said so.
  std::string scaling_type() {
    const std::string where = key("rope.scaling.type");
    std::optional<std::string> type;
    try {
      type = file_.string(where);
    } catch (const Error& error) {
      add("G05", Severity::error, where, error.problem(), error.fix());
      return kUnread;
    }
    if (type) {
      if (*type == "none" || *type == "linear" || *type == "yarn" || *type == "longrope") return *type;
      add("G05", Severity::error, where, "rope.scaling.type is '" + type->substr(0, 60) + "', at which llama.cpp stops",
          "write none, linear, yarn or longrope");
      return kUnread;
    }
    return "";
  }

  double factor(const std::string& type) {
    const bool modern = file_.find(key("rope.scaling.factor")), legacy = file_.find(key("rope.scale_linear"));
    if (modern && legacy)
      add("G11", Severity::warning, key("rope.scale_linear"),
          "rope.scale_linear, the old name, stands beside rope.scaling.factor and is not read", "take it out");
    const char* name = modern ? "rope.scaling.factor" : "rope.scale_linear";
    const double s = modern || legacy ? number(name).value_or(1) : 1;
    if (s < 0) {
      add("G09", Severity::error, key(name),
          std::string(name) + " is " + trimmed(s) + ": positions would run backwards",
          "write the new context / the original one");
      return 1;
    }
    if (s != 0 && s < 1)
      add("G09", Severity::error, key(name),
          std::string(name) + " is " + trimmed(s) + ": below 1 it shortens the context; 1/factor is " + trimmed(1 / s),
          "write the new context / the original one");
    if (s > 16384)
      add("G09", Severity::error, key(name),
          std::string(name) + " is " + trimmed(s) + ", which no context has been extended by",
          "write the new context / the original one");
    if (type.empty() && s > 1)
      add("G02", Severity::warning, key(name), "there is a factor and no rope.scaling.type: llama.cpp takes linear",
          "write rope.scaling.type, linear if that is meant");
    if (type == "none" && s > 1)
      add("G02", Severity::warning, key(name), "rope.scaling.type is none: the factor " + trimmed(s) + " has no effect",
          "write the type, or take the factor out");
    if ((type == "yarn" || type == "linear") && (s == 0 || s == 1) && !(modern && s == 1))
      add("G02", Severity::warning, key("rope.scaling.type"),
          "rope.scaling.type is " + type + " and there is no factor: nothing is scaled", "write rope.scaling.factor");
    return s == 0 ? 1 : s;
  }

  void context(const std::string& type, double s) {
    const double served = count("context_length").value_or(0);
    const double original = count("rope.scaling.original_context_length").value_or(0);
    if (type == "yarn" && s > 1 && original < 1) {
      const std::string name = "rope.scaling.original_context_length";
      const bool there = file_.find(key(name.c_str()));
      add("G03", Severity::warning, key(there ? name.c_str() : "rope.scaling.type"),
          (there ? name + " is no number of tokens: " : "yarn without " + name + ": ") +
              "llama.cpp takes context_length, " + trimmed(served) + ", and serves that by default",
          "write the context the base model was trained with, or give it with --yarn-orig-ctx and the one to serve "
          "with -c");
      return;
    }
    if (type != "yarn" || original < 1 || served < 1 || s <= 1) return;
    const double product = s * original;
    if (std::abs(product - served) > 0.01 * product) {
      const EngineRope* rope = as_read();
      Finding& finding = add("G04", Severity::warning, key("context_length"),
                             "factor x original is " + trimmed(product) + " and context_length " + trimmed(served) +
                                 ", which llama.cpp serves by default",
                             "correct the key");
      if (rope && product <= std::numeric_limits<int>::max())  // -c takes an int
        add_flags(finding, wanted_rope(rope->spec, int(product)));
    }
    if (options_.context && *options_.context > product * 1.001)
      add("S1", Severity::warning, key("rope.scaling.factor"),
          std::to_string(*options_.context) + " tokens are asked for and the rope was scaled for " + trimmed(product),
          "raise the factor, with --rope-scale in a run");
  }

  bool reads_betas() const { return arch_ == "grok" || arch_ == "mistral3"; }
  bool reads_log_multiplier() const { return arch_ == "deepseek2" || arch_ == "deepseek32" || arch_ == "mistral3"; }

  /// The rope that the keys which the loader passes over would make.
  std::optional<RopeSpec> with_unread_keys() {
    const EngineRope* rope = as_read();
    const auto* read = rope ? std::get_if<RopeYarn>(&rope->spec.scaling) : nullptr;
    if (!read) return std::nullopt;
    RopeSpec spec = rope->spec;
    RopeYarn yarn = *read;
    yarn.beta_fast = number("rope.scaling.yarn_beta_fast").value_or(yarn.beta_fast);
    yarn.beta_slow = number("rope.scaling.yarn_beta_slow").value_or(yarn.beta_slow);
    yarn.extrapolation_factor = number("rope.scaling.yarn_ext_factor").value_or(yarn.extrapolation_factor);
    const std::optional<double> attention = number("rope.scaling.yarn_attn_factor");
    if (!(yarn.beta_fast > 0 && yarn.beta_slow > 0 && yarn.extrapolation_factor >= 0) ||
        (attention && !is_attention_factor(*attention)))
      return std::nullopt;
    spec.scaling = yarn;
    if (attention && *attention != 1) spec.attention_factor = *attention;  // 1 is what converters write of nothing
    return spec;
  }

  void unread_keys(const std::string& type, double s) {
    struct Unread {
      const char* name;
      double harmless;  // what is run without the key
      bool read;
    };
    const std::array<Unread, 5> keys = {{{"rope.scaling.yarn_beta_fast", 32, reads_betas()},
                                         {"rope.scaling.yarn_beta_slow", 1, reads_betas()},
                                         {"rope.scaling.yarn_ext_factor", 1, arch_ == "grok"},
                                         {"rope.scaling.yarn_attn_factor", yarn_attention_factor(s), arch_ == "grok"},
                                         {"rope.scaling.yarn_log_multiplier", 0, reads_log_multiplier()}}};
    for (const Unread& one : keys) {
      const std::optional<double> value = number(one.name);
      if (!value || one.read || type != "yarn") continue;
      const bool harmless = std::abs(*value - one.harmless) <= 1e-5 * std::abs(one.harmless) ||
                            (one.harmless != 32 && one.harmless != 0 && *value == 1);
      if (harmless) continue;
      const bool attention = std::string_view(one.name).find("attn") != std::string_view::npos;
      // the log multiplier is of latent attention, beside the rope
      const std::optional<RopeSpec> meant =
          std::string_view(one.name).ends_with("log_multiplier") ? std::nullopt : with_unread_keys();
      Finding& finding = add(
          "G01", Severity::warning, key(one.name),
          std::string(one.name) + " is " + trimmed(*value) + ", which the loader of architecture '" + arch_ +
              "' does not read: it runs " + trimmed(one.harmless),
          attention && !is_attention_factor(*value) ? "take it out: queries and keys are multiplied by such a factor"
          : attention ? "write rope.scaling.attn_factor = " + trimmed(*value / yarn_attention_factor(s)) + " instead"
                      : "write rope_freqs.weight instead (ropewalk convert does), where the architecture loads it");
      if (meant) add_flags(finding, *meant);
    }
  }

  void base() {
    const std::optional<double> theta = number("rope.freq_base");
    if (!theta) {
      if (!file_.find(key("rope.freq_base")) && file_.find(key("rope.dimension_count")))
        add("G08", Severity::info, key("rope.freq_base"), "there is no rope.freq_base: llama.cpp takes 10000",
            "write the base the model was trained with, if it is another");
      return;
    }
    if (!(*theta > 1) || *theta > 1e20)
      add("G08", Severity::error, key("rope.freq_base"),
          "rope.freq_base is " + trimmed(*theta) + ", a base such as 10000 or 1000000 was expected",
          "write the base the model was trained with");
  }

  void divisors(const std::string& type, double s) {
    const auto tensor = [&](const char* name) -> TensorPtr {
      for (const TensorPtr& one : file_.tensors)
        if (one->name() == name) return one;
      return nullptr;
    };
    const TensorPtr freqs = tensor("rope_freqs.weight");
    const TensorPtr longs = tensor("rope_factors_long.weight"), shorts = tensor("rope_factors_short.weight");
    if (freqs && std::find(kDivisorArchs.begin(), kDivisorArchs.end(), arch_) == kDivisorArchs.end())
      add("G07", Severity::error, "rope_freqs.weight",
          "the loader of architecture '" + arch_ +
              "' does not ask for rope_freqs.weight, and llama.cpp refuses files with tensors too many",
          "write the scaling as keys");
    if (freqs && !bad_divisors() && (type == "yarn" || type == "linear" || type.empty()) && s > 1) {
      std::optional<RopeSpec> meant;
      if (const EngineRope* rope = as_read(); rope && !rope->spec.frequency_divisors.empty()) {
        meant = rope->spec;
        meant->scaling = RopeUnscaled{};
        meant->attention_factor = number("rope.scaling.attn_factor").value_or(1);  // it counts beside none too
      }
      Finding& finding =
          add("G06", Severity::warning, "rope_freqs.weight",
              "rope_freqs.weight divides the frequencies and the factor " + trimmed(s) + " divides them again",
              "if the divisors are the whole scaling, write rope.scaling.type = none");
      if (meant) add_flags(finding, *meant);
    }
    if (freqs && (longs || shorts))
      add("G06", Severity::warning, "rope_freqs.weight",
          "rope_freqs.weight stands beside rope_factors_*.weight, which are then not read", "keep one kind");
    if (bool(longs) != bool(shorts))
      add("G10", Severity::error, longs ? "rope_factors_long.weight" : "rope_factors_short.weight",
          std::string("rope_factors_") + (longs ? "short" : "long") +
              ".weight is missing: one list for each side of the original context",
          "write both");
    if (longs && shorts && count("rope.scaling.original_context_length").value_or(0) < 1)
      add("G03", Severity::warning, "rope_factors_long.weight",
          "rope_factors_*.weight without rope.scaling.original_context_length: llama.cpp takes context_length, and so "
          "the short list",
          "write the context the base model was trained with");
    if (type == "longrope" && !longs && !freqs)
      add("G10", Severity::warning, key("rope.scaling.type"),
          "rope.scaling.type is longrope and the file has no rope_factors_*.weight: a plain rope is run",
          "write the tensors, or take the type out");
  }

  /// llama.cpp's own reading of the file. Error for a key of another type than its loader asks for.
  const EngineReading& reading() {
    if (!reading_) {
      EngineOptions options;
      options.context = options_.context;
      reading_ = read_as(newest(Engine::llama_cpp), file_, path_, options);
    }
    return *reading_;
  }
  /// rope_freqs.weight itself is at fault, which loads() says.
  bool bad_divisors() {
    try {
      return reading().error && reading().error->pointer == "rope_freqs.weight";
    } catch (const Error&) {
      return false;
    }
  }
  /// The one rope of that reading; nullptr if there is none, which loads() says.
  const EngineRope* as_read() {
    try {
      return reading().error || reading().ropes.size() != 1 ? nullptr : &reading().ropes.front();
    } catch (const Error&) {
      return nullptr;
    }
  }

  /// The command line that runs `meant` from the file as it is, or why none does.
  void add_flags(Finding& finding, const RopeSpec& meant) {
    add_flags(finding, wanted_rope(meant, options_.context.value_or(reading().context.value_or(1))));
  }
  void add_flags(Finding& finding, const WantedRope& meant) {
    const EngineFlags flags = engine_flags(newest(Engine::llama_cpp), FlagsGguf{&file_, path_}, meant);
    if (!flags.possible) finding.fix += "; no flag does: " + flags.reason;
    else if (!flags.line.empty()) finding.flags.push_back({flags.engine.title(), flags.line});
  }

  const GgufFile& file_;
  const std::string& path_;
  const LintOptions& options_;
  std::string arch_;
  std::optional<EngineReading> reading_;
  std::set<std::string> no_numbers_;  // keys that number() has named
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> gguf_rules(const LintInput& input, const LintOptions& options) {
  return GgufLinter(input, options).run();
}

}  // namespace ropewalk::formats::linting
