// Ids and texts by the real sentencepiece and the real llama.cpp, see tests/golden/make/sentencepiece_ids.py.
#include "formats/tokenizers/tokenizer.h"

#include <algorithm>
#include <set>

#include "formats/gguf_model.h"
#include "formats/utf8.h"
#include "lib/error.h"
#include "tokenizer_golden.h"

namespace ropewalk::formats {
namespace {

using golden::Ids;
using golden::kGolden;
using golden::kIds;
using golden::test_name;
namespace fs = std::filesystem;

/// The vocabulary a golden file was made with, under its rules.
Vocabulary vocabulary_of(const nlohmann::json& item) {
  const fs::path path = kGolden / item["model"].get<std::string>();
  if (path.extension() == ".gguf") return read_gguf_vocabulary(read_gguf(path), path.string()).value();
  Vocabulary vocabulary = read_sentencepiece_model(path);
  if (item.contains("add_space_prefix")) {
    vocabulary.rules = TokenizerRules::llama_cpp;
    vocabulary.add_dummy_prefix = item["add_space_prefix"].get<bool>();
  }
  return vocabulary;
}

// --- the trained fixtures

class FixtureIds : public testing::TestWithParam<const char*> {};

TEST_P(FixtureIds, EqualSentencepiece) {
  const auto folder = kGolden / "fixtures/models" / GetParam();
  const auto tokenizer = Tokenizer::create(read_hf_vocabulary(folder).value());
  const auto item = golden::read(folder / "tokens.json");
  ASSERT_GE(item["cases"].size(), 24u);
  for (const auto& one : item["cases"])
    EXPECT_EQ(tokenizer->encode(one["text"].get<std::string>()), one["ids"].get<Ids>()) << one["text"];
}

INSTANTIATE_TEST_SUITE_P(Models, FixtureIds, testing::Values("stories260K", "tolstoy-4m"),
                         [](const auto& model) { return test_name(model.param); });

// --- goldens: every model file by both owners of rules

const std::vector<std::string> kSentencepiece = {"llama2", "mistral-v1", "nfkc",   "nfkc-bytes",
                                                 "spaces", "ties",       "unused", "unused-spaces"};
const std::vector<std::string> kLlamaCpp = {"gguf-llama-spm", "gguf-phi-3", "llama2", "mistral-v1", "nfkc",
                                            "nfkc-bytes",     "spaces",     "ties",   "unused",     "unused-spaces"};

TEST(TokenizerGoldens, EveryFileIsTested) {
  std::set<std::string> expected = {"README.md", "models", "texts.json"};
  for (const auto& name : kSentencepiece) expected.insert(name + ".json");
  for (const auto& name : kLlamaCpp) expected.insert(name + ".llama_cpp.json");
  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator(kIds)) found.insert(entry.path().filename().string());
  EXPECT_EQ(found, expected);
}

/// Chunks of the repository's texts, by count and hash.
void expect_chunks(const nlohmann::json& item, const Tokenizer& tokenizer) {
  ASSERT_EQ(item["chunks"].size(), 2u);
  for (const auto& [file, expected] : item["chunks"].items()) {
    const auto chunks = golden::corpus_chunks(file);
    ASSERT_EQ(chunks.size(), expected.size()) << file;
    for (std::size_t at = 0; at < chunks.size(); ++at) {
      if (expected[at].is_null()) {
        EXPECT_THROW(tokenizer.encode(chunks[at]), Error) << file << " chunk " << at;
        continue;
      }
      const Ids ids = tokenizer.encode(chunks[at]);
      EXPECT_EQ(ids.size(), expected[at][0].get<std::size_t>()) << file << " chunk " << at;
      EXPECT_EQ(golden::fnv1a64(ids), expected[at][1].get<std::string>()) << file << " chunk " << at;
    }
  }
}

class SentencepieceGolden : public testing::TestWithParam<std::string> {
 protected:
  nlohmann::json item_ = golden::read(kIds / (GetParam() + ".json"));
  std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::create(vocabulary_of(item_));
};

TEST_P(SentencepieceGolden, Encode) {
  const auto texts = golden::texts();
  ASSERT_EQ(texts.size(), item_["encode"].size());
  ASSERT_GT(texts.size(), 300u);
  for (std::size_t at = 0; at < texts.size(); ++at)
    EXPECT_EQ(tokenizer_->encode(texts[at]), item_["encode"][at].get<Ids>()) << golden::shown(texts[at]);
}
TEST_P(SentencepieceGolden, Decode) {
  ASSERT_GT(item_["decode"].size(), 200u);
  for (const auto& one : item_["decode"])
    EXPECT_EQ(golden::shown(tokenizer_->decode(one[0].get<Ids>())), golden::shown(golden::unhex(one[1]))) << one[0];
}
TEST_P(SentencepieceGolden, Corpus) { expect_chunks(item_, *tokenizer_); }

INSTANTIATE_TEST_SUITE_P(Models, SentencepieceGolden, testing::ValuesIn(kSentencepiece),
                         [](const auto& model) { return test_name(model.param); });

class LlamaCppGolden : public testing::TestWithParam<std::string> {
 protected:
  nlohmann::json item_ = golden::read(kIds / (GetParam() + ".llama_cpp.json"));
  std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::create(vocabulary_of(item_));
};

TEST_P(LlamaCppGolden, Encode) {
  const auto texts = golden::texts();
  ASSERT_EQ(texts.size(), item_["encode"].size());
  for (std::size_t at = 0; at < texts.size(); ++at)
    for (const bool parse_special : {false, true}) {
      const auto& expected = item_["encode"][at][parse_special ? 1 : 0];
      const std::string where = golden::shown(texts[at]) + (parse_special ? " special" : "");
      if (expected.is_null()) {
        EXPECT_THROW(tokenizer_->encode(texts[at], parse_special), Error) << where;
      } else {
        EXPECT_EQ(tokenizer_->encode(texts[at], parse_special), expected.get<Ids>()) << where;
      }
    }
}
TEST_P(LlamaCppGolden, Decode) {
  ASSERT_GT(item_["decode"].size(), 150u);
  for (const auto& one : item_["decode"])
    for (const bool special : {false, true})
      EXPECT_EQ(golden::shown(tokenizer_->decode(one[0].get<Ids>(), special)),
                golden::shown(golden::unhex(one[special ? 2 : 1])))
          << one[0];
}
TEST_P(LlamaCppGolden, Corpus) { expect_chunks(item_, *tokenizer_); }

INSTANTIATE_TEST_SUITE_P(Models, LlamaCppGolden, testing::ValuesIn(kLlamaCpp),
                         [](const auto& model) { return test_name(model.param); });

// --- llama.cpp's own cases

class LlamaCppCases : public testing::TestWithParam<const char*> {};

TEST_P(LlamaCppCases, EqualTheOutFile) {
  const fs::path path = kGolden / "tokenizers" / (std::string("ggml-vocab-") + GetParam() + ".gguf");
  const auto tokenizer = Tokenizer::create(read_gguf_vocabulary(read_gguf(path), path.string()).value());
  const auto cases = golden::engine_cases(path.string());
  for (const auto& [text, ids] : cases) EXPECT_EQ(tokenizer->encode(text), ids) << golden::shown(text);
  EXPECT_GT(cases.size(), 40u);
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, LlamaCppCases, testing::Values("llama-spm", "phi-3"),
                         [](const auto& model) { return test_name(model.param); });

// --- mistral-common's samples: ids spelled out are the text

TEST(TokenizerPiece, SpellsMistralsSample) {
  const auto tokenizer = Tokenizer::create(read_sentencepiece_model(kGolden / "tokenizers/mistral/tokenizer.model.v1"));
  const fs::path folder = kGolden / "tokenizers/mistral/samples/no_tools";
  const auto ids = golden::read(folder / "tokens_v1.json")["tokens"].get<Ids>();
  std::string text;
  for (std::int32_t id : ids) text += tokenizer->piece(id);
  EXPECT_EQ(text, golden::read_bytes(folder / "text_v1.txt"));
  EXPECT_THROW(tokenizer->piece(-1), Error);
  EXPECT_THROW(tokenizer->piece(tokenizer->size()), Error);
}

// --- properties and controls

/// A wrong score shows: the goldens would not pass by accident.
TEST(TokenizerControl, SwappedScoresChangeIds) {
  const auto texts = golden::texts();
  for (const char* name : {"llama2.json", "llama2.llama_cpp.json"}) {
    const auto item = golden::read(kIds / name);
    Vocabulary vocabulary = vocabulary_of(item);
    ASSERT_EQ(vocabulary.pieces[261].text, "er");
    std::swap(vocabulary.pieces[261].score, vocabulary.pieces[20000].score);
    const auto tokenizer = Tokenizer::create(vocabulary);
    int different = 0;
    for (std::size_t at = 0; at < texts.size(); ++at) {
      const auto& expected = item["encode"][at];
      different += tokenizer->encode(texts[at]) !=
                   (vocabulary.rules == TokenizerRules::llama_cpp ? expected[0] : expected).get<Ids>();
    }
    EXPECT_GT(different, 5) << name;
  }
}

/// docs/tokenizers.md says so: with the published vocabularies the two owners' ids part only on bytes that are no
/// UTF-8.
TEST(TokenizerProperty, RulesPartOnlyOnInvalidUtf8) {
  for (const char* name : {"llama2", "mistral-v1"}) {
    const auto library = golden::read(kIds / (std::string(name) + ".json")),
               engine = golden::read(kIds / (std::string(name) + ".llama_cpp.json"));
    const auto texts = golden::texts();
    int valid = 0, parted = 0;
    for (std::size_t at = 0; at < texts.size(); ++at) {
      const bool same = library["encode"][at] == engine["encode"][at][0];
      if (first_invalid_utf8(texts[at]) == texts[at].size()) {
        EXPECT_TRUE(same) << name << " " << golden::shown(texts[at]);
        ++valid;
      } else {
        parted += !same;
      }
    }
    EXPECT_GT(valid, 200) << name;
    EXPECT_GT(parted, 100) << name;
    EXPECT_EQ(library["chunks"], engine["chunks"]) << name;
  }
}

/// Words merged one by one, repeated words copied: the same as the whole text at once, which an unused piece forces.
TEST(TokenizerProperty, WordsAloneEqualTheWholeText) {
  const Vocabulary by_word = read_sentencepiece_model(kGolden / "tokenizers/llama2/tokenizer.model");
  Vocabulary whole = by_word;
  whole.pieces.push_back({"\x01never\x02", -1e9f, PieceType::unused});
  const auto one = Tokenizer::create(by_word), other = Tokenizer::create(whole);
  for (const auto& chunk : golden::corpus_chunks("held-out.txt")) EXPECT_EQ(one->encode(chunk), other->encode(chunk));
}

/// With byte fallback, no normalisation and no control pieces in the way, text that is UTF-8 comes back whole, less
/// what the rules themselves drop.
TEST(TokenizerProperty, DecodeUndoesEncode) {
  const auto tokenizer = Tokenizer::create(read_sentencepiece_model(kGolden / "tokenizers/llama2/tokenizer.model"));
  int whole = 0;
  for (const auto& chunk : golden::corpus_chunks("war-and-peace-tail.txt")) {
    // cut inside a character
    if (static_cast<unsigned char>(chunk.front()) >= 0x80 || static_cast<unsigned char>(chunk.back()) >= 0x80) continue;
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(chunk)), chunk);
    ++whole;
  }
  EXPECT_GT(whole, 50);
}

