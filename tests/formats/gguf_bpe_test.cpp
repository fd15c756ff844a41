// Byte-level BPE tokenizers written to GGUF, against the real converter: the keys of tests/golden/gguf_bpe.json, and a
// whole model in every type.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/tokenizer_json.h"
#include "formats/utf8.h"
#include "gguf_dump.h"
#include "lib/error.h"
#include "tokenizer_golden.h"

using namespace ropewalk;
using namespace ropewalk::formats;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = ROPEWALK_GOLDEN_DIR;
const fs::path kModel = kGolden / "bpe/llama3-rope";

void write_text(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

/// The tokenizer files of a variant, as make_gguf_bpe.py writes them.
void write_tokenizer(const fs::path& folder, const Json& variant) {
  const std::string base = variant["base"];
  Json tokenizer = read_json(
      base == "llama3-rope" ? kModel / "tokenizer.json" : kGolden / "tokenizer_json/tokenizers" / (base + ".json"),
      {.max_bytes = 1u << 26});
  const Json patch = variant.value("patch", Json::object());
  for (const auto& [field, value] : patch.items()) tokenizer[field] = value;
  if (variant.value("spread", false)) {
    std::string merges = "#version: 0.2\n";
    for (const Json& merge : tokenizer["model"]["merges"])
      merges += (merge.is_string() ? merge.get<std::string>()
                                   : merge[0].get<std::string>() + " " + merge[1].get<std::string>()) +
                "\n";
    write_text(folder / "vocab.json", tokenizer["model"]["vocab"].dump());
    write_text(folder / "merges.txt", merges);
  } else {
    write_text(folder / "tokenizer.json", tokenizer.dump());
  }
  write_text(folder / "tokenizer_config.json", variant["config"].dump());
}

/// No weights: the keys need none.
Source source_of(const fs::path& folder, const Json& variant) {
  Source source;
  source.tokenizer_folder = folder;
  source.checkpoint.label = folder.string();
  source.checkpoint.config.n_vocab = variant["n_vocab"];
  source.checkpoint.vocabulary = read_hf_vocabulary(folder);
  HfFolder& hf = source.hf.emplace();
  hf.folder = folder;
  hf.config = variant.value("model", Json::object());
  hf.config_text = hf.config.dump();
  return source;
}

Source variant_source(const TestFolder& folder, const std::string& name) {
  for (const Json& variant : read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "gguf_bpe.json"))
    if (variant["name"] == name) {
      write_tokenizer(folder.path(), variant);
      return source_of(folder.path(), variant);
    }
  throw std::runtime_error(name);
}

}  // namespace

TEST(GgufBpe, KeysOfEveryVariantAreTheConverters) {
  const Json variants = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "gguf_bpe.json");
  EXPECT_EQ(variants.size(), 9u);
  for (const Json& variant : variants) {
    SCOPED_TRACE(variant["name"]);
    TestFolder folder("ropewalk-gguf-bpe");
    write_tokenizer(folder.path(), variant);
    std::vector<std::string> notes;
    const std::vector<GgufKey> keys = gguf_tokenizer_keys(source_of(folder.path(), variant), true, notes);
    Json got = Json::array();
    for (const GgufKey& key : keys) got.push_back(dumped(key));
    EXPECT_EQ(got, variant["keys"]);
  }
}

TEST(GgufBpe, WholeModelInEveryType) {
  const Json dump = read_json(kModel / "dump.json");
  const Source source = open_source(parse_source(kModel.string()), {}, {});
  std::set<std::string> passed;
  for (const OutType& out : out_types(source)) {
    SCOPED_TRACE(out.name);
    const Json& want = dump["outtypes"][out.name];
    const GgufExport exported = export_gguf(source, compat(out.type));
    EXPECT_TRUE(exported.losses.empty());
    expect_keys(exported.plan, dump["keys"], want["changed_keys"]);
    expect_tensors(exported.plan, want["tensors"]);
    EXPECT_EQ(hex(whole_file(exported.plan)), want["sha256"].get<std::string>());
    passed.insert(out.name);
  }
  for (const auto& [name, result] : dump["outtypes"].items()) EXPECT_TRUE(passed.contains(name)) << name;
}

