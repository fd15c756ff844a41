// Numbers that no engine can use, files that none loads, and advice that must not be given. What transformers does with
// them was run: 5.23.0, AutoConfig, from_config and a forward pass of a small model of each class.
#include "tests/formats/flags_line.h"
#include "tests/formats/lint_support.h"

namespace ropewalk::formats::lint_test {
namespace {

const char* kYarn = R"({"max_position_embeddings": 65536,
  "rope_scaling": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}})";

/// A yarn of factor 16 with `members` in its dictionary: text, since Json has no NaN.
std::string yarn_with(const std::string& members, const std::string& factor = "16.0") {
  return R"({"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "rope_theta": 10000.0,
    "max_position_embeddings": 65536, "rope_scaling": {"rope_type": "yarn", "factor": )" +
         factor + R"(, "original_max_position_embeddings": 4096)" + (members.empty() ? "" : ", " + members) + "}}";
}

std::vector<const Finding*> all_of(const std::vector<Finding>& findings, std::string_view rule,
                                   const std::string& pointer) {
  std::vector<const Finding*> out;
  for (const Finding& one : findings)
    if (one.rule == rule && one.pointer == pointer) out.push_back(&one);
  return out;
}

bool any_flags(const std::vector<Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(), [](const Finding& one) { return !one.flags.empty(); });
}

TEST(LintNumbers, WhatCannotBeIsAFinding) {
  struct Case {
    std::string patch;
    const char *rule, *pointer;
    Severity severity;
  };
  const std::vector<Case> all = {
      // StrictDataclassFieldValidationError, RuntimeError (a negative dimension), ZeroDivisionError
      {R"({"head_dim": "128"})", "R31", "/head_dim", Severity::error},
      {R"({"head_dim": -128})", "R31", "/head_dim", Severity::error},
      {R"({"head_dim": 0})", "R31", "/head_dim", Severity::error},
      {R"({"head_dim": 2147483648})", "R31", "/head_dim", Severity::error},
      {R"({"num_attention_heads": 0})", "R31", "/num_attention_heads", Severity::error},
      {R"({"num_attention_heads": -1})", "R31", "/num_attention_heads", Severity::error},
      {R"({"num_attention_heads": "32"})", "R31", "/num_attention_heads", Severity::error},
      // llama: ValueError, not a multiple; mistral and qwen2 round down
      {R"({"num_attention_heads": 33})", "R31", "/num_attention_heads", Severity::error},
      {R"({"model_type": "mistral", "num_attention_heads": 33})", "R31", "/num_attention_heads", Severity::warning},
      // llama: ok; mistral: RuntimeError in the mask; qwen2: only while the window is on
      {R"({"sliding_window": -4})", "R40", "/sliding_window", Severity::warning},
      {R"({"model_type": "mistral", "sliding_window": -4})", "R40", "/sliding_window", Severity::error},
      {R"({"model_type": "mistral", "sliding_window": 0})", "R40", "/sliding_window", Severity::error},
      {R"({"model_type": "qwen2", "sliding_window": 0})", "R40", "/sliding_window", Severity::warning},
      {R"({"model_type": "qwen2", "sliding_window": 0, "use_sliding_window": true})", "R40", "/sliding_window",
       Severity::error},
      // llama: TypeError: new(): invalid data type 'str'; mistral: StrictDataclassFieldValidationError
      {R"({"sliding_window": "4096"})", "R40", "/sliding_window", Severity::error},
      {R"({"model_type": "mistral", "sliding_window": true})", "R40", "/sliding_window", Severity::error},
      // StrictDataclassFieldValidationError of transformers 5.23.0, and of the two that read through it
      {R"({"head_dim": 128.0})", "E01", "/head_dim", Severity::warning},
      {R"({"num_hidden_layers": "32"})", "E01", "/num_hidden_layers", Severity::warning},
      {R"({"max_position_embeddings": null})", "R49", "/max_position_embeddings", Severity::error},
      // TypeError: unsupported operand type(s) for ** or pow(): 'NoneType' and 'Tensor'
      {R"({"rope_theta": null})", "R33", "/rope_theta", Severity::error},
      // TypeError: unsupported operand type(s) for *: 'int' and 'str', where anything is scaled
      {R"({"partial_rotary_factor": "0.5"})", "R31", "/partial_rotary_factor", Severity::error},
      {R"({"partial_rotary_factor": 1.5})", "R31", "/partial_rotary_factor", Severity::error},
  };
  for (const Case& one : all) {
    const std::vector<Finding> findings = lint_text(llama(one.patch));
    SCOPED_TRACE(one.patch + "\n" + in_words(findings));
    // RFC 7396 takes a member out where the patch has null
    if (one.patch.find("null") != std::string::npos) {
      Json config = Json::parse(llama("{}"));
      config[Json::json_pointer(one.pointer)] = nullptr;
      const std::vector<Finding> without = lint_text(config.dump(2));
      ASSERT_EQ(all_of(without, one.rule, one.pointer).size(), 1u) << in_words(without);
      EXPECT_EQ(all_of(without, one.rule, one.pointer)[0]->severity, one.severity);
      continue;
    }
    ASSERT_EQ(all_of(findings, one.rule, one.pointer).size(), 1u);
    EXPECT_EQ(all_of(findings, one.rule, one.pointer)[0]->severity, one.severity);
  }
  for (const char* patch : {R"({"head_dim": 128})", R"({"sliding_window": null})", R"({"sliding_window": 4096})",
                            R"({"num_attention_heads": 33, "head_dim": 128, "model_type": "qwen3"})", "{}"}) {
    const std::vector<Finding> findings = lint_text(llama(patch));
    EXPECT_EQ(find(findings, "R31"), nullptr) << patch << in_words(findings);
    EXPECT_EQ(find(findings, "R40"), nullptr) << patch << in_words(findings);
  }
}

