#include "verify/gates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "lib/recipes.h"
#include "tests/verify/golden_models.h"

namespace ropewalk::verify {
namespace {

/// `windows` windows of `length` positions with KL kl(t), losses 2 and 2 + shift, and agreement where same(t).
PairResult result_of(
    int windows, int length, const std::function<double(int)>& kl, double shift = 0,
    const std::function<bool(int)>& same = [](int) { return true; }) {
  PairResult out;
  for (int w = 0; w < windows; ++w) {
    auto& scores = out.scores.emplace_back();
    for (int t = 0; t < length; ++t)
      scores.push_back({t + 1 < length ? 2.0 : 0, t + 1 < length ? 2.0 + shift : 0, kl(t), same(t)});
  }
  return out;
}
TEST(Judge, SumsUp) {
  const LogitsReport r =
      summarise_pair(result_of(
                         3, 400, [](int t) { return t < 300 ? 0.001 : 0.009; }, 0.01, [](int t) { return t != 7; }),
                     300, 400);
  EXPECT_NEAR(r.kl_mean, 0.003, 1e-12);
  EXPECT_EQ(r.kl_median, 0.001);
  EXPECT_EQ(r.kl_p999, 0.009);
  EXPECT_EQ(r.kl_max, 0.009);
  EXPECT_NEAR(r.kl_growth.value(), 9, 1e-4);
  EXPECT_NEAR(r.top1, 399.0 / 400, 1e-12);
  EXPECT_NEAR(r.perplexity_source, std::exp(2.0), 1e-9);
  EXPECT_NEAR(r.ppl_ratio, std::exp(0.01), 1e-9);
  std::vector<std::pair<int, int>> buckets;
  std::uint64_t tokens = 0;
  for (const PairBucket& b : r.positions) buckets.emplace_back(b.from, b.to), tokens += b.tokens;
  EXPECT_EQ(buckets, (std::vector<std::pair<int, int>>{{0, 64}, {64, 128}, {128, 256}, {256, 300}, {300, 400}}));
  EXPECT_EQ(tokens, 1200u);
  EXPECT_NEAR(r.positions.back().kl_mean, 0.009, 1e-12);
  EXPECT_NEAR(r.positions[0].top1, 63.0 / 64, 1e-12);
}

// A window's last token has no next one, and at 65 tokens it is a bucket of its own.
TEST(Judge, ABucketOfLastPositionsHasNoLoss) {
  const LogitsReport r = summarise_pair(result_of(
                                            2, 65, [](int) { return 0.001; }, 0.01),
                                        0, 65);
  ASSERT_EQ(r.positions.size(), 2u);
  EXPECT_NEAR(r.positions[0].nll_difference.value(), 0.01, 1e-12);
  EXPECT_EQ(r.positions[1].tokens, 2u);
  EXPECT_FALSE(r.positions[1].nll_difference);
}

TEST(Judge, GrowthIsLeftOutWhereThereIsNothingToCompare) {
  const auto flat = [](int) { return 0.01; };
  const GateRequest asked_for{Figure::kl_growth, Bound::max, 1e9};
  for (const int original : {0, 100, 4096, -1}) {
    LogitsReport report = summarise_pair(result_of(1, 100, flat), original, 100);
    EXPECT_FALSE(report.kl_growth) << original;
    for (const Gate& gate : apply_gates(default_gates(DType::q8_0), report))
      EXPECT_NE(gate.name, "kl_growth") << "nothing was measured, so nothing passed";
    const auto asked = apply_gates({asked_for}, report);
    ASSERT_EQ(asked.size(), 1u);
    EXPECT_FALSE(asked[0].pass) << "asked for by name and not measured";
  }
  LogitsReport measured = summarise_pair(result_of(1, 100, flat), 50, 100);
  const auto gates = apply_gates(default_gates(DType::q8_0), measured);
  EXPECT_EQ(std::ranges::count(gates, "kl_growth", &Gate::name), 1);
  EXPECT_EQ(summarise_pair(result_of(1, 100, [](int) { return 0.0; }), 50, 100).kl_growth.value(), 1);
  EXPECT_NEAR(
      summarise_pair(result_of(1, 100, [](int t) { return t < 50 ? 1e-13 : 4e-13; }), 50, 100).kl_growth.value(), 1,
      1e-3)
      << "below the floor nothing grows";
}

TEST(Judge, OriginalContextByMethod) {
  ModelConfig config;
  config.context = 8192;
  EXPECT_EQ(original_context(config), 8192);
  config.rope.scaling = RopeLinear{4};
  EXPECT_EQ(original_context(config), 2048);
  config.rope.scaling = RopeYarn{.factor = 8, .original_context = 1024};
  EXPECT_EQ(original_context(config), 1024);
  config.rope.scaling = RopeNtk{2};
  EXPECT_EQ(original_context(config), std::nullopt) << "alpha is no ratio of contexts";
  config.rope.scaling = RopeLinear{4};
  config.context = 0;
  EXPECT_EQ(original_context(config), std::nullopt);
}

TEST(Judge, TheWorstBucketCounts) {
  LogitsReport r =
      summarise_pair(result_of(8, 2048, [](int t) { return t >= 1024 && t < 1100 ? 0.1 : 0.001; }), 256, 2048);
  const auto gates = apply_gates({{Figure::kl_mean, Bound::max, 0.0075}}, r);
  ASSERT_EQ(gates.size(), 2u);
  EXPECT_TRUE(gates[0].pass) << gates[0].value;
  EXPECT_FALSE(gates[1].pass) << gates[1].value;
  ASSERT_TRUE(gates[1].positions);
  EXPECT_EQ(gates[1].positions->from, 1024);
  EXPECT_EQ(gates[1].positions->to, 2048);
  EXPECT_EQ(r.parts_at, 1024);
  EXPECT_FALSE(all_pass(gates));
  EXPECT_FALSE(all_pass({})) << "no gate ran";
  EXPECT_TRUE(all_pass(apply_gates({{Figure::kl_mean, Bound::max, 0.05}}, r)));
  EXPECT_FALSE(r.parts_at);
}

// One flip among 64 tokens is 1.6 % and no sign of anything; eight of them are.
TEST(Judge, FewTokensGetSlack) {
  const auto flips = [](int n) {
    return result_of(
        1, 2048, [](int) { return 0.0; }, 0, [n](int t) { return t >= n; });
  };
  LogitsReport one = summarise_pair(flips(1), 256, 2048), eight = summarise_pair(flips(8), 256, 2048);
  EXPECT_TRUE(all_pass(apply_gates({{Figure::top1, Bound::min, 0.99}}, one)));
  const auto gates = apply_gates({{Figure::top1, Bound::min, 0.97}}, eight);
  EXPECT_TRUE(gates[0].pass);
  EXPECT_FALSE(gates[1].pass);
  EXPECT_EQ(gates[1].positions.value().to, 64);
  EXPECT_NEAR(gates[1].limit, 0.97 - 3 * std::sqrt(0.97 * 0.03 / 64), 1e-12);
}

TEST(Judge, RangesAreExact) {
  LogitsReport r = summarise_pair(result_of(2, 2048, [](int t) { return t == 777 ? 1.0 : 0.0; }), 256, 2048);
  const auto gate = [&](Figure figure, int from, std::optional<int> to) {
    return apply_gates({{figure, Bound::max, 0.5, Positions{from, to}}}, r)[0];
  };
  EXPECT_EQ(gate(Figure::kl_max, 777, 778).value, 1.0);
  EXPECT_EQ(gate(Figure::kl_max, 0, 777).value, 0.0);
  EXPECT_EQ(gate(Figure::kl_mean, 776, 778).value, 0.5);
  EXPECT_EQ(gate(Figure::kl_mean, 778, {}).value, 0.0);
  for (const auto& nothing : {gate(Figure::kl_mean, 5000, 6000), gate(Figure::kl_mean, 256, 256),
                              gate(Figure::kl_p999, 5, 6), gate(Figure::kl_growth, 0, 2048)}) {
    EXPECT_TRUE(std::isnan(nothing.value)) << nothing.name;
    EXPECT_FALSE(nothing.pass) << nothing.name << ": nothing measured, nothing passed";
  }
}

// Where two part is where their distributions do: losses alone, or a gate that asks for a difference, do not say.
TEST(Judge, OnlyADistanceSaysWhereTheyPart) {
  LogitsReport r = summarise_pair(result_of(2, 512, [](int) { return 0.01; }), 256, 512);
  EXPECT_FALSE(all_pass(apply_gates({{Figure::ppl_ratio, Bound::max, 0.5},
                                     {Figure::nll_difference, Bound::max, -1, Positions{256, 512}},
                                     {Figure::kl_mean, Bound::min, 1}},
                                    r)));
  EXPECT_FALSE(r.parts_at);
  apply_gates({{Figure::kl_max, Bound::max, 0.001, Positions{256, 512}}}, r);
  EXPECT_EQ(r.parts_at, 256);
}

TEST(Judge, NanNeverPasses) {
  const double nan = std::nan("");
  LogitsReport r = summarise_pair(result_of(
                                      2, 300, [&](int t) { return t == 290 ? nan : 0.0; }, nan),
                                  128, 300);
  for (const FigureInfo& figure : kFigures) {
    if (figure.figure == Figure::top1) continue;  // a count: a NaN never is the same token
    for (const Bound bound : {Bound::max, Bound::min})
      for (const Gate& gate : apply_gates({{figure.figure, bound, bound == Bound::max ? 1e300 : -1e300}}, r))
        EXPECT_FALSE(gate.pass) << figure.name << " " << name(bound);
  }
  EXPECT_FALSE(apply_gates({{Figure::kl_max, Bound::max, 1}}, r)[0].pass);
  const double infinite = std::numeric_limits<double>::infinity();
  for (const double value : {nan, infinite, -infinite})
    for (const Bound bound : {Bound::max, Bound::min}) EXPECT_FALSE(gate_on("x", value, bound, 0).pass) << value;
  EXPECT_TRUE(gate_on("x", 1, Bound::max, 1).pass);
  LogitsReport none = summarise_pair({}, 128, 300);
  for (const Gate& gate : apply_gates(default_gates(DType::q8_0), none))
    EXPECT_FALSE(gate.pass) << gate.name << ": nothing was compared";
}

// --- The limits against real models: a sound export passes, one that lost its rope fails.

std::vector<Window> held_out_windows(const Checkpoint& model, int context) {
  const auto tokenizer = formats::Tokenizer::create(*model.vocabulary);
  std::vector<std::vector<std::int32_t>> documents;
  for (const int d : {1, 3})
    documents.push_back(tokenizer->encode(
        read_text_file(golden_dir() / ("fixtures/goldens/perplexity/doc-" + std::to_string(d) + ".txt"), 1 << 20)));
  const WindowPlan plan = plan_windows(documents, context, 1 << 30, Protocol::tokens, 1);  // one window per document
  return window_ids(plan, documents, 0, plan.spans.size());
}

/// Every matrix of the model rounded to `dtype` and read back.
Checkpoint rounded(const Checkpoint& model, DType dtype) {
  Checkpoint out = model;
  for (TensorPtr& tensor : out.tensors)
    if (tensor->info().shape.size() == 2) tensor = cast(tensor, dtype);
  return out;
}

TEST(JudgeGolden, DefaultsPassASoundExportAndFailALostRope) {
  if (kSanitized)
    GTEST_SKIP() << "14 sweeps of 4096 tokens: arithmetic that the other presets check, ten times slower here";
  const std::string models = (golden_dir() / "fixtures/models").string() + "/",
                    adapter = (golden_dir() / "fixtures/adapters/qlora-shakespeare").string();
  const Checkpoint source = open_golden(models + "tolstoy-4m-yarn-2k+" + adapter).checkpoint;
  const std::vector<Window> windows = held_out_windows(source, 2048);
  int judged = 0;
  const auto judge = [&](const Checkpoint& candidate, DType encoding) {
    LogitsReport report = summarise_pair(compare(source, candidate, windows, {}), 256, 2048);
    std::vector<Gate> gates = apply_gates(default_gates(encoding), report);
    std::string line;
    for (const Gate& gate : gates) line += gate.name + " " + std::to_string(gate.value) + (gate.pass ? " " : "! ");
    testing::Test::RecordProperty("gates_" + std::to_string(++judged) + "_" + std::string(info(encoding).name), line);
    return gates;
  };
  EXPECT_TRUE(all_pass(judge(source, DType::f32)));
  EXPECT_TRUE(all_pass(judge(rounded(source, DType::q8_0), DType::q8_0)));
  EXPECT_TRUE(all_pass(judge(rounded(source, DType::bf16), DType::bf16)));
  EXPECT_FALSE(all_pass(judge(rounded(source, DType::q8_0), DType::f16))) << "q8_0 is no f16";
  Checkpoint broken = rounded(source, DType::q8_0);
  broken.config.rope.scaling = RopeUnscaled{};
  EXPECT_FALSE(all_pass(judge(broken, DType::q8_0)));
  Checkpoint subtle = rounded(source, DType::q8_0);
  subtle.config.rope.attention_factor = 1.0;
  EXPECT_FALSE(all_pass(judge(subtle, DType::q8_0))) << "attention factor lost";
  subtle = rounded(source, DType::q8_0);
  std::get<RopeYarn>(subtle.config.rope.scaling).factor = 7;
  EXPECT_FALSE(all_pass(judge(subtle, DType::q8_0))) << "factor 7 instead of 8";
  subtle = rounded(source, DType::q8_0);
  std::get<RopeYarn>(subtle.config.rope.scaling).truncate = false;
  EXPECT_FALSE(all_pass(judge(subtle, DType::q8_0))) << "correction range not rounded";
}

}  // namespace
}  // namespace ropewalk::verify
