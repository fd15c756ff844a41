// What a Hugging Face folder says about its tokenizer. Expected values are read off the fixtures' own files, which the
// real libraries wrote.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "formats/json.h"
#include "formats/tokenizers/tokenizer.h"
#include "gpt2_alphabet.h"
#include "lib/error.h"
#include "tokenizer_golden.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

const fs::path kModels = fs::path(ROPEWALK_GOLDEN_DIR) / "fixtures/models";
const fs::path kTokenizerJson = fs::path(ROPEWALK_GOLDEN_DIR) / "tokenizer_json/tokenizers";

/// A folder with the tokenizer.model of stories260K (512 pieces) and whatever a test writes beside it.
class HfVocabulary : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("ropewalk-vocabulary-" + std::to_string(::getpid()) + "-" +
                                           testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    fs::copy_file(kModels / "stories260K/tokenizer.model", folder_ / "tokenizer.model");
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const char* name, std::string_view text) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  Vocabulary read() const { return read_hf_vocabulary(folder_).value(); }
  std::string message() const {
    try {
      read_hf_vocabulary(folder_);
    } catch (const Error& error) {
      return std::string(error_kind_name(error.kind())) + ": " + error.what();
    }
    return "accepted";
  }
  fs::path folder_;
};

TEST(HfVocabularyFixture, ReadsTheTrainedModels) {
  const Vocabulary vocabulary = read_hf_vocabulary(kModels / "tolstoy-4m").value();
  EXPECT_EQ(vocabulary.pieces.size(), 2048u);
  EXPECT_EQ(vocabulary.bos, 1);
  EXPECT_EQ(vocabulary.eos, 2);
  EXPECT_EQ(vocabulary.unk, 0);
  EXPECT_EQ(vocabulary.pad, std::nullopt);
  EXPECT_EQ(vocabulary.add_bos, true);
  EXPECT_EQ(vocabulary.add_eos, false);
  EXPECT_EQ(vocabulary.legacy, true);
  EXPECT_TRUE(vocabulary.byte_fallback);
  EXPECT_EQ(vocabulary.pieces[3].text, "<0x00>");
  EXPECT_EQ(vocabulary.pieces[3].type, PieceType::byte);
  EXPECT_EQ(vocabulary.chat_template, std::nullopt);
}

TEST(HfVocabularyFixture, ReadsLlama2) {
  const Vocabulary vocabulary = read_hf_vocabulary(fs::path(ROPEWALK_GOLDEN_DIR) / "tokenizers/llama2").value();
  EXPECT_EQ(vocabulary.pieces.size(), 32000u);
  EXPECT_EQ(vocabulary.pieces[29871].text, "\u2581");
  EXPECT_EQ(vocabulary.bos, 1);
  EXPECT_EQ(vocabulary.eos, 2);
  EXPECT_EQ(vocabulary.legacy, false);      // LlamaTokenizer, and not said
  EXPECT_EQ(vocabulary.pad, std::nullopt);  // "pad_token": null
  EXPECT_EQ(vocabulary.add_eos, false);
}

TEST_F(HfVocabulary, ModelAlone) {
  const Vocabulary vocabulary = read();
  EXPECT_EQ(vocabulary.bos, 1);
  EXPECT_EQ(vocabulary.eos, 2);
  EXPECT_EQ(vocabulary.add_bos, std::nullopt);
  EXPECT_EQ(vocabulary.legacy, std::nullopt);
  EXPECT_TRUE(vocabulary.added.empty());
}

TEST_F(HfVocabulary, NoTokenizerAtAllIsNoError) {
  fs::remove(folder_ / "tokenizer.model");
  write("tokenizer_config.json", "{}");
  EXPECT_EQ(read_hf_vocabulary(folder_), std::nullopt);
}

TEST_F(HfVocabulary, OtherKindsAreUnsupported) {
  fs::remove(folder_ / "tokenizer.model");
  write("vocab.json", "{}");
  EXPECT_EQ(message(), "unsupported: " + folder_.string() +
                           ": no tokenizer.json or tokenizer.model, only vocab.json, which is not enough; add the "
                           "model's tokenizer.json, the merges.txt of its vocab.json, or pass token ids");
  write("tokenizer.model", "IQ== 0\nIg== 1\n");  // of another form: see tiktoken_test.cpp
  EXPECT_EQ(message(), "bad_input: " + (folder_ / "tokenizer.model").string() +
                           ": not every byte is a token; fetch the file again or repair it");
}

