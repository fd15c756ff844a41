// tokenizer.json: ids and texts by the real tokenizers library, see tests/golden/make/tokenizers_ids.py.
#include <algorithm>
#include <map>

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

}  // namespace
}  // namespace ropewalk::formats
