// Adapters that change the shape of a GGUF base: the same as merging into the folder it was made from.

#include "tests/formats/hf_test_support.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

using formats::f32_tensor;
using formats::RawTensor;
using formats::safetensors_bytes;

class GgufBase : public testing::Test {
 protected:
  void SetUp() override {
    const Ran ran = run({"convert", model("stories260K"), "-o", at("base.gguf"), "--type", "f32", "--no-sync"});
    ASSERT_EQ(ran.exit, 0) << ran.err;
  }
  std::string at(const std::string& name) const { return (scratch / name).string(); }

  /// An adapter of stories260K (width 64, 512 tokens, tied) with these tensors.
  std::string adapter_of(const std::string& targets, const std::vector<RawTensor>& tensors) const {
    fs::create_directory(scratch / "adapter");
    spill(
        scratch / "adapter/adapter_config.json",
        R"({"peft_type": "LORA", "base_model_name_or_path": "stories260K", "r": 2, "lora_alpha": 4, )" + targets + "}");
    spill(scratch / "adapter/adapter_model.safetensors", safetensors_bytes(tensors));
    return "+" + at("adapter");
  }
  /// The adapter's tokenizer: the base's and two tokens more. `first`: its first ordinary piece's text is this.
  void add_tokens() const {
    for (const char* file : {"tokenizer.model", "tokenizer_config.json"})
      fs::copy_file(model("stories260K") + "/" + file, scratch / "adapter" / file);
    fs::permissions(scratch / "adapter/tokenizer_config.json", fs::perms::owner_all);
    edit_json(scratch / "adapter/tokenizer_config.json", [](Json& json) {
      json["added_tokens_decoder"] = {{"512", {{"content", "<|im_start|>"}, {"special", true}}},
                                      {"513", {{"content", "two words"}, {"special", false}}}};
    });
  }
  /// Writes GGUF + adapter and folder + adapter as GGUFs.
  Ran both(const std::string& adapter, std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {"convert",    at("base.gguf") + adapter, "-o", at("ours.gguf"), "--json",
                                      "--overwrite"};
    words.insert(words.end(), more.begin(), more.end());
    Ran ours = run(words);
    const Ran theirs =
        run({"convert", model("stories260K") + adapter, "-o", at("theirs.gguf"), "--type", "f32", "--overwrite"});
    EXPECT_EQ(theirs.exit, 0) << theirs.err;
    return ours;
  }
  Scratch scratch;
};

