#include "verify/structure.h"

#include <gtest/gtest.h>

#include "formats/gguf_model.h"
#include "formats/gguf_write.h"
#include "lib/recipes.h"
#include "tests/formats/hf_test_support.h"
#include "tests/verify/golden_models.h"

namespace ropewalk::verify {
namespace {

namespace fs = std::filesystem;

const Gate& gate_of(const StructureReport& report, const std::string& name) {
  for (const Gate& gate : report.gates)
    if (gate.name == name) return gate;
  throw std::runtime_error("no gate " + name);
}

class Structure : public testing::Test {
 protected:
  formats::TestFolder folder;
  formats::Source source = open_golden((golden_dir() / "fixtures/models/stories260K").string());
  Checkpoint candidate = exported(source, "candidate.gguf");
  std::vector<std::string> documents = {"Once upon a time there was a little ship; 42 \xC3\xA9t\xC3\xA9s."};

  Checkpoint exported(const formats::Source& from, const std::string& name) {
    formats::GgufExportOptions options;
    options.type = DType::f16;
    WriteOptions write;
    write.sync = false;
    const fs::path path = folder.path() / name;
    formats::write_ggufs({formats::export_gguf(from, options).plan}, {{path}}, write, {});
    return open_golden(path.string()).checkpoint;
  }
  StructureReport compare() { return compare_structure(source.checkpoint, candidate, documents, 512); }
  /// The candidate fails, by the tokenizer alone.
  void tokenizer_differs(const std::string& what) {
    const StructureReport report = compare();
    EXPECT_FALSE(gate_of(report, "tokenizer").pass) << what;
    EXPECT_TRUE(gate_of(report, "tensors").pass) << what;
    EXPECT_FALSE(all_pass(report.gates));
  }
};

// Faithful exports of every fixture, read by llama.cpp's rules with its defaults, against transformers' files.
TEST_F(Structure, FaithfulExportsPass) {
  int seen = 0;
  for (const auto& entry : fs::directory_iterator(golden_dir() / "fixtures/models")) {
    if (!fs::is_regular_file(entry.path() / "config.json")) continue;
    SCOPED_TRACE(entry.path().filename());
    const formats::Source model = open_golden(entry.path().string());
    if (!model.checkpoint.vocabulary) continue;
    const StructureReport report = compare_structure(
        model.checkpoint, exported(model, entry.path().filename().string() + ".gguf"), documents, 512);
    for (const StructureItem& item : report.items)
      EXPECT_TRUE(item.pass.value_or(true)) << item.name << ": " << item.detail;
    EXPECT_TRUE(all_pass(report.gates));
    ++seen;
  }
  EXPECT_GE(seen, 3);
}

TEST_F(Structure, SpecialTokensCount) {
  const Vocabulary good = *candidate.vocabulary;
  Vocabulary& v = *candidate.vocabulary;
  EXPECT_TRUE(all_pass(compare().gates));
  v.bos.reset(), tokenizer_differs("bos missing"), v = good;
  v.eos.reset(), tokenizer_differs("eos missing"), v = good;
  v.unk.reset(), tokenizer_differs("unk missing"), v = good;
  v.unk = 5, tokenizer_differs("another unk"), v = good;
  v.eos = 5, tokenizer_differs("another eos"), v = good;
  v.add_bos = false, tokenizer_differs("bos not added"), v = good;
  v.add_eos = true, tokenizer_differs("eos added"), v = good;
  EXPECT_TRUE(all_pass(compare().gates));
}

TEST_F(Structure, ChatTemplatesAreKeptByNameAndByte) {
  const auto gate = [&](std::vector<ChatTemplate> from, std::vector<ChatTemplate> to) -> std::optional<bool> {
    source.checkpoint.vocabulary->chat_templates = std::move(from);
    candidate.vocabulary->chat_templates = std::move(to);
    const StructureReport report = compare();
    for (const Gate& one : report.gates)
      if (one.name == "chat_template") return one.pass;
    return std::nullopt;
  };
  const ChatTemplate plain{"default", "{{ bos_token }}"}, tools{"tool_use", "{{ tools }}"};
  EXPECT_EQ(gate({}, {}), std::nullopt);
  EXPECT_EQ(gate({plain, tools}, {tools, plain}), true);
  EXPECT_EQ(gate({plain, tools}, {plain}), false);
  EXPECT_EQ(gate({plain}, {{"default", "{{ bos_token }} "}}), false);
  EXPECT_EQ(gate({plain}, {{"chat", plain.text}}), false);
  EXPECT_EQ(gate({plain}, {plain, tools}), true) << "one more is told, no fault";
  EXPECT_EQ(gate({}, {plain}), std::nullopt);
  const StructureReport report = compare();
  const auto told = std::find_if(report.items.begin(), report.items.end(),
                                 [](const StructureItem& item) { return item.name == "chat template"; });
  ASSERT_NE(told, report.items.end());
  EXPECT_EQ(told->pass, std::nullopt);
  EXPECT_NE(told->detail.find("only the candidate has 'default'"), std::string::npos) << told->detail;
}

// What counts is what is done: an unsaid flag is its default, and an id that llama.cpp assumes where there is none is
// harmless while nothing adds it.
TEST_F(Structure, DefaultsAreTheirEffect) {
  Vocabulary& v = *source.checkpoint.vocabulary;
  const Vocabulary good = v;
  v.add_bos.reset(), v.add_eos.reset();
  EXPECT_TRUE(all_pass(compare().gates));
  v.eos.reset();
  EXPECT_TRUE(all_pass(compare().gates)) << "llama.cpp's eos 2 cannot be unsaid";
  v.bos.reset();
  tokenizer_differs("the candidate adds a bos the source does not have");
  candidate.vocabulary->add_bos = false;
  EXPECT_TRUE(all_pass(compare().gates));
  v = good;
  tokenizer_differs("and the other way round");
}

// As Qwen2.5 and some copies of GPT-2: config.json names a bos that the tokenizer does not have and never adds.
TEST_F(Structure, IdsThatOnlyConfigJsonNames) {
  const fs::path model = folder.path() / "model";
  fs::copy(golden_dir() / "bpe/llama3-rope", model);
  formats::write_bytes(model / "tokenizer_config.json", "{}");
  formats::Json tokenizer = formats::read_json(model / "tokenizer.json");
  tokenizer["post_processor"] = nullptr;
  formats::write_bytes(model / "tokenizer.json", tokenizer.dump());
  source = open_golden(model.string());
  candidate = exported(source, "named.gguf");
  EXPECT_EQ(candidate.vocabulary->bos, 1);
  EXPECT_EQ(candidate.vocabulary->eos, 2);
  EXPECT_EQ(candidate.vocabulary->add_bos, false);
  EXPECT_TRUE(all_pass(compare().gates));
  Vocabulary& v = *candidate.vocabulary;
  const Vocabulary good = v;
  v.bos = 11, tokenizer_differs("lost: what llama.cpp takes for a BPE's"), v = good;
  v.bos.reset(), tokenizer_differs("lost"), v = good;
  v.eos = 11, tokenizer_differs("eos lost"), v = good;
  v.add_bos = true, tokenizer_differs("added to a text");
}

// Where the tokenizer's own ids are not config.json's they count, and the export has them.
TEST_F(Structure, IdsThatConfigJsonNamesOtherwise) {
  const fs::path model = folder.path() / "model";
  fs::copy(golden_dir() / "fixtures/models/stories260K", model);
  formats::Json config = formats::read_json(model / "config.json");
  config["bos_token_id"] = 5, config["eos_token_id"] = 6;
  formats::write_bytes(model / "config.json", config.dump());
  fs::remove(model / "tokenizer.json");
  source = open_golden(model.string());
  candidate = exported(source, "otherwise.gguf");
  EXPECT_EQ(candidate.vocabulary->bos, 1);
  EXPECT_EQ(candidate.vocabulary->eos, 2);
  EXPECT_TRUE(all_pass(compare().gates));
  candidate.vocabulary->bos = 5, tokenizer_differs("config.json's");
}

TEST_F(Structure, TwoTokenScoresSwapped) {
  auto& pieces = candidate.vocabulary->pieces;
  std::swap(pieces[300].score, pieces[400].score);
  ASSERT_NE(pieces[300].score, pieces[400].score);
  documents.clear();  // found without a text that shows it
  tokenizer_differs("scores");
}

// Which texts an engine takes for tokens follows from their types, so each id's counts.
TEST_F(Structure, TokenTypesCount) {
  std::vector<Piece>& pieces = candidate.vocabulary->pieces;
  const std::vector<Piece> good = pieces;
  documents.clear();  // found without a text that shows it
  EXPECT_TRUE(all_pass(compare().gates));
  const auto becomes = [&](std::size_t id, PieceType was, PieceType type) {
    ASSERT_EQ(pieces[id].type, was);
    pieces[id].type = type;
    tokenizer_differs(pieces[id].text);
    pieces = good;
  };
  becomes(1, PieceType::control, PieceType::normal);
  becomes(2, PieceType::control, PieceType::user_defined);
  becomes(0, PieceType::unknown, PieceType::normal);
  becomes(50, PieceType::byte, PieceType::normal);
  becomes(400, PieceType::normal, PieceType::control);
  becomes(400, PieceType::normal, PieceType::unused);
  EXPECT_TRUE(all_pass(compare().gates));
}

TEST_F(Structure, ControlTokensTextsCount) {
  candidate.vocabulary->pieces[1].type = PieceType::normal;
  const StructureReport report = compare();
  const auto told = std::find_if(report.items.begin(), report.items.end(),
                                 [](const StructureItem& item) { return item.name == "special ids"; });
  ASSERT_NE(told, report.items.end());
  EXPECT_EQ(told->pass, false);
}

TEST_F(Structure, ThePaddingIdCounts) {
  source.checkpoint.vocabulary->pad = 2;
  candidate.vocabulary->pad = 2;
  EXPECT_TRUE(all_pass(compare().gates));
  candidate.vocabulary->pad = 3, tokenizer_differs("another pad");
  candidate.vocabulary->pad.reset(), tokenizer_differs("pad lost");
  source.checkpoint.vocabulary->pad.reset();
  EXPECT_TRUE(all_pass(compare().gates));
  candidate.vocabulary->pad = 3;
  EXPECT_TRUE(all_pass(compare().gates)) << "a folder's tokenizer may leave it to config.json";
}

// A folder whose tokenizer.model is gone, as transformers 5 saves one: its tokenizer.json has merges instead of scores, in
// their order.
TEST_F(Structure, MergesOfATokenizerJsonAreTheScoresOfAModel) {
  source = open_golden((golden_dir() / "fixtures/models/tolstoy-4m-yarn-2k").string());
  ASSERT_FALSE(source.checkpoint.vocabulary->pipeline.has_value());
  const fs::path saved = folder.path() / "saved";
  fs::copy(golden_dir() / "fixtures/models/tolstoy-4m-yarn-2k", saved);
  fs::remove(saved / "tokenizer.model");
  const formats::Json good = formats::read_json(saved / "tokenizer.json");
  candidate = open_golden(saved.string()).checkpoint;
  ASSERT_TRUE(candidate.vocabulary->pipeline.has_value());
  for (int turn = 0; turn < 2; ++turn, std::swap(source.checkpoint, candidate))
    for (const StructureItem& item : compare().items)
      EXPECT_TRUE(item.pass.value_or(true)) << item.name << ": " << item.detail;
  documents.clear();  // found without a text that shows it
  formats::Json swapped = good;
  std::swap(swapped["model"]["merges"][0], swapped["model"]["merges"][1]);
  formats::write_bytes(saved / "tokenizer.json", swapped.dump());
  candidate = open_golden(saved.string()).checkpoint;
  tokenizer_differs("two merges");
  formats::Json other = good;
  other["added_tokens"][2]["special"] = false;
  formats::write_bytes(saved / "tokenizer.json", other.dump());
  candidate = open_golden(saved.string()).checkpoint;
  tokenizer_differs("eos is no special token");
}

TEST_F(Structure, TwoTokensSwapped) {
  auto& pieces = candidate.vocabulary->pieces;
  std::swap(pieces[300].text, pieces[301].text);
  tokenizer_differs("texts");
}

// One list of expressions, but words of newlines are merged under one name and not under the other.
TEST_F(Structure, PreTokenizersAreEqualByAllThatChangesWords) {
  const auto named = [](const std::string& pre) {
    formats::GgufFile toy = formats::read_gguf(golden_dir() / "bpe/toys/spelled.gguf");
    for (formats::GgufKey& key : toy.keys)
      if (key.name == "tokenizer.ggml.pre") key.value = formats::gguf_string(pre);
    std::optional<Vocabulary> vocabulary = formats::read_gguf_vocabulary(toy, pre);
    vocabulary->add_bos = false;
    return vocabulary;
  };
  documents.clear();  // found without a text that shows it
  source.checkpoint.vocabulary = named("gemma4");
  candidate.vocabulary = named("granite-embed-multi-311m");
  EXPECT_TRUE(gate_of(compare(), "tokenizer").pass);
  candidate.vocabulary = named("sarvam-moe");
  tokenizer_differs("newlines_whole");
  std::string details;
  for (const StructureItem& item : compare().items) details += item.detail + "\n";
  EXPECT_NE(details.find("the pre-tokenizer is 'sarvam-moe' in the candidate, 'gemma4' in the source"),
            std::string::npos)
      << details;
}

TEST_F(Structure, TensorsByNameAndShape) {
  const std::vector<TensorPtr> good = candidate.tensors;
  candidate.tensors.pop_back();
  EXPECT_FALSE(gate_of(compare(), "tensors").pass) << "one missing";
  candidate.tensors = good;
  candidate.tensors.push_back(memory_tensor("model.layers.9.input_layernorm.weight", {64}, std::vector<float>(64)));
  EXPECT_FALSE(gate_of(compare(), "tensors").pass) << "one too many";
  candidate.tensors = good;
  for (TensorPtr& tensor : candidate.tensors)
    if (tensor->name() == "model.norm.weight") tensor = memory_tensor(tensor->name(), {65}, std::vector<float>(65));
  EXPECT_FALSE(gate_of(compare(), "tensors").pass) << "another shape";
  candidate.tensors = good;
  EXPECT_TRUE(gate_of(compare(), "tensors").pass);
}

TEST_F(Structure, ContextAndRope) {
  candidate.config.context = 128;
  EXPECT_FALSE(gate_of(compare(), "context").pass);
  candidate.config.rope.theta *= 1.01;
  EXPECT_FALSE(gate_of(compare(), "rope").pass);
}

}  // namespace
}  // namespace ropewalk::verify
