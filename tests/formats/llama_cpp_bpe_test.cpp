// llama.cpp's BPE tokenizer against the real one, under every name of a pre-tokenizer
// (tests/golden/make/llama_cpp_bpe_ids.py), and its own cases.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "formats/gguf_model.h"
#include "formats/tokenizers/llama_cpp_pre.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "tokenizer_golden.h"

namespace ropewalk::formats {
namespace {

using golden::Ids;
namespace fs = std::filesystem;

const fs::path kBpe = golden::kGolden / "bpe";

GgufFile toy(const std::string& name, const std::string& pre) {
  GgufFile file = read_gguf(kBpe / "toys" / (name + ".gguf"));
  for (GgufKey& key : file.keys)
    if (key.name == "tokenizer.ggml.pre") key.value = gguf_string(pre);
  return file;
}

std::unique_ptr<Tokenizer> toy_tokenizer(const std::string& name, const std::string& pre) {
  return Tokenizer::create(read_gguf_vocabulary(toy(name, pre), name).value());
}

const nlohmann::json& answers() {
  static const nlohmann::json all = golden::read(kBpe / "llama_cpp_ids.json");
  return all;
}

TEST(LlamaCppBpe, EveryNameIsTested) {
  std::set<std::string> ours, theirs;
  for (const LlamaCppPre& pre : llama_cpp_pres()) ours.insert(std::string(pre.name));
  for (const auto& [name, entry] : answers()["names"].items()) theirs.insert(name);
  EXPECT_EQ(ours, theirs);
}

class LlamaCppPreNames : public testing::TestWithParam<std::string> {};

TEST_P(LlamaCppPreNames, EncodesAndDecodesAsTheEngine) {
  const nlohmann::json& entry = answers()["names"][GetParam()];
  const nlohmann::json& result = answers()["results"][entry["result"].get<std::size_t>()];
  const auto tokenizer = toy_tokenizer(entry["toy"], GetParam());
  const nlohmann::json& texts = answers()["texts"];
  ASSERT_EQ(texts.size(), result["encode"].size());
  ASSERT_GT(texts.size(), 450u);
  for (std::size_t at = 0; at < texts.size(); ++at) {
    const std::string text = golden::unhex(texts[at]);
    const nlohmann::json& expected = result["encode"][at];
    if (expected.is_null()) {
      EXPECT_THROW(tokenizer->encode(text), Error) << golden::shown(text);
      continue;
    }
    for (const bool special : {false, true})
      EXPECT_EQ(golden::fnv1a64(tokenizer->encode(text, special)), expected[special ? 1 : 0].get<std::string>())
          << golden::shown(text) << (special ? " special" : "");
  }
  ASSERT_GT(result["decode"].size(), 150u);
  for (const auto& one : result["decode"])
    EXPECT_EQ(golden::shown(tokenizer->decode(one[0].get<Ids>())), golden::shown(golden::unhex(one[1]))) << one[0];
}

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const LlamaCppPre& pre : llama_cpp_pres()) out.emplace_back(pre.name);
  return out;
}

INSTANTIATE_TEST_SUITE_P(Names, LlamaCppPreNames, testing::ValuesIn(names()),
                         [](const auto& name) { return golden::test_name(name.param); });

// --- llama.cpp's own vocabularies and cases

class LlamaCppBpeCases : public testing::TestWithParam<const char*> {};

TEST_P(LlamaCppBpeCases, EqualTheOutFile) {
  const std::string path = (kBpe / "vocabularies" / (std::string("ggml-vocab-") + GetParam() + ".gguf")).string();
  const auto tokenizer = Tokenizer::create(read_gguf_vocabulary(read_gguf(path), path).value());
  const auto cases = golden::engine_cases(path);
  for (const auto& [text, ids] : cases) EXPECT_EQ(tokenizer->encode(text), ids) << golden::shown(text);
  EXPECT_GT(cases.size(), 40u);
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, LlamaCppBpeCases,
                         testing::Values("falcon", "mpt", "starcoder", "deepseek-llm", "deepseek-coder"),
                         [](const auto& name) { return golden::test_name(name.param); });

// --- defaults, and files the engine refuses

TEST(LlamaCppBpe, DefaultsOfSpecialTokens) {
  const auto read = [](const std::string& pre) { return read_gguf_vocabulary(toy("alphabet", pre), "toy").value(); };
  const Vocabulary gpt2 = read("gpt-2"), llama3 = read("llama-bpe"), glm = read("glm4"), none = read("");
  EXPECT_EQ(gpt2.bos, 11);
  EXPECT_EQ(gpt2.eos, 11);
  EXPECT_EQ(gpt2.unk, std::nullopt);
  EXPECT_EQ(gpt2.add_bos, false);
  EXPECT_EQ(gpt2.add_eos, false);
  EXPECT_FALSE(gpt2.add_dummy_prefix);
  EXPECT_EQ(llama3.add_bos, true);
  EXPECT_EQ(glm.bos, std::nullopt);
  EXPECT_EQ(glm.eos, 11);
  EXPECT_EQ(read_gguf_vocabulary(toy("spelled", "gemma4"), "toy")->add_bos, true);
  const auto as_default = Tokenizer::create(read("default"));
  EXPECT_EQ(Tokenizer::create(none)->encode("a1234!"), as_default->encode("a1234!"));
}

