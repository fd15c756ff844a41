#include "formats/adapters/peft_targets.h"

#include <gtest/gtest.h>

#include "formats/source.h"
#include "lib/error.h"
#include "tests/formats/hf_test_support.h"

namespace ropewalk::formats {
namespace {

const fs::path kBase = kGolden / "fixtures/models/tolstoy-4m-yarn-2k",
               kAdapter = kGolden / "fixtures/adapters/qlora-shakespeare";

/// The modules of the base that PEFT could wrap: 4 layers of 7, the head and the embedding.
std::vector<std::string> modules() {
  std::vector<std::string> all = {"lm_head", "model.embed_tokens"};
  for (int layer = 0; layer < 4; ++layer)
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      all.push_back("model.layers." + std::to_string(layer) + "." + name);
  return all;
}

std::vector<std::string> named(const Json& config) {
  const PeftTargets targets(config, "adapter_config.json");
  std::vector<std::string> out;
  for (const std::string& module : modules())
    if (targets.name(module)) out.push_back(module);
  return out;
}

// What PEFT 0.21.2 did with the fixture's adapter and base after its adapter_config.json was changed like this: number
// of weights that merge_and_unload() changed, or of modules that it warned of as missing beside them.
TEST(PeftTargets, AsPeftChooses) {
  const auto count = [](const char* config) { return named(Json::parse(config)).size(); };
  EXPECT_EQ(count(R"({"target_modules": ["q_proj", "k_proj"]})"), 8u);
  EXPECT_EQ(
      count(
          R"({"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]})"),
      29u);
  EXPECT_EQ(count(R"({"target_modules": "all-linear"})"), 28u);
  EXPECT_EQ(count(R"({"target_modules": "All-Linear", "exclude_modules": ["o_proj"]})"), 24u);
  EXPECT_EQ(count(R"({"target_modules": ["q_proj"], "layers_to_transform": [1]})"), 1u);
  EXPECT_EQ(count(R"({"target_modules": ["q_proj"], "layers_to_transform": [1, 2], "layers_pattern": "layers"})"), 2u);
  EXPECT_EQ(count(R"({"target_modules": ["q_proj"], "layers_to_transform": 1, "layers_pattern": ["blocks"]})"), 0u);
  EXPECT_EQ(count(R"({"target_modules": ["q_proj"], "layers_to_transform": [], "layers_pattern": null})"), 4u);
  EXPECT_EQ(count(R"({"target_modules": null})"), 8u);
  EXPECT_EQ(count(R"({"target_modules": ["nothing"]})"), 0u);
  EXPECT_EQ(count(R"({"target_modules": ".*q_pro"})"), 0u);  // the whole path
  EXPECT_EQ(count(R"({"target_modules": ".*layers.0.*(q|k)_proj"})"), 2u);
  EXPECT_EQ(count(R"({"target_modules": ["q_proj"], "exclude_modules": ".*layers.0.*"})"), 3u);
  EXPECT_EQ(count(R"({"target_modules": ["q_proj"], "exclude_modules": ["model.layers.0.self_attn.q_proj"]})"), 3u);
  EXPECT_EQ(named(Json::parse(
                R"({"target_modules": ["model.layers.1.self_attn.q_proj", "k_proj"], "layers_to_transform": [0]})")),
            (std::vector<std::string>{"model.layers.0.self_attn.k_proj", "model.layers.1.self_attn.q_proj"}));
}

