// Unigram models by sentencepiece's, llama.cpp's and the tokenizers library's rules, see
// tests/golden/make/unigram_ids.py.
#include <algorithm>
#include <set>

#include "formats/gguf_model.h"
#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/precompiled_normalizer.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/tokenizer_json.h"
#include "lib/error.h"
#include "tokenizer_golden.h"

namespace ropewalk::formats {
namespace {

using golden::Ids;
namespace fs = std::filesystem;

const fs::path kFolder = golden::kGolden / "unigram";

/// precompiled_charsmap of a golden model; of null none.
std::string charsmap_of(const nlohmann::json& model) {
  if (model.is_null()) return {};
  return read_sentencepiece_model(golden::kGolden / model.get<std::string>()).precompiled_charsmap;
}

/// "nfkc" or "nfkc.llama_cpp".
Vocabulary vocabulary_of(const std::string& name, const nlohmann::json& item) {
  const std::size_t dot = name.find('.');
  Vocabulary vocabulary = read_sentencepiece_model(kFolder / "models" / (name.substr(0, dot) + ".model"));
  if (!item["charsmap"].is_null()) vocabulary.precompiled_charsmap = charsmap_of(item["charsmap"]);
  if (dot != std::string::npos) vocabulary.rules = TokenizerRules::llama_cpp;
  return vocabulary;
}

std::string short_hash(const Ids& ids) { return golden::fnv1a64(ids).substr(0, 8); }

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(kFolder))
    if (entry.path().extension() == ".json" && entry.path().stem() != "precompiled")
      out.push_back(entry.path().stem().string());
  std::sort(out.begin(), out.end());
  return out;
}

TEST(UnigramGoldens, EveryModelHasItsIds) {
  std::set<std::string> models, library, engine;
  for (const auto& entry : fs::directory_iterator(kFolder / "models")) models.insert(entry.path().stem().string());
  for (const std::string& name : names())
    (name.ends_with(".llama_cpp") ? engine : library).insert(name.substr(0, name.find('.')));
  EXPECT_EQ(models, library);
  engine.insert("suffix");  // the engine has no key for it
  EXPECT_EQ(models, engine);
  EXPECT_GE(models.size(), 10u);
}

class UnigramGolden : public testing::TestWithParam<std::string> {
 protected:
  nlohmann::json item_ = golden::read(kFolder / (GetParam() + ".json"));
  std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::create(vocabulary_of(GetParam(), item_));

  void expect(const std::string& text, bool parse_special, const nlohmann::json& hash) const {
    if (hash.is_null()) {
      EXPECT_THROW(tokenizer_->encode(text, parse_special), Error) << golden::shown(text);
    } else {
      EXPECT_EQ(short_hash(tokenizer_->encode(text, parse_special)), hash.get<std::string>()) << golden::shown(text);
    }
  }
};

