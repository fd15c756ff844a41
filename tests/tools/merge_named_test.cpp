// Merges into models of classes that are not read: tensors by their names alone.
#include <cstring>
#include <functional>
#include <memory>
#include <set>

#include "formats/base64.h"
#include "formats/safetensors.h"
#include "lib/sha256.h"
#include "tests/formats/hf_test_support.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

using formats::f32_tensor;
using formats::raw_bytes;
using formats::RawTensor;
using formats::safetensors_bytes;

std::map<std::string, std::string> tensors_of(const fs::path& file) {
  std::map<std::string, std::string> all;
  for (const TensorPtr& tensor : formats::read_safetensors(file).tensors) all[tensor->name()] = raw_bytes(*tensor);
  return all;
}

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(bytes)));
  return hash.finish();
}

/// A folder "base" and a folder "adapter" of the test's own.
struct Made {
  std::shared_ptr<Scratch> scratch = std::make_shared<Scratch>();
  Json config = {{"model_type", "qwen2"}, {"vocab_size", 32}, {"hidden_size", 8}, {"tie_word_embeddings", false}};
  Json adapter = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 0.1}, {"target_modules", {"q_proj"}}};
  std::vector<RawTensor> tensors = {f32_tensor("model.embed_tokens.weight", {32, 8}),
                                    f32_tensor("model.layers.0.self_attn.q_proj.weight", {8, 8}),
                                    f32_tensor("model.norm.weight", {8}), f32_tensor("lm_head.weight", {32, 8}, 1)};
  std::vector<RawTensor> factors = pair("model.layers.0.self_attn.q_proj", 8, 8);

  static std::vector<RawTensor> pair(const std::string& module, std::uint64_t out, std::uint64_t in) {
    return {f32_tensor("base_model.model." + module + ".lora_A.weight", {2, in}),
            f32_tensor("base_model.model." + module + ".lora_B.weight", {out, 2}, 0.5f)};
  }
  std::string at(const char* name) const { return (*scratch / name).string(); }
  /// Writes both and merges them.
  Ran merge(const std::vector<std::string>& more = {}) const {
    for (const char* name : {"base", "adapter"}) fs::create_directories(*scratch / name);
    spill(*scratch / "base/config.json", config.dump());
    spill(*scratch / "base/model.safetensors", safetensors_bytes(tensors));
    spill(*scratch / "adapter/adapter_config.json", adapter.dump());
    spill(*scratch / "adapter/adapter_model.safetensors", safetensors_bytes(factors));
    std::vector<std::string> words = {
        "merge", at("base") + "+" + at("adapter"), "-o", at("out"), "--overwrite", "--no-sync", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  std::map<std::string, std::string> merged() const { return tensors_of(*scratch / "out/model.safetensors"); }
  Json written_config() const { return Json::parse(slurp(*scratch / "out/config.json")); }
};

void expect_refused(const Ran& ran, int exit, const std::vector<std::string>& parts) {
  EXPECT_EQ(ran.exit, exit) << ran.out;
  std::string message;
  if (ran.exit != 0)
    for (const char* part : {"message", "fix"}) message += ran.json()["error"][part].get<std::string>() + "; ";
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
}

// Fused experts, experts one by one below Mixtral's names, a router: PEFT's merges in double (golden/make/peft_experts.py).
TEST(MergeNamed, ExpertsHavePeftsBytes) {
  const Json golden = Json::parse(slurp(fs::path(ROPEWALK_TEST_DATA_DIR) / "peft_experts.json"));
  std::set<std::string> types;
  for (const auto& [name, one] : golden.items()) {
    SCOPED_TRACE(name);
    Scratch scratch;
    const auto decoded = [](const Json& text) { return *formats::base64_bytes(text.get<std::string>()); };
    const std::string named = name.find("old-") == 0 ? name.substr(4)
                              : name == "router"     ? "qwen3_moe"
                                                     : name,
                      type = named.substr(0, named.find('-'));
    types.insert(type);
    for (const char* folder : {"base", "adapter"}) fs::create_directories(scratch / folder);
    const Json config = {{"model_type", type}, {"num_experts", 3}, {"dtype", "float32"}, {"own_key", {1, 2}}};
    spill(scratch / "base/config.json", config.dump());
    spill(scratch / "base/model.safetensors", decoded(one["base"]));
    spill(scratch / "adapter/adapter_config.json", one["config"].get<std::string>());
    spill(scratch / "adapter/adapter_model.safetensors", decoded(one["weights"]));
    const std::string base = (scratch / "base").string(), out = (scratch / "out").string();
    const Ran ran = run({"merge", base + "+" + (scratch / "adapter").string(), "-o", out, "--no-sync", "--json"});
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(ran.json()["tensors_changed"], one["merged"].size());
    auto want = tensors_of(scratch / "base/model.safetensors");
    for (const auto& [tensor, bytes] : one["merged"].items()) {
      EXPECT_NE(want.at(tensor), decoded(bytes)) << tensor << ": negative control, PEFT changes it";
      want[tensor] = decoded(bytes);
    }
    EXPECT_EQ(tensors_of(scratch / "out/model.safetensors"), want);
    EXPECT_EQ(Json::parse(slurp(scratch / "out/config.json")), config) << "its keys are carried";
    const std::string card = slurp(scratch / "out/README.md");
    EXPECT_NE(card.find(type), std::string::npos);
    EXPECT_EQ(card.find("| rope "), std::string::npos) << card;
    EXPECT_EQ(card.find("| context "), std::string::npos) << card;
  }
  EXPECT_GE(types.size(), 4u);
}

// The same weights as llama and under another class's name: the same tensors. What needs roles refuses by name.
TEST(MergeNamed, AnyClassWithTheSameNamesAndNothingButMerge) {
  Scratch scratch;
  const fs::path base = copy_of(model("tolstoy-4m-yarn-2k"), scratch / "base");
  Json config = Json::parse(slurp(base / "config.json"));
  config["model_type"] = "qwen2";
  config["architectures"] = {"Qwen2ForCausalLM"};
  spill(base / "config.json", config.dump());
  const auto merge = [&](const std::string& from, const char* to) {
    const Ran ran = run({"merge", from + "+" + adapter(), "-o", (scratch / to).string(), "--no-sync", "--json"});
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return tensors_of(scratch / to / "model.safetensors");
  };
  EXPECT_EQ(merge(base.string(), "named"), merge(model("tolstoy-4m-yarn-2k"), "known"));
  EXPECT_EQ(slurp(scratch / "named/tokenizer.model"), slurp(base / "tokenizer.model"));
  const std::string source = base.string(), out = (scratch / "out").string();
  for (const std::vector<std::string>& words : {std::vector<std::string>{"verify", source, "--against", source},
                                                {"perplexity", source, "-c", "64"},
                                                {"convert", source, "-o", out, "--type", "f16"},
                                                {"convert", source, "-o", out, "--type", "hf:f16"},
                                                {"inspect", source},
                                                {"merge", source + "+" + adapter(), "--measure"},
                                                {"merge", source + "+" + adapter(), "-o", out, "--measure"}}) {
    std::vector<std::string> all = words;
    all.push_back("--json");
    expect_refused(run(all), 4, {"model_type is \"qwen2\", read so far are llama and mistral"});
    EXPECT_FALSE(fs::exists(out)) << words.front();
  }
}

TEST(MergeNamed, NamesThatFilesHaveInstead) {
  {  // saved from the class without its head
    Made made;
    const std::map<std::string, std::string> whole = (made.merge(), made.merged());
    for (RawTensor& tensor : made.tensors)
      if (tensor.name.starts_with("model.")) tensor.name.erase(0, 6);
    std::erase_if(made.tensors, [](const RawTensor& one) { return one.name == "lm_head.weight"; });
    const Ran ran = made.merge();
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(ran.json()["warnings"], Json::array());
    EXPECT_EQ(made.merged().at("layers.0.self_attn.q_proj.weight"), whole.at("model.layers.0.self_attn.q_proj.weight"));
    // but not where names begin so: then another tensor is meant
    made.tensors.push_back(f32_tensor("model.norm.weight", {8}));
    expect_refused(made.merge(), 3,
                   {"targets 'model.layers.0.self_attn.q_proj.weight', which the base's files do not"});
  }
  // the parts of models of several
  const std::vector<std::pair<std::string, std::string>> parts = {
      {"model.language_model.layers.0.q_proj", "language_model.model.layers.0.q_proj"},
      {"model.language_model.layers.0.q_proj", "model.layers.0.q_proj"},
      {"model.vision_tower.layers.0.q_proj", "vision_tower.vision_model.layers.0.q_proj"},
      {"model.visual.blocks.0.q_proj", "visual.blocks.0.q_proj"}};
  for (const auto& [in_class, in_files] : parts)
    for (const bool new_files : {false, true}) {
      const std::string &key = new_files ? in_files : in_class, &held = new_files ? in_class : in_files;
      SCOPED_TRACE(key);
      Made made;
      made.factors = Made::pair(key, 8, 8);
      made.tensors = {f32_tensor(held + ".weight", {8, 8}), f32_tensor("model.norm.weight", {8})};
      const Ran ran = made.merge();
      ASSERT_EQ(ran.exit, 0) << ran.err;
      EXPECT_EQ(ran.json()["warnings"], Json::array());
      EXPECT_EQ(ran.json()["modules"][0]["name"], held + ".weight");
    }
  {  // two modules of the adapter that are one of the files
    Made made;
    made.factors = Made::pair(parts[0].first, 8, 8);
    for (RawTensor& factor : Made::pair(parts[0].second, 8, 8)) made.factors.push_back(std::move(factor));
    made.tensors = {f32_tensor(parts[0].first + ".weight", {8, 8}), f32_tensor("model.norm.weight", {8})};
    expect_refused(made.merge(), 3,
                   {"changes '" + parts[0].first + ".weight', as keys of '", "two adapters were put together"});
  }
  {  // two that it may be: neither
    Made made;
    made.factors = Made::pair(parts[0].first, 8, 8);
    made.tensors = {f32_tensor(parts[0].second + ".weight", {8, 8}), f32_tensor(parts[1].second + ".weight", {8, 8})};
    expect_refused(made.merge(), 3, {"targets '" + parts[0].first + ".weight', which the base's files do not have"});
  }
  {  // Mixtral's router
    Made made;
    made.config["model_type"] = "mixtral";
    made.adapter["target_modules"] = nullptr;
    made.adapter["target_parameters"] = {"mlp.gate.weight"};
    made.factors = Made::pair("model.layers.0.mlp.gate", 3, 8);
    made.tensors.push_back(f32_tensor("model.layers.0.block_sparse_moe.gate.weight", {3, 8}));
    const Ran ran = made.merge();
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(ran.json()["warnings"], Json::array());
    EXPECT_EQ(ran.json()["modules"][0]["name"], "model.layers.0.block_sparse_moe.gate.weight");
  }
}

TEST(MergeNamed, WhatOnlyAClassTellsIsRefused) {
  const auto refused = [](int exit, const std::vector<std::string>& parts, const std::function<void(Made&)>& change,
                          const std::vector<std::string>& more = {}) {
    SCOPED_TRACE(parts.front());
    Made made;
    change(made);
    expect_refused(made.merge(more), exit, parts);
    EXPECT_FALSE(fs::exists(*made.scratch / "out"));
  };
  const auto nothing = [](Made&) {};
  refused(4,
          {"type \"qwen2\" is merged by the names of its tensors alone", "ropewalk extend MERGED -o DIR --rope yarn"},
          nothing, {"--rope", "yarn,factor=4"});
  refused(4, {"--qlora-base nf4 quantizes the linear layers", "only its class says"}, nothing, {"--qlora-base", "nf4"});
  refused(4, {"'layer_replication' copies the layers"}, [](Made& made) {
    made.adapter["layer_replication"] = {{0, 1}, {0, 1}};
  });
  refused(3,
          {"'base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight' targets "
           "'model.layers.0.self_attn.k_proj.weight', which the base's files do not have (nearest: "
           "'model.layers.0.self_attn.q_proj.weight')",
           "transformers loads these files under other names: merge it with PEFT"},
          [](Made& made) {
            made.adapter["target_modules"] = {"k_proj"};
            made.factors = Made::pair("model.layers.0.self_attn.k_proj", 8, 8);
          });
  {
    Scratch scratch;
    const std::string lora = (scratch / "lora.gguf").string();
    ASSERT_EQ(run({"adapter", "convert", model("tolstoy-4m-yarn-2k") + "+" + adapter(), "-o", lora, "--no-sync"}).exit,
              0);
    Made made;
    made.merge();
    expect_refused(run({"merge", made.at("base") + "+" + lora, "-o", made.at("other"), "--json"}), 4,
                   {"a GGUF adapter is of a llama, and the base of type \"qwen2\""});
  }
  refused(3, {"'model_type' is missing"}, [](Made& made) { made.config.erase("model_type"); });
  refused(4, {"'model.layers.0.self_attn.q_proj.weight' holds u8, expected floating point"}, [](Made& made) {
    made.tensors[1].dtype = "U8";
    made.tensors[1].bytes.resize(64);
  });
  refused(4, {"'model.layers.0.self_attn.q_proj.weight_scale_inv' belongs to a packed weight"}, [](Made& made) {
    made.tensors.push_back(f32_tensor("model.layers.0.self_attn.q_proj.weight_scale_inv", {1, 1}));
  });
}

TEST(MergeNamed, ConvolutionsStandAsTheirClassSays) {
  const auto made = [](const char* type, bool flag, std::uint64_t out) {
    Made one;
    one.config["model_type"] = type;
    one.adapter["target_modules"] = {"c_proj"};
    one.adapter["fan_in_fan_out"] = flag;
    one.factors = Made::pair("transformer.h.0.attn.c_proj", out, 8);
    one.tensors = {f32_tensor("transformer.wte.weight", {32, 8}),
                   f32_tensor("transformer.h.0.attn.c_proj.weight", {8, out})};
    return one;
  };
  for (const std::uint64_t out : {8, 24}) {
    for (const char* type : {"gpt2", "gpt-sw3"}) {  // a GPT2Config of transformers 5.23.0
      const Made said = made(type, true, out), corrected = made(type, false, out);
      EXPECT_EQ(said.merge().exit, 0);
      EXPECT_EQ(corrected.merge().exit, 0) << "PEFT corrects the flag to what the class is";
      EXPECT_EQ(said.merged(), corrected.merged());
    }
    Made loha = made("gpt2", false, out);
    loha.adapter = {{"peft_type", "LOHA"}, {"r", 2}, {"alpha", 2}, {"target_modules", {"c_proj"}}};
    loha.factors.clear();
    for (const char* part : {"hada_w1_a", "hada_w2_a"})
      loha.factors.push_back(f32_tensor(std::string("base_model.model.transformer.h.0.attn.c_proj.") + part, {out, 2}));
    for (const char* part : {"hada_w1_b", "hada_w2_b"})
      loha.factors.push_back(f32_tensor(std::string("base_model.model.transformer.h.0.attn.c_proj.") + part, {2, 8}));
    expect_refused(loha.merge(), 4, {"is a Conv1D, and no LoHa of that is read"});
  }
  const Made false_flag = made("gpt_bigcode", false, 8), true_flag = made("gpt_bigcode", true, 8);
  EXPECT_EQ(false_flag.merge().exit, 0);
  EXPECT_EQ(true_flag.merge().exit, 0);
  EXPECT_EQ(false_flag.merged(), true_flag.merged());
  for (const bool flag : {false, true})
    expect_refused(made("own_class", flag, 8).merge(), 4, {"is square, and which side is its inputs only the class"});
  for (const bool flag : {false, true}) {  // its decoder may be a gpt2
    Made one = made("vision-encoder-decoder", flag, 8);
    one.config["decoder"] = {{"model_type", "gpt2"}};
    expect_refused(one.merge(), 4, {"is square, and which side is its inputs only the class"});
  }
  // the sides of a square are told apart
  const Made turned = made("gpt2", true, 8), plain = made("gpt_bigcode", false, 8);
  turned.merge(), plain.merge();
  EXPECT_NE(turned.merged(), plain.merged());
}

// bitsandbytes packs a Conv1D as the linear layer it takes its place with (golden/make/peft_conv1d.py): written is what the
// class stores, with the delta that PEFT adds, whatever fan_in_fan_out says.
TEST(MergeNamed, PackedConvolutionsStandAsTheirClassSays) {
  const Json golden = Json::parse(slurp(fs::path(ROPEWALK_TEST_DATA_DIR) / "peft_conv1d.json"));
  EXPECT_EQ(golden.size(), 2u);
  for (const auto& [name, one] : golden.items()) {
    SCOPED_TRACE(name);
    Scratch scratch;
    const auto decoded = [](const Json& text) { return *formats::base64_bytes(text.get<std::string>()); };
    for (const char* folder : {"base", "adapter"}) fs::create_directories(scratch / folder);
    spill(scratch / "base/config.json", one["config"].dump());
    spill(scratch / "base/model.safetensors", decoded(one["tensors"]));
    spill(scratch / "adapter/adapter_model.safetensors", decoded(one["weights"]));
    const auto merged = [&](Json adapter, const char* scale) {
      spill(scratch / "adapter/adapter_config.json", adapter.dump());
      const Ran ran = run({"merge", (scratch / "base").string() + "+" + (scratch / "adapter").string() + scale, "-o",
                           (scratch / "out").string(), "--no-sync", "--json", "--overwrite"});
      EXPECT_EQ(ran.exit, 0) << ran.out;
      Json hashes;
      for (const auto& [tensor, bytes] : tensors_of(scratch / "out/model.safetensors")) hashes[tensor] = sha256(bytes);
      return hashes;
    };
    Json adapter = one["adapter"];
    EXPECT_EQ(adapter["fan_in_fan_out"], false);
    EXPECT_EQ(merged(adapter, ""), one["merged"]);
    const Json control = merged(adapter, ":1.1");
    for (const auto& [tensor, hash] : control.items())
      EXPECT_NE(hash, one["merged"][tensor]) << tensor << ": negative control";
    adapter["fan_in_fan_out"] = true;
    EXPECT_EQ(merged(adapter, ""), one["merged"]);
  }
}

// l of one output is [1, 1], as l of one input is: feedforward_modules says which (PEFT 0.21.2).
TEST(MergeNamed, Ia3OfOneOutput) {
  const auto made = [](std::vector<std::uint64_t> shape, const Json& feedforward) {
    Made one;
    one.config["model_type"] = "qwen2_moe";
    one.adapter = {{"peft_type", "IA3"}, {"target_modules", {"gate"}}, {"feedforward_modules", feedforward}};
    one.factors = {f32_tensor("base_model.model.model.layers.0.gate.ia3_l", {1, 1}, 3)};
    one.tensors = {f32_tensor("model.embed_tokens.weight", {32, 8}), f32_tensor("model.layers.0.gate.weight", shape),
                   f32_tensor("model.layers.0.gate.bias", {shape[0]}), f32_tensor("lm_head.weight", {32, 8}, 1)};
    return one;
  };
  const auto scaled = [](const Made& one) {
    EXPECT_EQ(one.merge().exit, 0);
    std::set<std::string> names;
    const auto merged = one.merged();
    for (const RawTensor& tensor : one.tensors)
      if (merged.at(tensor.name) != tensor.bytes) names.insert(tensor.name);
    return names;
  };
  const std::string weight = "model.layers.0.gate.weight", bias = "model.layers.0.gate.bias";
  EXPECT_EQ(scaled(made({1, 8}, Json::array())), (std::set{weight, bias}));
  EXPECT_EQ(scaled(made({1, 8}, {"up_proj"})), (std::set{weight, bias}));
  EXPECT_EQ(scaled(made({8, 1}, {"gate"})), std::set{weight});
  EXPECT_EQ(scaled(made({8, 1}, R"(.*\.\d+\.gate)")), std::set{weight});
  EXPECT_NE(made({1, 8}, {"gate"}).merge().exit, 0);
}

TEST(MergeNamed, AdaptersThatChangeNothingAreNamed) {
  const std::string q = "model.layers.0.self_attn.q_proj";
  const auto warnings = [](const Made& made, int changed) {
    const Ran ran = made.merge();
    EXPECT_EQ(ran.exit, 0) << ran.out;
    EXPECT_EQ(ran.json()["tensors_changed"], changed);
    return ran.json()["warnings"].dump();
  };
  Made ia3;  // as PEFT begins
  ia3.adapter = {{"peft_type", "IA3"}, {"target_modules", {"q_proj"}}, {"feedforward_modules", Json::array()}};
  ia3.factors = {f32_tensor("base_model.model." + q + ".ia3_l", {8, 1})};
  for (std::size_t i = 0; i < 8; ++i) std::memcpy(&ia3.factors[0].bytes[4 * i], "\0\0\x80\x3f", 4);
  EXPECT_NE(warnings(ia3, 0).find("the adapters' delta is zero for " + q + ".weight: never trained?"),
            std::string::npos);
  std::memcpy(&ia3.factors[0].bytes[0], "\0\0\0\x40", 4);
  EXPECT_EQ(warnings(ia3, 1).find("never trained"), std::string::npos);
  std::ranges::fill(ia3.factors[0].bytes, std::remove_reference_t<decltype(ia3.factors[0].bytes[0])>{});
  EXPECT_NE(warnings(ia3, 1).find("the adapters' delta is exactly as large as the weight, for " + q + ".weight"),
            std::string::npos);

  Made saved;  // a whole tensor that is the base's, beside one that is not
  saved.adapter["modules_to_save"] = {"norm"};
  saved.factors.push_back(f32_tensor("base_model.model.model.norm.weight", {8}));
  EXPECT_NE(warnings(saved, 1).find("the adapters' delta is zero for model.norm.weight: never trained?"),
            std::string::npos);
}

TEST(MergeNamed, AHeadForClassification) {
  for (const char* task : {"SEQ_CLS", "TOKEN_CLS"}) {
    Made made;
    made.adapter["task_type"] = task;
    made.adapter["modules_to_save"] = {"score"};
    made.factors.push_back(f32_tensor("base_model.model.score.weight", {2, 8}));
    expect_refused(made.merge(), 3,
                   {"a head that only a class for classification has", "save it, and merge into that"});
  }
}

TEST(MergeNamed, TiedHeads) {
  const auto saved = [](const char* module) {
    Made made;
    made.adapter["modules_to_save"] = {std::string(module).substr(std::string(module).rfind('.') + 1)};
    made.factors.push_back(f32_tensor("base_model.model." + std::string(module) + ".weight", {32, 8}, 3));
    return made;
  };
  const auto drop_head = [](Made& made) { made.tensors.pop_back(); };
  {  // no head in the files: it is the embedding, and no longer so where one of the two was trained
    Made made = saved("model.embed_tokens");
    made.config.erase("tie_word_embeddings");
    drop_head(made);
    const Ran ran = made.merge();
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_TRUE(made.merged().contains("lm_head.weight"));
    EXPECT_EQ(made.written_config()["tie_word_embeddings"], false);
  }
  {  // both, alike: the class decides, unless the file does
    Made made = saved("lm_head");
    made.config.erase("tie_word_embeddings");
    made.tensors.back().bytes = made.tensors.front().bytes;
    expect_refused(made.merge(), 4, {"tied to it", "config.json does not say", "write tie_word_embeddings"});
    made.config["tie_word_embeddings"] = false;
    EXPECT_EQ(made.merge().exit, 0);
    made.tensors.back().bytes[0] ^= 1;  // apart they are two, whatever the class
    made.config.erase("tie_word_embeddings");
    EXPECT_EQ(made.merge().exit, 0);
  }
  {  // an embedding under another name
    Made made = saved("transformer.wte");
    made.config.erase("tie_word_embeddings");
    made.tensors.front().name = "transformer.wte.weight";
    drop_head(made);
    expect_refused(made.merge(), 4, {"changes 'transformer.wte.weight'", "merge it with PEFT"});
  }
  {  // a flag that need not be the decoder's
    Made made = saved("model.embed_tokens");
    made.config = {
        {"model_type", "vision-encoder-decoder"}, {"decoder", {{"vocab_size", 32}}}, {"tie_word_embeddings", false}};
    expect_refused(made.merge(), 4, {"changes 'model.embed_tokens.weight'", "merge it with PEFT"});
  }
  {  // of a model of several parts
    Made made = saved("model.embed_tokens");
    made.config = {{"model_type", "llava"}, {"text_config", {{"vocab_size", 32}, {"hidden_size", 8}}}};
    expect_refused(made.merge(), 4, {"changes 'model.embed_tokens.weight'"});
  }
  {  // rows of a vocabulary that grew
    Made made = saved("model.embed_tokens");
    made.factors.back() = f32_tensor("base_model.model.model.embed_tokens.weight", {34, 8}, 3);
    expect_refused(made.merge(), 3, {"has 34 rows with its adapters"});
    made.adapter["modules_to_save"].push_back("lm_head");
    made.factors.push_back(f32_tensor("base_model.model.lm_head.weight", {34, 8}, 3));
    ASSERT_EQ(made.merge().exit, 0);
    EXPECT_EQ(made.written_config()["vocab_size"], 34);
  }
}

}  // namespace
}  // namespace ropewalk::tools::test
