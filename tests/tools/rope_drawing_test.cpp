// rope --svg.
#include <cmath>

#include "tests/tools/rope_files.h"
#include "tools/rope_chart.h"

namespace ropewalk::tools::test {
namespace {

/// Tags open and close in order, attributes are quoted, text has no bare '<' or '&': "" or the first fault.
std::string xml_fault(const std::string& text) {
  std::vector<std::string> open;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '&') {
      const std::size_t end = text.find(';', at);
      if (end == std::string::npos || end - at > 6) return "bare & at " + std::to_string(at);
    }
    if (text[at] != '<') {
      ++at;
      continue;
    }
    const std::size_t end = text.find('>', at);
    if (end == std::string::npos) return "open tag at " + std::to_string(at);
    const std::string tag = text.substr(at + 1, end - at - 1);
    if (tag.find('<') != std::string::npos) return "bare < in " + tag;
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return "quotes in " + tag;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return "closes " + tag;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    at = end + 1;
  }
  return open.empty() ? "" : "left open: " + open.back();
}

std::vector<std::pair<double, double>> points_of(const std::string& svg, const std::string& id) {
  const std::size_t at = svg.find("<polyline id=\"" + id + "\""), from = svg.find("points=\"", at) + 8;
  std::vector<std::pair<double, double>> points;
  if (at == std::string::npos) return points;
  std::istringstream in(svg.substr(from, svg.find('"', from) - from));
  char comma = 0;
  for (double x = 0, y = 0; in >> x >> comma >> y;) points.emplace_back(x, y);
  return points;
}
/// The y of a text label's axis mark: labels stand 4 below it.
double y_of_label(const std::string& svg, const std::string& label) {
  const std::size_t at = svg.find(">" + label + "</text>"), from = svg.rfind("y=\"", at) + 3;
  return at == std::string::npos ? NAN : std::stod(svg.substr(from)) - 4;
}

TEST(RopeDrawing, CurvesStandWhereTheAxesSay) {
  Scratch scratch;
  const std::string file = (scratch / "rope.svg").string();
  ASSERT_EQ(run({"rope", yarn_llama(scratch), "--svg", file}).exit, 0);
  const std::string svg = slurp(file);
  EXPECT_EQ(xml_fault(svg), "");
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  const auto before = points_of(svg, "before"), after = points_of(svg, "curve-0"), slow = points_of(svg, "slow-0");
  ASSERT_EQ(before.size(), 64u);
  ASSERT_EQ(after.size(), 64u);
  ASSERT_EQ(slow.size(), 64u);
  EXPECT_TRUE(points_of(svg, "curve-1").empty());
  // pair 0 turns by 1 radian per token, pair 32 by 0.01, pair 48 by 0.001 before and 1/16 of it after
  EXPECT_NEAR(before[0].second, y_of_label(svg, "1"), 0.01);
  EXPECT_NEAR(before[32].second, y_of_label(svg, "1e-2"), 0.01);
  EXPECT_NEAR(before[48].second, y_of_label(svg, "1e-3"), 0.01);
  const double decade = y_of_label(svg, "1e-2") - y_of_label(svg, "1e-1");
  EXPECT_NEAR(after[48].second - before[48].second, decade * std::log10(16.0), 0.02);
  EXPECT_NEAR(slow[0].second, y_of_label(svg, "1x"), 0.01);
  EXPECT_NEAR(slow[63].second, y_of_label(svg, "16x"), 0.01);
  EXPECT_LT(before[0].first, before[63].first);
  ASSERT_EQ(run({"rope", yarn_llama(scratch), "--svg", file, "--overwrite"}).exit, 0);
  EXPECT_EQ(slurp(file), svg) << "the same bytes";
}

TEST(RopeDrawing, OnePairIsADash) {
  Scratch scratch;
  const std::string path = (scratch / "config.json").string(), file = (scratch / "rope.svg").string();
  std::ofstream(path) << R"({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 4,
    "max_position_embeddings": 512})";
  const Ran ran = run({"rope", path, "--svg", file});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const std::string svg = slurp(file);
  EXPECT_EQ(xml_fault(svg), "");
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf\""), std::string::npos);
  const auto curve = points_of(svg, "curve-0");
  ASSERT_EQ(curve.size(), 2u);
  EXPECT_LT(curve[0].first, curve[1].first);
  EXPECT_NEAR(curve[0].second, y_of_label(svg, "1"), 0.01);  // 1 radian per token
}

TEST(RopeDrawing, ARopeThatFollowsTheLengthSaysWhich) {
  Scratch scratch;
  const std::string file = (scratch / "rope.svg").string();
  const std::string dynamic =
      config_in(scratch / "dynamic", {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 4.0}}}});
  ASSERT_EQ(run({"rope", dynamic, "--sequence-length", "12345", "--svg", file}).exit, 0);
  EXPECT_NE(slurp(file).find(" in a sequence of 12345 tokens"), std::string::npos);
  ASSERT_EQ(run({"rope", yarn_llama(scratch), "--sequence-length", "12345", "--svg", file, "--overwrite"}).exit, 0);
  EXPECT_EQ(slurp(file).find("12345"), std::string::npos);
}