// What is written is read back as llama.cpp reads it: its own cases for the two vocabularies.
TEST(GgufBpe, WrittenVocabulariesEncodeAsTheEngine) {
  for (const auto& [variant, cases] : {std::pair("GPT-2", "gpt-2"), std::pair("Qwen2.5", "qwen2")}) {
    TestFolder folder("ropewalk-gguf-bpe-cases");
    std::vector<std::string> notes;
    GgufFile file;
    file.keys = gguf_tokenizer_keys(variant_source(folder, variant), true, notes);
    const auto tokenizer = Tokenizer::create(read_gguf_vocabulary(file, variant).value());
    const auto all =
        golden::engine_cases((kGolden / "bpe/vocabularies" / (std::string("ggml-vocab-") + cases + ".gguf")).string());
    EXPECT_GT(all.size(), 40u);
    for (const auto& [text, ids] : all) EXPECT_EQ(tokenizer->encode(text), ids) << golden::shown(text);
  }
}

// A vocabulary the converter does not know is named by its steps, and said so.
TEST(GgufBpe, UnknownVocabularyIsNamedByItsSteps) {
  TestFolder folder("ropewalk-gguf-bpe-steps");
  Source source = variant_source(folder, "as it is");
  std::vector<std::string> notes;
  gguf_tokenizer_keys(source, false, notes);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0],
            "tokenizer.ggml.pre is 'llama-bpe' by the tokenizer's own steps: llama.cpp's converter does not know this "
            "vocabulary");
  std::get<BpeModel>(source.checkpoint.vocabulary->pipeline->model).ignore_merges = false;
  const auto keys = gguf_tokenizer_keys(source, false, notes);
  EXPECT_EQ(std::get<std::string>(keys[1].value.value), "dbrx");
}

// Where llama.cpp's own expression knows ASCII's case alone, the text that shows it gets other ids, and a note says so.
TEST(GgufBpe, AsciiCaseIsANote) {
  const std::string word = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)";
  const std::string capitals = R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)";
  const std::string ending = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
  const std::string rest = R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::map<std::string, std::string> regexes = {
      {"gpt-4o", word + ending + capitals + ending + R"(|\p{N}{1,3})" + rest},
      {"tekken", word + capitals + R"(|\p{N})" + rest}};
  for (const auto& [name, regex] : regexes) {
    SCOPED_TRACE(name);
    TestFolder folder("ropewalk-gguf-bpe-case");
    Source source = variant_source(folder, "as it is");
    Json tokenizer = read_json(folder.path() / "tokenizer.json");
    Json& model = tokenizer["model"];
    const bool pairs = !model["merges"][0].is_string();
    const int next = source.checkpoint.config.n_vocab++;
    model["vocab"]["a\u00c3"] = next;  // a and the first byte of \u00e9 and of \u00c9
    model["merges"].insert(model["merges"].begin(), pairs ? Json{"a", "\u00c3"} : Json("a \u00c3"));
    model["ignore_merges"] = name == "tekken";
    tokenizer["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}}}};
    write_text(folder.path() / "tokenizer.json", tokenizer.dump());
    source.checkpoint.vocabulary = read_hf_vocabulary(folder.path());
    std::vector<std::string> notes;
    GgufFile file;
    file.keys = gguf_tokenizer_keys(source, false, notes);
    const Vocabulary written = read_gguf_vocabulary(file, "written").value();
    ASSERT_TRUE(written.gguf_bpe);
    EXPECT_EQ(written.gguf_bpe->pre, name);
    ASSERT_EQ(notes.size(), 2u);
    EXPECT_EQ(notes[1], "llama.cpp's '" + name +
                            "' tells capitals from small letters in ASCII alone: words with capitals or marks of other "
                            "scripts may get other ids");
    const auto ours = Tokenizer::create(*source.checkpoint.vocabulary), engine = Tokenizer::create(written);
    EXPECT_EQ(ours->encode("a\u00e9 aB 12"), engine->encode("a\u00e9 aB 12"));
    EXPECT_NE(ours->encode("a\u00c9"), engine->encode("a\u00c9"));
    EXPECT_EQ(engine->encode("a\u00c9")[0], next) << "one word";
  }
}