// --- added tokens

Vocabulary llama2_with_added() {
  Vocabulary vocabulary = read_hf_vocabulary(kGolden / "tokenizers/llama2").value();
  vocabulary.legacy = true;
  vocabulary.added = {{.id = 32000, .content = "<|im_start|>", .special = true, .in_decoder = true},
                      {.id = 32001, .content = "<|im_start|>x", .special = true, .in_decoder = true},
                      {.id = 32002, .content = "<tool>", .lstrip = true, .rstrip = true, .in_decoder = true}};
  return vocabulary;
}

TEST(AddedTokens, AreFoundLongestFirst) {
  const auto tokenizer = Tokenizer::create(llama2_with_added());
  const auto plain = Tokenizer::create(read_hf_vocabulary(kGolden / "tokenizers/llama2").value());
  EXPECT_EQ(tokenizer->size(), 32003);
  Ids expected = plain->encode("a");
  for (std::int32_t id : {32001, 32000, 1}) expected.push_back(id);
  for (std::int32_t id : plain->encode("b")) expected.push_back(id);
  EXPECT_EQ(tokenizer->encode("a<|im_start|>x<|im_start|><s>b", true), expected);
  EXPECT_EQ(tokenizer->encode("<|im_start|>"), plain->encode("<|im_start|>"));  // special: text unless asked for
}