/// tokenizer.json alone: names of special tokens come from tokenizer_config.json, what starts a text from the template.
TEST_F(HfVocabulary, TokenizerJson) {
  fs::remove(folder_ / "tokenizer.model");
  fs::copy_file(kTokenizerJson / "zoo-llama3-rope.json", folder_ / "tokenizer.json");
  write("tokenizer_config.json", R"({"eos_token": "<|eot_id|>", "bos_token": "<|begin_of_text|>"})");
  const Vocabulary vocabulary = read();
  EXPECT_EQ(vocabulary.rules, TokenizerRules::tokenizers);
  EXPECT_EQ(vocabulary.model, "bpe");
  EXPECT_EQ(vocabulary.pieces.size(), 512u);
  EXPECT_EQ(vocabulary.bos, 1);
  EXPECT_EQ(vocabulary.add_bos, true);
  EXPECT_EQ(vocabulary.add_eos, false);  // the template adds none
  write("tokenizer_config.json", "{}");
  fs::remove(folder_ / "tokenizer.json");
  fs::copy_file(kTokenizerJson / "zoo-qwen2.json", folder_ / "tokenizer.json");
  EXPECT_EQ(read().add_bos, false);
  write("tokenizer.json", "{}");
  EXPECT_EQ(message(), "bad_input: " + (folder_ / "tokenizer.json").string() +
                           ":1:1: the file has no 'model'; fetch the file again or repair it");
}

/// Whether transformers 5.23.0's AutoTokenizer puts 1 before and 2 behind "x", for files of tolstoy-4m with another
/// tokenizer_class, post-processor (its own: BOS) and flags. No class but the two takes the flags where a tokenizer.json is.
TEST_F(HfVocabulary, WhatStandsAroundAText) {
  const fs::path model = kModels / "tolstoy-4m";
  const Json own = read_json(model / "tokenizer.json")["post_processor"];
  const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}, {"use_regex", true}};
  const Json unsaid = Json::object(), both = {{"add_bos_token", true}, {"add_eos_token", true}},
             no = {{"add_bos_token", false}};
  struct Case {
    const char* tokenizer_class;
    Json processor, flags;
    bool bos;
  };
  std::vector<Case> cases;
  for (const char* name : {"LlamaTokenizer", "PreTrainedTokenizerFast"})
    for (const Json& flags : {unsaid, both, no}) {
      cases.push_back({name, own, flags, true});
      cases.push_back({name, nullptr, flags, false});
      cases.push_back({name, bytes, flags, false});
    }
  for (const Json& flags : {unsaid, both, no}) cases.push_back({"GPTNeoXTokenizerFast", own, flags, false});
  for (const Json& flags : {unsaid, both, no}) cases.push_back({"CodeLlamaTokenizer", nullptr, flags, true});
  for (const bool beside : {true, false}) {
    if (beside)
      fs::copy_file(model / "tokenizer.model", folder_ / "tokenizer.model", fs::copy_options::overwrite_existing);
    else fs::remove(folder_ / "tokenizer.model");
    for (const Case& one : cases) {
      SCOPED_TRACE(std::string(one.tokenizer_class) + one.processor.dump().substr(0, 30) + one.flags.dump());
      Json tokenizer = read_json(model / "tokenizer.json"), config = one.flags;
      tokenizer["post_processor"] = one.processor;
      config.update({{"tokenizer_class", one.tokenizer_class}, {"bos_token", "<s>"}, {"eos_token", "</s>"}});
      write("tokenizer.json", tokenizer.dump());
      write("tokenizer_config.json", config.dump());
      const Vocabulary vocabulary = read();
      EXPECT_EQ(vocabulary.pipeline.has_value(), !beside);
      EXPECT_EQ(vocabulary.bos, 1);
      EXPECT_EQ(vocabulary.add_bos, one.bos);
      EXPECT_EQ(vocabulary.add_eos, false);
    }
  }
  fs::remove(folder_ / "tokenizer.json");  // and without one they count
  fs::copy_file(model / "tokenizer.model", folder_ / "tokenizer.model");
  write("tokenizer_config.json",
        R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": true, "add_eos_token": true})");
  EXPECT_EQ(read().add_bos, true);
  EXPECT_EQ(read().add_eos, true);
  write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": false})");
  EXPECT_EQ(read().add_bos, false);
}