// llama.cpp takes id 11 and Llama 3's BOS where a file says nothing: by default what it would take wrongly is written.
TEST(GgufBpe, DefaultModeSaysWhatLlamaCppWouldAssume) {
  TestFolder folder("ropewalk-gguf-bpe-said");
  Source source = variant_source(folder, "as it is");
  std::vector<std::string> notes;
  const auto read = [&](bool compat_mode) {
    GgufFile file;
    file.keys = gguf_tokenizer_keys(source, compat_mode, notes);
    return read_gguf_vocabulary(file, "written").value();
  };
  EXPECT_EQ(read(true).add_bos, true);
  write_text(folder.path() / "tokenizer_config.json", "{}");
  Json tokenizer = read_json(folder.path() / "tokenizer.json");
  tokenizer["post_processor"] = nullptr;
  write_text(folder.path() / "tokenizer.json", tokenizer.dump());
  source.checkpoint.vocabulary = read_hf_vocabulary(folder.path());
  source.checkpoint.vocabulary->eos = 2;
  EXPECT_EQ(read(true).add_bos, true);  // the engine's own default for llama-bpe
  EXPECT_EQ(read(false).add_bos, false);
  EXPECT_EQ(read(true).eos, 11);
  EXPECT_EQ(read(false).eos, 2);
}

// Llama 2's manner, without tokenizer.model: kind llama, whose scores are the ranks. Ids are the tokenizer.json's own.
TEST(GgufBpe, ByteFallbackBecomesKindLlama) {
  for (const char* name : {"tolstoy-4m", "stories260K"}) {
    SCOPED_TRACE(name);
    TestFolder folder("ropewalk-gguf-llama-like");
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
      fs::copy_file(kGolden / "fixtures/models" / name / file, folder.path() / file);
    const Source source = source_of(folder.path(), {{"n_vocab", 2100}});
    std::vector<std::string> notes;
    EXPECT_THROW(gguf_tokenizer_keys(source, true, notes), Error);
    GgufFile file;
    file.keys = gguf_tokenizer_keys(source, false, notes);
    EXPECT_TRUE(notes.empty()) << notes[0];
    const Vocabulary written = read_gguf_vocabulary(file, name).value();
    const auto theirs = Tokenizer::create(*source.checkpoint.vocabulary), ours = Tokenizer::create(written);
    EXPECT_EQ(written.model, "spm");
    EXPECT_EQ(written.bos, source.checkpoint.vocabulary->bos);
    EXPECT_EQ(written.add_bos, source.checkpoint.vocabulary->add_bos);
    int compared = 0;
    for (const std::string& text : golden::corpus_chunks("war-and-peace-tail.txt")) {
      if (first_invalid_utf8(text) != text.size()) continue;  // a chunk that cuts a character
      EXPECT_EQ(ours->encode(text), theirs->encode(text));
      ++compared;
    }
    EXPECT_GT(compared, 20);
  }
}