TEST(LintNumbers, TruncateInQuotes) {
  for (const auto& [members, speaks] :
       {std::pair{R"("truncate": "false")", true}, std::pair{R"("truncate": true)", false},
        std::pair{R"("truncate": null)", false}}) {
    const std::vector<Finding> findings = lint_text(yarn_with(members));
    EXPECT_EQ(all_of(findings, "R28", "/rope_scaling/truncate").size(), speaks ? 1u : 0u) << in_words(findings);
  }
}

/// One finding where the value stands, in the words of the file, and nothing that was made of what stands for it.
TEST(LintNumbers, NotFiniteIsSaidAsItStands) {
  struct Case {
    std::string config;
    const char* says;
  };
  const std::vector<Case> all = {{yarn_with("", "NaN"), "factor is NaN"},
                                 {yarn_with("", "Infinity"), "factor is Infinity"},
                                 {yarn_with("", "-Infinity"), "factor is -Infinity"},
                                 {yarn_with(R"("attention_factor": NaN)"), "attention_factor is NaN"},
                                 {yarn_with(R"("beta_fast" : Infinity)"), "beta_fast is Infinity"}};
  for (const Case& one : all) {
    const std::vector<Finding> findings = lint_text(one.config);
    SCOPED_TRACE(in_words(findings));
    ASSERT_EQ(findings.size(), 1u);
    EXPECT_EQ(findings[0].rule, "R20");
    EXPECT_EQ(findings[0].severity, Severity::error);
    EXPECT_TRUE(findings[0].message.starts_with(one.says)) << findings[0].message;
    EXPECT_FALSE(any_flags(findings));
  }
}

/// 1e308 is a number, and what is made of it is none: no "null" in any text.
TEST(LintNumbers, HugeNumbersAreSaidAsTheyStand) {
  for (const char* members : {R"("attention_factor": 1e308)", R"("attn_factor": 1e308)", R"("beta_fast": 1e308)",
                              R"("beta_slow": 1e308)", R"("mscale": 1e308, "mscale_all_dim": 1)"}) {
    const std::vector<Finding> findings = lint_text(yarn_with(members));
    EXPECT_NE(in_words(findings).find("1e+308"), std::string::npos) << members << in_words(findings);
    for (const Finding& one : findings)
      EXPECT_EQ((one.message + one.fix).find("null"), std::string::npos) << members << one.message;
  }
  const std::vector<Finding> zero = lint_text(
      llama(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 0}})"));
  for (const Finding& one : zero) EXPECT_EQ(one.message.find("null"), std::string::npos) << one.message;
}