TEST(PeftTargets, WhatCannotBeReadIsAnError) {
  const auto message = [](const char* config, const std::string& module = "") -> std::string {
    try {
      const PeftTargets targets(Json::parse(config), "a.json");
      (void)targets.name(module);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message(R"({"target_modules": 3})"),
            "a.json: 'target_modules' is 3, expected text or a list of it; save the adapter again");
  EXPECT_EQ(message(R"({"target_modules": ["a", 1]})").find("a.json: 'target_modules' is "), 0u);
  EXPECT_EQ(message(R"({"target_modules": "(q_proj"})"),
            "a.json: 'target_modules': '(q_proj' is no regular expression: a group is not closed; correct it, or name "
            "the modules in a list");
  EXPECT_EQ(message(R"({"target_modules": ".*q", "layers_to_transform": [1]})")
                .find("a.json: 'layers_to_transform' is [1], expected nothing beside"),
            0u);
  EXPECT_EQ(
      message(R"({"target_modules": ["q"], "layers_to_transform": ["1"]})").find("a.json: 'layers_to_transform' is "),
      0u);
  // LoraConfig.__post_init__ of PEFT 0.21.2 raises for each of these
  EXPECT_EQ(message(R"({"target_modules": ["q"], "layers_pattern": "layers"})")
                .find(R"(a.json: 'layers_pattern' is "layers", expected layers_to_transform beside it)"),
            0u);
  EXPECT_EQ(message(R"({"target_modules": ["q"], "layers_pattern": ""})"), "no error");
  EXPECT_EQ(message(R"({"target_modules": ["q"], "layers_pattern": []})"), "no error");
  EXPECT_EQ(message(R"({"target_modules": "all-linear", "layers_pattern": []})")
                .find("a.json: 'layers_pattern' is [], expected nothing beside"),
            0u);
  const std::string large = std::string(70'000, 'q');
  EXPECT_EQ(message((R"({"target_modules": ")" + large + "\"}").c_str()),
            "a.json: 'target_modules': '" + large.substr(0, 77) +
                "...' has 70000 characters, expected at most 65536; "
                "correct it, or name the modules in a list");
  const std::string deep = std::string(300, '(') + "q" + std::string(300, ')');
  EXPECT_NE(message((R"({"target_modules": ")" + deep + "\"}").c_str()).find("is too large a regular expression"),
            std::string::npos);
  EXPECT_NE(message(R"({"target_modules": "(a|aa)+[bc]"})", std::string(200, 'a')).find("takes too much work"),
            std::string::npos);  // Fibonacci(200) ways to fail
}

Source merged_with(const TestFolder& folder, const Json& changes) {
  fs::remove_all(folder / "adapter");
  fs::copy(kAdapter, folder / "adapter");
  Json config = read_json(folder / "adapter/adapter_config.json");
  config.update(changes);
  write_bytes(folder / "adapter/adapter_config.json", config.dump());
  return open_source(parse_source(kBase.string() + "+" + (folder / "adapter").string()), {}, {});
}

std::size_t changed(const Source& source) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < source.base_tensors.size(); ++i)
    n += source.checkpoint.tensors[i] != source.base_tensors[i];
  return n;
}

TEST(PeftTargets, ErrorsNameTheLineOfTheirOwnField) {
  const char* text =
      "{\n  \"target_modules\": [\"q_proj\"],\n  \"exclude_modules\": 3,\n  \"layers_to_transform\": 1\n}";
  try {
    const PeftTargets targets(Json::parse(text), "a.json", text);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "a.json:3:22: 'exclude_modules' is 3, expected text or a list of it; save the adapter again");
    EXPECT_EQ(error.where().pointer, "/exclude_modules");
  }
}

