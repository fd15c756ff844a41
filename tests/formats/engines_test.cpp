#include "formats/engines/engine.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "lib/error.h"
#include "tests/formats/rope_golden.h"

// Every row of tests/golden/rope: 109 config.json files as 28 engine builds read them.

namespace ropewalk::formats {
namespace {

using golden::engines;

struct Build {
  EngineVersion version;
  EngineOptions options;
};

/// "vllm-0.33.0", "llama.cpp-0.5.0+transformers-4.57.6".
Build build_of(const std::string& name) {
  const std::size_t plus = name.find('+');
  std::string engine = name.substr(0, plus);
  engine[engine.find('-')] = '@';
  Build build{parse_engine(engine), {}};
  if (plus != std::string::npos) build.options.converter_transformers = name.substr(name.rfind('-') + 1);
  return build;
}

struct Tally {
  int rows = 0, errors = 0, contexts = 0, not_collected = 0, without_run = 0;
  std::int64_t frequencies = 0, equal = 0, worst = 0, double_equal = 0;  // float32 values; in ulps
  std::int64_t angles = 0;
  double at_position_1 = 0, at_65535 = 0, share_of_tolerance = 0;  // cosines and sines
};

/// The goldens keep some numbers as text, to every digit.
double number_of(const Json& value) {
  return value.is_string() ? std::stod(value.get<std::string>()) : value.get<double>();
}

/// Everything that is wrong with one reading of one case.
class Comparison {
 public:
  Comparison(const Json& one, const Build& build, Tally& tally)
      : config_(one["config"]), lengths_(one["seq_lens"]), build_(build), tally_(tally) {}

  std::vector<std::string> faults;

  void run(const Json& result) {
    ++tally_.rows;
    const EngineReading reading = read_as(build_.version, config_, build_.options);
    compare_context(reading, result);
    if (result.contains("not_collected")) {
      ++tally_.not_collected;
      return;
    }
    const char* error = result.contains("convert_error") ? "convert_error" : "error";
    if (result.contains(error)) {
      ++tally_.errors;
      if (!reading.error)
        return fault("reads " + describe(reading.ropes.at(0).spec) + " where the engine raises " +
                     result[error].get<std::string>().substr(0, 120));
      return compare_error(*reading.error, result[error].get<std::string>());
    }
    if (reading.error) return fault("raises " + reading.error->kind + ": " + reading.error->text);
    if (result.contains("keys")) return compare_runs(result);
    if (reading.ropes.size() != result["layers"].size())
      return fault("has " + std::to_string(reading.ropes.size()) + " ropes");
    for (const auto& [layer, rows] : result["layers"].items())
      for (const Json& row : rows) compare_row(reading, layer == "all" ? "" : layer, row);
  }

 private:
  void fault(const std::string& text) { faults.push_back(text); }

  void compare_error(const EngineError& got, const std::string& want) {
    const std::size_t colon = want.find(": ");
    if (got.kind != want.substr(0, colon))
      fault("raises " + got.kind + ": " + got.text + ", the engine " + want.substr(0, 120));
    std::string text = want.substr(colon + 2);
    for (std::size_t at; (at = text.find('\n')) != std::string::npos;)
      text.replace(at, text.find_first_not_of("\n ", at) - at, " ");  // ours stand in one line
    if (text.starts_with('"')) text.erase(0, 1);                      // str() of a KeyError is the repr() of its text
    if (!got.text.starts_with(text.substr(
            0, std::min({text.size() - 1, text.find("but Transformers"), text.find("got {"), std::size_t(80)}))))
      fault("says '" + got.text + "', the engine '" + text.substr(0, 160) + "'");
  }

  void compare_context(const EngineReading& reading, const Json& result) {
    if (result.contains("served_context_error")) {
      ++tally_.contexts;
      const std::string want = result["served_context_error"].get<std::string>();
      if (!reading.context_error)
        return fault("serves " + std::to_string(reading.context.value_or(-1)) + " where the engine raises " + want);
      if (reading.context_error->kind != want.substr(0, want.find(':')))
        fault("context: " + reading.context_error->kind + ", the engine " + want);
      return;
    }
    if (!result.contains("served_context")) return;
    ++tally_.contexts;
    if (reading.context_error)
      return fault("context: " + reading.context_error->kind + ": " + reading.context_error->text);
    if (reading.context != result["served_context"].get<int>())
      fault("serves " + std::to_string(reading.context.value_or(-1)) + ", the engine " +
            result["served_context"].dump());
  }