TEST(LintNumbers, AttentionFactorsAreAboveZero) {
  for (const auto& [members, pointer] : {std::pair{R"("attention_factor": 0)", "/rope_scaling/attention_factor"},
                                         std::pair{R"("attention_factor": -1.5)", "/rope_scaling/attention_factor"},
                                         std::pair{R"("attn_factor": 0.0)", "/rope_scaling/attn_factor"},
                                         std::pair{R"("attention_factor": 1e39)", "/rope_scaling/attention_factor"},
                                         // 0.1 * -10 * ln 16 + 1 = -1.77
                                         std::pair{R"("mscale": -10, "mscale_all_dim": 1)", "/rope_scaling/mscale"}}) {
    const std::vector<Finding> findings = lint_text(yarn_with(members));
    SCOPED_TRACE(members + in_words(findings));
    ASSERT_EQ(all_of(findings, "R20", pointer).size(), 1u);
    EXPECT_EQ(all_of(findings, "R20", pointer)[0]->severity, Severity::error);
    EXPECT_FALSE(any_flags(findings));
    EXPECT_EQ(find(findings, "R25"), nullptr);
  }
  for (const char* members : {R"("attention_factor": 1.0)", R"("mscale": 0.707, "mscale_all_dim": 1)"})
    EXPECT_EQ(find(lint_text(yarn_with(members)), "R20"), nullptr) << members;
}

/// Each engine stops in its own words: together they are all, and a file that nobody loads is an error.
TEST(LintNumbers, AFileThatNoneLoadsIsAnError) {
  Json config = Json::parse(llama("{}"));
  config["rope_theta"] = nullptr;
  config["max_position_embeddings"] = nullptr;
  for (const std::string& text :
       {config.dump(2), llama(R"({"head_dim": "128"})"), llama(R"({"num_attention_heads": 33})")}) {
    const std::vector<Finding> findings = lint_text(text);
    EXPECT_TRUE(std::any_of(findings.begin(), findings.end(), [](const Finding& one) {
      return one.severity == Severity::error;
    })) << in_words(findings);
    for (const Finding& one : findings) EXPECT_EQ(one.fix.find("ropewalk extend"), std::string::npos) << one.fix;
  }
}

/// The tokenizer's limit is told to vLLM as rope --flags does it: the line must get past it.
TEST(LintNumbers, TheTokenizersLimitIsOnTheLine) {
  const std::string limit = R"({"model_max_length": 4096})";
  for (const std::vector<std::string>& engines : {std::vector<std::string>{}, std::vector<std::string>{"vllm"}}) {
    const std::vector<Finding> findings = lint(input_of({llama(kYarn), limit}), asked(engines));
    const Finding* found = find(findings, "R41");
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->engines, std::vector<std::string>{"vllm 0.33.0"});
    EXPECT_NE(found->message.find("vllm 0.33.0 takes the smaller and refuses more"), std::string::npos);
    ASSERT_EQ(found->flags.size(), 1u);
    EXPECT_NE(found->flags[0].line.find("VLLM_ALLOW_LONG_MAX_MODEL_LEN=1"), std::string::npos) << found->flags[0].line;
  }
  // beyond what the model itself has, too
  const Finding* asked_more = nullptr;
  const std::vector<Finding> more = lint(input_of({llama("{}"), limit}), asked({}, 8192));
  asked_more = find(more, "R41");
  ASSERT_NE(asked_more, nullptr);
  EXPECT_EQ(asked_more->engines, std::vector<std::string>{"vllm 0.33.0"});
  // NaN stands for no limit that could be told
  EXPECT_EQ(find(lint(input_of({llama(kYarn), R"({"model_max_length": NaN})"}), {}), "R41"), nullptr);
}

