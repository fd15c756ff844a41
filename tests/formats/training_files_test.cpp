// What trainers leave beside an adapter: real training_args.bin (tests/golden/make/training_args.py), and what is none.

#include "formats/adapters/training_files.h"

#include "formats/base64.h"
#include "formats/source.h"
#include "formats/torch/saved_object.h"
#include "formats/torch/unpickler.h"
#include "formats/torch/zip_archive.h"
#include "tests/formats/hf_test_support.h"
#include "tests/formats/tiny_llama.h"

namespace ropewalk::formats {
namespace {

const Json& golden() {
  static const Json all = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "training_args.json");
  return all;
}
std::string file_of(const std::string& name) {
  return *base64_bytes(golden()["files"][name]["bin"].get<std::string>());
}
/// A zip file of one member, which is stored.
std::string zip_of(const std::string& name, const std::string& content) {
  const auto number = [](std::uint64_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += char(value >> (8 * i) & 255);
    return out;
  };
  const std::string sizes = number(0, 4) + number(content.size(), 4) + number(content.size(), 4);
  const std::string common = std::string(10, '\0') + sizes + number(name.size(), 2) + number(0, 2);
  const std::string local = "PK\3\4" + common + name + content;
  const std::string directory = "PK\1\2" + number(0, 2) + common + std::string(14, '\0') + name;
  return local + directory + "PK\5\6" + number(0, 4) + number(1, 2) + number(1, 2) + number(directory.size(), 4) +
         number(local.size(), 4) + number(0, 2);
}

TEST(TrainingFiles, AttributesOfTheRealObjects) {
  TestFolder folder;
  int seen = 0;
  for (const auto& [name, one] : golden()["files"].items()) {
    write_bytes(folder / "training_args.bin", file_of(name));
    const Json read = read_saved_attributes(folder / "training_args.bin");
    for (const auto& [field, value] : one["fields"].items()) {
      const bool there = field != "max_length" || name != "plain";
      EXPECT_EQ(read.contains(field), there) << name << " " << field;
      if (there) {
        EXPECT_EQ(read[field], value) << name << " " << field;
      }
    }
    const auto files = training_files(folder.path());
    const Json length = one["fields"]["max_length"];
    ASSERT_EQ(files.size(), length.is_null() ? 0u : 1u) << name;
    if (!length.is_null()) {
      EXPECT_EQ(files[0].tokens, length.get<std::int64_t>());
      EXPECT_EQ(files[0].field, "max_length");
    }
    ++seen;
  }
  EXPECT_EQ(seen, 3);
}

TEST(TrainingFiles, WhatOtherTrainersWrite) {
  struct Case {
    const char *file, *text, *field;
    std::optional<std::int64_t> tokens;
    std::optional<std::string> rope;
  };
  const std::vector<Case> cases = {
      {"training_args.yaml", "stage: sft\ncutoff_len: 8192\nrope_scaling: linear\nbf16: true\n", "cutoff_len", 8192,
       "linear"},
      {"training_args.yaml", "cutoff_len: 2048\nrope_scaling: none\n", "cutoff_len", 2048, std::nullopt},
      {"args.json", R"({"max_length": 4096, "rope_scaling": {"type": "yarn", "factor": 4.0}})", "max_length", 4096,
       "yarn"},
      {"args.json", R"({"max_length": null, "rope_scaling": null, "model_max_length": 1e30})", nullptr, {}, {}},
      {"training_args.json", R"({"max_seq_length": 512, "max_length": 20})", "max_seq_length", 512, std::nullopt},
      {"README.md",
       "---\nlibrary_name: peft\n---\n\n<details><summary>See axolotl config</summary>\n\naxolotl version: `0.11.0`\n"
       "```yaml\nbase_model: a/b\ndatasets:\n  - path: x.jsonl\n    type: alpaca\n\nsequence_len: 16384 # long\n"
       "overrides_of_model_config:\n  rope_scaling:\n    type: dynamic\n    factor: 2.0\n\n```\n\n</details><br>\n",
       "sequence_len", 16384, "dynamic"},
      {"README.md", "---\nsequence_len: 16384\n---\nsequence_len: 5\n", nullptr, {}, {}}};
  for (const Case& one : cases) {
    SCOPED_TRACE(one.text);
    TestFolder folder;
    write_bytes(folder / one.file, one.text);
    const auto files = training_files(folder.path());
    ASSERT_EQ(files.size(), one.field ? 1u : 0u);
    if (!one.field) continue;
    EXPECT_EQ(files[0].problem, "");
    EXPECT_EQ(files[0].name, one.file);
    EXPECT_EQ(files[0].field, one.field);
    EXPECT_EQ(files[0].tokens, one.tokens);
    EXPECT_EQ(files[0].rope_method, one.rope);
  }
}

// Nothing is called: what a pickle asks for is a name among data, and an object that it would make has no attributes.
TEST(TrainingFiles, NothingRunsAndWhatIsNoneIsSaid) {
  TestFolder folder;
  const std::string mark = (folder / "ran").string();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {zip_of("a/data.pkl", "cos\nsystem\n(X" + std::string(1, char(6 + mark.size())) + std::string(3, '\0') +
                                "touch " + mark + "tR."),
       "holds no object with attributes"},
      {zip_of("a/data.pkl", "\x80\x02}."), "holds no object with attributes"},
      {zip_of("a/other", "\x80\x02}."), "holds no NAME/data.pkl"},
      {zip_of("a/data.pkl", std::string("\x80\x02") + std::string(std::size_t{1} << 20, 'N') + "."),
       "expected at most"},
      {zip_of("a/data.pkl", "\x80\x02ia\nb\n."), "the pickle "},
      {"\x80\x02}.", "is no zip file"}};
  for (const auto& [bytes, says] : cases) {
    write_bytes(folder / "training_args.bin", bytes);
    const auto files = training_files(folder.path());
    ASSERT_EQ(files.size(), 1u) << says;
    EXPECT_NE(files[0].problem.find(says), std::string::npos) << files[0].problem;
    EXPECT_FALSE(files[0].tokens);
  }
  EXPECT_FALSE(fs::exists(mark));
  write_bytes(folder / "training_args.bin", file_of("sft-64"));
  const auto members = torch::read_zip(*File::open(folder / "training_args.bin"));
  const torch::ZipMember pickle = members.at("archive/data.pkl");
  const std::string all = file_of("sft-64").substr(pickle.offset, pickle.bytes);
  EXPECT_NO_THROW(torch::unpickle("x", 0, all, torch::Names::any_as_data));
  EXPECT_THROW(torch::unpickle("x", 0, all), Error) << "a file of tensors names no such things";
  for (std::size_t n = 0; n < all.size(); ++n) {
    const std::vector<char> prefix(all.begin(), all.begin() + std::ptrdiff_t(n));
    EXPECT_THROW(torch::unpickle("x", 0, {prefix.data(), prefix.size()}, torch::Names::any_as_data), Error) << n;
  }
}

