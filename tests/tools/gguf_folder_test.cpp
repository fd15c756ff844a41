// GGUF -> Hugging Face folder: the way back of every model here is the model again, tensor by tensor and id by id.

#include <cmath>
#include <map>

#include "formats/gguf.h"
#include "formats/hf_folder.h"
#include "formats/source.h"
#include "lib/convert.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

using Tensors = std::map<std::string, TensorPtr>;

std::string zoo(const std::string& name) { return std::string(ROPEWALK_GOLDEN_DIR) + "/zoo/" + name; }

class GgufFolder : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return (scratch / name).string(); }
  Ran converted(const std::string& source, const std::string& output, const std::string& type,
                std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {"convert", source, "-o", at(output), "--type", type, "--no-sync", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return ran;
  }
  Json config_of(const std::string& folder) const { return Json::parse(slurp(scratch / (folder + "/config.json"))); }
  static Tensors tensors_of(const std::string& folder) {
    Tensors out;
    for (const TensorPtr& tensor : formats::read_hf_files(folder).tensors) out[tensor->name()] = tensor;
    return out;
  }
  static std::string bytes_of(const LazyTensor& tensor) {
    std::string bytes(tensor.info().bytes(), '\0');
    tensor.read_raw({0, tensor.info().rows()}, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  }
  static void expect_same_tensors(const std::string& left, const std::string& right) {
    const Tensors a = tensors_of(left), b = tensors_of(right);
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [name, tensor] : a) {
      ASSERT_TRUE(b.contains(name)) << name;
      EXPECT_EQ(tensor->info().shape, b.at(name)->info().shape) << name;
      EXPECT_EQ(tensor->dtype(), b.at(name)->dtype()) << name;
      EXPECT_EQ(bytes_of(*tensor), bytes_of(*b.at(name))) << name;
    }
  }
  /// The text of keys that begin with `prefix`, in order.
  static std::string keys_of(const std::string& path, const std::string& prefix) {
    std::string out;
    for (const formats::GgufKey& key : formats::read_gguf(path).keys) {
      if (!key.name.starts_with(prefix)) continue;
      // what llama.cpp assumes of all of these models: written or not is the same
      if (key.name == "tokenizer.ggml.add_eos_token" || key.name == "tokenizer.ggml.add_sep_token" ||
          key.name == "tokenizer.ggml.unknown_token_id")
        continue;
      out += key.name + "=";
      if (const auto* array = std::get_if<formats::GgufArray>(&key.value.value)) {
        for (const std::string& text : array->strings) out += text + ",";
        for (const std::byte byte : array->packed) out += std::to_string(std::to_integer<int>(byte)) + ",";
      } else {
        std::visit(
            [&](const auto& value) {
              if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) out += value;
              else if constexpr (!std::is_same_v<std::decay_t<decltype(value)>, formats::GgufArray>)
                out += std::to_string(value);
            },
            key.value.value);
      }
      out += "\n";
    }
    return out;
  }
  Scratch scratch;
};

// Biases, a tied head, grouped heads, every rope that GGUF has keys for and one that it has divisors for, two kinds of
// tokenizer.
TEST_F(GgufFolder, TheWayBackIsTheModel) {
  const std::vector<std::string> sources = {model("tolstoy-4m-yarn-2k"),
                                            model("stories260K"),
                                            zoo("llama-gqa"),
                                            zoo("llama-linear"),
                                            zoo("llama-mha-tied-bias"),
                                            zoo("llama-yarn"),
                                            std::string(ROPEWALK_GOLDEN_DIR) + "/bpe/llama3-rope"};
  for (const std::string& source : sources) {
    SCOPED_TRACE(source);
    const std::string name = fs::path(source).filename().string();
    converted(source, name + ".gguf", "f16", {"--model-name", "x"});
    converted(source, name + "-direct", "hf:f16");
    converted(at(name + ".gguf"), name, "hf:f16");
    expect_same_tensors(at(name), at(name + "-direct"));
    const Json config = config_of(name), original = Json::parse(slurp(source + "/config.json"));
    for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                            "vocab_size", "max_position_embeddings", "rms_norm_eps"})
      EXPECT_EQ(config[key], original[key]) << key;
    EXPECT_EQ(config["tie_word_embeddings"], original.value("tie_word_embeddings", false));
    EXPECT_EQ(config["attention_bias"], original.value("attention_bias", false));
    EXPECT_EQ(config["torch_dtype"], "float16");
    // and the GGUF of the folder says what the GGUF said: the same rope, the same tokenizer
    converted(at(name), name + "-again.gguf", "f16", {"--model-name", "x"});
    for (const char* prefix : {"llama.", "tokenizer."})
      EXPECT_EQ(keys_of(at(name + ".gguf"), prefix), keys_of(at(name + "-again.gguf"), prefix)) << prefix;
    // the same function, and text means the same
    const Ran verify =
        run({"verify", at(name), "--against", at(name + ".gguf"), "-c", "64", "--windows", "1", "--json"});
    EXPECT_EQ(verify.exit, 0) << verify.err << verify.out.substr(0, 2000);
  }
}

