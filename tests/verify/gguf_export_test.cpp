// Our own exports, judged by their own bytes: written, opened as llama.cpp 0.5 would read them, and compared with the
// source in the sweep.

#include <gtest/gtest.h>

#include <set>

#include "formats/gguf_model.h"
#include "formats/gguf_rewrite.h"
#include "formats/gguf_write.h"
#include "formats/quantize/quantize.h"
#include "formats/tokenizers/tokenizer.h"
#include "tests/formats/hf_test_support.h"
#include "tests/verify/device_sweeps.h"
#include "tests/verify/golden_models.h"
#include "verify/perplexity.h"
#include "verify/structure.h"

namespace ropewalk::verify {
namespace {

namespace fs = std::filesystem;

formats::GgufExport export_as(const formats::Source& source, DType type) {
  formats::GgufExportOptions options;
  options.type = type;
  return formats::export_gguf(source, options);
}

fs::path write(const fs::path& path, const formats::GgufExport& what) {
  WriteOptions options;
  options.sync = false;
  formats::write_ggufs({what.plan}, {{path}}, options, {});
  return path;
}

LogitsReport compare_files(const formats::Source& source, const fs::path& gguf, std::span<const Window> windows,
                           int original_context) {
  return summarise_pair(compare(source.checkpoint, open_golden(gguf.string()).checkpoint, windows, {}),
                        original_context, int(windows[0].size()));
}

// f32 weights in another order of rows (and for Q and K of channels): nothing but the order of float sums differs.
TEST(GgufExport, ZooAtFullPrecisionIsTheSameModel) {
  const formats::TestFolder folder;
  std::size_t seen = 0, lossless = 0;
  for (const auto& entry : fs::directory_iterator(golden_dir() / "zoo")) {
    if (!entry.is_directory() || excluded().contains("zoo/" + entry.path().filename().string())) continue;
    SCOPED_TRACE(entry.path().filename());
    const formats::Source source = open_golden(entry.path().string());
    const formats::GgufExport exported = export_as(source, DType::f32);
    const auto golden = read_golden(entry.path() / "golden.safetensors");
    const std::vector<Window> windows = {
        Window(golden.at("input_ids").values.begin(), golden.at("input_ids").values.end())};
    const LogitsReport report = compare_files(
        source, write(folder.path() / (entry.path().filename().string() + ".gguf"), exported), windows, 0);
    ++seen;
    if (exported.losses.empty()) {
      EXPECT_TRUE(report.kl_mean <= kKlFloor) << report.kl_mean;
      EXPECT_TRUE(report.top1 == 1) << report.top1;
      ++lossless;
    } else {
      EXPECT_FALSE(report.kl_mean <= kKlFloor) << "a loss that changes nothing: " << exported.losses[0].name;
    }
  }
  EXPECT_GE(seen, 10u);
  EXPECT_GE(lossless, 8u);
}

TEST(GgufExport, MergedModelWithYarnPassesAndWithoutItsKeysFails) {
  const std::string models = (golden_dir() / "fixtures/models").string() + "/",
                    adapter = (golden_dir() / "fixtures/adapters/qlora-shakespeare").string();
  const formats::Source source = open_golden(models + "tolstoy-4m-yarn-2k+" + adapter);
  const auto tokenizer = formats::Tokenizer::create(*source.checkpoint.vocabulary);
  const std::string text = read_text_file(golden_dir() / "fixtures/goldens/perplexity/doc-3.txt", 1 << 20);
  const int context = kSanitized ? 512 : 2048;  // past the original 256 either way; ten times slower there
  const std::vector<std::vector<std::int32_t>> documents = {tokenizer->encode(text)};
  const std::vector<Window> windows =
      window_ids(plan_windows(documents, context, 1 << 30, Protocol::tokens, 1), documents, 0, 1);
  const formats::TestFolder folder;

  LogitsReport f16 =
      compare_files(source, write(folder.path() / "f16.gguf", export_as(source, DType::f16)), windows, 256);
  EXPECT_TRUE(f16.kl_mean <= kKlFloor) << f16.kl_mean;
  EXPECT_TRUE(f16.kl_max <= 1e-6) << f16.kl_max;
  EXPECT_TRUE(all_pass(apply_gates(default_gates(DType::f16), f16)));

  const fs::path q8_0 = write(folder.path() / "q8_0.gguf", export_as(source, DType::q8_0));
  LogitsReport good = compare_files(source, q8_0, windows, 256);
  EXPECT_TRUE(all_pass(apply_gates(default_gates(DType::q8_0), good))) << good.kl_mean;
  EXPECT_FALSE(all_pass(apply_gates(default_gates(DType::f16), good))) << "q8_0 is no f16";

  formats::GgufChanges changes;
  changes.remove_tensors = {formats::kGgufRopeFreqs};
  const formats::Source opened = open_golden(q8_0.string());
  for (const char* key : {"type", "factor", "original_context_length", "attn_factor"})
    changes.remove_keys.push_back(std::string("llama.rope.scaling.") + key);
  const fs::path stripped =
      write(folder.path() / "stripped.gguf", {formats::rewrite_gguf(*opened.gguf, changes), {}, {}});
  LogitsReport broken = compare_files(source, stripped, windows, 256);
  EXPECT_FALSE(all_pass(apply_gates(default_gates(DType::q8_0), broken)));
  EXPECT_GT(broken.kl_growth.value(), kSanitized ? 1 : 2);
  EXPECT_GT(broken.kl_mean, 0.1);
}

// A mix of block types, of a file as llama-quantize makes it, crosses to a device as it stands there.
TEST(GgufExport, BlocksCrossToADeviceAsTheFileHasThem) {
  const formats::Source source = open_golden((golden_dir() / "fixtures/models/tolstoy-4m").string());
  const formats::TestFolder folder;
  formats::QuantizeOptions quantize;
  quantize.mix.type = formats::FileType::q4_k_m;
  const fs::path gguf =
      write(folder.path() / "q4_k_m.gguf",
            {formats::quantize_plan(export_as(source, DType::f32).plan, "tolstoy-4m", quantize).plan, {}, {}});
  const formats::Source opened = open_golden(gguf.string());
  const Checkpoint& model = opened.checkpoint;
  const std::vector<Window> windows = {{1, 300, 7, 1999, 42, 800}};
  const auto want = score(model, windows, on_host());
  HostAccelerator device(1, kRoom);
  SweepReport report;
  const auto got = device_score(device, model, windows, in(Precision::f32, &report), {});
  for (std::size_t t = 0; t + 1 < windows[0].size(); ++t) EXPECT_NEAR(got[0][t].nll, want[0][t].nll, 1e-4) << t;
  std::uint64_t matrices = 0, vectors = 0;
  std::set<DType> types;
  for (const TensorPtr& tensor : model.tensors) {
    if (tensor->name() == "model.embed_tokens.weight" && !model.config.tied_head) continue;  // the host reads it
    const bool is_matrix = tensor->info().shape.size() == 2;
    (is_matrix ? matrices : vectors) += tensor->info().bytes();
    if (is_matrix) types.insert(tensor->dtype());
  }
  EXPECT_TRUE(types.contains(DType::q4_k) && types.contains(DType::q6_k));
  EXPECT_EQ(report.weight_bytes, matrices + vectors);
}

// Proportional rope pairs channels over the whole head, though only the first pairs move: so must the re-ordered Q and K.
TEST(GgufExport, ProportionalRopePairsOverTheWholeHead) {
  const formats::TestFolder folder;
  const fs::path model = folder / "proportional";
  fs::create_directories(model);
  for (const auto& entry : fs::directory_iterator(golden_dir() / "fixtures/models/tolstoy-4m"))
    if (entry.is_regular_file()) fs::copy(entry.path(), model / entry.path().filename());
  formats::Json config = formats::read_json(model / "config.json");
  config.erase("rope_scaling");
  config["rope_parameters"] = {
      {"rope_type", "proportional"}, {"rope_theta", 10000.0}, {"partial_rotary_factor", 0.5}, {"factor", 1.0}};
  formats::write_bytes(model / "config.json", config.dump());

  const formats::Source source = open_golden(model.string());
  ASSERT_LT(source.checkpoint.config.rope.rotary_dim, source.checkpoint.config.head_dim);
  const formats::GgufExport exported = export_as(source, DType::f32);
  EXPECT_TRUE(exported.losses.empty());
  const fs::path gguf = write(folder / "proportional.gguf", exported);
  Window window;
  for (int i = 0; i < 64; ++i) window.push_back(300 + 7 * i);
  const LogitsReport report = compare_files(source, gguf, std::vector<Window>{window}, 0);
  EXPECT_TRUE(report.kl_mean <= kKlFloor) << report.kl_mean;
  EXPECT_TRUE(report.top1 == 1);
  const formats::Source opened = open_golden(gguf.string());
  for (const auto& candidate : {opened.checkpoint, source.checkpoint})
    EXPECT_TRUE(all_pass(compare_structure(source.checkpoint, candidate, {}, 64).gates));
}

}  // namespace
}  // namespace ropewalk::verify
