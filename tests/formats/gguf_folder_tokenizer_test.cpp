// Tokenizers of GGUFs written as Hugging Face's files: the ids are the engine's.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "formats/gguf_folder.h"
#include "formats/gguf_model.h"
#include "formats/tokenizers/llama_cpp_pre.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/tokenizer_json.h"
#include "formats/utf8.h"
#include "lib/error.h"
#include "tokenizer_golden.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

const fs::path kBpe = golden::kGolden / "bpe";

/// The vocabulary of a GGUF, through the files that are made of it.
std::optional<Vocabulary> there_and_back(const Vocabulary& vocabulary) {
  std::string pattern = (fs::temp_directory_path() / "ropewalk-files-XXXXXX").string();
  const fs::path folder = mkdtemp(pattern.data());
  for (const auto& [name, text] : tokenizer_files(vocabulary, 4096))
    std::ofstream(folder / name, std::ios::binary) << text;
  const std::optional<Vocabulary> out = read_hf_vocabulary(folder);
  fs::remove_all(folder);
  return out;
}

/// Names whose ids cannot be had from a tokenizer.json: cuts that are no expressions, expressions over llama.cpp's own
/// classes, pieces spelled in characters.
const std::set<std::string> kRefused = {
    "afmoe",      "cohere2moe", "gemma4",  "granite-embed-multi-311m", "granite-embed-multi-97m", "kimi-k2",
    "sarvam-moe", "superbpe",   "tiny_aya"};

/// Takes merges away that make no token, which only a GGUF may have; the toys have some. Without them llama.cpp's rules
/// here are the engine's, as every other text shows.
void leave_dead_ends_out(Vocabulary& vocabulary) {
  std::set<std::string> known;
  for (const Piece& piece : vocabulary.pieces) known.insert(piece.text);
  std::erase_if(vocabulary.gguf_bpe->merges, [&](const auto& merge) {
    return !known.contains(merge.first) || !known.contains(merge.second) || !known.contains(merge.first + merge.second);
  });
}

/// U+2EBF0 is a letter to llama.cpp and to the tokenizers library, and not to the regular expressions here: that text is
/// in tests/peers/gguf_folder.py.
constexpr std::string_view kOfUnicode15 = "\xF0\xA0\x80\x80\xF0\xAA\x9B\x96\xF0\xAE\xAF\xB0\xF0\xAF\xA0\x80";

class GgufFolderPre : public testing::TestWithParam<std::string> {};

TEST_P(GgufFolderPre, IdsAreTheEngines) {
  static const nlohmann::json answers = golden::read(kBpe / "llama_cpp_ids.json");
  const nlohmann::json& entry = answers["names"][GetParam()];
  const std::string toy = entry["toy"];
  GgufFile file = read_gguf(kBpe / "toys" / (toy + ".gguf"));
  for (GgufKey& key : file.keys)
    if (key.name == "tokenizer.ggml.pre") key.value = gguf_string(GetParam());
  Vocabulary vocabulary = read_gguf_vocabulary(file, toy).value();
  leave_dead_ends_out(vocabulary);
  if (kRefused.contains(GetParam())) {
    EXPECT_THROW(tokenizer_files(vocabulary, 4096), Error);
    return;
  }
  const std::optional<Vocabulary> back = there_and_back(vocabulary);
  ASSERT_TRUE(back);
  const auto tokenizer = Tokenizer::create(*back), engine = Tokenizer::create(vocabulary);
  const nlohmann::json& result = answers["results"][entry["result"].get<std::size_t>()];
  // written are the published steps, which tell case in all scripts; llama.cpp's name for them does in ASCII alone
  const bool imitates = ascii_case(*find_llama_cpp_pre(GetParam()));
  std::size_t compared = 0, unlike = 0;
  for (std::size_t at = 0; at < answers["texts"].size(); ++at) {
    const std::string text = golden::unhex(answers["texts"][at]);
    if (first_invalid_utf8(text) != text.size() || result["encode"][at].is_null() || text == kOfUnicode15) continue;
    const golden::Ids ids = tokenizer->encode(text, true), theirs = engine->encode(text, true);
    if (imitates) unlike += ids != theirs;
    else EXPECT_EQ(ids, theirs) << golden::shown(text);
    compared += golden::fnv1a64(ids) == result["encode"][at][1].get<std::string>();  // others met a merge left out
  }
  EXPECT_GT(compared, 300u);
  EXPECT_EQ(unlike > 0, imitates) << unlike;
}

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const LlamaCppPre& pre : llama_cpp_pres()) out.emplace_back(pre.name);
  return out;
}

INSTANTIATE_TEST_SUITE_P(Names, GgufFolderPre, testing::ValuesIn(names()),
                         [](const auto& name) { return golden::test_name(name.param); });

// SentencePiece, BPE and unigram, of llama.cpp's own vocabularies.
class GgufFolderVocabulary : public testing::TestWithParam<const char*> {};

TEST_P(GgufFolderVocabulary, IdsAreTheEngines) {
  const std::string path = (golden::kGolden / GetParam()).string();
  const Vocabulary vocabulary = read_gguf_vocabulary(read_gguf(path), path).value();
  const std::optional<Vocabulary> back = there_and_back(vocabulary);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->bos, vocabulary.bos);
  EXPECT_EQ(back->eos, vocabulary.eos);
  EXPECT_EQ(back->add_bos.value_or(false), vocabulary.add_bos.value_or(false));
  const auto tokenizer = Tokenizer::create(*back);
  std::size_t compared = 0;
  for (const auto& [text, ids] : golden::engine_cases(path)) {
    if (first_invalid_utf8(text) != text.size()) continue;
    EXPECT_EQ(tokenizer->encode(text, true), ids) << golden::shown(text);
    ++compared;
  }
  EXPECT_GT(compared, 40u);
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, GgufFolderVocabulary,
                         testing::Values("bpe/vocabularies/ggml-vocab-falcon.gguf",
                                         "bpe/vocabularies/ggml-vocab-mpt.gguf",
                                         "bpe/vocabularies/ggml-vocab-starcoder.gguf",
                                         "bpe/vocabularies/ggml-vocab-deepseek-llm.gguf",
                                         "bpe/vocabularies/ggml-vocab-deepseek-coder.gguf",
                                         "tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/ggml-vocab-phi-3.gguf"),
                         [](const auto& name) { return golden::test_name(fs::path(name.param).stem().string()); });

}  // namespace
}  // namespace ropewalk::formats
