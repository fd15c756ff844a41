// Ids and texts by the real sentencepiece and the real llama.cpp, see tests/golden/README.md.
#include "formats/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace ropewalk::formats {
namespace {

using Ids = std::vector<std::int32_t>;
const std::filesystem::path kGolden = ROPEWALK_GOLDEN_DIR;

nlohmann::json read_golden(const std::filesystem::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return nlohmann::json::parse(file);
}

class FixtureIds : public testing::TestWithParam<const char*> {};

TEST_P(FixtureIds, EqualSentencepiece) {
  const auto folder = kGolden / "fixtures/models" / GetParam();
  const auto tokenizer = Tokenizer::create(read_sentencepiece_model(folder / "tokenizer.model"));
  const auto golden = read_golden(folder / "tokens.json");
  ASSERT_GE(golden["cases"].size(), 24u);
  for (const auto& item : golden["cases"]) EXPECT_EQ(tokenizer->encode(item["text"].get<std::string>()), item["ids"].get<Ids>()) << item["text"];
}

INSTANTIATE_TEST_SUITE_P(Models, FixtureIds, testing::Values("stories260K", "tolstoy-4m"), [](const auto& model) {
  std::string name = model.param;
  std::erase(name, '-');
  return name;
});

}  // namespace
}  // namespace ropewalk::formats