TEST(GgufBpe, StepsThatLlamaCppHasNotAreRefused) {
  TestFolder folder("ropewalk-gguf-bpe-refused");
  const Source whole = variant_source(folder, "as it is");
  std::vector<std::string> notes;
  const auto refused = [&](const auto& change) {
    Source source = variant_source(folder, "as it is");
    change(*source.checkpoint.vocabulary->pipeline);
    EXPECT_THROW(gguf_tokenizer_keys(source, false, notes), Error);
  };
  refused([](TokenizerPipeline& it) { it.normalizers.emplace_back(normalizers::Lowercase{}); });
  refused([](TokenizerPipeline& it) { it.pre_tokenizers.erase(it.pre_tokenizers.begin()); });
  refused([](TokenizerPipeline& it) {
    std::get<pre_tokenizers::Split>(it.pre_tokenizers[0]).behavior = pre_tokenizers::SplitBehavior::removed;
  });
  refused([](TokenizerPipeline& it) { std::get<BpeModel>(it.model).end_of_word_suffix = "</w>"; });
  try {
    Source source = variant_source(folder, "as it is");
    source.checkpoint.vocabulary->model = "wordpiece";
    gguf_tokenizer_keys(source, false, notes);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_NE(std::string(error.what()).find("kind wordpiece, which is not written to GGUF"), std::string::npos);
  }
}

// --- unigram models, kind t5: gguf_t5.json, see tests/golden/make/make_gguf_t5.py

namespace {

Source unigram_source(const TestFolder& folder, const Json& variant) {
  const std::string model = variant["model"];
  fs::copy_file(kGolden / "unigram/models" / (model + ".model"), folder.path() / "tokenizer.model");
  write_text(folder.path() / "tokenizer_config.json", variant["config"].dump());
  return source_of(folder.path(), {{"n_vocab", variant["n_vocab"]}, {"model", {{"eos_token_id", 1}}}});
}

}  // namespace

// The converter's keys in its order; besides them only ids and flags that llama.cpp would otherwise assume wrongly. Its
// eos is config.json's, ours the tokenizer's.
TEST(GgufUnigram, KeysAreTheConvertersAndWhatItLeavesUnsaid) {
  const Json variants = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "gguf_t5.json");
  ASSERT_EQ(variants.size(), 2u);
  for (const Json& variant : variants) {
    SCOPED_TRACE(variant["model"]);
    TestFolder folder("ropewalk-gguf-t5");
    std::vector<std::string> notes;
    Json got = Json::array(), unsaid = Json::array();
    for (GgufKey& key : gguf_tokenizer_keys(unigram_source(folder, variant), false, notes)) {
      if (key.name == "tokenizer.ggml.eos_token_id") {
        EXPECT_EQ(dumped(key)[2], 2);
        key.value = gguf_u32(1);
      }
      const Json one = dumped(key);
      (std::find(variant["keys"].begin(), variant["keys"].end(), one) != variant["keys"].end() ? got : unsaid)
          .push_back(one);
    }
    EXPECT_EQ(got, variant["keys"]);
    for (const Json& key : unsaid)
      EXPECT_TRUE(std::set<std::string>({"tokenizer.ggml.bos_token_id", "tokenizer.ggml.unknown_token_id",
                                         "tokenizer.ggml.add_eos_token"})
                      .contains(key[0].get<std::string>()))
          << key;
    EXPECT_EQ(notes, std::vector<std::string>{"eos is 2 '</s>', the tokenizer's own; config.json says 1 '<s>'"});
  }
}

