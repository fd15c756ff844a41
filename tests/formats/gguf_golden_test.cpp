// --compat llama.cpp@0.5 against the real converter (goldens gguf/): key by key, tensor by tensor, and the whole file's
// hash, for every output type.

#include <gtest/gtest.h>

#include <set>

#include "gguf_dump.h"

using namespace ropewalk;
using namespace ropewalk::formats;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = fs::path(ROPEWALK_GOLDEN_DIR) / "gguf";

fs::path model_folder(const std::string& name) {
  const fs::path trained = fs::path(ROPEWALK_GOLDEN_DIR) / "fixtures" / "models" / name;
  return fs::exists(trained) ? trained : fs::path(ROPEWALK_GOLDEN_DIR) / "zoo" / name;
}

Source open_folder(const fs::path& folder) { return open_source(parse_source(folder.string()), {}, {}); }

std::string from_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::uint32_t bits = 0;
  int n = 0;
  for (char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<std::uint32_t>(kDigits.find(c));
    if ((n += 6) >= 8) out += static_cast<char>(bits >> (n -= 8) & 0xff);
  }
  return out;
}

/// What llama.cpp 0.5 has no keys for, of these configurations (README.md of the golden: dynamic is dropped, arch llama
/// reads no window).
std::vector<std::string> lost_in_llama_cpp(const std::string& model) {
  if (model == "llama-dynamic") return {"rope.dynamic"};
  if (model == "mistral-swa") return {"sliding_window"};
  return {};
}

Json exclusions() { return read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "excluded.json"); }

}  // namespace

TEST(GgufGolden, EveryModelOfTheIndexInEveryType) {
  const Json index = read_json(kGolden / "index.json"), excluded = exclusions();
  int models = 0;
  for (const auto& [name, conversions] : index.items()) {
    if (excluded.contains("gguf/" + name)) continue;
    SCOPED_TRACE(name);
    const Json dump = read_json(kGolden / name / "dump.json");
    const Source source = open_folder(model_folder(name));
    std::set<std::string> passed;
    for (const OutType& out : out_types(source)) {
      SCOPED_TRACE(out.name);
      const Json& want = dump["outtypes"][out.name];
      const GgufExport exported = export_gguf(source, compat(out.type));
      std::vector<std::string> losses;
      for (const Loss& loss : exported.losses) losses.push_back(loss.name);
      EXPECT_EQ(losses, lost_in_llama_cpp(name));
      expect_keys(exported.plan, dump["keys"], want["changed_keys"]);
      expect_tensors(exported.plan, want["tensors"]);
      const std::string bytes = whole_file(exported.plan);
      EXPECT_EQ(bytes.size(), want["size"].get<std::size_t>());
      EXPECT_EQ(hex(bytes), want["sha256"].get<std::string>());
      EXPECT_EQ(hex(bytes), conversions[out.name]["sha256"].get<std::string>());
      const fs::path file = kGolden / name / (name + "." + out.name + ".gguf");
      if (fs::exists(file)) {
        EXPECT_TRUE(bytes == file_bytes(file)) << file;
      }
      passed.insert(out.name);
    }
    for (const auto& [conversion, result] : conversions.items()) {
      const bool of_the_config =
          conversion.find("dialect") != std::string::npos || conversion.find("raw") != std::string::npos;  // next test
      const bool elsewhere = conversion == "split" || conversion == "split-tensors" ||
                             conversion == "with_card";  // gguf_writer_test, below
      EXPECT_TRUE(passed.contains(conversion) || of_the_config || elsewhere) << conversion;
    }
    ++models;
  }
  EXPECT_EQ(models, 13);
  for (const auto& [name, reason] : excluded.items())
    if (name.starts_with("gguf/")) {
      EXPECT_TRUE(index.contains(name.substr(5))) << name << " is excluded but not in the index";
    }
}

// The converter got the same file from the version-4 dialect of config.json; so do we.
TEST(GgufGolden, LegacyDialectGivesTheSameFile) {
  const Json index = read_json(kGolden / "index.json"), excluded = exclusions();
  TestFolder folder("ropewalk-gguf-legacy");
  for (const auto& [name, conversions] : index.items()) {
    if (excluded.contains("gguf/" + name) || !conversions.contains("legacy dialect through AutoConfig")) continue;
    SCOPED_TRACE(name);
    const Json variants = read_json(kGolden / name / "dump.json")["variants_f16"];
    for (const auto& [variant, result] : variants.items()) EXPECT_TRUE(result["same_file"].get<bool>()) << variant;
    const fs::path copy = folder.path() / name;
    fs::copy(model_folder(name), copy);
    fs::copy_file(copy / "config_legacy.json", copy / "config.json", fs::copy_options::overwrite_existing);
    EXPECT_EQ(hex(whole_file(export_gguf(open_folder(copy), compat(DType::f16)).plan)),
              variants["legacy dialect through AutoConfig"]["sha256"].get<std::string>());
  }
}