  void compare_row(const EngineReading& reading, const std::string& layer, const Json& row) {
    // a row of vLLM's longrope belongs to a --max-model-len
    if (row.contains("selection") && row.contains("max_model_len") && row["max_model_len"].is_number() &&
        row["max_model_len"] != reading.context) {
      Build other = build_;
      other.options.context = row["max_model_len"].get<int>();
      const EngineReading asked = read_as(other.version, config_, other.options);
      if (asked.error) return fault("raises " + asked.error->text + " at " + row["max_model_len"].dump());
      return compare_lists(asked, layer, row);
    }
    compare_lists(reading, layer, row);
  }

  void compare_lists(const EngineReading& reading, const std::string& layer, const Json& row) {
    const EngineRope* rope = nullptr;
    for (const EngineRope& one : reading.ropes)
      if (one.layer_type == layer) rope = &one;
    if (!rope) return fault("has no rope for layer type '" + layer + "'");
    const auto* longrope = std::get_if<RopeLongrope>(&rope->spec.scaling);
    if (row.contains("selection") && row["selection"].get<std::string>().rfind("long when any position", 0) == 0) {
      if (!longrope) return fault("is no longrope");
      const int original = longrope->original_context;  // position L is the one after L tokens
      compare_table(*rope, original + 1, row, "inv_freq_short", "a");
      compare_table(*rope, original + 2, row, "inv_freq_long", "a");
      return;
    }
    const int length = row.contains("seq_len") && row["seq_len"].is_number() ? row["seq_len"].get<int>() : 1;
    compare_table(*rope, length, row, "inv_freq", "a");
    if (row.contains("seq_len") && row["seq_len"] == "any")
      for (const Json& other : lengths_) compare_table(*rope, other.get<int>(), row, "inv_freq", "a");
    const double divisor = row.contains("position_divisor") ? number_of(row["position_divisor"]) : 1;
    if (rope->position_divisor != divisor) fault("divides positions by " + std::to_string(rope->position_divisor));
    for (const char* key : {"probe", "probes"})
      if (row.contains(key)) {
        if (row[key].is_object()) compare_probe(*rope, length, row, row[key]);
        else
          for (const Json& probe : row[key]) compare_probe(*rope, length, row, probe);
      }
  }

  void compare_table(const EngineRope& rope, int length, const Json& row, const char* vector, const char* factor) {
    const std::vector<float> want = golden::vector_of(row[vector].get<std::string>());
    const EngineTable got = engine_table(rope, length);
    RopeTable ours = rope_table(rope.spec, length);
    if (got.inv_freq.size() != want.size())
      return fault("has " + std::to_string(got.inv_freq.size()) + " pairs, the engine " + std::to_string(want.size()));
    if (got.attention_factor != golden::from_hex(row[factor].get<std::string>()))
      fault("attention factor " + std::to_string(got.attention_factor) + ", the engine " +
            std::to_string(golden::from_hex(row[factor].get<std::string>())));
    std::int64_t worst = 0, worst_double = 0;
    for (std::size_t pair = 0; pair < want.size(); ++pair) {
      const std::int64_t distance = golden::ulps(got.inv_freq[pair], want[pair]),
                         from_double = golden::ulps(float(ours.inv_freq[pair] * rope.position_divisor), want[pair]);
      worst = std::max(worst, distance);
      if (!(double(from_double) <=
            golden::tolerance_ulps(rope.spec, length, pair) + (rope.position_divisor == 1 ? 0 : 1)))
        worst_double = std::max(worst_double, from_double);
      ++tally_.frequencies;
      tally_.equal += distance == 0;
      tally_.double_equal += from_double == 0;
    }
    tally_.worst = std::max(tally_.worst, worst);
    if (worst > 3)
      fault(std::string(vector) + " is off by " + std::to_string(worst) + " ulp at " + std::to_string(length) +
            " tokens: " + describe(rope.spec));
    else if (worst_double > 0)
      fault(std::string(vector) + " of rope_table is off by " + std::to_string(worst_double) + " ulp at " +
            std::to_string(length) + " tokens: " + describe(rope.spec));
  }

