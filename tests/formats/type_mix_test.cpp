#include "formats/quantize/auto_types.h"
#include "formats/quantize/type_mix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include "formats/json.h"
#include "lib/error.h"

// What llama-quantize of llama.cpp 0.5 gave every tensor in the 351 runs of tests/golden/quant_runs (four models).
namespace ropewalk::formats {
namespace {

Json golden(const std::string& name) {
  std::ifstream file(std::string(ROPEWALK_GOLDEN_DIR) + "/quant_runs/" + name);
  return Json::parse(file);
}

GgufFile file_of(const Json& keys) {
  GgufFile file;
  for (const auto& [name, typed] : keys.items()) {
    if (typed[0] == "UINT32") file.keys.push_back({name, gguf_u32(typed[1].get<std::uint32_t>())});
    if (typed[0] == "STRING") file.keys.push_back({name, gguf_string(typed[1].get<std::string>())});
  }
  return file;
}

/// The tensors of a source by name, in its encoding.
std::map<std::string, MixTensor> tensors_of(const Json& source, DType dtype) {
  std::map<std::string, MixTensor> tensors;
  for (const Json& tensor : source["tensors"]) {
    const auto shape = tensor["shape"].get<std::vector<std::uint64_t>>();
    const auto name = tensor["name"].get<std::string>();
    tensors[name] = {name, shape, shape.size() > 1 ? dtype : DType::f32};
  }
  return tensors;
}

/// A run's arguments as far as they choose types.
struct Invocation {
  MixOptions options;
  DType source = DType::f32;
  bool copy = false;
  std::vector<int> pruned;
};
Invocation parse(const std::string& arguments) {
  Invocation run;
  std::istringstream words(arguments);
  std::vector<std::string> plain;
  const auto dtype = [&] {
    std::string name;
    words >> name;
    return dtype_from_name(name).value();
  };
  for (std::string word; words >> word;) {
    if (word == "--pure") run.options.pure = true;
    else if (word == "--leave-output-tensor") run.options.leave_output = true;
    else if (word == "--output-tensor-type") run.options.output = dtype();
    else if (word == "--token-embedding-type") run.options.embedding = dtype();
    else if (word == "--imatrix") words >> word, run.options.importance = true;
    else if (word == "--tensor-type") {
      words >> word;
      const auto sign = word.find('=');
      run.options.rules.push_back({std::regex(word.substr(0, sign)), dtype_from_name(word.substr(sign + 1)).value()});
    } else if (word == "--prune-layers") {
      words >> word;
      run.pruned.push_back(std::stoi(word));
    } else if (word.starts_with("--") && word != "--keep-split") words >> word;
    else if (word != "--keep-split") plain.push_back(word);
  }
  const std::string& type = plain.at(2);
  run.copy = type == "COPY";
  if (!run.copy) run.options.type = file_type_from_name(type).value();
  if (plain[0].find(".f16.") != std::string::npos) run.source = DType::f16;
  if (plain[0].find(".bf16.") != std::string::npos) run.source = DType::bf16;
  return run;
}

/// "blk.2.x" of the source is "blk.1.x" where layer 1 was pruned.
std::string source_name(const std::string& name, const Invocation& run) {
  if (run.pruned.empty() || !name.starts_with("blk.")) return name;
  int layer = std::stoi(name.substr(4));
  if (layer >= run.pruned[0]) ++layer;
  return "blk." + std::to_string(layer) + name.substr(name.find('.', 4));
}

class TypeMix : public testing::TestWithParam<const char*> {};

TEST_P(TypeMix, EveryRunOfLlamaQuantize) {
  const std::string name = GetParam();
  const Json runs = golden("runs/" + name + ".runs.json"), source = golden("src/" + name + ".json");
  const MixModel model = mix_model(file_of(runs["source_kv"]));
  int compared = 0, refused = 0;
  for (const Json& one : runs["runs"]) {
    const std::string id = one["id"].get<std::string>();
    SCOPED_TRACE(name + " " + id);
    const Invocation run = parse(one["args"].get<std::string>());
    if (run.copy) continue;  // llama-quantize chooses nothing there
    const auto sources = tensors_of(source, run.source);
    std::vector<MixTensor> tensors;
    if (one.contains("tensors")) {  // in the order of the file, which is that of llama-quantize
      for (const auto& [tensor, written] : one["tensors"].items()) {
        tensors.push_back(sources.at(source_name(tensor, run)));
        tensors.back().name = tensor;
      }
    } else {
      for (const auto& [tensor, any] : sources) tensors.push_back(any);
    }
    const auto error = one.contains("error") ? one["error"].dump() : "";
    if (error.find("no tensor type fallback") != std::string::npos ||
        error.find("data validation failed") != std::string::npos) {  // of an embedding of 352 in blocks of 256
      EXPECT_THROW(mix_types(tensors, model, run.options), Error);
      ++refused;
      continue;
    }
    const std::vector<MixedTensor> mixed = mix_types(tensors, model, run.options);
    bool needs = false;
    for (const MixedTensor& tensor : mixed) needs |= tensor.needs_importance;
    if (error.find("requires an importance matrix") != std::string::npos) {
      EXPECT_TRUE(needs && !run.options.importance);
      ++refused;
      continue;
    }
    if (!error.empty()) continue;  // of encoding, not of choosing: the assertion under --pure IQ2_XS
    EXPECT_TRUE(run.options.importance || !needs);
    for (std::size_t i = 0; i < tensors.size(); ++i)
      EXPECT_EQ(info(mixed[i].dtype).ggml_type,
                info(dtype_from_name(one["tensors"][tensors[i].name][0].get<std::string>()).value()).ggml_type)
          << tensors[i].name;
    ++compared;
  }
  // all but COPY (5 runs) and the assertion under --pure IQ2_XS (1)
  const std::map<std::string, std::pair<int, int>> counts = {
      {"d512", {97, 11}}, {"deep16", {70, 9}}, {"moe8", {70, 9}}, {"odd", {76, 3}}};
  EXPECT_EQ(compared, counts.at(name).first);
  EXPECT_EQ(refused, counts.at(name).second);
}
INSTANTIATE_TEST_SUITE_P(Models, TypeMix, testing::Values("d512", "deep16", "moe8", "odd"));

TEST(FileTypes, NamesAsLlamaQuantizeReadsThem) {
  EXPECT_EQ(file_type_from_name("q4_k_m"), FileType::q4_k_m);
  EXPECT_EQ(file_type_from_name("Q4_K"), FileType::q4_k_m);
  EXPECT_EQ(file_type_from_name("15"), FileType::q4_k_m);
  EXPECT_EQ(file_type_from_name("0"), FileType::f32);
  EXPECT_EQ(file_type_from_name("4"), std::nullopt);
  EXPECT_EQ(file_type_from_name("q9"), std::nullopt);
  EXPECT_EQ(info(FileType::q5_k_m).name, "Q5_K_M");
}

// src/llama-quant.cpp of llama.cpp 0.5, by hand: what the four models of the goldens do not reach.
MixedTensor one(const std::string& name, const MixModel& model, FileType type,
                std::vector<std::uint64_t> shape = {512, 512}) {
  MixOptions options;
  options.type = type;
  return mix_types({{name, std::move(shape), DType::f16}}, model, options).front();
}
TEST(TypeMixRules, OfShapesBeyondTheGoldens) {
  const MixModel llama70b{"llama", 80, 64, 8, 0}, llama65b{"llama", 80, 64, 64, 0}, falcon{"falcon", 32, 71, 1, 0};
  EXPECT_EQ(one("blk.0.attn_v.weight", llama70b, FileType::q3_k_m).dtype, DType::q5_k);
  EXPECT_EQ(one("blk.0.attn_v.weight", llama70b, FileType::q3_k_s).dtype, DType::q5_k) << "Q3_K raised";
  EXPECT_EQ(one("blk.0.attn_v.weight", llama65b, FileType::q3_k_s).dtype, DType::q3_k);
  EXPECT_EQ(one("output.weight", falcon, FileType::q4_k_m).dtype, DType::q8_0);
  EXPECT_EQ(one("blk.0.attn_output.weight", falcon, FileType::q3_k_l).dtype, DType::q4_k);
  EXPECT_EQ(one("blk.0.attn_qkv.weight", falcon, FileType::q3_k_l).dtype, DType::q5_k) << "as attn_v";
  EXPECT_EQ(one("blk.0.attn_norm.weight", falcon, FileType::q4_k_m).dtype, DType::f16);
  EXPECT_EQ(one("blk.0.ffn_up.weight", falcon, FileType::q4_k_m, {1, 512}).dtype, DType::f16) << "a vector";
  EXPECT_EQ(one("blk.0.ssm_conv1d.weight", falcon, FileType::q4_k_m).dtype, DType::f16);
  const MixedTensor odd = one("blk.0.ffn_up.weight", falcon, FileType::q4_k_m, {512, 96});
  EXPECT_EQ(odd.dtype, DType::q5_0);
  EXPECT_EQ(odd.wanted, DType::q4_k);
  EXPECT_THROW(one("ffn_down.weight", {"llama", 2, 8, 8, 8}, FileType::q4_k_m), Error) << "names no layer";
}

/// The least sum of errors within `budget`, by trying every combination.
double least_error(std::span<const std::vector<TypeChoice>> choices, std::uint64_t budget, std::size_t tensor = 0) {
  if (tensor == choices.size()) return 0;
  double least = INFINITY;
  for (const TypeChoice& choice : choices[tensor])
    if (choice.bytes <= budget)
      least = std::min(least, choice.error + least_error(choices, budget - choice.bytes, tensor + 1));
  return least;
}

// Where a budget is just what some slope comes to, the steepest steps are the optimum (Everett 1963); elsewhere no more
// than the one step that did not fit is lost.
TEST(AutoTypes, StepsAgainstAllCombinations) {
  std::mt19937 random(7);
  const auto below = [&](unsigned n) { return std::uint64_t(random() % n); };
  std::size_t optimal = 0, budgets = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<std::vector<TypeChoice>> choices(4);
    double largest_step = 0;
    for (auto& one : choices) {
      std::uint64_t bytes = 1 + below(50);
      double error = 100;
      for (int i = 0; i < 4; ++i) {
        one.push_back({DType::q4_k, bytes, error});
        const double less = error * double(below(1000)) / 1000;
        largest_step = std::max(largest_step, error - less);
        bytes += 1 + below(50), error = less;
      }
      std::shuffle(one.begin(), one.end(), random);
    }
    const std::uint64_t least = least_bytes(choices);
    for (std::uint64_t budget = least; budget < least + 300; budget += 7) {
      const std::vector<std::size_t> chosen = choose_types(choices, budget);
      std::uint64_t bytes = 0;
      double error = 0;
      for (std::size_t i = 0; i < chosen.size(); ++i)
        bytes += choices[i][chosen[i]].bytes, error += choices[i][chosen[i]].error;
      ASSERT_LE(bytes, budget);
      const double best = least_error(choices, budget);
      EXPECT_LE(error, best + largest_step + 1e-9);
      optimal += error <= best + 1e-9, ++budgets;
    }
    EXPECT_EQ(choose_types(choices, least).size(), choices.size());
  }
  EXPECT_GT(double(optimal), 0.6 * double(budgets)) << "of " << budgets;
}

}  // namespace
}  // namespace ropewalk::formats