std::string refusal(const GgufFile& file) {
  try {
    Tokenizer::create(read_gguf_vocabulary(file, "toy.gguf").value());
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(LlamaCppBpe, Refused) {
  EXPECT_EQ(refusal(toy("alphabet", "gpt-2")), "");
  EXPECT_EQ(refusal(toy("alphabet", "qwen9")),
            "toy.gguf: its pre-tokenizer 'qwen9' is not one of llama.cpp 0.5; give token ids, or correct "
            "tokenizer.ggml.pre");
  EXPECT_EQ(refusal(toy("alphabet", "whitespace")).substr(0, 42), "toy.gguf: its pre-tokenizer 'whitespace' i");
  const auto changed = [](const std::string& name, const GgufValue& value) {
    GgufFile file = toy("alphabet", "gpt-2");
    for (GgufKey& key : file.keys)
      if (key.name == name) key.value = value;
    return refusal(file);
  };
  GgufFile without = toy("alphabet", "gpt-2");
  std::erase_if(without.keys, [](const GgufKey& key) { return key.name == "tokenizer.ggml.merges"; });
  EXPECT_EQ(refusal(without).substr(0, 70), "toy.gguf: tokenizer.ggml.merges is missing or no array of strings; lla");
  EXPECT_EQ(changed("tokenizer.ggml.model", gguf_string("t6")).substr(0, 44),
            "toy.gguf: its tokenizer is of kind 't6', non");
  GgufFile twice = toy("alphabet", "gpt-2");
  for (GgufKey& key : twice.keys)
    if (key.name == "tokenizer.ggml.tokens") std::get<GgufArray>(key.value.value).strings[7] = "a";
  EXPECT_NE(refusal(twice).find("tokenizer.ggml.tokens has 'a' twice, as tokens "), std::string::npos);
}

// Names of the same words get the same ids from the engine for every text. Two share a list of expressions, but not what
// becomes of newlines: the engine's src/llama-vocab.cpp has a word of newlines whole under GEMMA4 alone.
TEST(LlamaCppBpe, SameWordsAreSameIds) {
  const auto ids = [](const LlamaCppPre& pre) -> const nlohmann::json& {
    return answers()["results"][answers()["names"][std::string(pre.name)]["result"].get<std::size_t>()]["encode"];
  };
  int same = 0, others = 0;
  for (const LlamaCppPre& a : llama_cpp_pres())
    for (const LlamaCppPre& b : llama_cpp_pres()) {
      if (a.name >= b.name) continue;
      const bool equal = ids(a) == ids(b);
      EXPECT_TRUE(equal || !same_words(a, b)) << a.name << ", " << b.name;
      (same_words(a, b) ? same : others) += 1;
    }
  EXPECT_GT(same, 100);
  EXPECT_GT(others, 1000);
  const LlamaCppPre &gemma = *find_llama_cpp_pre("gemma4"), &sarvam = *find_llama_cpp_pre("sarvam-moe");
  EXPECT_TRUE(std::equal(gemma.steps.begin(), gemma.steps.end(), sarvam.steps.begin(), sarvam.steps.end()));
  EXPECT_FALSE(same_words(gemma, sarvam));
  const auto newlines = [](const char* pre) {  // where no merge makes the token of two
    GgufFile file = toy("spelled", pre);
    for (GgufKey& key : file.keys)
      if (key.name == "tokenizer.ggml.merges") std::erase(std::get<GgufArray>(key.value.value).strings, "\n \n");
    return Tokenizer::create(read_gguf_vocabulary(file, pre).value())->encode("\n\n").size();
  };
  EXPECT_EQ(newlines("gemma4"), 1u);
  EXPECT_EQ(newlines("sarvam-moe"), 2u);
  EXPECT_TRUE(same_words(gemma, *find_llama_cpp_pre("granite-embed-multi-311m")));
}

// 200 kB of one letter, of spaces, of digits, of a chain of merges, ..., under one name of those that make the same
// words: comes to an end within the suite's limit, and decodes back (not with the toy of spelled characters: its merges
// make pieces that are no tokens, of which the engine shows the bytes).
TEST(LlamaCppBpe, LongRuns) {
  std::vector<const LlamaCppPre*> seen;
  for (const LlamaCppPre& pre : llama_cpp_pres()) {
    if (std::any_of(seen.begin(), seen.end(), [&](const LlamaCppPre* one) { return same_words(*one, pre); })) continue;
    seen.push_back(&pre);
    SCOPED_TRACE(pre.name);
    const auto tokenizer = toy_tokenizer(pre.spelled_characters ? "spelled" : "alphabet", std::string(pre.name));
    for (const char* unit : {"a", "A", " ", "1", "the ", "\n", "!", "\u4f60", " a"}) {
      std::string text;
      while (text.size() < 200'000) text += unit;
      text += "x";
      const Ids ids = tokenizer->encode(text);
      EXPECT_GT(ids.size(), 1000u) << unit;
      EXPECT_TRUE(pre.spelled_characters || tokenizer->decode(ids) == text) << unit;
    }
  }
  EXPECT_GT(seen.size(), 30u);
}

}  // namespace
}  // namespace ropewalk::formats
