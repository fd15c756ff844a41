// What a Hugging Face folder says about its tokenizer. Expected values are read off the fixtures' own files, which the
// real libraries wrote.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <tuple>

#include "formats/gguf_model.h"
#include "formats/json.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "tokenizer_golden.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

const fs::path kModels = fs::path(ROPEWALK_GOLDEN_DIR) / "fixtures/models";
const fs::path kTokenizerJson = fs::path(ROPEWALK_GOLDEN_DIR) / "tokenizer_json/tokenizers";

/// GPT-2's alphabet as a vocab.json, and more entries.
std::string alphabet(const std::string& more) {
  std::string out = "{";
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    unsigned code = byte;
    if (!printable) {
      code = 256;
      for (unsigned other = 0; other < byte; ++other)
        code += !((other > 0x20 && other < 0x7F) || (other > 0xA0 && other != 0xAD));
    }
    std::string key;
    if (code < 0x80) key = static_cast<char>(code);
    else key = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    if (key == "\"" || key == "\\") key = "\\" + key;
    out += "\"" + key + "\": " + std::to_string(byte) + ", ";
  }
  out.resize(out.size() - 2);
  return out + more + "}";
}

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
  // one flag, and the template counts no more: as transformers
  write("tokenizer_config.json", R"({"eos_token": "<|begin_of_text|>", "add_eos_token": true})");
  EXPECT_EQ(read().add_bos, false);
  EXPECT_EQ(read().add_eos, true);
  EXPECT_EQ(read().pipeline->after, std::vector<std::int32_t>{1});
  write("tokenizer_config.json", "{}");
  fs::remove(folder_ / "tokenizer.json");
  fs::copy_file(kTokenizerJson / "zoo-qwen2.json", folder_ / "tokenizer.json");
  EXPECT_EQ(read().add_bos, false);
  write("tokenizer.json", "{}");
  EXPECT_EQ(message(), "bad_input: " + (folder_ / "tokenizer.json").string() +
                           ":1:1: the file has no 'model'; fetch the file again or repair it");
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

// --- bad tokenizers: every kind of file, the exact line

std::string json_of(std::string_view model, std::string_view more = "") {
  return R"({"model": )" + std::string(model) + R"(, "pre_tokenizer": null)" + std::string(more) + "}";
}

std::string bpe_of(std::string_view vocab, std::string_view merges) {
  return json_of(R"({"type": "BPE", "vocab": )" + std::string(vocab) + R"(, "merges": )" + std::string(merges) + "}");
}

std::string regex_of(const std::string& regex) {
  return R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "Split", "pattern": )"
         R"({"Regex": ")" +
         regex + R"("}, "behavior": "Isolated", "invert": false}})";
}

/// 50,256 tokens, GPT-2's number: bytes, then tokens that no text has. `change` sees each line.
std::string tiktoken_lines(const std::function<std::string(int, std::string)>& change) {
  std::string out;
  for (int rank = 0; rank < 50256; ++rank) {
    const std::string token =
        rank < 256 ? std::string(1, static_cast<char>(rank))
                   : std::string("\xFF\xFF\xFF") + static_cast<char>(rank >> 8) + static_cast<char>(rank & 255);
    out += change(rank, golden::base64(token) + " " + std::to_string(rank)) + "\n";
  }
  return out;
}

/// tokenizer.model of pieces {text, score, type}.
std::string sentencepiece_of(const std::vector<std::tuple<std::string, float, int>>& pieces, int model_type = 2) {
  std::string out;
  for (const auto& [text, score, type] : pieces) {
    std::string body = "\x0A" + std::string(1, static_cast<char>(text.size())) + text + "\x15";
    body.append(reinterpret_cast<const char*>(&score), 4);
    body += std::string("\x18") + static_cast<char>(type);
    out += "\x0A" + std::string(1, static_cast<char>(body.size())) + body;
  }
  return out + std::string("\x12\x02\x18", 3) + static_cast<char>(model_type) + std::string("\x1A\x00", 2);
}

struct BadTokenizer {
  const char* what;
  std::vector<std::pair<const char*, std::string>> files;
  std::string line;  // without the folder
  std::string text = "ab";
};