TEST(TrainingFiles, AMergeTellsWhatTheBaseDoesNotServe) {
  TestFolder folder;
  write_tiny(folder / "base");
  write_tiny_adapter(folder / "adapter", "base");
  const std::string text = (folder / "base").string() + "+" + (folder / "adapter").string();
  const int context = tiny_config()["max_position_embeddings"];
  const auto told = [&] {
    std::string lines;
    for (const std::string& line : open_source(parse_source(text), {}, {}).checkpoint.warnings)
      if (line.find("beside it") != std::string::npos) lines += line + "\n";
    return lines;
  };
  const auto write = [&](const std::string& name) { write_bytes(folder / "adapter/training_args.bin", file_of(name)); };
  write("sft-64");
  ASSERT_LT(context, 32768);
  if (context >= 64) {
    EXPECT_EQ(told(), "");
  }
  write("plain");
  EXPECT_EQ(told(), "");
  write("sft-32768");
  EXPECT_NE(told().find("training_args.bin beside it has max_length 32768, the model merged into is made for " +
                        std::to_string(context) + " tokens, which is kept: +rope= extends it"),
            std::string::npos)
      << told();
  write_bytes(folder / "adapter/training_args.bin", "x");
  EXPECT_NE(told().find("training_args.bin beside it were not compared"), std::string::npos) << told();
  fs::remove(folder / "adapter/training_args.bin");
  write_bytes(folder / "adapter/training_args.yaml", "rope_scaling: yarn\n");
  EXPECT_NE(told().find("training_args.yaml beside it has the rope_scaling \"yarn\"; the model merged into has "),
            std::string::npos)
      << told();
  write_bytes(folder / "adapter/training_args.yaml", "rope_scaling: null\n");
  EXPECT_EQ(told(), "");
}

}  // namespace
}  // namespace ropewalk::formats