/// A length to be served is factor x original context: no fix names one while the original context is in doubt, and one
/// that was asked for is named all the same.
TEST(LintNumbers, NoLengthWhileTheOriginalContextIsInDoubt) {
  const std::string doubted = llama(R"({"max_position_embeddings": 65536, "original_max_position_embeddings": 2048,
      "seq_length": 4096, "rope_scaling": {"rope_type": "yarn", "type": "yarn", "factor": 16.0,
      "original_max_position_embeddings": 4096}})");
  const std::string limit = R"({"model_max_length": 4096})", length = R"({"max_length": 4096})";
  const auto fixes = [&](const std::string& config, std::optional<int> context) {
    const std::vector<Finding> findings = lint(input_of({config, limit, length}), asked({}, context));
    std::vector<std::string> out;
    for (const Finding& one : findings)
      if (one.rule == "R41" || one.rule == "R42") out.push_back(one.fix.substr(0, 16));
    EXPECT_EQ(find(findings, "R09") != nullptr, config == doubted) << in_words(findings);
    return out;
  };
  const std::vector<std::string> open = fixes(doubted, std::nullopt), told = fixes(doubted, 65536),
                                 sure = fixes(llama(kYarn), std::nullopt);
  ASSERT_GE(open.size(), 3u);
  for (const std::string& fix : open) EXPECT_EQ(fix, "settle R09 first");
  // nor does a fix write the rope of one of the two
  const std::vector<Finding> both = lint(input_of({doubted}), {});
  ASSERT_NE(find(both, "E02"), nullptr) << in_words(both);
  for (const Finding& one : both) {
    EXPECT_EQ(one.fix.find("ropewalk extend"), std::string::npos) << one.rule << ": " << one.fix;
    EXPECT_TRUE(one.rule != "E02" || one.flags.empty()) << one.flags[0].line;
  }
  for (const std::string& fix : told) EXPECT_EQ(fix.substr(0, 11), "write 65536");
  ASSERT_GE(sure.size(), 2u);
  for (const std::string& fix : sure) EXPECT_EQ(fix.substr(0, 6), "write ");
}

/// 5.23.0, run: below 0 and past what a double holds the logarithm raises ValueError, 0 is the default; vllm and sglang
/// divide by 0.
TEST(LintNumbers, BetasAreRotations) {
  for (const char* beta : {"0", "0.0", "-3", "-0.5", "1e308"})
    for (const char* key : {"beta_fast", "beta_slow"}) {
      const std::vector<Finding> findings = lint_text(yarn_with("\"" + std::string(key) + "\": " + beta));
      SCOPED_TRACE(in_words(findings));
      const auto found = all_of(findings, "R20", "/rope_scaling/" + std::string(key));
      ASSERT_EQ(found.size(), 1u);
      EXPECT_EQ(found[0]->severity, Severity::error);
      EXPECT_EQ(find(findings, "S1"), nullptr);
      EXPECT_FALSE(any_flags(findings));
    }
  const std::string zero = yarn_with(R"("beta_fast": 0)");
  EXPECT_EQ(find(lint_text(zero, asked({"transformers"})), "R20")->severity, Severity::warning);
  EXPECT_EQ(find(lint_text(zero, asked({"transformers", "vllm"})), "R20")->severity, Severity::error);
  EXPECT_EQ(find(lint_text(yarn_with(R"("beta_fast": 32, "beta_slow": 1)")), "R20"), nullptr);
  EXPECT_EQ(find(lint_text(yarn_with(R"("beta_fast": null)")), "R20"), nullptr);
}