TEST_F(GgufFolder, RopesAreSaidByName) {
  converted(std::string(ROPEWALK_GOLDEN_DIR) + "/bpe/llama3-rope", "l3.gguf", "f16");
  converted(at("l3.gguf"), "l3", "hf:f16");
  const Json original = Json::parse(slurp(std::string(ROPEWALK_GOLDEN_DIR) + "/bpe/llama3-rope/config.json"));
  const Json rope = original.contains("rope_parameters") ? original["rope_parameters"] : original["rope_scaling"];
  const Json made = config_of("l3")["rope_scaling"];
  EXPECT_EQ(made["rope_type"], "llama3");
  EXPECT_EQ(made["factor"], rope["factor"]);
  EXPECT_EQ(made["original_max_position_embeddings"], rope["original_max_position_embeddings"]);
  // a rope that has no name in a GGUF: its divisors, as longrope lists
  converted(zoo("llama-yarn-opts"), "opts.gguf", "f16");
  converted(at("opts.gguf"), "opts", "hf:f16");
  EXPECT_EQ(config_of("opts")["rope_scaling"]["rope_type"], "longrope");
  const Ran verify = run({"verify", at("opts"), "--against", zoo("llama-yarn-opts"), "-c", "64", "--windows", "1"});
  EXPECT_EQ(verify.exit, 0) << verify.err << verify.out.substr(0, 2000);
}

// What the blocks hold, rounded once: f32 of the GGUF's own values, to f16, to the byte.
TEST_F(GgufFolder, BlocksAreRoundedOnce) {
  converted(model("tolstoy-4m-yarn-2k"), "q.gguf", "q4_k_m");
  const Ran ran = converted(at("q.gguf"), "q", "hf:f16");
  const Tensors made = tensors_of(at("q"));
  std::size_t compared = 0;
  for (const TensorPtr& tensor : formats::read_gguf(at("q.gguf")).tensors) {
    if (tensor->name().find("ffn_") == std::string::npos || tensor->info().shape.size() != 2) continue;
    const std::string layer = tensor->name().substr(4, 1), kind = tensor->name().substr(10, tensor->name().size() - 17);
    std::vector<float> values(tensor->info().elements());
    tensor->read_f32({0, tensor->info().rows()}, values);
    std::string bytes(values.size() * 2, '\0');
    encode_f32(DType::f16, values, std::as_writable_bytes(std::span(bytes)));
    EXPECT_EQ(bytes, bytes_of(*made.at("model.layers." + layer + ".mlp." + kind + "_proj.weight"))) << tensor->name();
    ++compared;
  }
  EXPECT_EQ(compared, 12u);
  std::map<std::string, bool> losses;
  for (const Json& loss : ran.json()["outputs"][0]["losses"]) losses[loss["name"]] = loss["changes_logits"];
  EXPECT_EQ(losses, (std::map<std::string, bool>{
                        {"quantization", false}, {"sliding_window", false}, {"tokenizer.normalizer", false}}));
  converted(at("q.gguf"), "q32", "hf:f32");
  EXPECT_EQ(run({"verify", at("q32"), "--against", at("q.gguf"), "-c", "64", "--windows", "1"}).exit, 0);
  converted(at("q.gguf"), "keep", "hf:keep");  // what safetensors has no type for becomes f16, norms stay f32
  const Tensors kept = tensors_of(at("keep"));
  EXPECT_EQ(kept.at("model.norm.weight")->dtype(), DType::f32);
  EXPECT_EQ(bytes_of(*kept.at("model.layers.0.mlp.up_proj.weight")),
            bytes_of(*made.at("model.layers.0.mlp.up_proj.weight")));
}