TEST(AddedTokens, OrdinaryOnesAlwaysCountAndStrip) {
  const auto tokenizer = Tokenizer::create(llama2_with_added());
  const auto plain = Tokenizer::create(read_hf_vocabulary(kGolden / "tokenizers/llama2").value());
  Ids expected = plain->encode("a");
  expected.push_back(32002);
  for (std::int32_t id : plain->encode("b")) expected.push_back(id);
  EXPECT_EQ(tokenizer->encode("a  <tool> \nb"), expected);
}

TEST(AddedTokens, LegacyFalseDropsThePrefixAfterAToken) {
  Vocabulary vocabulary = llama2_with_added();
  const Ids before = Tokenizer::create(vocabulary)->encode("<tool>Hello");
  vocabulary.legacy = false;
  const Ids after = Tokenizer::create(vocabulary)->encode("<tool>Hello");
  EXPECT_EQ(before, (Ids{32002, 15043}));  // U+2581 Hello
  EXPECT_EQ(after, (Ids{32002, 10994}));   // Hello
}

/// transformers 5.23.0 and 4.57.6 encode "a<x>b" with Llama 2's tokenizer.model and a LlamaTokenizer that says nothing of
/// legacy as 263 32000 29890 and 263 32000 289; with legacy true and false both as here.
TEST(AddedTokens, LlamaTokenizerIsNotLegacyUnlessItSaysSo) {
  Vocabulary vocabulary = read_hf_vocabulary(kGolden / "tokenizers/llama2").value();
  vocabulary.added = {{.id = 32000, .content = "<x>", .in_decoder = true}};
  EXPECT_EQ(Tokenizer::create(vocabulary)->encode("a<x>b"), (Ids{263, 32000, 29890}));
  vocabulary.legacy = true;
  EXPECT_EQ(Tokenizer::create(vocabulary)->encode("a<x>b"), (Ids{263, 32000, 289}));
}