/// Engines that have 32 and 1 built in, or take 10000 for null, are not hurt by what stops others.
TEST(LintNumbers, ErrorsAreOfTheEnginesAsked) {
  const std::string beta = yarn_with(R"("beta_fast": -3)");
  Json config = Json::parse(llama("{}"));
  config["rope_theta"] = nullptr;
  const std::string base = config.dump(2);
  for (const auto& [text, rule] : {std::pair{&beta, "R20"}, std::pair{&base, "R33"}}) {
    for (const char* engine : {"llama.cpp", "exllamav2"}) {
      ASSERT_FALSE(read_as(parse_engine(engine), Json::parse(*text)).error) << engine << rule;
      const std::vector<Finding> findings = lint_text(*text, asked({engine}));
      ASSERT_NE(find(findings, rule), nullptr) << engine;
      EXPECT_EQ(find(findings, rule)->severity, Severity::warning) << engine;
      for (const Finding& one : findings) EXPECT_NE(one.severity, Severity::error) << engine << in_words(findings);
    }
    for (const char* engine : {"transformers", "vllm", "sglang"})
      EXPECT_EQ(find(lint_text(*text, asked({"llama.cpp", engine})), rule)->severity, Severity::error) << engine;
  }
  // each beta by itself: llama.cpp aside, 1e10 loads beside a -3 that does not
  const std::vector<Finding> both = lint_text(yarn_with(R"("beta_fast": 1e10, "beta_slow": -3)"));
  EXPECT_EQ(all_of(both, "R20", "/rope_scaling/beta_fast").at(0)->severity, Severity::warning);
  EXPECT_EQ(all_of(both, "R20", "/rope_scaling/beta_slow").at(0)->severity, Severity::error);
}

// llama.cpp's converter writes no lists for llama: to it they are keys that nobody reads. transformers stops at them or
// turns by them.
TEST(LintNumbers, ListsAreAnErrorForWhomReadsThem) {
  const std::string wrong = llama(R"({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0],
    "long_factor": [1.0], "original_max_position_embeddings": 4096}})");
  const auto severity_of = [](const std::vector<Finding>& findings) {
    const Finding* found = find(findings, "R27");
    return found ? found->severity : Severity::info;
  };
  EXPECT_EQ(severity_of(lint_text(wrong)), Severity::error);
  EXPECT_EQ(severity_of(lint_text(wrong, asked({"transformers"}))), Severity::error);
  EXPECT_EQ(severity_of(lint_text(wrong, asked({"llama.cpp"}))), Severity::warning);
}

/// rope_parameters beside a rope_scaling is not read: its numbers stop nobody, and silence nothing about the one that
/// is.
TEST(LintNumbers, NumbersThatNobodyReads) {
  const auto config = [](const std::string& unread) {
    Json json = Json::parse(llama(R"({"rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 4.0,
      "original_max_position_embeddings": 16384}})"));
    json["max_position_embeddings"] = 65536;
    json["rope_parameters"] = Json::parse(unread);
    return json.dump(2);
  };
  const LintOptions engines = asked({"transformers", "vllm", "sglang", "llama.cpp"});
  const std::vector<Finding> right = lint_text(config(R"({"rope_type": "linear", "factor": 4.0})"), engines);
  ASSERT_NE(find(right, "R23"), nullptr) << in_words(right);
  ASSERT_TRUE(any_flags(right));
  for (const auto& [unread, key] :
       {std::pair{R"({"rope_type": "yarn", "factor": 4.0, "beta_fast": -3})", "/beta_fast"},
        std::pair{R"({"rope_type": "yarn", "factor": 4.0, "beta_fast": "x"})", "/beta_fast"},
        std::pair{R"({"rope_type": "yarn", "factor": 4.0, "attention_factor": 0})", "/attention_factor"},
        std::pair{R"({"rope_type": "linear", "factor": 0.25})", "/factor"}}) {
    const std::vector<Finding> findings = lint_text(config(unread), engines);
    SCOPED_TRACE(in_words(findings));
    const auto found = all_of(findings, "R20", "/rope_parameters" + std::string(key));
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0]->severity, Severity::warning);
    ASSERT_NE(find(findings, "R23"), nullptr);
    EXPECT_EQ(find(findings, "R23")->flags.size(), find(right, "R23")->flags.size());
    EXPECT_TRUE(any_flags(findings));
  }
}