// transformers refuses such files; llama.cpp's converter reads the tokenizer.model and the flags.
TEST_F(HfVocabulary, AnUnreadablePostProcessorBesideAModelLeavesTheFlags) {
  write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true})");
  Json tokenizer = read_json(kModels / "stories260K/tokenizer.json");
  tokenizer["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"</s>", 2}}, {"cls", {"<s>", 511}}};
  write("tokenizer.json", tokenizer.dump());
  EXPECT_EQ(read().bos, 511);
  EXPECT_EQ(read().add_bos, true);
  tokenizer["post_processor"]["cls"][1] = 512;
  for (const std::string& bad :
       {tokenizer.dump(), std::string("{\"post_processor\": 7}"), std::string("7"), std::string("{")}) {
    write("tokenizer.json", bad);
    EXPECT_EQ(read().add_bos, false);
    EXPECT_EQ(read().add_eos, true);
  }
}

/// vocab.json and merges.txt are the same tokenizer as the tokenizer.json made of them, if the class is known.
TEST_F(HfVocabulary, VocabAndMerges) {
  fs::remove(folder_ / "tokenizer.model");
  const fs::path folder = kTokenizerJson.parent_path();
  const auto texts = read_json(folder / "texts.json");
  for (const auto& [name, kind] : {std::pair{"gpt2", "GPT2Tokenizer"}, std::pair{"qwen2.5", "Qwen2TokenizerFast"}}) {
    const Json file = read_json(kTokenizerJson / (std::string(name) + ".json"));
    write("vocab.json", file["model"]["vocab"].dump());
    std::string merges = "#version: 0.2\n";
    for (const Json& merge : file["model"]["merges"]) merges += merge.get<std::string>() + "\n";
    write("merges.txt", merges);
    Json config = {{"tokenizer_class", kind}, {"eos_token", "<|endoftext|>"}, {"added_tokens_decoder", Json::object()}};
    for (const Json& token : file["added_tokens"]) config["added_tokens_decoder"][token["id"].dump()] = token;
    write("tokenizer_config.json", config.dump());
    const Vocabulary vocabulary = read();
    EXPECT_EQ(vocabulary.eos, vocabulary.pieces.size() == 50257 ? 50256 : 151643);
    const auto tokenizer = Tokenizer::create(vocabulary);
    const Json ids = read_json(folder / "ids" / (std::string(name) + ".json"));
    for (std::size_t at = 0; at < texts.size(); ++at)
      EXPECT_EQ(tokenizer->encode(golden::unhex(texts[at].get<std::string>()), true),
                ids["special"][at].get<std::vector<std::int32_t>>())
          << name << " " << texts[at];
  }
  write("merges.txt", "#version: 0.2\nh e\nh q q\n");
  EXPECT_EQ(message(),
            "bad_input: " + (folder_ / "merges.txt").string() +
                ":3:1: the merge is not two pieces with a space between them; fetch the file again or repair it");
  write("tokenizer_config.json", "{}");
  EXPECT_EQ(message(), "unsupported: " + folder_.string() +
                           ": vocab.json and merges.txt, and no tokenizer_class says how they are used; add the "
                           "model's tokenizer.json, or say it in tokenizer_config.json: {\"tokenizer_class\": "
                           "\"GPT2Tokenizer\"}, or Qwen2Tokenizer");
  write("tokenizer_config.json", R"({"tokenizer_class": "OddTokenizer"})");
  EXPECT_EQ(message(), "unsupported: " + folder_.string() +
                           ": vocab.json and merges.txt of a OddTokenizer, which is not known; add the model's "
                           "tokenizer.json, or pass token ids");
}