TEST(RopeDrawing, APlainRopeHasOnePlot) {
  Scratch scratch;
  const std::string file = (scratch / "rope.svg").string();
  ASSERT_EQ(run({"rope", config_in(scratch / "plain", Json::object()), "--svg", file}).exit, 0);
  const std::string plain = slurp(file);
  EXPECT_EQ(xml_fault(plain), "");
  EXPECT_EQ(points_of(plain, "curve-0").size(), 64u);
  EXPECT_EQ(plain.find("slow"), std::string::npos) << "nothing is slower than before";
  EXPECT_NE(plain.find(">pair</text>"), std::string::npos);
  ASSERT_EQ(run({"rope", yarn_llama(scratch), "--svg", file, "--overwrite"}).exit, 0);
  EXPECT_NE(slurp(file).find("slower by"), std::string::npos) << "control";
}

TEST(RopeDrawing, OneCurveForEachReading) {
  Scratch scratch;
  const std::string file = (scratch / "rope.svg").string();
  ASSERT_EQ(
      run({"rope", qwen(scratch, true), "--engine", "all", "--engine", "transformers@4.51.3", "--svg", file}).exit, 0);
  const std::string svg = slurp(file);
  EXPECT_EQ(xml_fault(svg), "");
  EXPECT_EQ(points_of(svg, "curve-0").size(), 64u);
  EXPECT_EQ(points_of(svg, "curve-1").size(), 64u);
  EXPECT_TRUE(points_of(svg, "curve-2").empty()) << "three read it as a plain rope: one curve";
  EXPECT_NE(svg.find("meant, transformers 5.23.0, vllm 0.33.0, sglang 0.5.23"), std::string::npos);
  // each with the rope it has: a factor of M / L = 1 is a yarn that scales nothing
  EXPECT_NE(svg.find(">exllamav2 0.3.2: plain (theta 1000000, attention factor 1); "), std::string::npos);
  EXPECT_NE(svg.find("transformers 4.51.3: YaRN x1 of 32768"), std::string::npos);
  // hostile names do not leave their text
  fs::create_directories(scratch / "a<b&\"c");
  const std::string odd = config_in(scratch / "a<b&\"c", {});
  ASSERT_EQ(run({"rope", odd, "--svg", file, "--overwrite"}).exit, 0);
  EXPECT_EQ(xml_fault(slurp(file)), "");
}

/// Curves below 1x stand where they are, every kind of layer has its plots, and who has no curve is named.
TEST(RopeDrawing, NothingIsClippedOrLeftOut) {
  Scratch scratch;
  const std::string file = (scratch / "rope.svg").string();
  Json lists = {{"rope_type", "longrope"}, {"original_max_position_embeddings", 4096}, {"factor", 2.0}};
  for (const char* key : {"short_factor", "long_factor"})
    for (int pair = 0; pair < 64; ++pair) lists[key].push_back(pair < 32 ? 1.0 : 0.25);
  const std::string faster = config_in(scratch / "faster", {{"rope_scaling", lists}});
  ASSERT_EQ(run({"rope", faster, "--svg", file}).exit, 0);
  std::string svg = slurp(file);
  const auto slow = points_of(svg, "slow-0");
  ASSERT_EQ(slow.size(), 64u);
  EXPECT_NEAR(slow[0].second, y_of_label(svg, "1x"), 0.01);
  EXPECT_NEAR(slow[63].second, y_of_label(svg, "0.25x"), 0.01);

  const std::string gemma =
      config_in(scratch / "gemma",
                {{"model_type", "gemma3_text"},
                 {"head_dim", 128},
                 {"layer_types", {"sliding_attention", "full_attention"}},
                 {"num_hidden_layers", 2},
                 {"rope_parameters",
                  {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
                   {"sliding_attention", {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 10000.0}}}}}});
  ASSERT_EQ(run({"rope", gemma, "--engine", "all", "--svg", file, "--overwrite"}).exit, 0);
  svg = slurp(file);
  EXPECT_EQ(xml_fault(svg), "");
  EXPECT_EQ(points_of(svg, "curve-0").size(), 64u);
  const auto sliding = points_of(svg, "slow-0-layers-1"), full = points_of(svg, "slow-0");
  ASSERT_EQ(sliding.size(), 64u);
  EXPECT_GT(sliding[0].second, full[0].second) << "below the plots of the first kind";
  EXPECT_NE(svg.find(">full_attention</text>"), std::string::npos);
  EXPECT_NE(svg.find(">sliding_attention</text>"), std::string::npos);
  EXPECT_NE(svg.find("no curve: exllamav2 0.3.2, which is not followed here"), std::string::npos);
}

/// A reading that has no layers of a kind has no curve there, one with a rope for all layers has the same everywhere.
TEST(RopeDrawing, KindsThatAReadingDoesNotHave) {
  const auto rope = [](double theta) { return RopeSpec{theta, 64, RopeUnscaled{}}; };
  const std::vector<RopeGroup> readings = {{"meant", {{{"full", rope(1e6)}, {"sliding", rope(1e4)}}, 4096}},
                                           {"one for all", {{{"", rope(5e5)}}, 4096}},
                                           {"full alone", {{{"full", rope(2e6)}}, 4096}}};
  const std::string svg = rope_chart(readings, {"x", 4096, 4096, {}});
  EXPECT_FALSE(points_of(svg, "curve-2").empty());
  EXPECT_FALSE(points_of(svg, "curve-1-layers-1").empty());
  EXPECT_TRUE(points_of(svg, "curve-2-layers-1").empty());
  EXPECT_NE(svg.find("no curve: full alone, which has no layers of this kind"), std::string::npos);
  EXPECT_EQ(svg.find("no curve"), svg.rfind("no curve"));
}

}  // namespace
}  // namespace ropewalk::tools::test