TEST(PeftTargets, ConfigurationAndFileAreCompared) {
  const TestFolder folder;
  const std::string who = "adapter '" + (folder / "adapter").string() + "': ";
  const auto warnings = [](const Source& source) {
    std::vector<std::string> out;
    for (const std::string& warning : source.checkpoint.warnings)
      if (warning.find("target_modules") != std::string::npos) out.push_back(warning);
    return out;
  };
  using Lines = std::vector<std::string>;
  const Source whole = merged_with(folder, Json::object());
  EXPECT_EQ(changed(whole), 28u);
  EXPECT_EQ(warnings(whole), Lines{});
  const Source more = merged_with(
      folder,
      {{"target_modules", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"}}});
  EXPECT_EQ(changed(more), 28u);
  EXPECT_EQ(
      warnings(more),
      Lines{who + "its file lacks 1 module 'lm_head' that its target_modules names: unchanged, as in PEFT 0.21.2"});
  EXPECT_EQ(warnings(merged_with(
                folder, {{"target_modules",
                          {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"}},
                         {"modules_to_save", {"lm_head"}}})),
            Lines{})
      << "what is saved whole is no target";
  const auto refusal = [&](const Json& changes) -> std::string {
    try {
      (void)merged_with(folder, changes);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      return error.what();
    }
    return "no error";
  };
  // Every key is used, or it is an error that names it; PEFT 0.21.2 leaves these out.
  const std::string key = (folder / "adapter/adapter_model.safetensors").string() +
                          ": key 'base_model.model.model.layers.0.",
                    said = "' is of a module that target_modules of adapter_config.json does not name",
                    fix =
                        "; PEFT 0.21.2 would pass over it without a word: name the module there, or take the key out "
                        "of the file";
  EXPECT_EQ(refusal({{"target_modules", {"q_proj", "k_proj"}}}), key + "mlp.down_proj.lora_A.weight" + said + fix);
  const std::string module = "' is of a module that ";
  EXPECT_EQ(
      refusal({{"layers_to_transform", {1, 2, 3}}}),
      key + "mlp.down_proj.lora_A.weight" + module + "layers_to_transform of adapter_config.json leaves out" + fix);
  EXPECT_EQ(refusal({{"exclude_modules", {"q_proj"}}}),
            key + "self_attn.q_proj.lora_A.weight" + module + "exclude_modules of adapter_config.json excludes" + fix);
  EXPECT_EQ(refusal({{"target_modules", {"query"}}}),
            key + "mlp.down_proj.lora_A.weight" + said + " (it names none of this base)" + fix);
}

// What PeftModel.from_pretrained of PEFT 0.21.2 loads, and either warns of or passes over.
TEST(PeftTargets, WhatMayNotBeMeantIsWarnedOf) {
  const TestFolder folder;
  const auto warnings = [&](const Json& changes) {
    const Source source = merged_with(folder, changes);
    EXPECT_EQ(changed(source), 28u);
    std::string out;
    for (const std::string& line : source.checkpoint.warnings)
      if (line.find("names the base") == std::string::npos) out += line + "\n";
    return out;
  };
  const std::string who = "adapter '" + (folder / "adapter").string() + "': ";
  EXPECT_EQ(warnings(Json::object()), "");
  EXPECT_EQ(warnings({{"target_parameters", {"nope"}}}),
            who +
                "its target_parameters [\"nope\"] names no parameter of the base: nothing is changed by it, as in PEFT "
                "0.21.2\n");
  EXPECT_EQ(warnings({{"bias", "x_only"}}), who +
                                                "its bias is \"x_only\", which PEFT 0.21.2 takes as every word that "
                                                "ends in _only: the biases of its own modules\n");
  EXPECT_EQ(warnings({{"bias", "lora_only"}}), "");
  EXPECT_EQ(warnings({{"merge_weights", true}}),
            who + "its merge_weights is of PEFT before 0.3 and changes nothing, as in PEFT 0.21.2\n");
  EXPECT_EQ(warnings({{"merge_weights", false}}), "");
  EXPECT_EQ(warnings({{"alpha_pattern", Json::parse(R"({".*_proj": 8, "q_proj": 1})")}}),
            who +
                "alpha_pattern gives 'model.layers.0.self_attn.q_proj' 8 by \".*_proj\" and 1 by \"q_proj\", and 3 "
                "more modules likewise: the first key is taken, as in PEFT 0.21.2, which sorts them when it saves: "
                "they may have been trained in another order\n");
  for (const char* clear : {R"({".*_proj": 8, "q_proj": 8})",  // the same either way
                            R"({"q_proj": 1, ".*_proj": 8})",  // an order that sorting does not give
                            R"({"k_proj": 1, "q_proj": 2})"})
    EXPECT_EQ(warnings({{"alpha_pattern", Json::parse(clear)}}), "") << clear;
}

}  // namespace
}  // namespace ropewalk::formats
