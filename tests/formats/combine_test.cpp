// Several LoRA adapters as one, against PEFT 0.21.2's add_weighted_adapter in double (make/peft_combined.py).

#include "formats/adapters/combine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "formats/base64.h"
#include "formats/safetensors.h"
#include "lib/recipes.h"
#include "tests/formats/hf_test_support.h"

namespace ropewalk::formats {
namespace {

std::vector<double> doubles(const LazyTensor& tensor) {
  std::vector<double> values(tensor.info().elements());
  tensor.prepare();
  tensor.read_f64({0, tensor.info().rows()}, values);
  tensor.release();
  return values;
}

/// "ties,density=0.5" of the arguments.
std::string spec_of(const Json& how) {
  std::string spec = how.at("combination_type");
  if (how.contains("density")) spec += ",density=" + how["density"].dump();
  if (how.contains("svd_rank")) spec += ",rank=" + how["svd_rank"].dump();
  if (how.contains("majority_sign_method")) spec += ",sign=" + how["majority_sign_method"].get<std::string>();
  return spec;
}

bool has_note(const std::vector<std::string>& notes, const std::string& part) {
  return std::ranges::any_of(notes, [&](const std::string& note) { return note.find(part) != std::string::npos; });
}

class CombinedAsPeft : public testing::Test {
 protected:
  CombinedAsPeft() {
    const auto put = [&](const std::string& path, const Json& text) {
      write_bytes(folder_ / path, *base64_bytes(text.get<std::string>()));
    };
    put("base.safetensors", golden_["base"]);
    base_ = read_safetensors(folder_ / "base.safetensors").tensors;
    for (const auto& [name, adapter] : golden_["adapters"].items()) {
      write_bytes(folder_ / (name + "/adapter_config.json"), adapter["config"].dump());
      put(name + "/adapter_model.safetensors", adapter["weights"]);
      adapters_.emplace(name, read_peft_adapter(folder_ / name));
    }
  }

  std::vector<ScaledAdapter> named(const Json& one) const {
    std::vector<ScaledAdapter> scaled;
    for (std::size_t i = 0; i < one["adapters"].size(); ++i)
      scaled.push_back({&adapters_.at(one["adapters"][i].get<std::string>()), one["weights"][i].get<double>()});
    return scaled;
  }

  /// How far our result, its delta times `factor`, is from PEFT's at most, in steps of float32. The same tensors change.
  double steps_apart(const std::vector<ScaledAdapter>& scaled, const std::string& spec, const Json& want,
                     double factor = 1) {
    notes_.clear();
    const PeftAdapter one = combine_adapters(scaled, parse_combination(spec), notes_);
    const MergeResult merged = merge_adapters(base_, {{&one, 1}});
    double most = 0;
    for (std::size_t i = 0; i < base_.size(); ++i) {
      EXPECT_EQ(merged.exact[i] != nullptr, want.contains(base_[i]->name())) << base_[i]->name();
      if (!merged.exact[i]) continue;
      const std::vector<double> before = doubles(*base_[i]), ours = doubles(*merged.exact[i]);
      const std::string bytes = *base64_bytes(want.at(base_[i]->name()).get<std::string>());
      EXPECT_EQ(bytes.size(), ours.size() * 4);
      for (std::size_t at = 0; at < ours.size(); ++at) {
        float value;
        std::memcpy(&value, bytes.data() + 4 * at, 4);
        const double step = double(std::nextafter(std::abs(value), INFINITY)) - std::abs(value);
        most = std::max(most, std::abs(before[at] + factor * (ours[at] - before[at]) - value) / step);
      }
    }
    return most;
  }