TEST_P(UnigramGolden, Encode) {
  const auto texts = golden::texts();
  ASSERT_EQ(texts.size(), item_["encode"].size());
  ASSERT_GT(texts.size(), 300u);
  for (std::size_t at = 0; at < texts.size(); ++at) {
    const auto& hash = item_["encode"][at];
    expect(texts[at], false, hash.is_array() ? hash[0] : hash);
    if (hash.is_array()) expect(texts[at], true, hash[1]);
  }
}
TEST_P(UnigramGolden, Decode) {
  ASSERT_GT(item_["decode"].size(), 60u);
  for (const auto& one : item_["decode"])
    EXPECT_EQ(golden::shown(tokenizer_->decode(one[0].get<Ids>())), golden::shown(golden::unhex(one[1]))) << one[0];
}
TEST_P(UnigramGolden, Corpus) {
  ASSERT_EQ(item_["chunks"].size(), 2u);
  for (const auto& [file, expected] : item_["chunks"].items()) {
    const auto chunks = golden::corpus_chunks(file);
    ASSERT_EQ(chunks.size(), expected.size()) << file;
    for (std::size_t at = 0; at < chunks.size(); ++at) {
      const Ids ids = tokenizer_->encode(chunks[at]);
      EXPECT_EQ(ids.size(), expected[at][0].get<std::size_t>()) << file << " " << at;
      EXPECT_EQ(golden::fnv1a64(ids), expected[at][1].get<std::string>()) << file << " " << at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, UnigramGolden, testing::ValuesIn(names()),
                         [](const auto& one) { return golden::test_name(one.param); });

/// Penalty, bonus and ties are what the goldens say: a model whose scores are off by little has other ids.
TEST(UnigramControl, OtherScoresChangeIds) {
  for (const std::string name : {"nfkc", "nfkc.llama_cpp"}) {
    const auto item = golden::read(kFolder / (name + ".json"));
    Vocabulary vocabulary = vocabulary_of(name, item);
    for (std::size_t id = 0; id < vocabulary.pieces.size(); id += 7) vocabulary.pieces[id].score -= 0.5f;
    const auto tokenizer = Tokenizer::create(vocabulary);
    std::size_t different = 0, n = 0;
    for (const auto& [file, expected] : item["chunks"].items())
      for (const auto& chunk : golden::corpus_chunks(file))
        different += golden::fnv1a64(tokenizer->encode(chunk)) != expected[n++ % expected.size()][1];
    EXPECT_GT(different, 50u) << name;
  }
}

/// 760 kB as one text: sums pass 100,000, where the library begins anew. By sentencepiece 0.2.3; in float32 without that,
/// and in double, some pieces are others.
TEST(UnigramGoldens, LongTextKeepsItsDigits) {
  const std::string text =
      golden::read_bytes(fs::path(ROPEWALK_TEST_DATA_DIR) / "../../data/text/war-and-peace-tail.txt");
  for (const auto& [name, hash] : {std::pair("rules", "f3d2a5e552d1ea1d"), std::pair("near", "f4ae4359cbf77eee"),
                                   std::pair("spaces", "fd2254a137108ba4"), std::pair("suffix", "7393dd3b491ec278")}) {
    const auto tokenizer =
        Tokenizer::create(read_sentencepiece_model(kFolder / "models" / (std::string(name) + ".model")));
    EXPECT_EQ(golden::fnv1a64(tokenizer->encode(text)), hash) << name;
  }
}

// --- the normalizer Precompiled

std::string fnv1a64_bytes(const std::string& bytes) {
  std::uint64_t value = 0xCBF29CE484222325u;
  for (char byte : bytes) value = (value ^ static_cast<unsigned char>(byte)) * 0x100000001B3u;
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(value));
  return hex;
}

/// Each character of a block alone and beside letters and a mark, as the script has it.
std::string normalized_block(const PrecompiledNormalizer& normalizer, std::uint32_t first) {
  std::string out;
  for (std::uint32_t code = first; code < first + 4096; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string c;
    append_utf8(c, code);
    out += normalizer.applied(c + "a" + c + "b" + "A" + c + "\u0301\u00a8" + c + "ab\r" + c);
  }
  return out;
}

TEST(Precompiled, EqualsTheLibrary) {
  const auto item = golden::read(kFolder / "precompiled.json");
  ASSERT_EQ(item.size(), 3u);
  const auto texts = golden::texts();
  for (const auto& [model, expected] : item.items()) {
    const PrecompiledNormalizer normalizer(charsmap_of(model));
    ASSERT_EQ(expected["texts"].size(), texts.size());
    for (std::size_t at = 0; at < texts.size(); ++at)
      EXPECT_EQ(fnv1a64_bytes(normalizer.applied(replace_invalid_utf8(texts[at]))).substr(0, 8),
                expected["texts"][at].get<std::string>())
          << model << " " << golden::shown(texts[at]);
    ASSERT_EQ(expected["blocks"].size(), 33u);
    for (std::uint32_t block = 0; block < 33; ++block)
      EXPECT_EQ(fnv1a64_bytes(normalized_block(normalizer, block < 32 ? block * 4096 : 0xE0000)),
                expected["blocks"][block].get<std::string>())
          << model << " block " << block;
  }
}

TEST(Precompiled, RefusesTablesItCannotFollow) {
  const auto refusal = [](const std::string& charsmap) {
    try {
      PrecompiledNormalizer{charsmap};
    } catch (const Error& error) {
      return error.problem();
    }
    return std::string("accepted");
  };
  std::string table = charsmap_of("unigram/models/rules.model");
  EXPECT_EQ(refusal(table), "accepted");
  EXPECT_EQ(refusal(""), "precompiled_charsmap: it has no rules");
  EXPECT_EQ(refusal("abc"), "precompiled_charsmap: its size is cut short");
  table[table.size() - 2] = '\xC3';
  EXPECT_EQ(refusal(table), "precompiled_charsmap: its replacements are not UTF-8");
}

// --- tokenizer.json

class UnigramJson : public testing::TestWithParam<const char*> {};

TEST_P(UnigramJson, EqualsTheLibrary) {
  const fs::path folder = kFolder / "tokenizer_json";
  auto file = golden::read(folder / (std::string(GetParam()) + ".json"));
  const auto item = golden::read(folder / (std::string(GetParam()) + ".ids.json"));
  auto& charsmap = file["normalizer"]["normalizers"][0]["precompiled_charsmap"];
  charsmap = golden::base64(charsmap_of(item["charsmap"]));
  const auto tokenizer = Tokenizer::create(parse_tokenizer_json("t.json", file.dump()));
  const auto texts = golden::texts();
  ASSERT_EQ(item["encode"].size(), texts.size());
  for (std::size_t at = 0; at < texts.size(); ++at) {
    const Ids ids = tokenizer->encode(texts[at], true);
    EXPECT_EQ(short_hash(ids), item["encode"][at].get<std::string>()) << golden::shown(texts[at]);
    if (at % 4 != 0) continue;
    EXPECT_EQ(golden::shown(tokenizer->decode(ids)), golden::shown(golden::unhex(item["decode"][at / 4])));
  }
  charsmap = "####";
  EXPECT_THROW(parse_tokenizer_json("t.json", file.dump()), Error);
}

INSTANTIATE_TEST_SUITE_P(Models, UnigramJson, testing::Values("nfkc", "bytes", "rules"));

// --- PLaMo 2's: unigram of llama.cpp alone (tests/golden/make/plamo2_ids.py)

const nlohmann::json& plamo2_item() {
  static const nlohmann::json item = golden::read(fs::path(ROPEWALK_GOLDEN_DIR) / "numbers/plamo2.json");
  return item;
}

GgufFile plamo2_file() {
  const nlohmann::json& item = plamo2_item();
  std::vector<std::string> tokens;
  for (const auto& hex : item["tokens"]) tokens.push_back(golden::unhex(hex));
  GgufFile file;
  file.keys = {{"tokenizer.ggml.model", gguf_string("plamo2")},
               {"tokenizer.ggml.tokens", gguf_strings(tokens)},
               {"tokenizer.ggml.scores", gguf_f32s(item["scores"].get<std::vector<float>>())},
               {"tokenizer.ggml.token_type", gguf_i32s(item["types"].get<std::vector<std::int32_t>>())}};
  return file;
}

TEST(Plamo2, EncodesAndDecodesAsTheEngine) {
  const nlohmann::json& item = plamo2_item();
  const Vocabulary vocabulary = read_gguf_vocabulary(plamo2_file(), "toy").value();
  EXPECT_EQ(vocabulary.model, "plamo2");
  EXPECT_EQ(vocabulary.bos, 1);
  EXPECT_EQ(vocabulary.pad, 3);
  EXPECT_EQ(vocabulary.add_bos, false);
  const auto tokenizer = Tokenizer::create(vocabulary);
  auto texts = golden::texts();
  for (const auto& hex : item["texts"]) texts.push_back(golden::unhex(hex));
  ASSERT_EQ(texts.size(), item["encode"].size());
  ASSERT_GT(texts.size(), 500u);
  for (std::size_t at = 0; at < texts.size(); ++at) {
    if (item["encode"][at].is_null()) {
      EXPECT_THROW(tokenizer->encode(texts[at]), Error) << golden::shown(texts[at]);
      continue;
    }
    for (const bool special : {false, true})
      EXPECT_EQ(short_hash(tokenizer->encode(texts[at], special)), item["encode"][at][special ? 1 : 0])
          << golden::shown(texts[at]) << (special ? " special" : "");
  }
  for (const auto& one : item["decode"])
    EXPECT_EQ(golden::shown(tokenizer->decode(one[0].get<Ids>())), golden::shown(golden::unhex(one[1]))) << one[0];
}

/// The rounding of scores and the padding that ends a search are what the golden says.
TEST(Plamo2, OtherScoresChangeIds) {
  const nlohmann::json& item = plamo2_item();
  const auto differs = [&](const auto& change) {
    Vocabulary vocabulary = read_gguf_vocabulary(plamo2_file(), "toy").value();
    for (Piece& piece : vocabulary.pieces) change(piece);
    const auto tokenizer = Tokenizer::create(vocabulary);
    const auto texts = golden::texts();
    int different = 0;
    for (std::size_t at = 0; at < texts.size(); ++at)
      if (!item["encode"][at].is_null())
        different += short_hash(tokenizer->encode(texts[at])) != item["encode"][at][0].get<std::string>();
    return different;
  };
  EXPECT_EQ(differs([](Piece&) {}), 0);
  EXPECT_GT(differs([](Piece& piece) { piece.score = piece.score == -1000 ? -999 : piece.score; }), 0);
  EXPECT_GT(differs([](Piece& piece) { piece.score = piece.score == -1 ? -1.0002f : piece.score; }), 0);
}

TEST(Plamo2, Refused) {
  const auto refusal = [](const std::string& key, const GgufValue& value) {
    GgufFile file = plamo2_file();
    for (GgufKey& one : file.keys)
      if (one.name == key) one.value = value;
    try {
      Tokenizer::create(read_gguf_vocabulary(file, "toy.gguf").value());
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  std::vector<std::int32_t> types = plamo2_item()["types"];
  EXPECT_EQ(refusal("tokenizer.ggml.token_type", gguf_i32s(types)), "accepted");
  types[4 + 0x41] = 1;
  EXPECT_EQ(refusal("tokenizer.ggml.token_type", gguf_i32s(types)),
            "the vocabulary has no token for byte <0x41>; the tokenizer is corrupt: llama.cpp refuses it too");
  const std::string kinds = "give token ids, or use a model with a tokenizer of kind llama, gpt2, gemma4, t5 or plamo2";
  EXPECT_EQ(refusal("tokenizer.ggml.model", gguf_string("bert")),
            "toy.gguf: its tokenizer is of kind 'bert' (WordPiece, which is for encoders); " + kinds);
  EXPECT_EQ(refusal("tokenizer.ggml.model", gguf_string("rwkv")),
            "toy.gguf: its tokenizer is of kind 'rwkv' (RWKV's, whose models are not read); " + kinds);
  EXPECT_EQ(refusal("tokenizer.ggml.model", gguf_string("t6")),
            "toy.gguf: its tokenizer is of kind 't6', none that llama.cpp 0.5 has; " + kinds);
}

}  // namespace
}  // namespace ropewalk::formats