  void compare_probe(const EngineRope& rope, int length, const Json& row, const Json& probe) {
    const int position = probe["position"].get<int>();
    const EngineRotation got = engine_rotation(
        rope, std::max(length, row.contains("seq_len") && row["seq_len"].is_number() ? length : position + 1),
        position);
    const EngineTable table = engine_table(rope, length);
    const std::vector<float> inv_freq = golden::vector_of(row["inv_freq"].get<std::string>());
    if (inv_freq.size() != table.inv_freq.size()) return;  // a fault already
    for (std::size_t at = 0; at < probe["pairs"].size(); ++at) {
      const auto pair = probe["pairs"][at].get<std::size_t>();
      const double angle = double(inv_freq[pair]) * position / rope.position_divisor,
                   a = std::abs(table.attention_factor);
      // the frequency as far as it differs, the product with the position (and the quotient before), cosine and product
      // with A: each half a unit, 2^-24
      const double tolerance =
          a * (angle * (2.0 * double(golden::ulps(table.inv_freq[pair], inv_freq[pair])) + 2) + 4) * 0x1p-24;
      const double difference =
          std::max(std::abs(double(got.cos[pair]) - golden::from_hex(probe["cos"][at].get<std::string>())),
                   std::abs(double(got.sin[pair]) - golden::from_hex(probe["sin"][at].get<std::string>())));
      ++tally_.angles;
      tally_.share_of_tolerance = std::max(tally_.share_of_tolerance, difference / tolerance);
      if (!(difference <= tolerance))
        fault("cosine or sine off by " + std::to_string(difference) + " at position " + std::to_string(position) +
              ", pair " + std::to_string(pair));
    }
  }

  // llama.cpp: what its graph multiplies with -------------------------------------------------------------------------

  void compare_runs(const Json& result) {
    if (!result.contains("runs")) ++tally_.without_run;
    else
      for (const auto& [asked, run] : result["runs"].items()) {
        Build build = build_;
        if (asked != "0") build.options.context = std::stoi(asked);
        const EngineReading reading = read_as(build.version, config_, build.options);
        ++tally_.contexts;
        if (reading.error) return fault("raises " + reading.error->kind + ": " + reading.error->text);
        if (reading.context != run["n_ctx"].get<int>())
          fault("serves " + std::to_string(reading.context.value_or(-1)) + ", the engine " + run["n_ctx"].dump());
        if (reading.ropes.size() != run["nodes"].size())
          return fault("has " + std::to_string(reading.ropes.size()) + " ropes");
        for (const Json& node : run["nodes"]) compare_node(reading, node, run["n_ctx"].get<int>());
      }
  }

  void compare_node(const EngineReading& reading, const Json& node, int n_ctx) {
    const EngineRope* rope = &reading.ropes[0];
    for (const EngineRope& one : reading.ropes)
      if (Json(one.spec.theta).dump() == Json(number_of(node["freq_base"])).dump()) rope = &one;
    if (rope->spec.rotary_dim != node["n_dims"].get<int>())
      fault("rotates " + std::to_string(rope->spec.rotary_dim) + " channels");
    for (const Json& row : node["positions"]) {
      const int position = row["position"].get<int>();
      const std::vector<float> cosines = golden::vector_of(row["cos"].get<std::string>()),
                               sines = golden::vector_of(row["sin"].get<std::string>());
      const EngineRotation got = engine_rotation(*rope, n_ctx, position);
      if (got.cos.size() != cosines.size()) return fault("has " + std::to_string(got.cos.size()) + " pairs");
      const RopeTable table = rope_table(rope->spec, n_ctx);
      double worst = 0;
      for (std::size_t pair = 0; pair < cosines.size(); ++pair) {
        const double difference =
            std::max(std::abs(double(got.cos[pair]) - cosines[pair]), std::abs(double(got.sin[pair]) - sines[pair]));
        worst = std::max(worst, difference);
        // the engine's compiler contracts a product and the sum of YaRN's blend, we round the product, half a unit, and
        // may then round the sum to its other neighbour, a whole one:
        // three halves (2^-24) of the angle; 4 for cosine, its product with A, and A
        const double tolerance = table.attention_factor * (3 * position * table.inv_freq[pair] + 4) * 0x1p-24;
        tally_.share_of_tolerance = std::max(tally_.share_of_tolerance, difference / tolerance);
        if (!(difference <= tolerance))
          fault("cosine or sine off by " + Json(difference).dump() + " at position " + std::to_string(position) +
                ", pair " + std::to_string(pair));
      }
      tally_.angles += std::int64_t(cosines.size());
      if (position == 1) tally_.at_position_1 = std::max(tally_.at_position_1, worst);
      if (position == 65535) tally_.at_65535 = std::max(tally_.at_65535, worst);
      // the golden's README
      if ((position == 1 && !(worst <= 6e-8)) || (position == 65535 && !(worst <= 2.4e-4)))
        fault("cosine or sine off by " + Json(worst).dump() + " at position " + std::to_string(position) + ": " +
              describe(rope->spec));
    }
  }

