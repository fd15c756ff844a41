// What the real transformers' classes turn by: the frequencies of tests/golden/class_ropes.json
// (tests/golden/make/class_ropes.py), of files that say nothing and of published ones.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "formats/config_file.h"
#include "formats/engines/engine.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

const Json& golden() {
  static const Json all =
      Json::parse(read_text_file(std::filesystem::path(ROPEWALK_TEST_DATA_DIR) / "class_ropes.json", 1 << 22));
  return all;
}

/// [pairs, pair 1, the middle pair, the last, attention factor], as the golden has it.
std::vector<double> table_of(const EngineRope& rope) {
  const EngineTable table = engine_table(rope, 1);
  const std::vector<float>& f = table.inv_freq;
  const std::size_t n = f.size();
  if (n == 0) return {};
  return {double(n), f[n > 1], f[n / 2], f[n - 1], table.attention_factor};
}

/// Floats of other builds' pow differ in a few units of the last place.
std::string difference(const Json& want, const EngineRope& rope) {
  const std::vector<double> got = table_of(rope);
  if (got.size() != want.size()) return "no table";
  for (std::size_t i = 0; i < got.size(); ++i)
    if (!(std::abs(got[i] - want[i].get<double>()) <= 1e-6 * std::abs(want[i].get<double>())))
      return "entry " + std::to_string(i) + " is " + Json(got[i]).dump() + ", " + want[i].dump() + " in transformers";
  return "";
}

/// Empty: every kind of layer turns as the golden says.
std::string difference(const Json& want, const EngineReading& reading) {
  if (reading.error) return reading.error->kind + ": " + reading.error->text;
  if (want.is_array())
    return reading.ropes.size() == 1 && reading.ropes[0].layer_type.empty() ? difference(want, reading.ropes[0])
                                                                            : "a rope for each kind of layer";
  for (const auto& [kind, table] : want.items()) {
    const auto rope = std::find_if(reading.ropes.begin(), reading.ropes.end(),
                                   [&](const EngineRope& one) { return one.layer_type == kind; });
    if (rope == reading.ropes.end()) return "no rope of " + kind;
    if (const std::string what = difference(table, *rope); !what.empty()) return kind + ": " + what;
  }
  return "";
}

bool not_followed(const EngineReading& reading) { return reading.error && reading.error->kind == kNotFollowed; }

/// Classes with keys and kinds of layers of their own: not followed where the file does not give each kind a dictionary.
bool may_be_unknown(const std::string& type) {
  static const std::set<std::string> all = {"beam",
                                            "deepseek_v4",
                                            "diffusion_gemma_text",
                                            "embedding_gemma2_text",
                                            "gemma4_text",
                                            "laguna",
                                            "lfm3",
                                            "gemma4_unified_text",
                                            "mellum",
                                            "mimo_v2_flash",
                                            "neomme",
                                            "modernbert",
                                            "modernbert-decoder",
                                            "step3p5",
                                            "ultrabert",
                                            "zaya",
                                            "zamba2",
                                            "gpt_neox"};
  return all.contains(type);
}

/// In 4.57 a model of Gemma 3's kind and Olmo 3 build one rotary embedding for each kind of layer: the golden has the full layers' alone.
Json of_version(const Json& want, const std::string& type, const std::string& version) {
  if (!version.starts_with("4.") || (type != "gemma3_text" && type != "gemma3n_text" && type != "olmo3")) return want;
  return {{"full_attention", want}};
}

TEST(ClassRopes, WhereTheFileIsSilent) {
  std::size_t compared = 0;
  for (const auto& [version, classes] : golden()["classes"].items())
    for (const auto& [type, want] : classes.items()) {
      const Json config = {{"model_type", type}, {"hidden_size", 768}, {"num_attention_heads", 8}};
      const EngineReading reading = read_as(parse_engine("transformers@" + version), config);
      if (not_followed(reading)) {
        EXPECT_TRUE(may_be_unknown(type)) << type << " in " << version << ": " << reading.error->text;
        continue;
      }
      ++compared;
      EXPECT_EQ(difference(of_version(want, type, version), reading), "") << type << " in " << version;
    }
  EXPECT_GE(compared, 240u);
}

TEST(ClassRopes, PublishedFiles) {
  const std::filesystem::path folder = std::filesystem::path(ROPEWALK_GOLDEN_DIR) / "lint" / "configs";
  std::size_t compared = 0, unknown = 0;
  for (const auto& [name, want] : golden()["published"].items()) {
    const Json config = parse_python_json(name, read_text_file(folder / name, 1 << 22)).json;
    const EngineReading reading = read_as(newest(Engine::transformers), config);
    if (not_followed(reading)) {
      ++unknown;
      continue;
    }
    ++compared;
    EXPECT_EQ(difference(want, reading), "") << name;
  }
  EXPECT_GE(compared, 110u);
  EXPECT_LE(unknown, 13u);
}

/// The comparison sees what it is for.
TEST(ClassRopes, AnotherBaseWidthOrFactorIsADifference) {
  const Json& want = golden()["classes"]["5.23.0"]["cohere"];
  const Json config = {{"model_type", "cohere"}, {"hidden_size", 768}, {"num_attention_heads", 8}};
  const EngineVersion engine = newest(Engine::transformers);
  ASSERT_EQ(difference(want, read_as(engine, config)), "");
  for (const char* patch : {R"({"rope_theta": 10000.0})", R"({"head_dim": 64})", R"({"partial_rotary_factor": 0.5})",
                            R"({"rope_scaling": {"rope_type": "linear", "factor": 1.001}})"}) {
    Json other = config;
    other.merge_patch(Json::parse(patch));
    EXPECT_NE(difference(want, read_as(engine, other)), "") << patch;
  }
}

/// A base that a class has by itself is the file's once it is written there.
TEST(ClassRopes, TheFileGoesFirst) {
  const Json config = {{"model_type", "qwen3_vl_text"}, {"hidden_size", 768}, {"num_attention_heads", 8}};
  const auto theta = [&](const char* engine, const char* patch) {
    Json said = config;
    said.merge_patch(Json::parse(patch));
    const EngineReading reading = read_as(parse_engine(engine), said);
    return reading.ropes.empty() ? 0.0 : reading.ropes[0].spec.theta;
  };
  EXPECT_EQ(theta("transformers@5.23.0", "{}"), 500000);  // 5.23.0 and 4.57.6 were asked
  EXPECT_EQ(theta("transformers@4.57.6", R"({"rope_scaling": {"rope_type": "default"}})"), 5000000);
  EXPECT_EQ(theta("transformers@5.23.0", R"({"rope_theta": 777.0})"), 777);
  EXPECT_EQ(theta("vllm", "{}"), 500000) << "vllm reads the file through transformers";
}

}  // namespace
}  // namespace ropewalk::formats