const std::vector<RawTensor> kGrown = {
    f32_tensor("base_model.model.model.embed_tokens.weight", {516, 64}, 0.25f),
    f32_tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", {2, 64}),
    f32_tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", {64, 2})};
constexpr const char* kGrownTargets = R"("target_modules": ["q_proj"], "layers_to_transform": [0])";

TEST_F(GgufBase, NewTokensComeWithTheirTexts) {
  const std::string adapter = adapter_of(kGrownTargets, kGrown);
  add_tokens();
  const Ran ran = both(adapter);
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(ran.out.find("the vocabulary has 4 rows more, 2 of them with a token"), std::string::npos) << ran.out;
  const Ran diff = run({"diff", at("ours.gguf"), at("theirs.gguf"), "--exit-code"});
  EXPECT_EQ(diff.exit, 0) << diff.out;
  for (const char* file : {"ours.gguf", "theirs.gguf"}) {
    const Ran ids = run({"tokenize", at(file), "--special", "-p", "<|im_start|>a two words", "--json"});
    ASSERT_EQ(ids.exit, 0) << ids.err;
    EXPECT_EQ(ids.json()["ids"].front(), 512) << file;
    EXPECT_EQ(ids.json()["ids"].back(), 513) << file;
  }
  const Ran verify =
      run({"verify", at("ours.gguf"), "--against", model("stories260K") + adapter, "-c", "64", "--windows", "1"});
  EXPECT_EQ(verify.exit, 0) << verify.err << verify.out;
  // and as a folder, with the adapter's tokenizer
  ASSERT_EQ(run({"merge", at("base.gguf") + adapter, "-o", at("folder")}).exit, 0);
  EXPECT_EQ(Json::parse(slurp(scratch / "folder/config.json"))["vocab_size"], 516);
  EXPECT_EQ(slurp(scratch / "folder/tokenizer.model"), slurp(model("stories260K") + "/tokenizer.model"));
}

TEST_F(GgufBase, RowsWithoutATokenAreFilled) {
  const std::string adapter = adapter_of(kGrownTargets, kGrown);
  const Ran ran = both(adapter);
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(ran.out.find("4 rows more, 0 of them with a token"), std::string::npos) << ran.out;
  EXPECT_EQ(run({"diff", at("ours.gguf"), at("theirs.gguf"), "--exit-code"}).exit, 0);
}

TEST_F(GgufBase, AnotherVocabularyIsRefused) {
  const std::string adapter = adapter_of(kGrownTargets, kGrown);
  add_tokens();
  std::string pieces = slurp(scratch / "adapter/tokenizer.model");
  const auto place = pieces.find("\xE2\x96\x81the");  // of the same length
  ASSERT_NE(place, std::string::npos);
  pieces.replace(place + 3, 3, "qqq");
  fs::permissions(scratch / "adapter/tokenizer.model", fs::perms::owner_all);
  spill(scratch / "adapter/tokenizer.model", pieces);
  const Ran ran = run({"convert", at("base.gguf") + adapter, "-o", at("ours.gguf")});
  EXPECT_EQ(ran.exit, 3) << ran.err;
  EXPECT_NE(ran.err.find("the new rows belong to another vocabulary"), std::string::npos) << ran.err;
}

// An adapter's own chat template and end of text, on the tokens that the GGUF has.
TEST_F(GgufBase, AnotherTokenizerIsWrittenWhole) {
  const std::string adapter =
      adapter_of(R"("target_modules": ["q_proj"], "layers_to_transform": [0])", {kGrown[1], kGrown[2]});
  add_tokens();
  edit_json(scratch / "adapter/tokenizer_config.json", [](Json& json) {
    json["added_tokens_decoder"] = {{"511", {{"content", "<|im_end|>"}, {"special", true}}}};
    json["eos_token"] = "<|im_end|>";
    json["chat_template"] = "{{ messages }}";
  });
  const auto tokenizer = [](const std::string& file) { return run({"inspect", file, "--json"}).json()["tokenizer"]; };
  for (const char* choice : {"auto", "adapter"}) {
    const Ran ran = both(adapter, {"--tokenizer", choice});
    ASSERT_EQ(ran.exit, 0) << ran.err;
    const Ran diff = run({"diff", at("ours.gguf"), at("theirs.gguf"), "--exit-code"});
    EXPECT_EQ(diff.exit, 0) << diff.out;
    EXPECT_EQ(tokenizer(at("ours.gguf"))["chat_template"], true);
    EXPECT_EQ(tokenizer(at("ours.gguf"))["eos"], 511);
  }
  const Ran base = both(adapter, {"--tokenizer", "base"});
  ASSERT_EQ(base.exit, 0) << base.err;
  EXPECT_EQ(run({"diff", at("ours.gguf"), at("theirs.gguf"), "--exit-code"}).exit, 1) << "control";
  EXPECT_EQ(tokenizer(at("ours.gguf")), tokenizer(at("base.gguf"))) << "control";
}

// What only the GGUF says is not kept beside a tokenizer that does not say it, and that is told.
TEST_F(GgufBase, ATemplateThatIsLeftOutIsNamed) {
  const std::string adapter =
      adapter_of(R"("target_modules": ["q_proj"], "layers_to_transform": [0])", {kGrown[1], kGrown[2]});
  add_tokens();
  edit_json(scratch / "adapter/tokenizer_config.json", [](Json& json) {
    json["added_tokens_decoder"] = Json::object();
    json["chat_template"] = "{{ messages }}";
  });
  ASSERT_EQ(both(adapter).exit, 0);  // ours.gguf has a template
  const Ran ran = run({"convert", at("ours.gguf"), "-o", at("bare.gguf"), "--tokenizer", model("stories260K")});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(ran.out.find("the GGUF's chat template is left out"), std::string::npos) << ran.out;
  EXPECT_EQ(run({"diff", at("bare.gguf"), at("base.gguf"), "--exit-code"}).exit, 1) << "the weights differ";
  const auto keys = run({"inspect", at("bare.gguf"), "--json"}).json()["tokenizer"];
  EXPECT_EQ(keys, run({"inspect", at("base.gguf"), "--json"}).json()["tokenizer"]);
  const Ran same = run({"convert", at("ours.gguf"), "-o", at("same.gguf"), "--tokenizer", at("adapter")});
  EXPECT_EQ(same.out.find("left out"), std::string::npos) << "control: " << same.out;
}

// PEFT changes one of two tied matrices: there are two then.
TEST_F(GgufBase, AHeadThatIsUntiedIsWritten) {
  const Ran ran = both(
      adapter_of(R"("target_modules": ["lm_head"])", {f32_tensor("base_model.model.lm_head.lora_A.weight", {2, 64}),
                                                      f32_tensor("base_model.model.lm_head.lora_B.weight", {512, 2})}));
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const Ran diff = run({"diff", at("ours.gguf"), at("theirs.gguf"), "--exit-code"});
  EXPECT_EQ(diff.exit, 0) << diff.out;
  EXPECT_EQ(run({"diff", at("ours.gguf"), at("base.gguf"), "--exit-code"}).exit, 1) << "control: the base is tied";
}

}  // namespace
}  // namespace ropewalk::tools::test