/// What transformers 5.23.0's classes name where no file does: bos, eos, unk, pad.
TEST_F(HfVocabulary, ClassesNameTheirEndOfText) {
  fs::remove(folder_ / "tokenizer.model");
  write("vocab.json", alphabet(R"(, "he": 256, "hel": 257, "<|endoftext|>": 258)"));
  write("merges.txt", "#version: 0.2\nh e\nhe l\n");
  using Id = std::optional<std::int32_t>;
  const auto expect = [&](const char* config, Id bos, Id eos, Id unk, Id pad) {
    write("tokenizer_config.json", config);
    const Vocabulary vocabulary = read();
    EXPECT_EQ(vocabulary.bos, bos) << config;
    EXPECT_EQ(vocabulary.eos, eos) << config;
    EXPECT_EQ(vocabulary.unk, unk) << config;
    EXPECT_EQ(vocabulary.pad, pad) << config;
  };
  expect(R"({"tokenizer_class": "GPT2Tokenizer"})", 258, 258, 258, {});
  expect(R"({"tokenizer_class": "GPT2TokenizerFast", "eos_token": "he"})", 258, 256, 258, {});
  expect(R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": null, "unk_token": null})", {}, 258, {}, {});
  expect(R"({"tokenizer_class": "Qwen2Tokenizer"})", {}, 258, 258, 258);
  write("special_tokens_map.json", R"({"eos_token": "hel"})");
  expect(R"({"tokenizer_class": "Qwen2TokenizerFast"})", {}, 257, 258, 258);
}

/// Behind the last merge it is no sign of merges that are missing.
TEST_F(HfVocabulary, APieceWithoutALetterIsNoMerge) {
  fs::remove(folder_ / "tokenizer.model");
  write("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})");
  write("vocab.json", alphabet(R"(, "": 256)"));
  write("merges.txt", "#version: 0.2\n");
  EXPECT_EQ(read().pieces.size(), 257u);
}

TEST_F(HfVocabulary, AddedTokensFromBothFiles) {
  write("added_tokens.json", R"({"<pad>": 512, "<|im_end|>": 514, "word": 513})");
  write("special_tokens_map.json", R"({"pad_token": "<pad>"})");
  write("tokenizer_config.json", R"({"added_tokens_decoder": {
    "1": {"content": "<s>", "special": true},
    "514": {"content": "<|im_end|>", "special": true, "lstrip": true, "rstrip": false, "single_word": false, "normalized": false}},
    "eos_token": {"content": "<|im_end|>"}, "add_bos_token": false, "legacy": false, "add_prefix_space": true})");
  const Vocabulary vocabulary = read();
  ASSERT_EQ(vocabulary.added.size(), 4u);
  EXPECT_EQ(vocabulary.added[0].id, 1);
  EXPECT_EQ(vocabulary.added[1].content, "<pad>");
  EXPECT_TRUE(vocabulary.added[1].special);  // by special_tokens_map.json
  EXPECT_FALSE(vocabulary.added[1].in_decoder);
  EXPECT_EQ(vocabulary.added[2].content, "word");
  EXPECT_FALSE(vocabulary.added[2].special);
  EXPECT_EQ(vocabulary.added[3].id, 514);
  EXPECT_TRUE(vocabulary.added[3].special && vocabulary.added[3].lstrip && vocabulary.added[3].in_decoder);
  EXPECT_FALSE(vocabulary.added[3].rstrip);
  EXPECT_EQ(vocabulary.eos, 514);
  EXPECT_EQ(vocabulary.pad, 512);  // special_tokens_map.json, as tokenizer_config.json does not name it
  EXPECT_EQ(vocabulary.bos, 1);
  EXPECT_EQ(vocabulary.add_bos, false);
  EXPECT_EQ(vocabulary.legacy, false);
  EXPECT_EQ(vocabulary.add_prefix_space, true);
}