TEST(AddedTokens, Decode) {
  const auto tokenizer = Tokenizer::create(llama2_with_added());
  EXPECT_EQ(tokenizer->decode(Ids{15043, 32000, 32002, 15043}), "Hello<tool> Hello");  // 32000 is special: nothing
  EXPECT_EQ(tokenizer->decode(Ids{1, 15043, 32000, 32002, 15043}, true), "<s> Hello<|im_start|><tool> Hello");
  EXPECT_EQ(tokenizer->piece(32001), "<|im_start|>x");
  EXPECT_THROW(tokenizer->decode(Ids{32003}), Error);
  EXPECT_THROW(tokenizer->decode(Ids{-1}), Error);
}

// --- what is refused

std::string refusal(const Vocabulary& vocabulary) {
  try {
    Tokenizer::create(vocabulary);
  } catch (const Error& error) {
    return std::string(error_kind_name(error.kind())) + ": " + error.problem();
  }
  return "accepted";
}

TEST(TokenizerCreate, RefusesWhatItsOwnersRefuse) {
  Vocabulary vocabulary;
  EXPECT_EQ(refusal(vocabulary), "bad_input: the vocabulary has no pieces");
  vocabulary.model = "bpe";
  EXPECT_EQ(refusal(vocabulary), "unsupported: a tokenizer of kind 'bpe', only spm and unigram are known");
  vocabulary.model = "spm";
  vocabulary.pieces = {{"<unk>", 0, PieceType::unknown}, {"a", 0, PieceType::normal}, {"a", 0, PieceType::normal}};
  EXPECT_EQ(refusal(vocabulary), "bad_input: piece 2 'a' is defined twice");
  vocabulary.rules = TokenizerRules::llama_cpp;
  EXPECT_EQ(refusal(vocabulary), "bad_input: token 2 'a' is defined twice");
  vocabulary.rules = TokenizerRules::sentencepiece;
  vocabulary.pieces[2] = {"b", std::numeric_limits<float>::quiet_NaN(), PieceType::normal};
  EXPECT_EQ(refusal(vocabulary), "bad_input: the score of piece 2 is not a number");
  vocabulary.pieces[2] = {"", 0, PieceType::normal};
  EXPECT_EQ(refusal(vocabulary), "bad_input: piece 2 has no text");
  vocabulary.pieces = {{"a", 0, PieceType::normal}};
  EXPECT_EQ(refusal(vocabulary), "bad_input: no piece is the unknown one");
  vocabulary.byte_fallback = true;
  EXPECT_EQ(refusal(vocabulary), "bad_input: byte_fallback is set, but not all 256 bytes are pieces");
  vocabulary.byte_fallback = false;
  vocabulary.pieces = {{"<unk>", 0, PieceType::unknown}};
  vocabulary.precompiled_charsmap = std::string(8, '\1');
  EXPECT_EQ(refusal(vocabulary), "bad_input: precompiled_charsmap: its trie needs 16843009 bytes, 4 are left");
  vocabulary.precompiled_charsmap.clear();
  vocabulary.added = {{.id = 1, .content = "x", .single_word = true}};
  EXPECT_EQ(refusal(vocabulary), "unsupported: added token 'x' is single_word");
}

}  // namespace
}  // namespace ropewalk::formats