std::vector<BadTokenizer> bad_tokenizers() {
  const std::string again = "; fetch the file again or repair it",
                    corrupt = "; the file is corrupt or was not made by SentencePiece: fetch it again";
  const auto json = [](const char* what, std::string file, std::string line, std::string text = "ab") {
    return BadTokenizer{what, {{"tokenizer.json", std::move(file)}}, std::move(line), std::move(text)};
  };
  const auto merges = [&](const char* what, const std::string& more, const char* lines, const std::string& line) {
    return BadTokenizer{what,
                        {{"vocab.json", alphabet(more)},
                         {"merges.txt", lines},
                         {"tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})"}},
                        line};
  };
  const auto tiktoken = [](const char* what, int at, const std::string& replaced, const std::string& line) {
    return BadTokenizer{
        what,
        {{"tokenizer.model", tiktoken_lines([&](int rank, std::string one) { return rank == at ? replaced : one; })}},
        line};
  };
  const auto model = [](const char* what, const std::string& file, const std::string& line) {
    return BadTokenizer{what, {{"tokenizer.model", file}}, line};
  };
  const std::tuple<std::string, float, int> unk{"<unk>", 0.0f, 2}, a{"a", 0.0f, 1};
  const std::string bomb = "pass token ids instead of text";
  return {
      json("a merge of no piece", bpe_of(R"({"a": 0, "b": 1})", R"(["a c"])"),
           "/tokenizer.json:1:65: 'model/merges/0' needs the piece 'c', which is not in the vocabulary" + again),
      json("a merge that gives no piece", bpe_of(R"({"a": 0, "b": 1})", R"([["b", "a"]])"),
           "/tokenizer.json:1:65: 'model/merges/0' needs the piece 'ba', which is not in the vocabulary" + again),
      json("a merge that gives one of its parts", bpe_of(R"({"a": 0, "": 1})", R"([["a", ""]])"),
           "/tokenizer.json:1:64: 'model/merges/0' merges an empty piece" + again),
      json("an id below 0", bpe_of(R"({"a": -1})", "[]"),
           "/tokenizer.json:1:42: 'model/vocab/a' is -1, expected a whole number from 0 to 16777215" + again),
      json("an id too large", bpe_of(R"({"a": 99999999999})", "[]"),
           "/tokenizer.json:1:42: 'model/vocab/a' is 99999999999, expected a whole number from 0 to 16777215" + again),
      json("ids with a hole", bpe_of(R"({"a": 0, "b": 5000000})", "[]"),
           "/tokenizer.json:1:36: 'model/vocab' has 2 pieces and ids up to 5000000" + again),
      json("a piece twice", bpe_of(R"({"a": 0, "a": 1})", "[]"),
           "/tokenizer.json:1:45: key 'a' appears twice in one object; keep one of them"),
      json("an id twice", bpe_of(R"({"a": 0, "b": 0})", "[]"),
           "/tokenizer.json:1:50: 'model/vocab/b' has the id of 'a', 0" + again),
      json("no pieces", json_of(R"({"type": "Unigram", "unk_id": 0, "vocab": []})"),
           "/tokenizer.json:1:1: the file has no pieces" + again),
      json("a unigram's piece twice", json_of(R"({"type": "Unigram", "unk_id": 0, "vocab": [["a", 0], ["a", 0]]})"),
           "/tokenizer.json:1:64: 'model/vocab/1' is 'a', which is 'model/vocab/0' already" + again),
      json("an unknown token out of range", json_of(R"({"type": "Unigram", "unk_id": 5, "vocab": [["a", 0]]})"),
           "/tokenizer.json:1:41: 'model/unk_id' is 5, expected a whole number from 0 to 0" + again),
      json("a regular expression of 128 kB", regex_of(std::string(1 << 17, 'a')),
           "its regular expression has 131072 bytes, at most 65536 are read; check that this is the model's own "
           "tokenizer"),
      json("a regular expression that grows", regex_of("((((a{1000}){1000}){1000}){1000})"),
           "its regular expression is not understood: regular expression is too large; " + bomb),
      json("a regular expression 5000 deep", regex_of(std::string(5000, '(') + "a" + std::string(5000, ')')),
           "its regular expression has more than 200 nested groups, which is not understood; " + bomb),
      json(
          "a regular expression that never ends", regex_of("(a|aa)+$"),
          "its regular expression gives up at byte 0 of the text: match limit exceeded; check that this is the model's "
          "own tokenizer",
          std::string(5000, 'a') + "b"),
      json("a file of 100 MB", regex_of(std::string(100'000'000, 'a')),
           "/tokenizer.json: has 100000162 bytes, at most 67108864 are accepted here; check that this is the right "
           "file"),
      merges("a merge of no piece", R"(, "ab": 256)", "#version: 0.2\na bc\n",
             "/merges.txt:2:1: the merge needs the piece 'bc', which is not in the vocabulary" + again),
      merges("a merge that gives no piece", "", "#version: 0.2\na b\n",
             "/merges.txt:2:1: the merge needs the piece 'ab', which is not in the vocabulary" + again),
      merges(
          "a file cut at the end of a line", R"(, "ab": 256, "abc": 257)", "#version: 0.2\na b\n",
          "/merges.txt: its merges (1) make no token past id 256, and vocab.json goes on with 'abc', which its tokens "
          "'ab' and 'c' give: the file is cut short; fetch it again; or add the tokenizer.json, if no merge is meant"),
      merges(
          "a file cut behind its first line", R"(, "ab": 256)", "#version: 0.2\n",
          "/merges.txt: its merges (0) make no token past id 255, and vocab.json goes on with 'ab', which its tokens "
          "'a' and 'b' give: the file is cut short; fetch it again; or add the tokenizer.json, if no merge is meant"),
      merges("a merge of one", "", "#version: 0.2\nab\n",
             "/merges.txt:2:1: the merge is not two pieces with a space between them" + again),
      merges("an id too large", R"(, "ab": 1073741824)", "",
             "/vocab.json:1:2460: 'ab' is 1073741824, expected a whole number from 0 to 16777215" + again),
      merges("an id twice", R"(, "ab": 5)", "", "/vocab.json:1:2460: 'ab' has the id of '\xC4\x85', 5" + again),
      merges("a piece twice", R"(, "a": 300)", "",
             "/vocab.json:1:2454: key 'a' appears twice in one object; keep one of them"),
      tiktoken("a token twice", 50255, "YQ== 50255", "/tokenizer.model: tokens 97 and 50255 are the same" + again),
      tiktoken("a rank twice", 50255, "enp6eg== 5", "/tokenizer.model:50256:1: rank 5 stands twice" + again),
      tiktoken("a rank too large", 50255, "enp6eg== 99999999999",
               "/tokenizer.model:50256:1: the line is no token in base64 with its rank" + again),
      tiktoken("no base64", 50255, "!!! 50255",
               "/tokenizer.model:50256:1: the line is no token in base64 with its rank" + again),
      tiktoken("a byte that is no token", 7, "enp6eg== 7", "/tokenizer.model: not every byte is a token" + again),
      model("a piece twice", sentencepiece_of({unk, a, a}),
            "/tokenizer.model: byte 28: piece 2 'a' is defined twice, first as piece 1" + corrupt),
      model("no unknown piece", sentencepiece_of({a}),
            "/tokenizer.model: byte 12: no piece of type unknown; the file is corrupt: fetch it again"),
      model("two unknown pieces", sentencepiece_of({unk, {"<u>", 0.0f, 2}}),
            "/tokenizer.model: byte 16: piece 1 '<u>' is a second unknown piece, the first is piece 0" + corrupt),
      model(
          "a type that is none", sentencepiece_of({unk, {"a", 0.0f, 9}}),
          "/tokenizer.model: byte 26: a piece has type 9, expected 1 to 6; the file is cut short or corrupt: fetch it "
          "again"),
      model("a score that is no number", sentencepiece_of({unk, {"a", std::nanf(""), 1}}),
            "/tokenizer.model: byte 21: a piece's score is not a number; the file is cut short or corrupt: fetch it "
            "again"),
      model("a model of words", sentencepiece_of({unk, a}, 3),
            "/tokenizer.model: byte 28: a SentencePiece model of type word, only bpe and unigram are read; use a "
            "checkpoint with a BPE or unigram tokenizer.model"),
      model("a model of characters", sentencepiece_of({unk, a}, 4),
            "/tokenizer.model: byte 28: a SentencePiece model of type char, only bpe and unigram are read; use a "
            "checkpoint with a BPE or unigram tokenizer.model"),
      {"an added id below 0",
       {{"tokenizer.model", sentencepiece_of({unk, a})}, {"added_tokens.json", R"({"<x>": -3})"}},
       "/added_tokens.json:1:9: '<x>' has id -3, expected 0 to 65547" + again},
      {"an added id too large",
       {{"tokenizer.json", bpe_of(R"({"a": 0})", "[]")},
        {"tokenizer_config.json", R"({"added_tokens_decoder": {"99999999": {"content": "<y>"}}})"}},
       "/tokenizer_config.json:1:39: 'added_tokens_decoder/99999999' has id 99999999, expected 0 to 65543" + again},
  };
}

