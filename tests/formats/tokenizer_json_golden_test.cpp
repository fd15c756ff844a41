// tokenizer.json: ids and texts by the real tokenizers library, see tests/golden/make/tokenizers_ids.py.
#include <algorithm>
#include <map>

#include "formats/tokenizers/byte_level.h"
#include "formats/tokenizers/tiktoken.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/tokenizer_json.h"
#include "lib/error.h"
#include "tokenizer_golden.h"

namespace ropewalk::formats {
namespace {

using golden::Ids;
namespace fs = std::filesystem;

const fs::path kFolder = golden::kGolden / "tokenizer_json";

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(kFolder / "ids")) out.push_back(entry.path().stem().string());
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<std::string> unhexed(const nlohmann::json& list) {
  std::vector<std::string> out;
  for (const auto& hex : list) out.push_back(golden::unhex(hex));
  return out;
}

/// xorshift64, as in the script.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : state_(seed) {}
  std::size_t below(std::size_t n) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<std::size_t>(state_ % n);
  }

 private:
  std::uint64_t state_;
};

/// A megabyte of each kind, in 16 documents, drawn as the script draws it; and the repository's own prose.
const std::map<std::string, std::vector<std::string>>& corpora() {
  static const auto kAll = [] {
    std::map<std::string, std::vector<std::string>> all;
    const nlohmann::ordered_json kinds = nlohmann::ordered_json::parse(golden::read_bytes(kFolder / "snippets.json"));
    std::uint64_t seed = 0;
    for (const auto& [kind, list] : kinds.items()) {
      std::vector<std::string> snippets;
      for (const auto& hex : list) snippets.push_back(golden::unhex(hex));
      Draw draw(++seed);
      for (int document = 0; document < 16; ++document) {
        std::string text;
        while (text.size() < 62'500) text += snippets[draw.below(snippets.size())];
        all[kind].push_back(text);
      }
    }
    for (const char* file : {"held-out.txt", "war-and-peace-tail.txt"}) all[file] = golden::corpus_chunks(file);
    return all;
  }();
  return kAll;
}

TEST(TokenizerJsonGoldens, EveryTokenizerHasItsIds) {
  std::vector<std::string> tokenizers;
  for (const auto& entry : fs::directory_iterator(kFolder / "tokenizers"))
    tokenizers.push_back(entry.path().stem().string());
  std::sort(tokenizers.begin(), tokenizers.end());
  EXPECT_EQ(tokenizers, names());
  EXPECT_GE(tokenizers.size(), 85u);
}

class TokenizerJsonGolden : public testing::TestWithParam<std::string> {
 protected:
  nlohmann::json item_ = golden::read(kFolder / "ids" / (GetParam() + ".json"));
  std::unique_ptr<Tokenizer> tokenizer_ =
      Tokenizer::create(read_tokenizer_json(kFolder / "tokenizers" / (GetParam() + ".json")));
};

TEST_P(TokenizerJsonGolden, Encode) {
  const auto texts = unhexed(golden::read(kFolder / "texts.json"));
  ASSERT_GE(item_["encode"].size(), 90u);
  for (std::size_t at = 0; at < item_["encode"].size(); ++at) {
    EXPECT_EQ(tokenizer_->encode(texts.at(at)), item_["encode"][at].get<Ids>()) << golden::shown(texts[at]);
    EXPECT_EQ(tokenizer_->encode(texts[at], true), item_["special"][at].get<Ids>()) << golden::shown(texts[at]);
  }
  for (const auto& one : item_["cases"])
    EXPECT_EQ(tokenizer_->encode(golden::unhex(one[0])), one[1].get<Ids>()) << golden::shown(golden::unhex(one[0]));
}

TEST_P(TokenizerJsonGolden, Decode) {
  ASSERT_EQ(item_["decode"].size(), item_["special"].size());
  for (std::size_t at = 0; at < item_["decode"].size(); ++at)
    EXPECT_EQ(golden::shown(tokenizer_->decode(item_["special"][at].get<Ids>())),
              golden::shown(golden::unhex(item_["decode"][at])))
        << item_["special"][at];
}

TEST_P(TokenizerJsonGolden, Corpora) {
  for (const auto& [kind, expected] : item_["corpora"].items()) {
    const auto& documents = corpora().at(kind);
    ASSERT_EQ(documents.size(), expected.size()) << kind;
    for (std::size_t at = 0; at < documents.size(); ++at) {
      const Ids ids = tokenizer_->encode(documents[at], true);
      EXPECT_EQ(ids.size(), expected[at][0].get<std::size_t>()) << kind << " " << at;
      EXPECT_EQ(golden::fnv1a64(ids), expected[at][1].get<std::string>()) << kind << " " << at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, TokenizerJsonGolden, testing::ValuesIn(names()), [](const auto& one) {
  std::string name = one.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
});

/// The published ones are there with a megabyte of everything and llama.cpp's own cases.
TEST(TokenizerJsonGoldens, PublishedOnesAreTestedWhole) {
  for (const char* name : {"gpt2", "qwen2.5"}) {
    const auto item = golden::read(kFolder / "ids" / (std::string(name) + ".json"));
    EXPECT_EQ(item["corpora"].size(), 5u) << name;
    EXPECT_GT(item["cases"].size(), 40u) << name;
  }
}

/// A wrong rank shows: the goldens would not pass by accident.
TEST(TokenizerJsonControl, SwappedMergesChangeIds) {
  Vocabulary vocabulary = read_tokenizer_json(kFolder / "tokenizers/gpt2.json");
  auto& merges = std::get<BpeModel>(vocabulary.pipeline->model).merges;
  std::swap(merges[3], merges[3000]);
  const auto tokenizer = Tokenizer::create(vocabulary);
  const auto item = golden::read(kFolder / "ids/gpt2.json");
  std::size_t different = 0;
  const auto& documents = corpora().at("held-out.txt");
  for (std::size_t at = 0; at < documents.size(); ++at)
    different += golden::fnv1a64(tokenizer->encode(documents[at])) != item["corpora"]["held-out.txt"][at][1];
  EXPECT_GT(different, documents.size() / 2);
}

// --- tiktoken files, see tests/golden/make/tiktoken_ids.py

/// A published vocabulary as tiktoken files have it, cut or filled up to `n_tokens` as the script does.
std::string tiktoken_file(const std::string& name, std::size_t n_tokens) {
  const auto spelled = golden::read(kFolder / "tokenizers" / (name + ".json"))["model"]["vocab"];
  std::vector<std::string> tokens(spelled.size());
  for (const auto& [text, id] : spelled.items())
    if (text != "<|endoftext|>") tokens.at(id.get<std::size_t>()) = spelled_bytes(text).value();
  std::erase(tokens, "");
  if (tokens.size() > n_tokens) tokens.resize(n_tokens);
  for (std::size_t at = 0; tokens.size() < n_tokens; ++at)
    tokens.push_back(std::string("\xFF\xFF\xFF") + static_cast<char>(at >> 8) + static_cast<char>(at) +
                     (at >= 65536 ? "\xFF" : "") + (at >= 131072 ? "\xFE" : ""));
  std::string out;
  for (std::size_t rank = 0; rank < tokens.size(); ++rank)
    out += golden::base64(tokens[rank]) + " " + std::to_string(rank) + "\n";
  return out;
}

class TiktokenGolden : public testing::TestWithParam<const char*> {};

TEST_P(TiktokenGolden, EqualsTheLibrary) {
  const auto all = golden::read(fs::path(ROPEWALK_TEST_DATA_DIR) / "tiktoken_ids.json");
  ASSERT_EQ(all.size(), 4u);
  const auto& item = all[GetParam()];
  const auto tokenizer =
      Tokenizer::create(parse_tiktoken("t.tiktoken", tiktoken_file(item["from"], item["n_tokens"]), true));
  const auto texts = unhexed(golden::read(kFolder / "texts.json"));
  ASSERT_EQ(item["encode"].size(), texts.size());
  for (std::size_t at = 0; at < texts.size(); ++at) {
    const Ids ids = tokenizer->encode(texts[at]);
    EXPECT_EQ(golden::fnv1a64(ids).substr(0, 8), item["encode"][at].get<std::string>()) << golden::shown(texts[at]);
    EXPECT_EQ(tokenizer->decode(ids), texts[at]);
  }
  const auto& chunks = corpora().at("held-out.txt");
  ASSERT_EQ(item["chunks"].size(), chunks.size());
  for (std::size_t at = 0; at < chunks.size(); ++at)
    EXPECT_EQ(golden::fnv1a64(tokenizer->encode(chunks[at])), item["chunks"][at].get<std::string>()) << at;
}

INSTANTIATE_TEST_SUITE_P(Families, TiktokenGolden, testing::Values("gpt2", "cl100k", "llama3", "o200k"));

/// Qwen's tiktoken file holds the vocabulary of its tokenizer.json, which has the library's ids.
TEST(Tiktoken, QwensFileHasTheIdsOfItsTokenizerJson) {
  const Vocabulary vocabulary = parse_tiktoken("qwen.tiktoken", tiktoken_file("qwen2.5", 151643), true);
  EXPECT_EQ(vocabulary.eos, 151643);
  const auto tokenizer = Tokenizer::create(vocabulary);
  const auto texts = unhexed(golden::read(kFolder / "texts.json"));
  const auto item = golden::read(kFolder / "ids/qwen2.5.json");
  for (std::size_t at = 0; at < texts.size(); ++at)
    EXPECT_EQ(tokenizer->encode(texts[at]), item["encode"][at].get<Ids>()) << golden::shown(texts[at]);
  EXPECT_EQ(tokenizer->encode("<|im_start|>a", true), (Ids{151644, 64}));
}

TEST(Tiktoken, RefusesOtherFiles) {
  const auto refusal = [](const std::string& text) {
    try {
      parse_tiktoken("t.tiktoken", text, true);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const std::string fix = "; fetch the file again or repair it";
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte)
    bytes += golden::base64(std::string(1, static_cast<char>(byte))) + " " + std::to_string(byte) + "\n";
  EXPECT_EQ(refusal(bytes),
            "t.tiktoken: a tiktoken vocabulary of 256 tokens, and how text is cut into words is not known for it; add "
            "the model's tokenizer.json, or pass token ids");
  EXPECT_EQ(refusal("AA== 0\n"), "t.tiktoken: not every byte is a token" + fix);
  EXPECT_EQ(refusal(bytes + "YWE= 256\nYWE= 257\n"), "t.tiktoken: tokens 256 and 257 are the same" + fix);
  EXPECT_EQ(refusal(bytes + "YWE= 255\n"), "t.tiktoken:257:1: rank 255 stands twice" + fix);
  EXPECT_EQ(refusal(bytes + "YWE= 99999999\n"), "t.tiktoken:257:1: rank 99999999, expected 0 to 66567" + fix);
  for (const char* line : {"YWE=", "YWE= ", "YWE 3", "YW== 300", "Y#E= 3", "YWE= -3", "YWE= 3x", "= 3", " 3"})
    EXPECT_EQ(refusal("AA== 0\n" + std::string(line) + "\n").substr(0, 15), "t.tiktoken:2:1:") << line;
  EXPECT_TRUE(looks_like_tiktoken(bytes));
  for (const char* text : {"", "AA== 0", "{}\n", "\n\x05 0\n", "AA== x\n"}) EXPECT_FALSE(looks_like_tiktoken(text));
}

}  // namespace
}  // namespace ropewalk::formats