/// 5.23.0, run: 1e10 loads, and so it does by the rules of vllm, sglang and exllamav3. llama.cpp runs 32 and 1 unless
/// told: said beside it, with the line.
TEST(LintNumbers, BetasThatNoPairTurns) {
  const std::vector<Finding> findings = lint_text(yarn_with(R"("beta_fast": 1e10)"));
  SCOPED_TRACE(in_words(findings));
  const auto found = all_of(findings, "R20", "/rope_scaling/beta_fast");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]->severity, Severity::warning);
  EXPECT_EQ(found[0]->message, "beta_fast is 10000000000, rotations that no pair makes");
  EXPECT_NE(find(findings, "R24"), nullptr);
  EXPECT_TRUE(any_flags(findings));
  for (const Finding& one : findings) EXPECT_NE(one.severity, Severity::error);
  const std::vector<Finding> huge = lint_text(yarn_with(R"("beta_fast": 1e308)"));
  EXPECT_EQ(find(huge, "R20")->message, "beta_fast is 1e+308, too many for its logarithm") << in_words(huge);
}

/// 5.23.0, run: TypeError for null, whatever else the file has; without the key it is the class's own length.
TEST(LintNumbers, NoOriginalContextAndNoLength) {
  Json config = Json::parse(llama(R"({"max_position_embeddings": null})", R"({"model_type": "qwen2"})"));
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", nullptr}};
  const std::vector<Finding> findings = lint_text(config.dump(2));
  const Finding* found = find(findings, "R21");
  ASSERT_NE(found, nullptr) << in_words(findings);
  EXPECT_EQ(std::count(found->engines.begin(), found->engines.end(), "transformers 5.23.0"), 1) << in_words(findings);
  for (const Finding& one : findings) EXPECT_EQ(one.message.find("max_position_embeddings, 0"), std::string::npos);
  config["rope_scaling"].erase("original_max_position_embeddings");
  for (const Finding& one : lint_text(config.dump(2)))
    EXPECT_EQ(one.message.find("max_position_embeddings, 0"), std::string::npos) << one.message;
}

/// A null base is no fault where the dictionary has one: transformers 5 looks there first.
TEST(LintNumbers, NullBaseBesideOne) {
  Json config = Json::parse(llama(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}})"));
  config["rope_theta"] = nullptr;
  EXPECT_EQ(find(lint_text(config.dump(2), asked({"transformers"})), "R33"), nullptr);
  config["rope_parameters"]["rope_theta"] = nullptr;
  const std::vector<Finding> findings = lint_text(config.dump(2));
  ASSERT_NE(find(findings, "R33"), nullptr);
  EXPECT_EQ(find(findings, "R33")->pointer, "/rope_parameters/rope_theta");
}

/// A neighbour of the rope dictionary is outside of it, however tightly the file is written.
TEST(LintNumbers, NotFiniteBesideTheRope) {
  const std::string config =
      R"({"model_type":"llama","hidden_size":4096,"num_attention_heads":32,"max_position_embeddings":16384,)"
      R"("rope_scaling":{"rope_type":"linear","type":"linear","factor":4.0},"loss":NaN})";
  const std::vector<Finding> findings = lint_text(config);
  EXPECT_EQ(find(findings, "R20"), nullptr) << in_words(findings);
  EXPECT_NE(find(findings, "R12"), nullptr) << in_words(findings);
}

