#include "formats/hf_folder.h"

#include <gtest/gtest.h>

#include "formats/tensor_inventory.h"
#include "tests/formats/tiny_llama.h"

namespace ropewalk::formats {
namespace {

Source open(const fs::path& path) {
  return open_source({.text = path.string(), .model = path.string(), .adapters = {}, .rope = {}}, {}, {});
}

bool warns(const Source& source, const std::string& part) {
  for (const std::string& line : source.checkpoint.warnings)
    if (line.find(part) != std::string::npos) return true;
  return false;
}

TEST(HfFolder, OpensFolderFileIndexAndShard) {
  TestFolder folder;
  write_tiny(folder / "single");
  write_tiny_sharded(folder / "sharded");
  for (const char* path : {"single", "single/model.safetensors", "sharded", "sharded/model.safetensors.index.json",
                           "sharded/model-00002-of-00002.safetensors"}) {
    SCOPED_TRACE(path);
    const Source source = open(folder / path);
    EXPECT_EQ(source.checkpoint.tensors.size(), 21u);
    EXPECT_EQ(source.checkpoint.config.n_layers, 2);
    EXPECT_EQ(source.checkpoint.read_as, "transformers 5.23.0");
    EXPECT_EQ(source.hf->weight_files.size(), std::string(path).starts_with("single") ? 1u : 2u);
    EXPECT_EQ(source.tokenizer_origin, "none");
    EXPECT_EQ(source.checkpoint.find("model.layers.1.self_attn.k_proj.weight")->info().pairs, RotaryPairs::half_split);
    EXPECT_EQ(source.checkpoint.find("model.layers.1.self_attn.v_proj.weight")->info().pairs, RotaryPairs::none);
  }
}

TEST(HfFolder, TheZooAndTheFixturesOpen) {
  int models = 0;
  for (const char* root : {"zoo", "fixtures/models"})
    for (const fs::directory_entry& entry : fs::directory_iterator(kGolden / root)) {
      if (!entry.is_directory()) continue;
      SCOPED_TRACE(entry.path().string());
      const Source source = open(entry.path());
      EXPECT_EQ(source.checkpoint.tensors.size(), expected_tensors(source.checkpoint.config).size());
      EXPECT_TRUE(source.checkpoint.vocabulary);
      EXPECT_EQ(source.tokenizer_origin, "base");
      ++models;
    }
  EXPECT_EQ(models, 13);
}

struct BentIndex {
  const char* name;
  std::function<void(Json&)> bend;
  std::vector<std::string> parts;
};
TEST(HfFolder, RefusesAnIndexThatDisagreesWithItsShards) {
  const std::string tensor = "model.norm.weight";
  const std::vector<BentIndex> cases = {
      {"missing file",
       [&](Json& i) { i["weight_map"][tensor] = "model-00003-of-00002.safetensors"; },
       {"index.json", "'model-00003-of-00002.safetensors', which is not in the folder"}},
      {"tensor in another shard",
       [&](Json& i) { i["weight_map"][tensor] = "model-00001-of-00002.safetensors"; },
       {"model-00002-of-00002.safetensors", "'model.norm.weight' is here", "'model-00001-of-00002.safetensors'"}},
      {"tensor in no shard",
       [&](Json& i) { i["weight_map"]["model.extra"] = "model-00002-of-00002.safetensors"; },
       {"'model.extra' is not in the shard"}},
      {"tensor not listed",
       [&](Json& i) { i["weight_map"].erase(tensor); },
       {"model-00002-of-00002.safetensors", "'model.norm.weight' is in the shard but not in"}},
      {"parent folder",
       [&](Json& i) { i["weight_map"][tensor] = "../model-00002-of-00002.safetensors"; },
       {"index.json:", "\"../model-00002-of-00002.safetensors\", expected the plain name"}},
      {"absolute",
       [&](Json& i) { i["weight_map"][tensor] = "/etc/passwd"; },
       {"\"/etc/passwd\", expected the plain name"}},
      {"dot dot", [&](Json& i) { i["weight_map"][tensor] = ".."; }, {"\"..\", expected the plain name"}},
      {"zero byte", [&](Json& i) { i["weight_map"][tensor] = std::string("a\0b", 3); }, {"expected the plain name"}},
      {"number", [&](Json& i) { i["weight_map"][tensor] = 7; }, {"'model.norm.weight' is mapped to 7"}},
      {"no map", [](Json& i) { i.erase("weight_map"); }, {"no object 'weight_map'"}},
      {"list",
       [](Json& i) {
         i["weight_map"] = {1, 2};
       },
       {"no object 'weight_map'"}},
      {"empty map", [](Json& i) { i["weight_map"] = Json::object(); }, {"'weight_map' is empty"}},
  };
  for (const BentIndex& bent : cases) {
    SCOPED_TRACE(bent.name);
    TestFolder folder;
    Json index;
    write_tiny_sharded(folder.path(), &index);
    EXPECT_NO_THROW(open(folder.path()));
    bent.bend(index);
    write_bytes(folder / "model.safetensors.index.json", index.dump(2));
    expect_error(ErrorKind::bad_input, bent.parts, [&] { open(folder.path()); });
  }
}

struct BentModel {
  const char* name;
  std::function<void(std::vector<RawTensor>&, Json&)> bend;
  std::vector<std::string> parts;
  ErrorKind kind = ErrorKind::bad_input;
};
TEST(HfFolder, RefusesWeightsThatAreNotTheConfigurations) {
  const auto erase = [](std::vector<RawTensor>& tensors, const std::string& name) {
    std::erase_if(tensors, [&](const RawTensor& t) { return t.name == name; });
  };
  const std::vector<BentModel> cases = {
      {"layer missing",
       [](auto& t, Json&) { t = tiny_tensors({.layers = 1}); },
       {"'model.layers.1.self_attn.q_proj.weight' [16, 16] and 8 more missing", "config.json"}},
      {"layer too many",
       [](auto& t, Json&) { t = tiny_tensors({.layers = 3}); },
       {"belongs to layer 2", "num_hidden_layers is 2"}},
      {"config of more layers", [](auto&, Json& c) { c["num_hidden_layers"] = 3; }, {"model.layers.2.", "missing"}},
      {"wrong shape",
       [](auto& t, Json&) {
         tensor_named(t, "model.layers.0.mlp.up_proj.weight").shape = {16, 24};
       },
       {"'model.layers.0.mlp.up_proj.weight' has shape [16, 24], expected [24, 16]"}},
      {"flat",
       [](auto& t, Json&) { tensor_named(t, "model.layers.0.mlp.up_proj.weight").shape = {384}; },
       {"shape [384], expected [24, 16]"}},
      {"vocabulary",
       [](auto&, Json& c) { c["vocab_size"] = 33; },
       {"'model.embed_tokens.weight' has shape [32, 16], expected [33, 16]"}},
      {"biases denied",
       [](auto& t, Json&) { t = tiny_tensors({.attention_bias = true}); },
       {"q_proj.bias' is a bias", "attention_bias"}},
      {"biases promised", [](auto&, Json& c) { c["attention_bias"] = true; }, {"q_proj.bias' [16] and 7 more missing"}},
      {"head missing",
       [&](auto& t, Json&) { erase(t, "lm_head.weight"); },
       {"'lm_head.weight' [32, 16] missing", "tie_word_embeddings"}},
      {"foreign tensor",
       [](auto& t, Json&) { t.push_back(f32_tensor("model.layers.0.self_attn.q_norm.weight", {8})); },
       {"q_norm.weight' is not part of a llama layer"}},
      {"misspelt",
       [](auto& t, Json&) {
         tensor_named(t, "model.layers.0.mlp.up_proj.weight").name = "model.layers.0.mlp.upp_proj.weight";
       },
       {"nearest: 'model.layers.0.mlp.up_proj.weight'"}},
      {"integers",
       [](auto& t, Json&) { tensor_named(t, "model.norm.weight").dtype = "I32"; },
       {"'model.norm.weight' holds i32"},
       ErrorKind::unsupported},
  };
  for (const BentModel& bent : cases) {
    SCOPED_TRACE(bent.name);
    TestFolder folder;
    std::vector<RawTensor> tensors = tiny_tensors();
    Json config = tiny_config();
    bent.bend(tensors, config);
    write_tiny(folder.path(), tensors, config);
    expect_error(bent.kind, bent.parts, [&] { open(folder.path()); });
  }
}

TEST(HfFolder, LeftoversAreDroppedOrKeptAloud) {
  TestFolder folder;
  std::vector<RawTensor> tensors = tiny_tensors();
  tensors.push_back(f32_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", {4}));
  tensors.push_back(f32_tensor("model.layers.1.self_attn.rotary_emb.inv_freq", {4}));
  tensors.push_back(f32_tensor("v_head.summary.weight", {1, 16}));
  write_tiny(folder.path(), tensors);
  const Source source = open(folder.path());
  EXPECT_FALSE(source.checkpoint.find("model.layers.0.self_attn.rotary_emb.inv_freq"));
  EXPECT_TRUE(source.checkpoint.find("v_head.summary.weight"));
  EXPECT_TRUE(warns(source, "2 rotary_emb.inv_freq"));
  EXPECT_TRUE(warns(source, "'v_head.summary.weight'"));
  for (int i = 0; i < 20; ++i) tensors.push_back(f32_tensor("stray." + std::to_string(i), {1}));
  write_tiny(folder.path(), tensors);
  const Source many = open(folder.path());
  EXPECT_TRUE(warns(many, "13 more tensors are not part of a llama model"));  // of 21, 8 are named
  EXPECT_LT(many.checkpoint.warnings.size(), 12u);
}

// transformers 5.23.0, PreTrainedModel.tie_weights: equal tensors are tied, different ones stay apart, whichever exists
// serves as both.
TEST(HfFolder, TiedHeadAsTransformersDoes) {
  Json tied = tiny_config();
  tied["tie_word_embeddings"] = true;
  {
    TestFolder folder;
    write_tiny(folder.path(), tiny_tensors({.head = false}), tied);
    const Source source = open(folder.path());
    EXPECT_TRUE(source.checkpoint.config.tied_head);
    EXPECT_EQ(source.checkpoint.tensors.size(), 20u);
  }
  {
    TestFolder folder;
    std::vector<RawTensor> tensors = tiny_tensors();
    tensor_named(tensors, "lm_head.weight").bytes = tensor_named(tensors, "model.embed_tokens.weight").bytes;
    write_tiny(folder.path(), tensors, tied);
    const Source source = open(folder.path());
    EXPECT_TRUE(source.checkpoint.config.tied_head);
    EXPECT_FALSE(source.checkpoint.find("lm_head.weight"));
    EXPECT_TRUE(warns(source, "equals the embedding"));
  }
  {
    TestFolder folder;
    write_tiny(folder.path(), tiny_tensors(), tied);
    const Source source = open(folder.path());
    EXPECT_FALSE(source.checkpoint.config.tied_head);
    EXPECT_TRUE(source.checkpoint.find("lm_head.weight"));
    EXPECT_EQ(source.hf->config["tie_word_embeddings"], false) << "what is written must say what is computed";
    EXPECT_TRUE(warns(source, "differs from the embedding"));
  }
  {
    TestFolder folder;
    std::vector<RawTensor> tensors = tiny_tensors();
    const std::string head = tensor_named(tensors, "lm_head.weight").bytes;
    std::erase_if(tensors, [](const RawTensor& t) { return t.name == "model.embed_tokens.weight"; });
    write_tiny(folder.path(), tensors, tied);
    const Source source = open(folder.path());
    EXPECT_EQ(raw_bytes(*source.checkpoint.find("model.embed_tokens.weight")), head);
  }
}

TEST(HfFolder, SaysWhatIsMissing) {
  TestFolder folder;
  expect_error(ErrorKind::bad_input, {"nowhere", "no such model"}, [&] { open(folder / "nowhere"); });
  expect_error(ErrorKind::bad_input, {"no config.json"}, [&] { open(folder.path()); });
  write_bytes(folder / "config.json", tiny_config().dump(2));
  expect_error(ErrorKind::bad_input, {"no weights here", "model.safetensors"}, [&] { open(folder.path()); });
  write_bytes(folder / "pytorch_model.bin", "PK");
  expect_error(ErrorKind::bad_input, {"pytorch_model.bin", "neither a zip file nor a pickle"},
               [&] { open(folder.path()); });
  fs::remove(folder / "pytorch_model.bin");
  write_bytes(folder / "notes.txt", "hello");
  expect_error(ErrorKind::bad_input, {"notes.txt", "not a model"}, [&] { open(folder / "notes.txt"); });
  write_bytes(folder / "adapter_model.safetensors", safetensors_bytes({}));
  expect_error(ErrorKind::bad_input, {"weights of an adapter", "folder"},
               [&] { open(folder / "adapter_model.safetensors"); });
}

TEST(HfFolder, CarriesTheSmallFilesOnly) {
  TestFolder folder;
  write_tiny(folder.path());
  for (const char* name : {"README.md", "LICENSE", "tokenizer.model.bak", "generation_config.json",
                           "modeling_llama_yarn.py", "chat_template.jinja"})
    write_bytes(folder / name, "{}");
  for (const char* name :
       {".gitattributes", ".hidden", "pytorch_model.bin", "consolidated.00.pth", "model-q4.gguf",
        "pytorch_model.bin.index.json", "optimizer.pt", "other.safetensors", "adapter_config.json", "a/b.txt"})
    write_bytes(folder / name, "{}");
  EXPECT_EQ(list_carried_files(folder.path()),
            (std::vector<std::string>{"LICENSE", "README.md", "chat_template.jinja", "generation_config.json",
                                      "modeling_llama_yarn.py", "tokenizer.model.bak"}));
}

}  // namespace
}  // namespace ropewalk::formats