// Model card, generation_config.json and chat template; the folder's name taken apart.
TEST(GgufGolden, ModelCard) {
  const fs::path card = kGolden / "llama-gqa" / "with_card";
  const Json dump = read_json(card / "dump.json");
  TestFolder folder("ropewalk-gguf-card");
  const fs::path copy = folder.path() / dump["directory_name"].get<std::string>();
  fs::copy(model_folder("llama-gqa"), copy);
  fs::copy_file(card / "model_card.md", copy / "README.md", fs::copy_options::overwrite_existing);
  for (const char* name : {"generation_config.json", "tokenizer_config.json"})
    fs::copy_file(card / name, copy / name, fs::copy_options::overwrite_existing);
  const GgufExport exported = export_gguf(open_folder(copy), compat(DType::f16));
  expect_keys(exported.plan, dump["keys"], Json::array());
  EXPECT_EQ(hex(whole_file(exported.plan)), dump["sha256"].get<std::string>());
}

// Other tokenizer files, cards and configurations (tests/golden/make/make_gguf_variants.py).
TEST(GgufGolden, Variants) {
  const Json variants = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "gguf_variants.json");
  EXPECT_EQ(variants.size(), 8u);
  for (const Json& variant : variants) {
    SCOPED_TRACE(variant["name"]);
    TestFolder folder("ropewalk-gguf-variant");
    const fs::path copy = folder.path() / variant.value("folder", "llama-gqa");
    fs::copy(model_folder("llama-gqa"), copy);
    const Json removed = variant.value("remove", Json::array()), files = variant.value("files", Json::object()),
               binary = variant.value("files_base64", Json::object());
    for (const Json& name : removed) fs::remove(copy / name.get<std::string>());
    for (const auto& [name, text] : files.items()) {
      fs::create_directories((copy / name).parent_path());
      std::ofstream(copy / name, std::ios::binary) << text.get<std::string>();
    }
    for (const auto& [name, text] : binary.items())
      std::ofstream(copy / name, std::ios::binary) << from_base64(text.get<std::string>());
    Json config = read_json(copy / "config.json");
    config.merge_patch(variant.value("config", Json::object()));
    std::ofstream(copy / "config.json") << config.dump(2);

    GgufExportOptions options = compat(DType::f16);
    options.metadata = variant.value("metadata", Json());
    if (variant.contains("args")) options.model_name = variant["args"][1].get<std::string>();
    const GgufExport exported = export_gguf(open_folder(copy), options);
    expect_keys(exported.plan, variant["keys"], Json::array());
    EXPECT_EQ(hex(whole_file(exported.plan)), variant["sha256"].get<std::string>());
  }
}

// Without --compat a model whose rope the keys carry gives the same file; what differs is the rope alone.
TEST(GgufGolden, DefaultModeDiffersInRopeAlone) {
  const std::set<std::string> rope_differs = {"llama-dynamic", "llama-yarn-opts", "llama-yarn-mscale"};
  const Json index = read_json(kGolden / "index.json"), excluded = exclusions();
  for (const auto& [name, conversions] : index.items()) {
    if (excluded.contains("gguf/" + name)) continue;
    SCOPED_TRACE(name);
    const Source source = open_folder(model_folder(name));
    GgufExportOptions options;
    const GgufExport ours = export_gguf(source, options), theirs = export_gguf(source, compat(DType::f16));
    std::vector<std::string> a, b;
    for (const GgufKey& key : ours.plan.keys)
      if (!key.name.starts_with("llama.rope.")) a.push_back(dumped(key).dump());
    for (const GgufKey& key : theirs.plan.keys)
      if (!key.name.starts_with("llama.rope.")) b.push_back(dumped(key).dump());
    EXPECT_EQ(a, b);
    EXPECT_EQ(name == "mistral-swa", !ours.losses.empty() && ours.losses.front().name == "sliding_window");
    if (rope_differs.contains(name)) {
      EXPECT_TRUE(layout_gguf(ours.plan)[0].header != layout_gguf(theirs.plan)[0].header || !ours.losses.empty());
    } else if (name != "mistral-swa") {
      EXPECT_TRUE(ours.losses.empty());
    }
  }
}