  const Json& config_;
  const Json& lengths_;
  const Build& build_;
  Tally& tally_;
};

TEST(Engines, EveryRowOfTheGoldens) {
  const Json excluded = Json::parse(std::ifstream(ROPEWALK_TEST_DATA_DIR "/excluded.json"));
  std::set<std::string> used;
  std::map<std::string, Tally> tallies;
  ASSERT_EQ(engines()["cases"].size(), 109u);
  ASSERT_EQ(engines()["engines"].size(), 28u);
  for (const auto& [name, versions] : engines()["engines"].items()) {
    const Build build = build_of(name);
    EXPECT_EQ(build.version.notice, "") << name;
    Tally& tally = tallies[engine_name(build.version.engine)];
    for (const Json& one : engines()["cases"]) {
      const Json& result = golden::result_of(one, name);
      const std::string id = "rope/" + one["id"].get<std::string>() + ":" + name;
      ASSERT_FALSE(result.is_null()) << id;
      Comparison comparison(one, build, tally);
      comparison.run(result);
      if (excluded.contains(id)) {
        EXPECT_FALSE(comparison.faults.empty()) << id << " is excluded but passes";
        used.insert(id);
        continue;
      }
      for (const std::string& fault : comparison.faults) ADD_FAILURE() << id << " " << fault;
    }
  }
  for (const auto& [key, reason] : excluded.items())
    if (key.rfind("rope/", 0) == 0) {
      EXPECT_TRUE(used.count(key)) << key << " excludes nothing";
    }
  for (const auto& [engine, t] : tallies)
    std::printf(
        "%s: %d rows; %d errors of the same kind and words, %d contexts, %d not collected, %d without a run; of %lld "
        "frequencies %lld are equal in float32, worst %lld ulp (in double, rounded: "
        "%lld equal); %lld cosines and sines, worst %.2g at position 1, %.2g at 65,535, %.2g of the derived "
        "tolerance\n",
        engine.c_str(), t.rows, t.errors, t.contexts, t.not_collected, t.without_run, (long long)t.frequencies,
        (long long)t.equal, (long long)t.worst, (long long)t.double_equal, (long long)t.angles, t.at_position_1,
        t.at_65535, t.share_of_tolerance);
}

/// Builds of one engine on either side of a change of rules: the rows of one must not pass as the other's.
TEST(Engines, RowsOfTheNeighbouringRulesFail) {
  std::string before;
  int pairs = 0;
  for (const auto& [name, versions] : engines()["engines"].items()) {
    const Build build = build_of(name);
    if (!before.empty() && build_of(before).version.engine == build.version.engine &&
        &build_of(before).version.range() != &build.version.range()) {
      ++pairs;
      for (const auto& [rows, rules] : {std::pair{before, build}, std::pair{std::string(name), build_of(before)}}) {
        Tally tally;
        int failed = 0;
        for (const Json& one : engines()["cases"]) {
          Comparison comparison(one, rules, tally);
          comparison.run(golden::result_of(one, rows));
          failed += !comparison.faults.empty();
        }
        EXPECT_GT(failed, 0) << "rows of " << rows << " pass by the rules of " << rules.version.title();
      }
    }
    before = name;
  }
  EXPECT_EQ(pairs, 19);
}

/// llama.cpp's converter reads through the transformers beside it: the rows differ, and pass only with their own.
TEST(Engines, TheTransformersBesideTheConverterCounts) {
  const Build build = build_of("llama.cpp-0.5.0+transformers-5.23.0");
  Tally tally;
  int failed = 0;
  for (const Json& one : engines()["cases"]) {
    Comparison comparison(one, build, tally);
    comparison.run(golden::result_of(one, "llama.cpp-0.5.0+transformers-4.57.6"));
    failed += !comparison.faults.empty();
  }
  EXPECT_GE(failed, 6);
}

TEST(Engines, APerturbedFileFails) {
  for (const auto& [name, versions] : engines()["engines"].items()) {
    Json one = engines()["cases"][2];
    ASSERT_EQ(one["id"], "plain-codellama-abf");
    if (name == "transformers-4.31.0") continue;  // it does not read rope_theta
    one["config"]["rope_theta"] = 1000100;
    const Build build = build_of(name);
    Tally tally;
    Comparison comparison(one, build, tally);
    comparison.run(golden::result_of(one, name));
    EXPECT_FALSE(comparison.faults.empty()) << name;
  }
}

}  // namespace
}  // namespace ropewalk::formats