TEST_F(HfVocabulary, BadTokenizersAreRefusedWithOneLine) {
  for (const BadTokenizer& bad : bad_tokenizers()) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    for (const auto& [name, text] : bad.files) std::ofstream(folder_ / name, std::ios::binary) << text;
    std::string line = "accepted";
    try {
      Tokenizer::create(read())->encode(bad.text);
    } catch (const Error& error) {
      line = error.what();
    }
    if (line.starts_with(folder_.string())) line.erase(0, folder_.string().size());
    EXPECT_EQ(line, bad.line) << bad.files[0].first << ": " << bad.what;
  }
}

TEST(GgufVocabulary, BadOnesAreRefusedWithOneLine) {
  using Keys = std::vector<GgufKey>;
  const GgufKey tokens{"tokenizer.ggml.tokens", gguf_strings({"<unk>", "a", "b"})},
      spm{"tokenizer.ggml.model", gguf_string("llama")}, gpt2{"tokenizer.ggml.model", gguf_string("gpt2")},
      t5{"tokenizer.ggml.model", gguf_string("t5")};
  const auto key = [](const char* name, GgufValue value) {
    return GgufKey{std::string("tokenizer.ggml.") + name, std::move(value)};
  };
  const std::string fix = "; llama.cpp 0.5 would refuse this file: write it again with a current converter";
  const std::vector<std::pair<Keys, std::string>> cases = {
      {{spm}, "tokenizer.ggml.tokens is missing or no array of strings"},
      {{spm, key("tokens", gguf_i32s({1, 2}))}, "tokenizer.ggml.tokens is missing or no array of strings"},
      {{spm, key("tokens", gguf_strings({"a", "b", "a"}))}, "tokenizer.ggml.tokens has 'a' twice, as tokens 0 and 2"},
      {{gpt2, key("tokens", gguf_strings({"a", "a"})), key("merges", gguf_strings({}))},
       "tokenizer.ggml.tokens has 'a' twice, as tokens 0 and 1"},
      {{spm, tokens, key("scores", gguf_f32s({0, 1}))}, "tokenizer.ggml.scores has 2 elements for 3 tokens"},
      {{spm, tokens, key("scores", gguf_strings({"0", "1", "2"}))},
       "tokenizer.ggml.scores has elements of type string, expected f32"},
      {{spm, tokens, key("scores", gguf_f32s({0, std::nanf(""), 1}))},
       "tokenizer.ggml.scores has a score that is not a number"},
      {{spm, tokens, key("token_type", gguf_i32s({1}))}, "tokenizer.ggml.token_type has 1 elements for 3 tokens"},
      {{spm, tokens, key("token_type", gguf_f32s({1, 1, 1}))},
       "tokenizer.ggml.token_type has elements of type f32, expected i32"},
      {{gpt2, tokens}, "tokenizer.ggml.merges is missing or no array of strings"},
      {{gpt2, tokens, key("merges", gguf_strings({})), key("token_type", gguf_i32s({1, 6, 1}))},
       "byte token 1 is 'a', expected one like <0x0A>"},
      {{t5, tokens, key("precompiled_charsmap", gguf_u8s("\x10"))},
       "tokenizer.ggml.precompiled_charsmap: its size is cut short"},
  };
  for (const auto& [keys, problem] : cases) {
    GgufFile file;
    file.keys = keys;
    std::string line = "accepted";
    try {
      Tokenizer::create(read_gguf_vocabulary(file, "m.gguf").value());
    } catch (const Error& error) {
      line = error.what();
    }
    EXPECT_EQ(line, "m.gguf: " + problem + fix);
  }
  // Ids past the vocabulary are passed over, as by the engine, and told.
  GgufFile file;
  file.keys = {spm, tokens, key("bos_token_id", gguf_u32(99)), key("eos_token_id", gguf_u32(0xFFFFFFFFu))};
  std::vector<std::string> warnings;
  const auto vocabulary = read_gguf_vocabulary(file, "m.gguf", &warnings);
  EXPECT_EQ(vocabulary->bos, 1);
  EXPECT_EQ(vocabulary->eos, 2);
  EXPECT_EQ(warnings, (std::vector<std::string>{
                          "m.gguf: tokenizer.ggml.bos_token_id is 99, expected an id from 0 to 2: llama.cpp passes "
                          "over it and has 1",
                          "m.gguf: tokenizer.ggml.eos_token_id is 4294967295, expected an id from 0 to 2: llama.cpp "
                          "passes over it and has 2"}));
}

}  // namespace
}  // namespace ropewalk::formats
