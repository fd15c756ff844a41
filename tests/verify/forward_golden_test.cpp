// Logits and losses against the float64 passes of tests/golden/fixtures/goldens/forward and tests/golden/zoo. The bound
// is the issue's own: at most twice as far from float64 as transformers' float32 model is, measured on the same
// numbers.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/verify/golden_models.h"
#include "verify/sweep.h"

namespace ropewalk::verify {
namespace {

namespace fs = std::filesystem;

std::vector<Window> windows_of(const GoldenTensor& ids) {
  std::vector<Window> out;
  for (std::size_t row = 0; row < ids.values.size() / ids.columns(); ++row)
    out.emplace_back(ids.values.begin() + std::ptrdiff_t(row * ids.columns()),
                     ids.values.begin() + std::ptrdiff_t((row + 1) * ids.columns()));
  return out;
}

/// Which SOURCE each folder of goldens/forward was made from.
std::string source_of(const std::string& name) {
  const std::string models = (golden_dir() / "fixtures/models").string() + "/",
                    adapter = (golden_dir() / "fixtures/adapters/qlora-shakespeare").string();
  if (name == "stories260K-512") return models + "stories260K";
  if (name == "stories260K-yarn4-2048") return models + "stories260K+rope=yarn,factor=4,original=512";
  if (name == "tolstoy-4m-256") return models + "tolstoy-4m";
  if (name == "tolstoy-4m-yarn-2k-2048") return models + "tolstoy-4m-yarn-2k";
  if (name == "tolstoy-4m-yarn-2k-merged-2048") return models + "tolstoy-4m-yarn-2k+" + adapter;
  return "";
}

struct Distances {
  double logits, stock_logits, nll, stock_nll;
  bool argmax_equal = true;
  bool passes() const { return logits <= 2 * stock_logits && nll <= 2 * stock_nll && argmax_equal; }
};

std::size_t argmax(const double* row, std::size_t n) { return std::size_t(std::max_element(row, row + n) - row); }
std::size_t argmax(const float* row, std::size_t n) { return std::size_t(std::max_element(row, row + n) - row); }

Distances measure(const Checkpoint& model, const std::map<std::string, GoldenTensor>& golden) {
  const std::vector<Window> windows = windows_of(golden.at("input_ids"));
  const GoldenTensor &first = golden.at("logits_first64"), &last = golden.at("logits_last16");
  const std::size_t n_vocab = first.columns(), first_rows = first.shape[0], last_rows = last.shape[0];
  const LogitsResult got = logits(model, windows[0], 0, {});
  const float* got_last = got.logits.data() + (windows[0].size() - last_rows) * n_vocab;
  Distances d{};
  d.logits = std::max(max_difference(got.logits, first.values, first.values.size()),
                      max_difference(got_last, last.values, last.values.size()));
  d.stock_logits = std::max(max_difference(golden.at("stock_first64").values, first.values, first.values.size()),
                            max_difference(golden.at("stock_last16").values, last.values, last.values.size()));
  for (std::size_t row = 0; row < first_rows; ++row)
    d.argmax_equal &= argmax(&got.logits[row * n_vocab], n_vocab) == argmax(&first.values[row * n_vocab], n_vocab);
  for (std::size_t row = 0; row < last_rows; ++row)
    d.argmax_equal &= argmax(got_last + row * n_vocab, n_vocab) == argmax(&last.values[row * n_vocab], n_vocab);

  const auto scores = score(model, windows, {});
  std::vector<double> nll;
  for (const auto& window : scores)
    for (const TokenScore& token : window) nll.push_back(token.nll);
  EXPECT_EQ(nll.size(), golden.at("nll_f64").values.size());
  d.nll = max_difference(nll, golden.at("nll_f64").values, nll.size());
  d.stock_nll = max_difference(golden.at("nll_stock_f32").values, golden.at("nll_f64").values, nll.size());
  // alone or batched: the same bits
  for (std::size_t t = 0; t + 1 < windows[0].size(); ++t) EXPECT_EQ(got.nll[t], scores[0][t].nll);
  return d;
}

TEST(ForwardGolden, LogitsAndLossesOfTheTrainedModels) {
  std::size_t seen = 0;
  for (const auto& entry : fs::directory_iterator(golden_dir() / "fixtures/goldens/forward")) {
    if (!entry.is_directory()) continue;
    const std::string name = entry.path().filename();
    const std::string source = source_of(name);
    ASSERT_FALSE(source.empty()) << "a golden this test does not know: " << name;
    if (left_to_release(name == "tolstoy-4m-yarn-2k-2048" || name == "tolstoy-4m-yarn-2k-merged-2048" ||
                            name == "stories260K-yarn4-2048",
                        name))
      continue;
    const Distances d = measure(open_golden(source).checkpoint, read_golden(entry.path() / "golden.safetensors"));
    EXPECT_TRUE(d.passes()) << name << ": logits " << d.logits << " (stock " << d.stock_logits << "), nll " << d.nll
                            << " (stock " << d.stock_nll << "), argmax " << d.argmax_equal;
    RecordProperty(name, "logits " + std::to_string(d.logits / d.stock_logits) + " of stock, nll " +
                             std::to_string(d.nll / d.stock_nll));
    ++seen;
  }
  EXPECT_EQ(seen, kSanitized ? 2u : 5u);
}

// The comparator must fail for the mistakes it is there to find.
TEST(ForwardGolden, ComparatorSeesWrongRope) {
  if (kSanitized)
    GTEST_SKIP() << "five sweeps of 8192 tokens: arithmetic that the other presets check, ten times slower here";
  const auto golden = read_golden(golden_dir() / "fixtures/goldens/forward/stories260K-yarn4-2048/golden.safetensors");
  const Checkpoint good = open_golden(source_of("stories260K-yarn4-2048")).checkpoint;
  Checkpoint bad = good;
  bad.config.rotary_pairs = RotaryPairs::interleaved;
  EXPECT_FALSE(measure(bad, golden).passes()) << "pair layout";
  bad = good;
  bad.config.rope.attention_factor = 1.0;
  EXPECT_FALSE(measure(bad, golden).passes()) << "attention factor";
  bad = good;
  std::get<RopeYarn>(bad.config.rope.scaling).truncate = false;
  EXPECT_FALSE(measure(bad, golden).passes()) << "correction range";
  bad = good;
  bad.config.rope.scaling = RopeUnscaled{};
  EXPECT_FALSE(measure(bad, golden).passes()) << "no scaling";
  bad = good;
  bad.config.rms_eps = 2e-5;
  EXPECT_FALSE(measure(bad, golden).passes()) << "epsilon";
}

struct ZooDistance {
  double logits, nll;
};
ZooDistance measure_zoo(const Checkpoint& model, const std::map<std::string, GoldenTensor>& golden) {
  const std::vector<Window> windows = windows_of(golden.at("input_ids"));
  const LogitsResult got = logits(model, windows[0], 0, {});
  return {max_difference(got.logits, golden.at("logits_f64").values, got.logits.size()),
          max_difference(got.nll, golden.at("nll_f64").values, got.nll.size())};
}

// Every checkpoint of the zoo is compared or stands in excluded.json with its reason; the converter's index names them
// all (and the trained models, which are not of the zoo).
// meta.json holds how far transformers' float32 model is from float64. An NLL is a logit less a log-sum-exp, each at
// most one logit error off.
TEST(ForwardGolden, LogitsOfTheZoo) {
  const auto exclusions = excluded();
  const formats::Json index = formats::read_json(golden_dir() / "gguf/index.json");
  int compared = 0;
  for (const auto& [name, conversions] : index.items()) {
    if (exclusions.contains("zoo/" + name) || fs::exists(golden_dir() / "fixtures/models" / name)) continue;
    const fs::path folder = golden_dir() / "zoo" / name;
    ASSERT_TRUE(fs::exists(folder)) << name << " is neither here nor excluded";
    const double stock = formats::read_json(folder / "meta.json").at("f32_max_abs_diff").get<double>();
    const ZooDistance d =
        measure_zoo(open_golden(folder.string()).checkpoint, read_golden(folder / "golden.safetensors"));
    EXPECT_TRUE(d.logits <= 2 * stock) << name << ": " << d.logits << ", stock " << stock;
    EXPECT_TRUE(d.nll <= 4 * stock) << name << ": nll " << d.nll << ", stock logits " << stock;
    ++compared;
  }
  EXPECT_EQ(compared, 10);
  for (const auto& [name, reason] : exclusions) {
    if (!name.starts_with("zoo/")) continue;
    EXPECT_TRUE(index.contains(name.substr(4))) << name << " is excluded but not in the index";
    EXPECT_FALSE(fs::exists(golden_dir() / name)) << name << " is excluded, yet its golden is here";
  }
}

// Off by one position: a window that starts with one more token gives other logits unless positions are counted from
// its start. Sliding windows off by one key too.
TEST(ForwardGolden, ComparatorSeesTheZoosDetails) {
  const auto golden = read_golden(golden_dir() / "zoo/mistral-swa/golden.safetensors");
  Checkpoint bad = open_golden((golden_dir() / "zoo/mistral-swa").string()).checkpoint;
  const double stock =
      formats::read_json(golden_dir() / "zoo/mistral-swa/meta.json").at("f32_max_abs_diff").get<double>();
  EXPECT_TRUE(measure_zoo(bad, golden).logits <= 2 * stock);
  ASSERT_TRUE(bad.config.sliding_window);
  ++*bad.config.sliding_window;
  EXPECT_FALSE(measure_zoo(bad, golden).logits <= 2 * stock) << "one key more";
  bad.config.sliding_window.reset();
  EXPECT_FALSE(measure_zoo(bad, golden).logits <= 2 * stock) << "no window";

  const auto shifted = read_golden(golden_dir() / "zoo/llama-gqa/golden.safetensors");
  const Checkpoint model = open_golden((golden_dir() / "zoo/llama-gqa").string()).checkpoint;
  Window window = windows_of(shifted.at("input_ids"))[0];
  window.erase(window.begin());
  const LogitsResult late = logits(model, window, 1, {});
  const double* want = shifted.at("logits_f64").values.data() + 47 * 512;
  EXPECT_FALSE(max_difference(late.logits, want, 512) <= 6e-5)
      << "the first token, and with it every position, is missing";
}

}  // namespace
}  // namespace ropewalk::verify
