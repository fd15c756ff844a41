// GGUF rules. What llama.cpp 0.5 does with each key: src/llama-model.cpp, src/models/*.cpp of that release.
#include <algorithm>
#include <cmath>
#include <set>

#include "lib/lazy_tensor.h"
#include "tests/formats/flags_line.h"
#include "tests/formats/lint_support.h"

namespace ropewalk::formats::lint_test {
namespace {

/// A tensor of ones, the third but for itself.
class Named final : public LazyTensor {
 public:
  explicit Named(const char* name, float third = 1)
      : LazyTensor({name, {64}, DType::f32, RotaryPairs::none}), third_(third) {}
  void read_f32(RowRange, std::span<float> values) const override {
    std::fill(values.begin(), values.end(), 1.0f);
    values[2] = third_;
  }

 private:
  float third_;
};

GgufKey number(const std::string& name, double value) { return {name, gguf_f32(float(value))}; }
GgufKey count(const std::string& name, std::uint32_t value) { return {name, gguf_u32(value)}; }

/// A Llama of 4096 tokens and 128 channels a head, `arch` for llama, with these keys.
LintInput gguf(std::vector<GgufKey> more, const std::string& arch = "llama", std::vector<const char*> tensors = {}) {
  GgufFile file;
  file.keys = {{"general.architecture", gguf_string(arch)}, count(arch + ".context_length", 4096),
               count(arch + ".embedding_length", 4096),     count(arch + ".attention.head_count", 32),
               count(arch + ".rope.dimension_count", 128),  number(arch + ".rope.freq_base", 10000)};
  for (GgufKey& key : more) {
    std::erase_if(file.keys, [&](const GgufKey& old) { return old.name == key.name; });
    file.keys.push_back(std::move(key));
  }
  for (const char* tensor : tensors) file.tensors.push_back(std::make_shared<Named>(tensor));
  LintInput input;
  input.gguf = std::move(file);
  input.gguf_path = "model.gguf";
  return input;
}

struct Case {
  std::string rule;
  LintInput input;
  std::optional<Severity> severity;
  std::string pointer = {};
};

std::vector<Case> cases() {
  const auto yarn = [](double factor, std::uint32_t original, std::uint32_t context, std::vector<GgufKey> more = {},
                       const std::string& arch = "llama") {
    std::vector<GgufKey> keys = {{arch + ".rope.scaling.type", gguf_string("yarn")},
                                 number(arch + ".rope.scaling.factor", factor),
                                 count(arch + ".context_length", context)};
    if (original > 0) keys.push_back(count(arch + ".rope.scaling.original_context_length", original));
    keys.insert(keys.end(), more.begin(), more.end());
    return gguf(keys, arch);
  };
  constexpr Severity E = Severity::error, W = Severity::warning, I = Severity::info;
  const std::optional<Severity> silent = std::nullopt;
  GgufFile no_base = *gguf({}).gguf;
  std::erase_if(no_base.keys, [](const GgufKey& key) { return key.name == "llama.rope.freq_base"; });
  LintInput without_base;
  without_base.gguf = no_base, without_base.gguf_path = "model.gguf";
  return {
      {"G01", yarn(16, 8192, 131072, {number("llama.rope.scaling.yarn_beta_fast", 128)}), W,
       "llama.rope.scaling.yarn_beta_fast"},
      {"G01", yarn(16, 4096, 65536, {number("llama.rope.scaling.yarn_attn_factor", 1.1)}), W,
       "llama.rope.scaling.yarn_attn_factor"},
      {"G01",
       yarn(16, 4096, 65536,
            {number("llama.rope.scaling.yarn_beta_fast", 32), number("llama.rope.scaling.yarn_beta_slow", 1)}),
       silent},
      {"G01", yarn(64, 4096, 262144, {number("mistral3.rope.scaling.yarn_beta_fast", 4)}, "mistral3"), silent},
      {"G02", gguf({number("llama.rope.scaling.factor", 4)}), W, "llama.rope.scaling.factor"},
      {"G02", gguf({{"llama.rope.scaling.type", gguf_string("none")}, number("llama.rope.scaling.factor", 4)}), W,
       "llama.rope.scaling.factor"},
      {"G02", gguf({{"llama.rope.scaling.type", gguf_string("yarn")}}), W, "llama.rope.scaling.type"},
      {"G02", gguf({{"llama.rope.scaling.type", gguf_string("none")}}), silent},
      {"G02", gguf({{"llama.rope.scaling.type", gguf_string("foo")}, number("llama.rope.scaling.factor", 4)}), silent},
      {"G05", gguf({{"llama.rope.scaling.type", gguf_string("foo")}, number("llama.rope.scaling.factor", 4)}), E,
       "llama.rope.scaling.type"},
      {"G03", yarn(4, 0, 16384), W, "llama.rope.scaling.type"},
      {"G03", yarn(4, 0, 16384, {count("llama.rope.scaling.original_context_length", 0)}), W,
       "llama.rope.scaling.original_context_length"},
      {"G03", yarn(4, 4096, 16384), silent},
      {"G04", yarn(4, 32768, 32768), W, "llama.context_length"},
      {"G04", yarn(4, 4096, 16384), silent},
      {"G05", gguf({{"llama.rope.scaling.type", gguf_string("dynamic")}}), E, "llama.rope.scaling.type"},
      {"G05", yarn(4, 4096, 16384), silent},
      {"G06",
       gguf({{"llama.rope.scaling.type", gguf_string("linear")}, number("llama.rope.scaling.factor", 4)}, "llama",
            {"rope_freqs.weight"}),
       W, "rope_freqs.weight"},
      {"G06", gguf({}, "llama", {"rope_freqs.weight"}), silent},
      {"G07", gguf({}, "qwen2", {"rope_freqs.weight"}), E, "rope_freqs.weight"},
      {"G07", gguf({}, "llama", {"rope_freqs.weight"}), silent},
      {"G08", without_base, I, "llama.rope.freq_base"},
      {"G08", gguf({number("llama.rope.freq_base", 0)}), E, "llama.rope.freq_base"},
      {"G08", gguf({}), silent},
      {"G09", gguf({{"llama.rope.scaling.type", gguf_string("linear")}, number("llama.rope.scaling.factor", 0.25)}), E,
       "llama.rope.scaling.factor"},
      {"G09", gguf({{"llama.rope.scaling.type", gguf_string("linear")}, number("llama.rope.scaling.factor", 3e38)}), E,
       "llama.rope.scaling.factor"},
      {"G09", gguf({number("llama.rope.freq_base", std::nan(""))}), E, "llama.rope.freq_base"},
      {"G09", gguf({{"llama.rope.scaling.factor", gguf_string("4")}}), E, "llama.rope.scaling.factor"},
      {"G09", gguf({number("llama.rope.scaling.attn_factor", 0)}), E, "llama.rope.scaling.attn_factor"},
      {"G09", yarn(4, 4096, 16384), silent},
      {"G10", gguf({}, "phi3", {"rope_factors_long.weight"}), E, "rope_factors_long.weight"},
      {"G10",
       gguf({count("phi3.rope.scaling.original_context_length", 4096)}, "phi3",
            {"rope_factors_long.weight", "rope_factors_short.weight"}),
       silent},
      {"G11",
       gguf({{"llama.rope.scaling.type", gguf_string("linear")},
             number("llama.rope.scaling.factor", 4),
             number("llama.rope.scale_linear", 4)}),
       W, "llama.rope.scale_linear"},
      {"G11", gguf({{"llama.rope.scaling.type", gguf_string("linear")}, number("llama.rope.scale_linear", 4)}), silent},
  };
}

TEST(LintGguf, EachRuleSpeaksWhereItMustAndNowhereElse) {
  std::set<std::string> speaks, is_silent;
  for (const Case& one : cases()) {
    (one.severity ? speaks : is_silent).insert(one.rule);
    const std::vector<Finding> findings = lint(one.input, {});
    SCOPED_TRACE(one.rule + "\n" + in_words(findings));
    const Finding* found = find(findings, one.rule);
    if (!one.severity) {
      EXPECT_EQ(found, nullptr);
      continue;
    }
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(severity_name(found->severity), std::string(severity_name(*one.severity)));
    EXPECT_EQ(found->pointer, one.pointer);
    EXPECT_EQ(found->line, 0);
  }
  for (const LintRule& rule : lint_rules())
    if (rule.id.starts_with("G")) {
      EXPECT_TRUE(speaks.contains(std::string(rule.id))) << rule.id;
      EXPECT_TRUE(is_silent.contains(std::string(rule.id))) << rule.id;
    }
}

/// llama.cpp goes on with such a file, and turns by angles that are none: rope refuses it, and lint must not be silent.
TEST(LintGguf, WhatIsNoRotationIsAnError) {
  const auto only_error = [](const LintInput& input, const std::string& pointer, const std::string& message) {
    const std::vector<Finding> findings = lint(input, {});
    SCOPED_TRACE(message + "\n" + in_words(findings));
    ASSERT_EQ(findings.size(), 1u);
    EXPECT_EQ(findings[0].rule, "G09");
    EXPECT_EQ(findings[0].severity, Severity::error);
    EXPECT_EQ(findings[0].pointer, pointer);
    EXPECT_EQ(findings[0].message, message);
  };
  only_error(gguf({count("llama.rope.dimension_count", 4000000000u)}), "llama.rope.dimension_count",
             "llama.rope.dimension_count is 4000000000");
  for (const auto& [third, text] : {std::pair{NAN, "NaN"}, std::pair{0.0f, "0"}, std::pair{-1.0f, "-1"}}) {
    LintInput input =
        gguf({{"llama.rope.scaling.type", gguf_string("linear")}, number("llama.rope.scaling.factor", 8)});
    input.gguf->tensors.push_back(std::make_shared<Named>("rope_freqs.weight", third));
    only_error(input, "rope_freqs.weight", std::string("rope_freqs.weight: a divisor of ") + text);
  }
}

const Finding* finding_of(const std::vector<Finding>& findings, std::string_view rule) {
  const Finding* found = find(findings, rule);
  EXPECT_NE(found, nullptr) << rule << "\n" << in_words(findings);
  return found;
}

/// The command lines under findings, fed back through llama.cpp's rule.
TEST(LintGguf, FlagsRunWhatIsMeant) {
  const auto yarn = [](std::vector<GgufKey> more) {
    more.insert(more.begin(), {{"llama.rope.scaling.type", gguf_string("yarn")},
                               number("llama.rope.scaling.factor", 16),
                               count("llama.rope.scaling.original_context_length", 8192),
                               count("llama.context_length", 131072)});
    return gguf(more);
  };
  const LintInput betas =
      yarn({number("llama.rope.scaling.yarn_beta_fast", 128), number("llama.rope.scaling.yarn_beta_slow", 2)});
  const std::vector<Finding> findings = lint(betas, {});
  const Finding* found = finding_of(findings, "G01");
  ASSERT_TRUE(found && found->flags.size() == 1);
  EXPECT_EQ(found->flags[0].line, "-c 131072 --yarn-beta-slow 2 --yarn-beta-fast 128");
  const EngineVersion engine = parse_engine("llama.cpp");
  const EngineReading run = read_with_flags(engine, FlagsGguf{&*betas.gguf, betas.gguf_path},
                                            testing::parse_flags_line(engine, found->flags[0].line));
  RopeSpec meant = run.ropes.at(0).spec;
  meant.scaling = RopeYarn{16, 8192, 128, 2};
  EXPECT_TRUE(compare_rope(meant, run.ropes[0].spec, 131072).same_rotation());

  const std::vector<Finding> attention = lint(yarn({number("llama.rope.scaling.yarn_attn_factor", 1.1940812)}), {});
  found = finding_of(attention, "G01");
  ASSERT_TRUE(found && found->flags.size() == 1);  // 1.1940812 / (0.1 ln 16 + 1)
  EXPECT_TRUE(found->flags[0].line.starts_with("-c 131072 --override-kv llama.rope.scaling.attn_factor=float:0.93487"))
      << found->flags[0].line;

  const std::vector<Finding> lengths = lint(yarn({count("llama.context_length", 8192)}), {});
  found = finding_of(lengths, "G04");
  ASSERT_TRUE(found && found->flags.size() == 1);
  EXPECT_EQ(found->flags[0].line, "-c 131072 --override-kv llama.context_length=int:131072");

  const std::vector<Finding> twice =
      lint(gguf({{"llama.rope.scaling.type", gguf_string("linear")}, number("llama.rope.scaling.factor", 4)}, "llama",
                {"rope_freqs.weight"}),
           {});
  found = finding_of(twice, "G06");
  ASSERT_TRUE(found && found->flags.size() == 1);
  EXPECT_EQ(found->flags[0].line, "-c 4096 --rope-scaling none");

  // rope.scaling.type = none, as the fix says, keeps an attn_factor: so does the line
  const std::vector<GgufKey> with_factor = {{"llama.rope.scaling.type", gguf_string("linear")},
                                            number("llama.rope.scaling.factor", 4),
                                            number("llama.rope.scaling.attn_factor", 1.25)};
  const LintInput scaled = gguf(with_factor, "llama", {"rope_freqs.weight"});
  const std::vector<Finding> kept = lint(scaled, {});
  found = finding_of(kept, "G06");
  ASSERT_TRUE(found && found->flags.size() == 1);
  EXPECT_EQ(found->flags[0].line, "-c 4096 --rope-scaling none");
  const EngineReading still = read_with_flags(engine, FlagsGguf{&*scaled.gguf, scaled.gguf_path},
                                              testing::parse_flags_line(engine, found->flags[0].line));
  EXPECT_EQ(still.ropes.at(0).spec.attention_factor, 1.25);
}

LintInput yarn_16(std::vector<GgufKey> more) {
  more.insert(more.begin(), {{"llama.rope.scaling.type", gguf_string("yarn")},
                             number("llama.rope.scaling.factor", 16),
                             count("llama.rope.scaling.original_context_length", 8192),
                             count("llama.context_length", 131072)});
  return gguf(more);
}

/// llama_context's constructor, 0.5: `params.yarn_ext_factor >= 0.0f ? params.yarn_ext_factor : hparams...`, so with the
/// betas and the attention factor: below 0 is not given.
TEST(LintGguf, NoLineThatTheEngineDoesNotObey) {
  const EngineVersion engine = parse_engine("llama.cpp");
  const LintInput plain = yarn_16({});
  const FlagsGguf file{&*plain.gguf, plain.gguf_path};
  const EngineReading none = read_with_flags(engine, file, {});
  for (const char* line :
       {"--yarn-ext-factor -3", "--yarn-beta-fast -3", "--yarn-beta-slow -3", "--yarn-attn-factor -3"}) {
    const EngineReading told = read_with_flags(engine, file, testing::parse_flags_line(engine, line));
    ASSERT_FALSE(told.error) << line << told.error->text;
    EXPECT_TRUE(compare_rope(none.ropes.at(0).spec, told.ropes.at(0).spec, 131072).same_rotation()) << line;
  }
  for (const char* key : {"yarn_ext_factor", "yarn_attn_factor", "yarn_beta_slow"}) {
    const std::string name = std::string("llama.rope.scaling.") + key;
    const std::vector<Finding> findings =
        lint(yarn_16({number(name, -3), number("llama.rope.scaling.yarn_beta_fast", 5)}), {});
    SCOPED_TRACE(in_words(findings));
    EXPECT_EQ(std::count_if(findings.begin(), findings.end(), [](const Finding& one) { return one.rule == "G01"; }), 2);
    for (const Finding& one : findings) {
      EXPECT_TRUE(one.flags.empty()) << one.flags[0].line;
      EXPECT_EQ(one.fix.find('-'), std::string::npos) << one.fix;  // no negative number
    }
  }
}

/// -c is an int (common/arg.cpp): no line where factor x original is none.
TEST(LintGguf, NoContextThatTheEngineCannotTake) {
  const std::string key = " --override-kv llama.context_length=int:";  // llama-server's cap
  for (const auto& [factor, line] :
       {std::pair{32.0, "-c 262144" + key + "262144"}, std::pair{131072.0, "-c 1073741824" + key + "1073741824"},
        std::pair{262144.0, std::string()}, std::pair{1e30, std::string()}}) {
    const std::vector<Finding> findings = lint(yarn_16({number("llama.rope.scaling.factor", factor)}), {});
    const Finding* found = finding_of(findings, "G04");
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->flags.empty() ? "" : found->flags[0].line, line) << factor;
  }
}

/// Keys are asked for by several rules; each is named once, whichever of them comes to it first.
TEST(LintGguf, AKeyThatIsNoNumberIsNamedOnce) {
  for (const char* name :
       {"rope.scaling.factor", "rope.scaling.attn_factor", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
        "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_log_multiplier"})
    for (const GgufValue& value : {gguf_f32(NAN), gguf_f32(INFINITY), gguf_string("4")}) {
      const std::string key = std::string("llama.") + name;
      std::vector<GgufKey> keys = {{"llama.rope.scaling.type", gguf_string("yarn")},
                                   number("llama.rope.scaling.factor", 4),
                                   number("llama.rope.scaling.yarn_beta_fast", 64),
                                   number("llama.rope.scaling.yarn_beta_slow", 2),
                                   number("llama.rope.scaling.yarn_ext_factor", 0.5),
                                   number("llama.rope.scaling.yarn_attn_factor", 1.5),
                                   number("llama.rope.scaling.yarn_log_multiplier", 0.1),
                                   count("llama.rope.scaling.original_context_length", 1024)};
      std::erase_if(keys, [&](const GgufKey& old) { return old.name == key; });
      keys.push_back({key, value});
      const std::vector<Finding> findings = lint(gguf(keys, "llama", {"rope_freqs.weight"}), {});
      EXPECT_EQ(std::count_if(findings.begin(), findings.end(),
                              [&](const Finding& one) { return one.rule == "G09" && one.pointer == key; }),
                1)
          << in_words(findings);
    }
}

/// phi3's loader sets the window to 0, and Mistral's models, of arch llama, have none (src/models/phi3.cpp and llama.cpp
/// of 0.5).
TEST(LintGguf, AWindowThatNoLoaderKeepsIsNoFinding) {
  EXPECT_EQ(find(lint(gguf({count("phi3.attention.sliding_window", 2047)}, "phi3"), {}), "R40"), nullptr);
}

TEST(LintGguf, APlainFileHasNoFindings) {
  EXPECT_EQ(in_words(lint(gguf({}), {})), "");
  LintInput empty;
  empty.gguf = GgufFile{};
  EXPECT_EQ(lint(empty, {}).at(0).rule, "R00");
}

}  // namespace
}  // namespace ropewalk::formats::lint_test