TEST_F(HfVocabulary, PrecedenceOfTheSpecialTokensMap) {
  write("special_tokens_map.json", R"({"eos_token": "<unk>"})");
  write("tokenizer_config.json", R"({"eos_token": "<s>"})");
  EXPECT_EQ(read().eos, 0);
  write("tokenizer_config.json", R"({"eos_token": "<s>", "added_tokens_decoder": {}})");
  EXPECT_EQ(read().eos, 1);
  write("special_tokens_map.json", R"({"eos_token": ""})");  // as the first Llama conversions had it
  write("tokenizer_config.json", R"({"eos_token": ""})");
  EXPECT_EQ(read().eos, 2);
  write("tokenizer_config.json", R"({"pad_token": "<nowhere>"})");
  EXPECT_EQ(read().pad, std::nullopt);
}

TEST_F(HfVocabulary, ChatTemplates) {
  write("tokenizer_config.json", R"({"chat_template": "a"})");
  EXPECT_EQ(read().chat_template, "a");
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(read().chat_template, "d");
  ASSERT_EQ(read().chat_templates.size(), 2u);
  EXPECT_EQ(read().chat_templates[0].name, "tool_use");
  write("chat_template.jinja", "file\n");
  write("additional_chat_templates/rag.jinja", "r");
  const Vocabulary vocabulary = read();
  EXPECT_EQ(vocabulary.chat_template, "file\n");
  ASSERT_EQ(vocabulary.chat_templates.size(), 2u);
  EXPECT_EQ(vocabulary.chat_templates[1].name, "rag");
}

TEST_F(HfVocabulary, WrongTypesAreRefusedWithTheirPlace) {
  const std::string config = (folder_ / "tokenizer_config.json").string();
  const std::string fix = "; fetch the file again or repair it";
  write("tokenizer_config.json", "{\"add_bos_token\": \"yes\"}");
  EXPECT_EQ(message(), "bad_input: " + config + ":1:19: 'add_bos_token' is \"yes\", expected true or false" + fix);
  write("tokenizer_config.json", "{\"bos_token\": 3}");
  EXPECT_EQ(message(), "bad_input: " + config +
                           ":1:15: 'bos_token' is neither a string nor an object with a string 'content'" + fix);
  write("tokenizer_config.json", "{\"added_tokens_decoder\":\n {\"x\": {\"content\": \"a\"}}}");
  EXPECT_EQ(message(), "bad_input: " + config + ":2:8: 'added_tokens_decoder/x' is keyed by no id" + fix);
  write("tokenizer_config.json", "{\"added_tokens_decoder\": {\"5\": {}}}");
  EXPECT_EQ(message(), "bad_input: " + config + ":1:32: 'added_tokens_decoder/5' has no string 'content'" + fix);
  write("tokenizer_config.json", "{\"chat_template\": 1}");
  EXPECT_EQ(message(), "bad_input: " + config + ":1:19: 'chat_template' is neither a string nor a list" + fix);
  write("tokenizer_config.json", "[]");
  EXPECT_EQ(message(), "bad_input: " + config + ":1:1: the file is no object" + fix);
  write("tokenizer_config.json", "{}");
  const std::string added = (folder_ / "added_tokens.json").string();
  write("added_tokens.json", "{\"a\": -1}");
  EXPECT_EQ(message(), "bad_input: " + added + ":1:7: 'a' has id -1, expected 0 to 67587" + fix);
  write("added_tokens.json", "{\"a\": 600, \"b\": 600}");
  EXPECT_EQ(message(), "bad_input: " + added + ":1:17: 'b' has the id of another token, 600" + fix);
  write("added_tokens.json", "{\"a\": 16777215}");  // a table of a gigabyte, beside 512 pieces
  EXPECT_EQ(message(), "bad_input: " + added + ":1:7: 'a' has id 16777215, expected 0 to 67587" + fix);
  write("added_tokens.json", "{\"a\": 67587}");  // 4 * (512 pieces + 1) + 65536 - 1
  EXPECT_EQ(message(), "accepted");
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"67588": {"content": "b"}}})");
  EXPECT_EQ(message(),
            "bad_input: " + config + ":1:36: 'added_tokens_decoder/67588' has id 67588, expected 0 to 67587" + fix);
  write("tokenizer_config.json", "{}");
  write("added_tokens.json", "{\"a\": \"1\"}");
  EXPECT_EQ(message(), "bad_input: " + added + ":1:7: 'a' is \"1\", expected an id" + fix);
}

}  // namespace
}  // namespace ropewalk::formats