  TestFolder folder_;
  Json golden_ = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "peft_combined.json");
  std::vector<TensorPtr> base_;
  std::map<std::string, PeftAdapter> adapters_;
  std::vector<std::string> notes_;
};

// Both compute in double; PEFT's is rounded to float32 once, half a step and what the doubles are apart.
constexpr double kSame = 0.51, kApart = 1000;

// PEFT scales what it makes of a first adapter with rsLoRA by the root of its rank: nobody asked for that.
TEST_F(CombinedAsPeft, ButForTheRootOfTheRankAfterRsLora) {
  std::size_t rooted = 0, alone = 0;
  for (const Json& one : golden_["cases"])
    for (const Json& how : one["how"]) {
      SCOPED_TRACE(one["adapters"].dump() + " " + how.dump());
      const bool rslora = one["adapters"][0] == "rslora";
      const double root = rslora ? std::sqrt(one["rank"].get<double>()) : 1;
      EXPECT_LE(steps_apart(named(one), spec_of(how), one["merged"], root), kSame);
      EXPECT_EQ(has_note(notes_, "sqrt(" + one["rank"].dump() + ")"), rslora);
      const std::string type = how["combination_type"];
      const bool other = one["adapters"].size() == 1 && type != "linear" && type != "cat";
      EXPECT_EQ(has_note(notes_, "--combine " + type + " of one adapter alone is linear"), other);
      EXPECT_EQ(notes_.size(), std::size_t(rslora) + std::size_t(other));
      rooted += rslora, alone += other;
      if (!rslora) continue;
      EXPECT_GT(steps_apart(named(one), spec_of(how), one["merged"]), kApart);
    }
  EXPECT_EQ(rooted, 5u);
  EXPECT_EQ(alone, 6u);
}

// A negative weight's sign is on A, and A is pruned by itself: of an embedding that is the factor with the rows.
TEST_F(CombinedAsPeft, AnEmbeddingsAIsTheFactorWithItsRows) {
  const auto with_first_factor = [&](const std::string& name) {
    for (auto& [unused, adapter] : adapters_)
      for (AdapterModule& module : adapter.modules)
        if (module.target == "model.embed_tokens.weight")
          module.factors.front() = renamed(module.factors.front(), name);
  };
  std::size_t told = 0;
  for (const Json& one : golden_["cases"])
    for (const Json& how : one["how"]) {
      if (one["adapters"] != Json({"a", "b"})) continue;
      SCOPED_TRACE(how.dump());
      with_first_factor("token_embd.weight.lora_a");  // as a GGUF names it
      EXPECT_LE(steps_apart(named(one), spec_of(how), one["merged"]), kSame);
      with_first_factor("base_model.model.model.embed_tokens.lora_A.weight");  // of a linear layer
      const bool apart = steps_apart(named(one), spec_of(how), one["merged"]) > kApart;
      EXPECT_EQ(apart, how["combination_type"] != "ties_svd") << "that works on the product, which is the same";
      told += apart;
    }
  EXPECT_EQ(told, 6u);
}

TEST_F(CombinedAsPeft, TheRankIsTheLargestOfAllAdaptersAndPatterns) {
  std::size_t told = 0;
  for (const Json& one : golden_["cases"])
    for (const Json& how : one["how"]) {
      if (one["rank"] != 3 || how.contains("svd_rank") || one["adapters"][0] != "a") continue;
      EXPECT_GT(steps_apart(named(one), spec_of(how) + ",rank=2", one["merged"]), kApart) << "the largest of v_proj";
      ++told;
    }
  EXPECT_EQ(told, 3u);
}

TEST_F(CombinedAsPeft, OneAdapterAloneIsLinear) {
  std::size_t told = 0;
  for (const Json& one : golden_["cases"]) {
    if (one["adapters"] != Json({"a"})) continue;
    for (const Json& how : one["how"]) {
      const std::string spec = spec_of(how) + (how["combination_type"] == "dare_ties_svd" ? ",density=0.5" : "");
      std::vector<ScaledAdapter> two = named(one);
      two.push_back({two.front().adapter, 0});  // a second that adds nothing: pruned and cut now
      told += steps_apart(two, spec, one["merged"]) > kApart;
    }
  }
  EXPECT_EQ(told, 5u) << "all but linear and cat";
}

}  // namespace
}  // namespace ropewalk::formats
