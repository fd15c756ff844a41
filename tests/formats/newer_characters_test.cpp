// Characters of Unicode 15.0 to 16.0, which PCRE2 does not know and the tokenizers library does: by the library, see
// tests/golden/make/newer_characters.py.
#include "formats/tokenizers/newer_characters.h"

#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/normalizers.h"
#include "formats/tokenizers/regex.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/tokenizer_json.h"
#include "tokenizer_golden.h"

namespace ropewalk::formats {
namespace {

using Json = nlohmann::ordered_json;

const Json& all() {
  static const Json kAll =
      Json::parse(golden::read_bytes(std::filesystem::path(ROPEWALK_TEST_DATA_DIR) / "newer_characters.json"));
  return kAll;
}

/// A bit for each character, behind a leading 1.
std::vector<bool> bits(const std::string& hex) {
  std::vector<bool> out;
  for (char digit : hex) {
    const int value = digit <= '9' ? digit - '0' : digit - 'a' + 10;
    for (int bit = 3; bit >= 0; --bit) out.push_back(value >> bit & 1);
  }
  out.erase(out.begin(), std::find(out.begin(), out.end(), true) + 1);
  return out;
}

TEST(NewerCharacters, ClassesAndCasesAreTheLibrarys) {
  const auto text = all()["text"].get<std::string>();
  ASSERT_TRUE(has_newer_character(text));
  ASSERT_GE(all()["matches"].size(), 80u);
  for (const auto& [pattern, hex] : all()["matches"].items()) {
    std::vector<std::pair<std::size_t, std::size_t>> matches;
    Regex({.text = pattern, .is_regex = true}).for_each_match(text, [&](Regex::Match match) {
      matches.emplace_back(match.begin, match.end);
    });
    const std::vector<bool> want = bits(hex.get<std::string>());
    std::size_t character = 0;
    auto match = matches.begin();
    for (std::size_t at = 0; at < text.size(); ++character) {
      const Character next = first_character(std::string_view(text).substr(at));
      while (match != matches.end() && match->second <= at) ++match;
      ASSERT_LT(character, want.size());
      EXPECT_EQ(match != matches.end() && match->first <= at, want[character])
          << pattern << " at " << std::hex << next.code;
      at += next.length;
    }
    EXPECT_EQ(character, want.size());
  }
}

TEST(NewerCharacters, TextsWithoutThemAreToldApart) {
  EXPECT_FALSE(has_newer_character(""));
  EXPECT_FALSE(has_newer_character("plain ASCII, é, ж, ῳ, 中文, 한국어, 🙂, \U0010FFFD"));
  for (const char* one : {"\u0897", "\U0001FA75", "\U00031350", "12345678\u1C89", "1234567\u1C89", "中中中\U0002EBF0"})
    EXPECT_TRUE(has_newer_character(one)) << one;
}

TEST(NewerCharacters, LowerCase) {
  NormalizedText text{all()["text"].get<std::string>(), true};
  Normalizers({normalizers::Lowercase{}}).apply(text);
  EXPECT_EQ(text.text, all()["lower case"].get<std::string>());
}

TEST(NewerCharacters, IdsOfPublishedVocabularies) {
  for (const auto& [name, ids] : all()["ids"].items())
    EXPECT_EQ(Tokenizer::create(read_tokenizer_json(golden::kGolden / "tokenizer_json/tokenizers" / (name + ".json")))
                  ->encode(all()["words"].get<std::string>()),
              ids.get<golden::Ids>())
        << name;
}

}  // namespace
}  // namespace ropewalk::formats
