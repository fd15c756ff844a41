// Quantized checkpoints whose config.json (or bitsandbytes' own JSON) lies in one field: missing, of another type, out of
// range, beside what the tensors are.

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "tests/formats/quantized_lies.h"

namespace ropewalk::formats {
namespace {

/// Every field of an object, its own objects' too, as JSON pointers.
void pointers_of(const Json& json, const std::string& at, std::vector<std::string>& out) {
  for (const auto& [key, value] : json.items()) {
    const std::string own = at + "/" + key;  // not a reference into `out`, which grows
    out.push_back(own);
    if (value.is_object()) pointers_of(value, own, out);
  }
}

const std::vector<std::string> kLies = {"null",
                                        "true",
                                        "false",
                                        "-2",
                                        "-1",
                                        "0",
                                        "1",
                                        "2",
                                        "3",
                                        "4",
                                        "7",
                                        "8",
                                        "16",
                                        "64",
                                        "0.5",
                                        "4294967296",
                                        "9223372036854775807",
                                        "18446744073709551615",
                                        "1e300",
                                        "\"\"",
                                        "\"x\"",
                                        "\"float32\"",
                                        "\"float16\"",
                                        "\"fp4\"",
                                        "\"gptq_v2\"",
                                        "[]",
                                        "[0]",
                                        "[1, 1]",
                                        "[-1, -1]",
                                        "[0, 16]",
                                        "[2, 0]",
                                        "[4294967296, 4294967296]",
                                        "[\"2\", \"16\"]",
                                        "{}"};

/// Values that make another checkpoint, right in itself: why, and "SEED POINTER VALUE". A value that changes nothing of the
/// weights needs no place here.
const std::map<std::string, std::vector<std::string>> kOtherCheckpoints = {
    {"a type that weights have",
     {"fp8 /dtype \"float16\"", "fp8 /dtype \"float32\"", "mxfp8 /dtype \"float16\"", "mxfp8 /dtype \"float32\"",
      "mxfp4 /dtype \"float16\"", "mxfp4 /dtype \"float32\"", "bitsandbytes-int8 /dtype \"float16\"",
      "bitsandbytes-int8 /dtype \"float32\"", "bitsandbytes-nf4 state /dtype \"float16\"",
      "bitsandbytes-nf4 state /dtype \"float32\""}},
    {"float16, with a warning",
     {"fp8 /dtype missing", "fp8 /dtype null", "mxfp8 /dtype missing", "mxfp8 /dtype null", "mxfp4 /dtype missing",
      "mxfp4 /dtype null", "bitsandbytes-int8 /dtype missing", "bitsandbytes-int8 /dtype null"}},
    {"the other format, or the one of files that say none",
     {"gptq /quantization_config/checkpoint_format \"gptq_v2\"",
      "gptq-3bit /quantization_config/checkpoint_format missing",
      "gptq-3bit /quantization_config/checkpoint_format null"}},
    {"an offset is any number",
     {"bitsandbytes-nf4 state /nested_offset 4294967296", "bitsandbytes-nf4 state /nested_offset 9223372036854775807",
      "bitsandbytes-nf4 state /nested_offset 18446744073709551615"}},
};

TEST(QuantizedConfigLies, ASilentTypeIsTold) {
  for (const QuantizedSeed& seed : quantized_seeds::all()) {
    if (seed.name != "fp8" && seed.name != "mxfp4" && seed.name != "bitsandbytes-int8") continue;
    Json config = Json::parse(seed.config);
    config.erase("dtype");
    std::vector<std::string> warnings;
    dequantized(seed.tensors, config, &warnings);
    EXPECT_EQ(warnings, std::vector<std::string>{"config.json says no dtype: the weights are dequantized to float16"});
  }
}

TEST(QuantizedConfigLies, AreSeen) {
  std::set<std::string> allowed, others;
  for (const auto& [why, changes] : kOtherCheckpoints) allowed.insert(changes.begin(), changes.end());
  std::size_t lies = 0, refused = 0;
  const auto sweep = [&](const std::string& name, const Json& whole, const WeightBits& truth,
                         const std::function<WeightBits(const std::string&)>& read) {
    std::vector<std::string> pointers;
    pointers_of(whole, "", pointers);
    for (const std::string& pointer : pointers) {
      const auto check = [&](const std::string& what, const Json& changed) {
        const std::string lie = name + " " + pointer + " " + what;
        const Seen now = seen(truth, [&] { return read(changed.dump()); });
        ++lies;
        refused += now == Seen::refused;
        if (now == Seen::accepted) others.insert(lie);
      };
      Json changed = whole;
      const Json::json_pointer place(pointer);
      changed[place.parent_pointer()].erase(place.back());
      check("missing", changed);
      for (const std::string& value : kLies) {
        changed = whole;
        changed[place] = Json::parse(value);
        if (changed != whole) check(value, changed);
      }
    }
  };
  for (const QuantizedSeed& seed : quantized_seeds::all()) {
    const WeightBits truth = weights_of(seed.config, seed.tensors);
    sweep(seed.name, Json::parse(seed.config), truth,
          [&](const std::string& config) { return weights_of(config, seed.tensors); });
    for (std::size_t i = 0; i < seed.tensors.size(); ++i)
      if (const std::string tensor = seed.tensors[i]->name(); tensor.find("quant_state") != std::string::npos)
        sweep(seed.name + " state", Json::parse(raw_bytes(*seed.tensors[i])), truth, [&](const std::string& state) {
          std::vector<TensorPtr> tensors = seed.tensors;
          tensors[i] = quantized_seeds::text(tensor, state);
          return weights_of(seed.config, tensors);
        });
  }
  EXPECT_EQ(others, allowed);
  EXPECT_GT(lies, 2000u);
  EXPECT_GT(refused, lies / 2);
}

}  // namespace
}  // namespace ropewalk::formats