TEST_F(GgufFolder, AdaptersMergeIntoIt) {
  converted(model("tolstoy-4m-yarn-2k"), "f16.gguf", "f16");
  const std::string source = at("f16.gguf") + "+" + adapter();
  const Ran merged = run({"merge", source, "-o", at("merged"), "--no-sync", "--json"});
  ASSERT_EQ(merged.exit, 0) << merged.err;
  ASSERT_EQ(run({"merge", model("tolstoy-4m-yarn-2k") + "+" + adapter(), "-o", at("direct"), "--no-sync"}).exit, 0);
  converted(at("merged"), "merged16", "hf:f16");  // the GGUF's norms are f32
  converted(at("direct"), "direct16", "hf:f16");
  expect_same_tensors(at("merged16"), at("direct16"));
  converted(source, "converted", "hf:f16");
  expect_same_tensors(at("converted"), at("direct16"));
  // of blocks: what they hold and the delta, rounded once to f16
  converted(model("tolstoy-4m-yarn-2k"), "q.gguf", "q4_k_m");
  const Ran blocks = run({"merge", at("q.gguf") + "+" + adapter(), "-o", at("blocks"), "--no-sync", "--json"});
  ASSERT_EQ(blocks.exit, 0) << blocks.err;
  EXPECT_EQ(blocks.json()["tensors_changed"], merged.json()["tensors_changed"]);
  EXPECT_EQ(config_of("blocks")["torch_dtype"], "float16");
  converted(at("q.gguf") + "+" + adapter(), "blocks2", "hf:f16");
  converted(at("blocks"), "blocks16", "hf:f16");
  expect_same_tensors(at("blocks16"), at("blocks2"));
  converted(at("q.gguf"), "unmerged", "hf:f16");
  EXPECT_NE(slurp(scratch / "unmerged/model.safetensors"), slurp(scratch / "blocks2/model.safetensors"));
}

TEST_F(GgufFolder, ANewRopeGoesIntoItsConfig) {
  converted(model("tolstoy-4m"), "m.gguf", "f16");
  const Ran ran = converted(at("m.gguf") + "+rope=yarn,factor=8", "yarn", "hf:f16");
  EXPECT_EQ(config_of("yarn")["rope_scaling"]["rope_type"], "yarn");
  EXPECT_EQ(config_of("yarn")["max_position_embeddings"], 2048);
  EXPECT_FALSE(ran.json()["outputs"][0]["engines"].empty());
  converted(model("tolstoy-4m") + "+rope=yarn,factor=8", "direct", "hf:f16");
  expect_same_tensors(at("yarn"), at("direct"));
  EXPECT_EQ(run({"verify", at("yarn"), "--against", at("direct"), "-c", "300", "--windows", "1"}).exit, 0);
}

/// A GGUF of stories260K with other keys.
class BentVocabulary : public GgufFolder {
 protected:
  void SetUp() override { converted(model("stories260K"), "m.gguf", "f16"); }
  Ran with(const std::string& from, const std::string& to, std::vector<std::string> more = {}) {
    std::string bytes = slurp(scratch / "m.gguf");
    const auto place = bytes.find(from);
    EXPECT_NE(place, std::string::npos) << from;
    bytes.replace(place, to.size(), to);
    spill(scratch / "bent.gguf", bytes);
    std::vector<std::string> words = {"convert", at("bent.gguf"), "-o", at("out"), "--type", "hf:f16"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
};

TEST_F(BentVocabulary, WhatNoFileHoldsIsNamed) {
  // "<unk>" is the first token; its type, 2, the first of the types
  const std::string types = std::string("tokenizer.ggml.token_type") + std::string("\x09\0\0\0\x05\0\0\0", 8) +
                            std::string("\0\x02\0\0\0\0\0\0", 8);
  const Ran none = with(types + std::string("\x02", 1), types + std::string("\x01", 1));
  EXPECT_EQ(none.exit, 4) << none.err;
  EXPECT_NE(none.err.find("tokenizer: none of its pieces is the unknown one"), std::string::npos) << none.err;
  EXPECT_NE(none.err.find("--allow-loss tokenizer"), std::string::npos) << none.err;
  EXPECT_FALSE(fs::exists(scratch / "out"));
  const Ran allowed =
      with(types + std::string("\x02", 1), types + std::string("\x01", 1), {"--allow-loss", "tokenizer"});
  EXPECT_EQ(allowed.exit, 0) << allowed.err;
  EXPECT_TRUE(fs::exists(scratch / "out/config.json"));
  EXPECT_FALSE(fs::exists(scratch / "out/tokenizer.model"));
  EXPECT_NE(allowed.out.find("loss: tokenizer: "), std::string::npos) << allowed.out;
}

TEST_F(BentVocabulary, TextThatIsNotUtf8) {
  const std::string token = std::string("\x05\0\0\0\0\0\0\0", 8) + "<unk>";
  const Ran ran = with(token, std::string("\x05\0\0\0\0\0\0\0", 8) + "<\xFFnk>");
  EXPECT_EQ(ran.exit, 4) << ran.err;
  EXPECT_NE(ran.err.find("token 0 is not UTF-8"), std::string::npos) << ran.err;
}

}  // namespace
}  // namespace ropewalk::tools::test