// A tokenizer.json of the same manner: kind t5, whose ids are the tokenizer.json's own where the notes do not say otherwise.
TEST(GgufUnigram, TokenizerJsonBecomesKindT5) {
  TestFolder folder("ropewalk-gguf-t5-json");
  auto json = golden::read(kGolden / "unigram/tokenizer_json/nfkc.json");
  auto& steps = json["normalizer"]["normalizers"];
  steps[0]["precompiled_charsmap"] =
      golden::base64(read_sentencepiece_model(kGolden / "tokenizer_ids/models/nfkc.model").precompiled_charsmap);
  const auto keys_of = [&](const nlohmann::json& file, std::vector<std::string>& notes, bool compat = false) {
    write_text(folder.path() / "tokenizer.json", file.dump());
    GgufFile out;
    out.keys = gguf_tokenizer_keys(source_of(folder.path(), {{"n_vocab", 420}}), compat, notes);
    return out;
  };
  std::vector<std::string> notes;
  const GgufFile file = keys_of(json, notes);
  EXPECT_EQ(notes, std::vector<std::string>{"llama.cpp drops spaces at the end of a text, which the tokenizer keeps"});
  const Vocabulary read = read_gguf_vocabulary(file, "t5.gguf").value();
  EXPECT_EQ(read.model, "unigram");
  EXPECT_EQ(read.unk, 0);
  EXPECT_EQ(read.add_eos, false);
  EXPECT_TRUE(read.add_dummy_prefix);
  EXPECT_TRUE(read.remove_extra_whitespaces);
  EXPECT_EQ(read.pieces.size(), 420u);
  EXPECT_EQ(read.pieces[0].type, PieceType::unknown);
  const auto ours = Tokenizer::create(read),
             theirs = Tokenizer::create(read_tokenizer_json(folder.path() / "tokenizer.json"));
  int compared = 0;
  for (const char* corpus : {"war-and-peace-tail.txt", "held-out.txt"})
    for (std::string text : golden::corpus_chunks(corpus)) {
      if (first_invalid_utf8(text) != text.size()) continue;  // a chunk that cuts a character
      while (text.ends_with(' ') || text.ends_with('\n')) text.pop_back();
      EXPECT_EQ(ours->encode(text), theirs->encode(text));
      ++compared;
    }
  EXPECT_GT(compared, 40);
  EXPECT_NE(ours->encode("a "), theirs->encode("a "));  // the note
  EXPECT_THROW(keys_of(json, notes, true), Error);      // the converter refuses it
  auto lower = json;
  lower["normalizer"]["normalizers"].push_back({{"type", "Lowercase"}});
  EXPECT_THROW(keys_of(lower, notes), Error);
  notes.clear();
  auto plain = json;
  plain["normalizer"] = nullptr;
  EXPECT_EQ(read_gguf_vocabulary(keys_of(plain, notes), "t5.gguf")->remove_extra_whitespaces, false);
  EXPECT_EQ(notes, std::vector<std::string>{
                       "llama.cpp puts a space before a text that begins with one, which the tokenizer does not"});
}

// What is written is read back as the engine reads it: ids as of the model under its rules.
TEST(GgufUnigram, WrittenAndReadAgain) {
  const Json variant = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "gguf_t5.json")[0];
  TestFolder folder("ropewalk-gguf-t5-again");
  const Source source = unigram_source(folder, variant);
  std::vector<std::string> notes;
  GgufFile file;
  file.keys = gguf_tokenizer_keys(source, false, notes);
  const Vocabulary read = read_gguf_vocabulary(file, "t5.gguf").value();
  EXPECT_EQ(read.model, "unigram");
  EXPECT_EQ(read.unk, 0);
  EXPECT_EQ(read.add_eos, false);
  EXPECT_EQ(read.precompiled_charsmap, source.checkpoint.vocabulary->precompiled_charsmap);
  Vocabulary known = *source.checkpoint.vocabulary;
  known.rules = TokenizerRules::llama_cpp;
  const auto one = Tokenizer::create(read), other = Tokenizer::create(known);
  for (const std::string& text : golden::texts()) EXPECT_EQ(one->encode(text), other->encode(text));
  EXPECT_THROW(gguf_tokenizer_keys(source, true, notes), Error);  // the converter takes it for BPE
  for (GgufKey& key : file.keys)
    if (key.name == "tokenizer.ggml.precompiled_charsmap") key.value = gguf_u8s("\x10");
  EXPECT_THROW(read_gguf_vocabulary(file, "t5.gguf"), Error);
}
