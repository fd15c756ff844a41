// Adapters that are not merged: two thin products beside each matrix, on the host and on a device played on the host
// (host_accelerator.h), against PEFT's own forward pass (tests/golden/make/peft_unmerged.py) and against the merge.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "formats/base64.h"
#include "tests/formats/hf_test_support.h"
#include "tests/verify/device_sweeps.h"
#include "tests/verify/golden_models.h"
#include "tests/verify/random_adapters.h"

namespace ropewalk::verify {
namespace {

/// Of an archive, or written out of the case itself.
std::filesystem::path folder_of(const formats::Json& adapter) {
  if (!adapter.contains("files")) return golden_dir() / adapter["folder"].get<std::string>();
  static const formats::TestFolder folder;
  for (const auto& [name, text] : adapter["files"].items())
    formats::write_bytes(folder / name, *formats::base64_bytes(text.get<std::string>()));
  return folder.path();
}

Checkpoint open_case(const formats::Json& one, bool unmerged, double scale = 1) {
  std::string text = (golden_dir() / one["base"].get<std::string>()).string();
  for (const formats::Json& adapter : one["adapters"])
    text += "+" + folder_of(adapter).string() + ":" + std::to_string(adapter["scale"].get<double>() * scale);
  formats::OpenOptions options;
  options.unmerged = unmerged;
  if (!unmerged) options.merge_dtype = DType::f32;
  return formats::open_source(formats::parse_source(text), options, {}).checkpoint;
}

struct Distance {
  double logits, nll;
};
Distance measure(const Checkpoint& model, const formats::Json& one) {
  const LogitsResult got = logits(model, one["ids"].get<Window>(), int(one["logits"].size()), {});
  std::vector<double> want;
  for (const formats::Json& row : one["logits"])
    for (const formats::Json& x : row) want.push_back(x.get<double>());
  EXPECT_EQ(want.size(), got.logits.size());
  const auto nll = one["nll"].get<std::vector<double>>();
  EXPECT_EQ(nll.size(), got.nll.size());
  return {max_difference(got.logits, want, want.size()), max_difference(got.nll, nll, nll.size())};
}

// The bound is ForwardGolden's: at most twice as far from float64 as the library's own float32 is. An NLL is a logit
// less a log-sum-exp, each at most one logit error off.
TEST(Unmerged, LogitsArePeftsOwn) {
  const formats::Json cases = formats::read_json(std::string(ROPEWALK_TEST_DATA_DIR) + "/peft_unmerged.json");
  EXPECT_EQ(cases.size(), 11u);
  for (const auto& [name, one] : cases.items()) {
    const double stock = one["stock"].get<double>();
    const Distance d = measure(open_case(one, true), one);
    EXPECT_TRUE(d.logits <= 2 * stock) << name << ": " << d.logits << ", stock " << stock;
    EXPECT_TRUE(d.nll <= 4 * stock) << name << ": nll " << d.nll << ", stock logits " << stock;
    RecordProperty(name, std::to_string(d.logits / stock) + " of stock");
    // the merge in f32 is the same function
    EXPECT_TRUE(measure(open_case(one, false), one).logits <= 2 * stock) << name << ", merged";
    // and what the bound must see: a scale off by 1 in 1000, no adapter at all
    EXPECT_FALSE(measure(open_case(one, true, 1.001), one).logits <= 2 * stock) << name << ", another scale";
    formats::Json bare = one;
    bare["adapters"] = formats::Json::array();
    EXPECT_FALSE(measure(open_case(bare, true), one).logits <= 2 * stock) << name << ", without its adapter";
  }
}

// layer_replication: what is written is a model of that depth, and nothing else may be merged beside it.
TEST(Unmerged, ADeeperModelIsOneOfItsOwn) {
  const formats::Json cases = formats::read_json(std::string(ROPEWALK_TEST_DATA_DIR) + "/peft_unmerged.json");
  const formats::Json& one = cases.at("a deeper model");
  const std::string base = (golden_dir() / one["base"].get<std::string>()).string(),
                    deeper = folder_of(one["adapters"][0]).string();
  const auto open = [&](const std::string& text) { return formats::open_source(formats::parse_source(text), {}, {}); };
  const formats::Source source = open(base + "+" + deeper);
  EXPECT_EQ(source.checkpoint.config.n_layers, 5);
  EXPECT_EQ(source.hf->config["num_hidden_layers"], 5);
  EXPECT_EQ(source.checkpoint.tensors.size(), 5 * 9 + 3u);
  EXPECT_EQ(source.merged_modules.size(), 10u);
  EXPECT_TRUE(std::ranges::any_of(source.checkpoint.warnings, [](const std::string& line) {
    return line.find("is of a model of 5 layers made of the base's 2") != std::string::npos;
  }));
  formats::expect_error(ErrorKind::unsupported, {"'layer_replication' makes another model"},
                        [&] { open(base + "+" + deeper + "+" + (golden_dir() / "peft/lora-basic").string()); });
  formats::Json config = formats::read_json(std::filesystem::path(deeper) / "adapter_config.json");
  config["layer_replication"] = {{0, 2}, {1, 3}, {1, 2}};
  const std::filesystem::path wrong = std::filesystem::path(deeper) / "wrong";
  std::filesystem::create_directories(wrong);
  formats::write_bytes(wrong / "adapter_config.json", config.dump());
  formats::write_bytes(wrong / "adapter_model.safetensors",
                       formats::read_bytes(std::filesystem::path(deeper) / "adapter_model.safetensors"));
  formats::expect_error(ErrorKind::bad_input, {"takes layer 2 of the base, which has 2 layers"},
                        [&] { open(base + "+" + wrong.string()); });
}

TEST(Unmerged, TheMergeRoundedToTheBasesTypeIsFurtherAway) {
  const formats::Json cases = formats::read_json(std::string(ROPEWALK_TEST_DATA_DIR) + "/peft_unmerged.json");
  const formats::Json& one = cases.at("trained");  // stored in f16
  formats::OpenOptions options;
  const std::string text = (golden_dir() / one["base"].get<std::string>()).string() + "+" +
                           (golden_dir() / one["adapters"][0]["folder"].get<std::string>()).string();
  const Checkpoint merged = formats::open_source(formats::parse_source(text), options, {}).checkpoint;
  EXPECT_GT(measure(merged, one).logits, 10 * measure(open_case(one, true), one).logits);
}

double worst_kl(const PairResult& result) {
  double worst = 0;
  for (const auto& window : result.scores)
    for (const PairScore& score : window) worst = max_or_nan(worst, score.kl);
  return worst;
}

// f32 both: the KL of logits that differ by e is about e^2 / 2, and they differ by some 1e-5 (device_sweep_test.cpp).
TEST(Unmerged, IsTheMergeInF32WhateverTheModules) {
  ModelConfig tied = awkward_config();
  tied.tied_head = true, tied.mlp_bias = false;
  for (const ModelConfig& config : {awkward_config(), tied}) {
    const Checkpoint model = random_model(config, 1);
    const std::vector<Window> windows = windows_of({40, 9}, config.n_vocab);
    const std::vector<std::vector<std::string>> targets = {
        all_modules(), {"q_proj"}, {"v_proj", "k_proj"}, {"up_proj"}, {"o_proj", "down_proj"}, {"lm_head", "embed"}};
    for (const auto& modules : targets) {
      const Checkpoint unmerged = with_random_adapters(model, modules, 2, true),
                       merged = with_random_adapters(model, modules, 2, false);
      EXPECT_LT(worst_kl(compare(merged, unmerged, windows, on_host(1))), 1e-9) << modules.front();
      EXPECT_GT(worst_kl(compare(merged, with_random_adapters(model, modules, 2, true, 1.01), windows, on_host(1))),
                1e-9)
          << modules.front();
      EXPECT_GT(worst_kl(compare(model, unmerged, windows, on_host(1))), 1e-6) << modules.front();
    }
  }
}

// Kinds of adapters whose deltas are low-rank, beside the weight and in it (PEFT's own files; what the merges are is held
// against PEFT in formats/peft_test). The bound is that of the test above; without the adapter it is far off.
TEST(Unmerged, EveryLinearKindIsItsMergeInF32) {
  for (const char* name :
       {"patterns", "lora-bias-rslora", "embedding-lora-lmhead", "vera", "adalora", "tied-lmhead-lora", "tied-ensure",
        "trainable-tokens", "modules-to-save", "vocab-resized-target-embed"}) {
    SCOPED_TRACE(name);
    const auto folder = golden_dir() / "peft" / name;
    const std::string base =
        (golden_dir() / "peft/bases" / formats::read_json(folder / "golden.json")["base"].get<std::string>()).string();
    const auto open = [&](const std::string& text, bool unmerged) {
      formats::OpenOptions options;
      options.unmerged = unmerged;
      return formats::open_source(formats::parse_source(text), options, {}).checkpoint;
    };
    const Checkpoint merged = open(base + "+" + folder.string(), false),
                     unmerged = open(base + "+" + folder.string(), true);
    const std::vector<Window> windows = windows_of({40, 9}, 96);  // of the base: a grown vocabulary has more
    EXPECT_LT(worst_kl(compare(merged, unmerged, windows, on_host(1))), 1e-9);
    if (merged.config.n_vocab != 96) continue;
    EXPECT_GT(worst_kl(compare(open(base, false), unmerged, windows, on_host(1))), 1e-4);
  }
}

// Layers whose adapters stand elsewhere: what one left in the factors must not meet the next.
TEST(Unmerged, LayersNeedNotHaveTheSameModules) {
  const Checkpoint model = random_model(awkward_config(), 3);
  const std::vector<std::string> modules = {"0.self_attn.q_proj", "1.self_attn.v_proj", "0.mlp.up", "2.mlp.gate"};
  const std::vector<Window> windows = windows_of({33}, model.config.n_vocab);
  EXPECT_LT(worst_kl(compare(with_random_adapters(model, modules, 4, false),
                             with_random_adapters(model, modules, 4, true), windows, on_host(1))),
            1e-9);
}

TEST(Unmerged, SameBitsForAnyThreadsBatchedOrAlone) {
  const Checkpoint model = with_random_adapters(random_model(awkward_config(), 5), all_modules(), 6, true);
  const std::vector<Window> windows = windows_of({50, 7, 130}, model.config.n_vocab);
  const auto want = score(model, windows, on_host(1));
  for (const int threads : {2, 3}) {
    const auto got = score(model, windows, on_host(threads));
    for (std::size_t w = 0; w < windows.size(); ++w)
      for (std::size_t t = 0; t < want[w].size(); ++t) ASSERT_EQ(got[w][t].nll, want[w][t].nll) << threads;
  }
  const auto alone = score(model, {&windows[2], 1}, on_host(2));
  for (std::size_t t = 0; t < want[2].size(); ++t) ASSERT_EQ(alone[0][t].nll, want[2][t].nll);
}

// --- on a device ---

double worst_nll(const std::vector<std::vector<TokenScore>>& got, const std::vector<std::vector<TokenScore>>& want) {
  double worst = got.size() == want.size() ? 0 : INFINITY;
  for (std::size_t w = 0; w < want.size() && worst < INFINITY; ++w)
    for (std::size_t t = 0; t < want[w].size(); ++t)
      worst = max_or_nan(worst, std::abs(got[w][t].nll - want[w][t].nll));
  return worst;
}
TEST(UnmergedOnADevice, AgreesWithTheHost) {
  ModelConfig plain = awkward_config(), bare = awkward_config();
  bare.attention_bias = bare.mlp_bias = false, bare.tied_head = true;
  for (const ModelConfig& config : {plain, bare})
    for (const DType stored : {DType::f32, DType::bf16, DType::f16}) {
      const Checkpoint base = stored_as(random_model(config, 7), stored),
                       model = with_random_adapters(base, {"_proj.weight", "lm_head", "embed"}, 8, true);
      const std::vector<Window> windows = windows_of({50, 12, 12}, config.n_vocab);
      const auto want = score(model, windows, on_host(1));
      HostAccelerator device(2, kRoom);
      // The bounds of device_sweep_test.cpp. A delta is a tenth of a weight: left out, it is far outside of them.
      EXPECT_LT(worst_nll(device_score(device, model, windows, in(Precision::f32), small()), want), 1e-4)
          << info(stored).name;
      SweepReport report;
      EXPECT_LT(worst_nll(device_score(device, model, windows, in(Precision::automatic, &report), small()), want),
                stored == DType::f16 ? 0.04 : 0.3)
          << info(stored).name;
      EXPECT_EQ(report.precision, stored == DType::f16 ? "f16" : "bf16");
      EXPECT_GT(worst_nll(device_score(device, base, windows, in(Precision::f32), small()), want), 0.5);
    }
}

// 16-bit sweeps keep 16 bits of the factors: against the same base, an adapter of 2^-9 of the weights (what one
// rounding to bf16 eats) is there in full.
TEST(UnmergedOnADevice, SmallDeltasAreNotRoundedAway) {
  ModelConfig config = awkward_config();
  config.attention_bias = config.mlp_bias = false;
  const Checkpoint base = stored_as(random_model(config, 9), DType::bf16);
  const std::vector<Window> windows = windows_of({60}, config.n_vocab);
  HostAccelerator device(2, kRoom);
  const auto nll = [&](const Checkpoint& model) {
    return device_score(device, model, windows, in(Precision::automatic), small());
  };
  // lm_head alone: its delta is added to f32 logits, nothing after it rounds
  const auto plain = nll(base), with = nll(with_random_adapters(base, {"lm_head"}, 10, true, 1.0 / 256));
  const auto host_plain = score(base, windows, on_host(1)),
             host_with = score(with_random_adapters(base, {"lm_head"}, 10, true, 1.0 / 256), windows, on_host(1));
  double largest = 0, error = 0;
  for (std::size_t t = 0; t < plain[0].size(); ++t) {
    const double moved = with[0][t].nll - plain[0][t].nll, want = host_with[0][t].nll - host_plain[0][t].nll;
    largest = std::max(largest, std::abs(want)), error = max_or_nan(error, std::abs(moved - want));
  }
  EXPECT_GT(largest, 1e-3);
  EXPECT_LT(error, 0.1 * largest);
}

TEST(UnmergedOnADevice, EqualBitsUnderAnyMemory) {
  ModelConfig config = awkward_config();
  config.attention_bias = config.mlp_bias = false;
  for (const DType stored : {DType::bf16, DType::f16, DType::f32}) {
    const Checkpoint model = with_random_adapters(stored_as(random_model(config, 11), stored), all_modules(), 12, true);
    const std::vector<Window> windows = windows_of({90, 6, 31}, config.n_vocab);
    const Precision precision = stored == DType::f32 ? Precision::f32 : Precision::automatic;
    SweepReport report;
    HostAccelerator roomy(1, kRoom);
    const auto want = device_score(roomy, model, windows, in(precision, &report), {});
    EXPECT_LE(roomy.most_used(), report.device_bytes);
    unsigned seed = 10;
    std::uint64_t limit = report.device_bytes;
    bool spilled = false;
    try {
      for (;;) {
        HostAccelerator device(seed++, limit);
        SweepReport one;
        ASSERT_EQ(worst_nll(device_score(device, model, windows, in(precision, &one), small()), want), 0) << limit;
        ASSERT_LE(device.most_used(), one.device_bytes);
        spilled = spilled || one.spilled;
        limit = one.device_bytes - 1;
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::device) << error.what();
    }
    EXPECT_TRUE(spilled);
  }
}

TEST(UnmergedOnADevice, FactorsThatAreNotFiniteAreRefused) {
  Checkpoint model = random_model(awkward_config(), 13);
  const auto& weight = *std::ranges::find_if(
      model.tensors, [](const TensorPtr& t) { return t->name() == "model.layers.1.mlp.down_proj.weight"; });
  std::vector<float> a(weight->info().columns(), 1);
  a[3] = std::nanf("");
  const TensorPtr factor = memory_tensor("x.lora_A.weight", {1, a.size()}, a),
                  b = memory_tensor("x.lora_B.weight", {weight->info().rows(), 1},
                                    std::vector<float>(weight->info().rows(), 1));
  const std::size_t at = std::size_t(&weight - model.tensors.data());
  model.tensors[at] = with_unmerged_delta(model.tensors[at], {{factor, b, 1}});
  const std::vector<Window> windows = windows_of({5}, model.config.n_vocab);
  HostAccelerator device(1, kRoom);
  for (const bool on_device : {false, true}) try {
      if (on_device) device_score(device, model, windows, in(Precision::bf16), small());
      else score(model, windows, on_host(1));
      FAIL();
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("down_proj.weight.lora_A' holds NaN in row 0, column 3"),
                std::string::npos)
          << error.what();
    }
}

}  // namespace
}  // namespace ropewalk::verify
