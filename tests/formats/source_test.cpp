#include "formats/source.h"

#include <gtest/gtest.h>

#include "formats/hf_folder.h"
#include "formats/hub_cache.h"
#include "tests/formats/tiny_llama.h"

namespace ropewalk::formats {
namespace {

using Choice = OpenOptions::TokenizerChoice;

Source open(const std::string& text, const OpenOptions& options = {}, const fs::path& hub_cache = {}) {
  return open_source(parse_source(text), options, hub_cache);
}

bool warns(const Source& source, const std::string& part) {
  for (const std::string& line : source.checkpoint.warnings)
    if (line.find(part) != std::string::npos) return true;
  return false;
}
std::string bytes_of(const Source& source, const std::string& name) { return raw_bytes(*source.checkpoint.find(name)); }
constexpr const char* kAdapted = "model.layers.1.self_attn.q_proj.weight";

TEST(SourceSpec, GrammarOfNamesThatAreNotThere) {
  const SourceSpec spec = parse_source("org/model@v2+some/adapter:0.5+other+rope=yarn,factor=16,original=4096");
  EXPECT_EQ(spec.model, "org/model@v2");
  ASSERT_EQ(spec.adapters.size(), 2u);
  EXPECT_EQ(spec.adapters[0].path, "some/adapter");
  EXPECT_EQ(spec.adapters[0].scale, 0.5);
  EXPECT_EQ(spec.adapters[1].path, "other");
  EXPECT_EQ(spec.adapters[1].scale, 1);
  EXPECT_EQ(spec.rope, "yarn,factor=16,original=4096");
  EXPECT_EQ(parse_source("m+a:-1e-2").adapters[0].scale, -0.01);
  EXPECT_EQ(parse_source(R"(m+rope={"rope_type":"linear","factor":1e+1})").rope,
            R"({"rope_type":"linear","factor":1e+1})")
      << "rope= takes the rest";
  for (const char* bad :
       {"", "+a", "m+", "m++a", "m+a:", "m+a:x", "m+a:nan", "m+a:inf", "m+a:1e999", "m+:1", "m+rope="}) {
    SCOPED_TRACE(bad);
    expect_error(ErrorKind::usage, {"source '", "expected MODEL[+ADAPTER[:SCALE]]...[+rope=SPEC]"},
                 [&] { parse_source(bad); });
  }
}

TEST(SourceSpec, ExistingPathsAreTakenLiterally) {
  TestFolder folder;
  for (const char* name : {"a", "a+b", "x:2", "c+d:3"}) fs::create_directories(folder / name);
  const std::string at = folder.path().string() + "/";
  EXPECT_EQ(parse_source(at + "a+b").model, at + "a+b");
  EXPECT_TRUE(parse_source(at + "a+b").adapters.empty());
  EXPECT_EQ(parse_source(at + "a+c").model, at + "a");
  const SourceSpec spec = parse_source(at + "a+b+" + at + "x:2+" + at + "c+d:3+" + at + "x:2:4");
  ASSERT_EQ(spec.adapters.size(), 3u);
  EXPECT_EQ(spec.adapters[0].path, at + "x:2") << "a colon in a name that exists";
  EXPECT_EQ(spec.adapters[0].scale, 1);
  EXPECT_EQ(spec.adapters[1].path, at + "c+d:3");
  EXPECT_EQ(spec.adapters[2].path, at + "x:2");
  EXPECT_EQ(spec.adapters[2].scale, 4);
}

TEST(HubCache, NamesAndRevisions) {
  EXPECT_EQ(parse_hub_name("org/name")->revision, "main");
  EXPECT_EQ(parse_hub_name("org/name@refs/pr/1")->revision, "refs/pr/1");
  for (const char* bad : {"name", "a/b/c", "../name", "org/..", "org/name@", "org/name@../x", "org/name@a//b", "/name",
                          "org/", "org/na me", "org/name@/etc"})
    EXPECT_FALSE(parse_hub_name(bad)) << bad;
}

TEST(HubCache, OpensSnapshotsThroughLinksAndNeverWrites) {
  TestFolder folder;
  const fs::path repository = folder / "hub/models--org--tiny";
  write_tiny(repository / "blobs");
  fs::create_directories(repository / "snapshots/abc123");
  for (const char* name : {"config.json", "model.safetensors"})
    fs::create_symlink("../../blobs/" + std::string(name), repository / "snapshots/abc123" / name);
  write_bytes(repository / "refs/main", "abc123\n");
  write_bytes(repository / "refs/v2", "missing");
  write_bytes(repository / "refs/evil", "../../../..");
  const auto files = [&] {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : fs::recursive_directory_iterator(folder.path())) ++n;
    return n;
  };
  const std::size_t before = files();
  EXPECT_EQ(open("org/tiny", {}, folder / "hub").checkpoint.tensors.size(), 21u);
  EXPECT_EQ(open("org/tiny@main", {}, folder / "hub").checkpoint.label, "org/tiny@main");
  EXPECT_EQ(open("org/tiny@abc123", {}, folder / "hub").checkpoint.tensors.size(), 21u);
  expect_error(ErrorKind::bad_input, {"not its revision 'v2'"}, [&] { open("org/tiny@v2", {}, folder / "hub"); });
  expect_error(ErrorKind::bad_input, {"refs/evil", "does not hold the name of a commit"},
               [&] { open("org/tiny@evil", {}, folder / "hub"); });
  expect_error(ErrorKind::bad_input, {"org/other", "nor in the Hub cache", "hf download org/other"},
               [&] { open("org/other", {}, folder / "hub"); });
  EXPECT_EQ(files(), before);
}

TEST(Source, AdapterIsMergedAndReported) {
  TestFolder folder;
  write_tiny(folder / "base");
  write_tiny_adapter(folder / "adapter", "base");
  const std::string base = (folder / "base").string(), adapter = (folder / "adapter").string();
  const Source plain = open(base), merged = open(base + "+" + adapter), half = open(base + "+" + adapter + ":0.5"),
               none = open(base + "+" + adapter + ":0");
  EXPECT_EQ(merged.merged_modules.size(), 2u);
  EXPECT_EQ(merged.merged_modules[1].name, kAdapted);
  EXPECT_EQ(merged.merged_modules[1].scale, 2);
  EXPECT_EQ(half.merged_modules[1].scale, 1);
  EXPECT_NE(bytes_of(merged, kAdapted), bytes_of(plain, kAdapted));
  EXPECT_NE(bytes_of(merged, kAdapted), bytes_of(half, kAdapted));
  EXPECT_EQ(bytes_of(none, kAdapted), bytes_of(plain, kAdapted));
  EXPECT_EQ(bytes_of(merged, "lm_head.weight"), bytes_of(plain, "lm_head.weight"));
  EXPECT_EQ(raw_bytes(*merged.base_tensors[1]), raw_bytes(*plain.checkpoint.tensors[1]))
      << "base_tensors are the base's";
  EXPECT_EQ(merged.checkpoint.find(kAdapted)->info().pairs, RotaryPairs::half_split);
  EXPECT_FALSE(warns(merged, "names the base"));

  OpenOptions bf16;
  bf16.merge_dtype = DType::bf16;
  for (const TensorPtr& tensor : open(base + "+" + adapter, bf16).checkpoint.tensors)
    EXPECT_EQ(tensor->dtype(), DType::bf16) << tensor->name();
}

TEST(Source, AnotherBaseThatFitsIsAWarningAndOneThatDoesNotAnError) {
  TestFolder folder;
  write_tiny(folder / "base");
  write_tiny_adapter(folder / "adapter", "org/trained-on");
  const std::string text = (folder / "base").string() + "+" + (folder / "adapter").string();
  EXPECT_TRUE(warns(open(text),
                    "names the base 'org/trained-on', merged into 'base': not found here, so ropes and "
                    "vocabularies were not compared"));
  Json longer = tiny_config();
  longer["max_position_embeddings"] = 4096;
  write_tiny(folder / "trained-on", tiny_tensors(), longer);
  EXPECT_TRUE(warns(open(text), "merged into 'base': its rope is plain (theta 10000) for 4096 tokens, not plain"));
  write_tiny(folder / "trained-on");
  EXPECT_TRUE(warns(open(text), "merged into 'base': of the same rope and size of vocabulary"));
  Json wide = tiny_config();
  wide["intermediate_size"] = 32;
  std::vector<RawTensor> tensors = tiny_tensors();
  for (RawTensor& tensor : tensors) {
    if (tensor.name.find("gate_proj") != std::string::npos || tensor.name.find("up_proj") != std::string::npos)
      tensor = f32_tensor(tensor.name, {32, 16});
    if (tensor.name.find("down_proj") != std::string::npos) tensor = f32_tensor(tensor.name, {16, 32});
  }
  write_tiny(folder / "base", tensors, wide);
  expect_error(ErrorKind::bad_input,
               {"adapter", "down_proj.lora_A.weight' has shape [2, 24]: 24 inputs, expected 32", "'org/trained-on'"},
               [&] { open(text); });
}

// Known by the names of their tensors, not as another architecture.
TEST(Source, AModelSavedWithItsAdapterOrPackedWithoutAWord) {
  TestFolder folder;
  const auto refused = [&](const std::string& name, const std::string& as, const std::string& said) {
    std::vector<RawTensor> tensors = tiny_tensors();
    tensor_named(tensors, "model.layers.1.self_attn.q_proj.weight").name = as.empty() ? name : as;
    if (as.empty()) tensors.push_back(f32_tensor("model.layers.1.self_attn.q_proj.weight", {16, 16}));
    write_tiny(folder / "base", tensors);
    expect_error(ErrorKind::unsupported, {said}, [&] { open((folder / "base").string()); });
  };
  refused("", "model.layers.1.self_attn.q_proj.base_layer.weight", "saved with PEFT's adapter layers in it");
  refused("", "model.layers.1.self_attn.q_proj.lora_A.default.weight", "saved with PEFT's adapter layers in it");
  refused("model.layers.1.self_attn.q_proj.weight.absmax", "", "bitsandbytes packed and config.json does not describe");
  write_tiny(folder / "base");
  EXPECT_NO_THROW(open((folder / "base").string()));
}

// AdaLoRA's rank_pattern says of a module without ranks that training took them; PEFT puts the embedding beside a change of
// a tied head.
TEST(Source, WhatAnAdapterRightlyLacksOrHoldsUnchanged) {
  TestFolder folder;
  write_tiny(folder / "base");
  const std::string at = "base_model.model.model.layers.1.self_attn.q_proj.lora_";
  const auto write = [&](const Json& config, const std::vector<RawTensor>& tensors) {
    write_bytes(folder / "adapter/adapter_config.json", config.dump());
    write_bytes(folder / "adapter/adapter_model.safetensors", safetensors_bytes(tensors));
    return open((folder / "base").string() + "+" + (folder / "adapter").string());
  };
  const auto ranks = [&](bool left) {
    return write({{"peft_type", "ADALORA"},
                  {"init_r", 2},
                  {"lora_alpha", 4},
                  {"target_modules", {"q_proj"}},
                  {"rank_pattern", {{"model.layers.0.self_attn.q_proj.lora_E", {false, left}}}}},
                 {f32_tensor(at + "A", {2, 16}), f32_tensor(at + "B", {16, 2}), f32_tensor(at + "E", {2, 1})});
  };
  EXPECT_FALSE(warns(ranks(false), "its file lacks"));
  EXPECT_TRUE(warns(ranks(true), "its file lacks 1 module 'model.layers.0.self_attn.q_proj'"));

  Json tied = tiny_config();
  tied["tie_word_embeddings"] = true;
  write_tiny(folder / "base", tiny_tensors({.head = false}), tied);
  const auto head = [&](float embedding) {
    return write({{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 4}, {"target_modules", {"lm_head"}}},
                 {f32_tensor("base_model.model.lm_head.lora_A.weight", {2, 16}),
                  f32_tensor("base_model.model.lm_head.lora_B.weight", {32, 2}),
                  f32_tensor("base_model.model.lm_head.base_layer.weight", {32, 16}, embedding)});
  };
  EXPECT_TRUE(warns(head(0.1f), "adapters change the head but not the embedding tied to it"));
  EXPECT_TRUE(warns(head(0.2f), "each in its own way"));
}

// The rope travels with the adapter: a trainer's config.json beside it says which, a merge keeps the base's and says both,
// and the SPEC it names gives the adapter's.
TEST(Source, ARopeBesideTheAdapterIsTold) {
  TestFolder folder;
  write_tiny(folder / "base");
  write_tiny_adapter(folder / "adapter", "base");
  const std::string text = (folder / "base").string() + "+" + (folder / "adapter").string();
  const auto beside = [&](const Json& config) { write_bytes(folder / "adapter/config.json", config.dump()); };
  beside(tiny_config());
  EXPECT_FALSE(warns(open(text), "beside it"));
  Json yarn = tiny_config();
  const int context = yarn["max_position_embeddings"];
  yarn["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 8.0}, {"original_max_position_embeddings", context}};
  yarn["max_position_embeddings"] = 8 * context;
  beside(yarn);
  const Source merged = open(text);
  EXPECT_TRUE(warns(merged, "config.json beside it is of another rope, YaRN x8 of " + std::to_string(context)));
  EXPECT_TRUE(std::holds_alternative<RopeUnscaled>(merged.checkpoint.config.rope.scaling));
  const Source extended = open(text + "+rope=" + yarn["rope_scaling"].dump());
  EXPECT_FALSE(warns(extended, "beside it"));
  EXPECT_EQ(extended.checkpoint.config.context, 8 * context);
  beside({{"quantization_config", {{"load_in_4bit", true}}}});
  EXPECT_FALSE(warns(open(text), "config.json beside it is of"));
  EXPECT_FALSE(warns(open(text), "was not compared"));
  write_bytes(folder / "adapter/config.json", "{");
  EXPECT_TRUE(warns(open(text), "was not compared: "));
}

TEST(Source, AdapterAloneFindsItsBase) {
  TestFolder folder;
  write_tiny(folder / "models/tiny-base");
  write_tiny(folder / "hub/models--org--cached/snapshots/main");
  const std::string want = bytes_of(open((folder / "models/tiny-base").string()), "lm_head.weight");
  const std::pair<const char*, std::string> cases[] = {{"beside", "tiny-base"},
                                                       {"beside by last part", "someone/tiny-base"},
                                                       {"relative to the adapter", "../tiny-base"},
                                                       {"absolute", (folder / "models/tiny-base").string()},
                                                       {"cache", "org/cached"}};
  for (const auto& [what, base] : cases) {
    SCOPED_TRACE(what);
    write_tiny_adapter(folder / "models/adapter", base);
    const Source source = open((folder / "models/adapter").string(), {}, folder / "hub");
    EXPECT_EQ(source.merged_modules.size(), 2u);
    EXPECT_EQ(bytes_of(source, "lm_head.weight"), want);
    EXPECT_FALSE(warns(source, "names the base"));
    EXPECT_EQ(open((folder / "models/adapter/").string() + "/", {}, folder / "hub").merged_modules.size(), 2u)
        << "a slash at the end";
  }
  write_tiny_adapter(folder / "models/adapter", "org/nowhere");
  expect_error(ErrorKind::bad_input,
               {"adapter_config.json", "the base 'org/nowhere' was found neither beside", "MODEL+"},
               [&] { open((folder / "models/adapter").string(), {}, folder / "hub"); });
  write_tiny_adapter(folder / "models/adapter", "");
  expect_error(ErrorKind::bad_input, {"base_model_name_or_path is empty"},
               [&] { open((folder / "models/adapter").string()); });
  write_tiny_adapter(folder / "models/adapter", "adapter");
  expect_error(ErrorKind::bad_input, {"the base 'adapter' was found neither"},
               [&] { open((folder / "models/adapter").string()); });
  write_bytes(folder / "models/adapter/config.json",
              tiny_config().dump(2));  // some trainers leave a copy of the base's
  write_tiny_adapter(folder / "models/adapter", "tiny-base");
  EXPECT_EQ(open((folder / "models/adapter").string()).merged_modules.size(), 2u);
}

TEST(Source, RopeIsReplacedInConfigurationAndModel) {
  TestFolder folder;
  write_tiny(folder / "base");
  const Source source = open((folder / "base").string() + "+rope=linear,factor=4");
  EXPECT_STREQ(rope_method_name(source.checkpoint.config.rope), "linear");
  EXPECT_EQ(rope_factor(source.checkpoint.config.rope), 4);
  EXPECT_EQ(source.checkpoint.config.context, 256);
  EXPECT_EQ(source.hf->config["max_position_embeddings"], 256);
  std::vector<std::string> warnings;
  EXPECT_NE(source.hf->config_text.find("\"rope_scaling\": null"), std::string::npos) << "the text stays as found";
  expect_error(ErrorKind::usage, {"nonsense"}, [&] { open((folder / "base").string() + "+rope=nonsense"); });
}

/// A model and a copy of its adapter, in "own", without a tokenizer.
struct AdaptedModel {
  TestFolder folder;
  fs::path model = kGolden / "fixtures/models/tolstoy-4m-yarn-2k";
  AdaptedModel() {
    const fs::path adapter = kGolden / "fixtures/adapters/qlora-shakespeare";
    for (const char* name : {"adapter_config.json", "adapter_model.safetensors"})
      write_bytes(folder / "own" / name, read_bytes(adapter / name));
  }
  Source open_with(Choice choice, const fs::path& tokenizer = {}) const {
    OpenOptions options;
    options.tokenizer = choice;
    options.tokenizer_folder = tokenizer;
    return open(model.string() + "+" + (folder / "own").string(), options);
  }
};

TEST(Source, TokenizerIsTheAdaptersIfItsIdsFit) {
  const AdaptedModel adapted;
  const TestFolder& folder = adapted.folder;
  const fs::path& model = adapted.model;
  const auto open_with = [&](Choice choice, const fs::path& tokenizer = {}) {
    return adapted.open_with(choice, tokenizer);
  };
  EXPECT_EQ(open_with(Choice::automatic).tokenizer_origin, "base") << "the adapter has none";
  expect_error(ErrorKind::bad_input, {"no adapter of this source has a tokenizer"},
               [&] { open_with(Choice::adapter); });

  write_bytes(folder / "own/tokenizer.model", read_bytes(model / "tokenizer.model"));
  const Source own = open_with(Choice::automatic);
  EXPECT_EQ(own.tokenizer_origin, "adapter " + (folder / "own").string());
  EXPECT_EQ(own.tokenizer_folder, folder / "own");
  EXPECT_EQ(open_with(Choice::base).tokenizer_origin, "base");

  write_bytes(folder / "own/added_tokens.json", R"({"<extra>": 2048})");  // one past the embedding's 2048 rows
  const Source base = open_with(Choice::automatic);
  EXPECT_EQ(base.tokenizer_origin, "base");
  EXPECT_TRUE(warns(base, "2049 ids, the embedding 2048 rows"));
  expect_error(ErrorKind::bad_input, {"2049 ids"}, [&] { open_with(Choice::adapter); });

  const Source other = open_with(Choice::folder, kGolden / "fixtures/models/stories260K");
  EXPECT_EQ(other.checkpoint.vocabulary->pieces.size(), 512u);
  expect_error(ErrorKind::bad_input, {(folder / "own").string(), "the tokenizer has 2049 ids, the embedding 2048 rows"},
               [&] { open_with(Choice::folder, folder / "own"); });
  expect_error(ErrorKind::bad_input, {"no tokenizer here"}, [&] { open_with(Choice::folder, folder.path()); });
}

// transformers 5 saves an adapter's tokenizer as tokenizer.json alone. The base's tokenizer.model with the same tokens is
// the same tokenizer; with another token the adapter's is another.
TEST(Source, AnAdaptersTokenizerJsonWithTheBasesTokensIsTheBases) {
  const AdaptedModel adapted;
  const TestFolder& folder = adapted.folder;
  const fs::path& model = adapted.model;
  const auto open_with = [&](Choice choice) { return adapted.open_with(choice); };
  write_bytes(folder / "own/tokenizer.json", read_bytes(model / "tokenizer.json"));
  const Source same = open_with(Choice::automatic);
  EXPECT_EQ(same.tokenizer_origin, "base");
  EXPECT_FALSE(same.checkpoint.vocabulary->pipeline) << "the tokenizer.model, which a GGUF can hold";
  EXPECT_EQ(open_with(Choice::adapter).tokenizer_origin, "adapter " + (folder / "own").string()) << "asked for";

  // the same tokens, of which tokenizer_config.json says something else
  const std::string config = read_bytes(model / "tokenizer_config.json"), own = "adapter " + (folder / "own").string();
  const auto origin_with = [&](const char* key, const char* value) {
    Json changed = Json::parse(config);
    changed[key] = value;
    write_bytes(folder / "own/tokenizer_config.json", changed.dump());
    return open_with(Choice::automatic).tokenizer_origin;
  };
  EXPECT_EQ(origin_with("eos_token", "</s>"), "base") << "control: as the base says";
  EXPECT_EQ(origin_with("eos_token", "<s>"), own);
  EXPECT_EQ(origin_with("pad_token", "<unk>"), own);
  EXPECT_EQ(origin_with("chat_template", "{{ messages }}"), own);
  EXPECT_EQ(open_with(Choice::base).tokenizer_origin, "base");
  fs::remove(folder / "own/tokenizer_config.json");

  std::string json = read_bytes(model / "tokenizer.json");
  const std::size_t at = json.find("\"<s>\"");
  ASSERT_NE(at, std::string::npos);
  for (std::size_t i = at; i != std::string::npos; i = json.find("\"<s>\"", i + 1)) json.replace(i, 5, "\"<t>\"");
  write_bytes(folder / "own/tokenizer.json", json);
  EXPECT_EQ(open_with(Choice::automatic).tokenizer_origin, "adapter " + (folder / "own").string());
}

TEST(Source, ATiedHeadThatHoldsNothingIsRefusedAtOnce) {  // not compared row by row, 2^60 of them
  TestFolder folder;
  std::vector<RawTensor> tensors = tiny_tensors();
  for (const char* name : {"lm_head.weight", "model.embed_tokens.weight"}) {
    RawTensor& tensor = tensor_named(tensors, name);
    tensor.shape = {std::uint64_t{1} << 60, 0};
    tensor.bytes.clear();
  }
  Json config = tiny_config();
  config["tie_word_embeddings"] = true;
  write_tiny(folder / "m", tensors, config);
  expect_error(ErrorKind::bad_input, {"model.embed_tokens.weight"}, [&] { open((folder / "m").string()); });
}

TEST(Source, AnAdapterAloneHasNoWeightsOfItsOwn) {
  TestFolder folder;
  write_tiny(folder / "m");
  write_tiny_adapter(folder / "a", "m");
  EXPECT_TRUE(is_adapter_alone(folder / "a"));
  EXPECT_FALSE(is_adapter_alone(folder / "m"));
  write_tiny_adapter(folder / "m", "elsewhere");
  EXPECT_FALSE(is_adapter_alone(folder / "m"));
}

}  // namespace
}  // namespace ropewalk::formats
