// Bad tokenizers: every kind of file, the exact line.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <tuple>

#include "formats/gguf_model.h"
#include "formats/tokenizers/tokenizer.h"
#include "gpt2_alphabet.h"
#include "lib/error.h"
#include "tokenizer_golden.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

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

TEST(HfVocabulary, BadTokenizersAreRefusedWithOneLine) {
  const fs::path folder = fs::temp_directory_path() / ("ropewalk-bad-tokenizers-" + std::to_string(::getpid()));
  for (const BadTokenizer& bad : bad_tokenizers()) {
    fs::remove_all(folder);
    fs::create_directories(folder);
    for (const auto& [name, text] : bad.files) std::ofstream(folder / name, std::ios::binary) << text;
    std::string line = "accepted";
    try {
      Tokenizer::create(read_hf_vocabulary(folder).value())->encode(bad.text);
    } catch (const Error& error) {
      line = error.what();
    }
    if (line.starts_with(folder.string())) line.erase(0, folder.string().size());
    EXPECT_EQ(line, bad.line) << bad.files[0].first << ": " << bad.what;
  }
  fs::remove_all(folder);
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