/// Flags that mend the rope leave the window as it is: the line under R40 takes the window out too. Fed back, nothing
/// is left to find.
TEST(LintNumbers, FlagsUnderAWindow) {
  const std::string config = llama(
      R"({"max_position_embeddings": 32768, "sliding_window": 4096,
          "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}})",
      R"({"model_type": "mistral"})");
  const std::vector<Finding> findings = lint_text(config);
  const Finding* found = find(findings, "R40");
  ASSERT_NE(found, nullptr);
  ASSERT_EQ(found->flags.size(), 2u);
  for (const Finding::Flags& one : found->flags) {
    const EngineVersion engine = parse_engine(one.engine.substr(0, one.engine.find(' ')));
    const FlagSet flags = testing::parse_flags_line(engine, one.line);
    Json changed = Json::parse(config);
    ASSERT_TRUE(flags.overrides.contains("sliding_window")) << one.line;
    for (const auto& item : flags.overrides.items()) changed[item.key()] = item.value();
    EXPECT_TRUE(changed["sliding_window"].is_null()) << one.line;
    EXPECT_EQ(find(lint_text(changed.dump(2)), "R40"), nullptr) << one.line;
    const EngineReading now = read_with_flags(engine, &changed, {}), before = read_as(engine, Json::parse(config));
    ASSERT_EQ(now.ropes.size(), 1u);
    EXPECT_TRUE(compare_rope(before.ropes.at(0).spec, now.ropes[0].spec, 32768).none());
  }
}

/// rope_interleave is about pairs and llama_4_scaling about queries: neither is compared, and neither is passed over.
TEST(LintNumbers, WhatIsNotComparedIsSaid) {
  const std::string latent = R"({"model_type": "deepseek_v3", "qk_rope_head_dim": 64, "kv_lora_rank": 512)";
  for (const auto& [more, pointer] :
       {std::pair{R"(, "rope_interleave": false})", "/rope_interleave"},
        std::pair{R"(, "llama_4_scaling": {"original_max_position_embeddings": 8192, "beta": 0.1}})",
                  "/llama_4_scaling"}}) {
    const std::vector<Finding> findings = lint_text(llama(latent + more));
    ASSERT_NE(find(findings, "R47"), nullptr) << more;
    EXPECT_EQ(find(findings, "R47")->pointer, pointer);
    EXPECT_EQ(find(findings, "R47")->severity, Severity::info);
  }
  EXPECT_EQ(find(lint_text(llama(latent + R"(, "rope_interleave": true})")), "R47"), nullptr);
  EXPECT_NE(find(lint_text(yarn_with(R"("apply_yarn_scaling": false)")), "R47"), nullptr);
  EXPECT_EQ(find(lint_text(yarn_with(R"("apply_yarn_scaling": true)")), "R47"), nullptr);
  EXPECT_EQ(find(lint_text(llama(R"({"rope_interleave": false})")), "R47"), nullptr);
}

/// Query scaling by position, in the model type it belongs to and in one that leaves it out.
TEST(LintNumbers, PositionDependentQueries) {
  for (const auto& [type, severity] :
       {std::pair{"ministral3", Severity::info}, std::pair{"mistral", Severity::warning}}) {
    Json config = Json::parse(yarn_with(R"("llama_4_scaling_beta": 0.1)"));
    config["model_type"] = type;
    const std::vector<Finding> findings = lint_text(config.dump(2));
    const Finding* found = find(findings, "R47");
    ASSERT_NE(found, nullptr) << type;
    EXPECT_EQ(found->severity, severity) << type;
    EXPECT_EQ(found->pointer, "/rope_scaling/llama_4_scaling_beta");
  }
  EXPECT_EQ(find(lint_text(yarn_with(R"("llama_4_scaling_beta": 0)")), "R47"), nullptr);
}

/// 2 layers x 8 heads x 32 channels x 2 x 2 bytes x 4096 tokens = 8 MiB.
TEST(LintNumbers, BytesInAUnitThatFits) {
  const std::string small = llama(R"({"hidden_size": 256, "num_attention_heads": 8, "num_hidden_layers": 2})");
  const std::vector<Finding> findings = lint_text(small, asked({}, 4096));
  ASSERT_NE(find(findings, "R46"), nullptr);
  EXPECT_NE(find(findings, "R46")->message.find("take 8 MiB in f16, 4.25 MiB in q8_0"), std::string::npos)
      << find(findings, "R46")->message;
  // 32 x 32 x 128 x 2 x 2 x 4096
  const std::vector<Finding> large = lint_text(llama("{}"), asked({}, 4096));
  EXPECT_NE(find(large, "R46")->message.find("take 2 GiB in f16"), std::string::npos);
}

}  // namespace
}  // namespace ropewalk::formats::lint_test
