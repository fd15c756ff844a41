// Every kind of adapter against damaged copies of what PEFT 0.21.2 wrote (goldens `peft`): each tensor in turn missing,
// doubled, not finite, of another shape or type. What a right one gives stands in peft_test.cpp.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "formats/adapters/adapter_tensors.h"
#include "formats/adapters/peft.h"
#include "formats/adapters/peft_targets.h"
#include "formats/base64.h"
#include "formats/safetensors.h"
#include "lib/error.h"
#include "lib/recipes.h"
#include "tests/formats/hf_test_support.h"
#include "tests/lib/any_partition.h"

namespace ropewalk::formats {
namespace {

const fs::path kPeft = kGolden / "peft";

/// One of each set of roles.
const std::vector<std::string> kCases = {"lora-bias",
                                         "bias-all",
                                         "modules-to-save-norm",
                                         "embedding-lora",
                                         "trainable-tokens",
                                         "vocab-resized-target-embed",
                                         "dora",
                                         "embedding-dora",
                                         "loha",
                                         "lokr",
                                         "lokr-both",
                                         "ia3",
                                         "ia3-bias",
                                         "vera",
                                         "adalora",
                                         "ln-tuning",
                                         "oft",
                                         "oft-share",
                                         "hra",
                                         "pissa",
                                         "olora"};

struct Case {
  std::string base;
  std::string config;
  std::vector<RawTensor> tensors;
};
Case read_case(const std::string& name) {
  Case out{read_json(kPeft / name / "golden.json")["base"], read_bytes(kPeft / name / "adapter_config.json"), {}};
  for (const TensorPtr& tensor : read_safetensors(kPeft / name / "adapter_model.safetensors").tensors)
    out.tensors.push_back({tensor->name(), "F32", tensor->info().shape, raw_bytes(*tensor)});
  return out;
}

class DamagedAdapters : public testing::Test {
 protected:
  /// The message, or "" if the adapter is read and all of the merge is.
  std::string merge(const Case& made) {
    write_bytes(folder_ / "adapter_config.json", made.config);
    write_bytes(folder_ / "adapter_model.safetensors", safetensors_bytes(made.tensors));
    std::vector<TensorPtr>& base = bases_[made.base];
    if (base.empty()) base = read_safetensors(kPeft / "bases" / made.base / "model.safetensors").tensors;
    try {
      const PeftAdapter adapter = read_peft_adapter(folder_.path());
      const MergeResult merged = merge_adapters(base, {{&adapter, 1}});
      for (std::size_t i = 0; i < merged.tensors.size(); ++i)
        if (merged.exact[i]) (void)raw_bytes(*merged.tensors[i]);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input) << error.what();
      EXPECT_FALSE(error.fix().empty());
      return error.what();
    }
    return "";
  }
  TestFolder folder_;
  std::map<std::string, std::vector<TensorPtr>> bases_;
};

/// The first tensor of each role.
std::vector<std::size_t> one_of_each_role(const Case& made) {
  std::vector<std::size_t> out;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < made.tensors.size(); ++i) {
    const auto key = parse_adapter_key(made.tensors[i].name);
    EXPECT_TRUE(key) << made.tensors[i].name;
    if (key && seen.insert(key->role).second) out.push_back(i);
  }
  return out;
}

TEST_F(DamagedAdapters, EachTensorIsNeededOrWhole) {
  int missing = 0, shapes = 0;
  for (const std::string& name : kCases) {
    SCOPED_TRACE(name);
    const Case whole = read_case(name);
    EXPECT_EQ(merge(whole), "");
    for (const std::size_t i : one_of_each_role(whole)) {
      const std::string key = whole.tensors[i].name;
      SCOPED_TRACE(key);
      const std::string role = parse_adapter_key(key)->role;
      Case damaged = whole;
      damaged.tensors.erase(damaged.tensors.begin() + std::ptrdiff_t(i));
      const std::string without = merge(damaged);
      // whole tensors and kinds of one tensor stand alone: their module is not changed then (peft_targets.h tells)
      const bool alone = role == "weight" || role == "bias" || role == "base_layer.bias" || role == "ia3_l" ||
                         role == "hra_u" || role.starts_with("oft") || role.starts_with("ln_");
      EXPECT_EQ(without.empty(), alone) << without;
      missing += !alone;

      damaged = whole;
      damaged.tensors.push_back(whole.tensors[i]);
      damaged.tensors.back().name = "module." + key;
      EXPECT_EQ(merge(damaged), "");  // PEFT writes whole tensors and DoRA's lengths under two names
      damaged.tensors.back().bytes[0] ^= 1;
      EXPECT_NE(merge(damaged).find("both name "), std::string::npos);

      damaged = whole;
      const float nan = std::numeric_limits<float>::quiet_NaN();
      std::memcpy(damaged.tensors[i].bytes.data() + damaged.tensors[i].bytes.size() - 4, &nan, 4);
      EXPECT_NE(merge(damaged).find("'" + key + "' holds NaN in row "), std::string::npos);

      damaged = whole;
      damaged.tensors[i].dtype = "I32";
      EXPECT_NE(merge(damaged).find("'" + key + "' holds i32, expected floating point"), std::string::npos);

      for (std::size_t axis = 0; axis <= whole.tensors[i].shape.size(); ++axis) {
        damaged = whole;
        std::vector<std::uint64_t>& shape = damaged.tensors[i].shape;
        if (axis == shape.size()) shape.push_back(1);  // one axis more
        else shape[axis] += 1;                         // one element more along it
        std::uint64_t elements = 1;
        for (const std::uint64_t size : shape) elements *= size;
        damaged.tensors[i].bytes.resize(elements * 4, '\0');
        const std::string message = merge(damaged);
        // of VeRA's projections modules take the upper left part, so they may be larger
        const bool part = (role == "vera_A" && axis == 1) || (role == "vera_B" && axis == 0);
        EXPECT_EQ(message.empty(), part) << "axis " << axis;
        if (part) continue;
        // a product that fits nothing names the factor it sees first
        const std::string module = parse_adapter_key(key)->module;
        EXPECT_TRUE(message.find(key) != std::string::npos || message.find(module) != std::string::npos) << message;
        ++shapes;
      }
    }
    Case more = whole;
    more.tensors.push_back(f32_tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_C.weight", {2, 2}));
    EXPECT_NE(merge(more).find("lora_C.weight' has no place in the "), std::string::npos);
  }
  EXPECT_GE(missing, 20);
  EXPECT_GE(shapes, 60);
}

TEST_F(DamagedAdapters, ConfigurationsThatLie) {
  const auto refused = [&](const std::string& name, const std::string& field, const Json& value,
                           const std::string& part) {
    SCOPED_TRACE(name + ", " + field);
    Case made = read_case(name);
    Json config = Json::parse(made.config);
    config[field] = value;
    made.config = config.dump();
    EXPECT_NE(merge(made).find(part), std::string::npos) << merge(made);
  };
  refused("dora", "use_dora", false, "lora_magnitude_vector' has no place in the LoRA adapter");
  refused("lora-bias", "lora_bias", false, "lora_B.bias' has no place");
  refused("bias-all", "bias", "none", ".bias' has no place");
  refused("modules-to-save-norm", "modules_to_save", nullptr, "layernorm.weight' has no place");
  refused("trainable-tokens", "trainable_token_indices", {{"embed_tokens", {5, 7}}}, "a row for each index");
  refused("trainable-tokens", "trainable_token_indices", {{"embed_tokens", {5, 7, 7}}}, "replaces row 7 twice");
  refused("trainable-tokens", "trainable_token_indices", {{"embed_tokens", {5, 7, 96}}}, "replaces row 96 of");
  refused("trainable-tokens", "trainable_token_indices", {{"embed_tokens", {5, 7, -1}}}, "holds -1, expected lists");
  refused("trainable-tokens", "trainable_token_indices", nullptr, "trainable_tokens_delta' has no place");
  refused("lora-basic", "trainable_token_indices", {1, 2}, "trainable_token_indices of adapter_config.json names rows");
  refused("loha", "r", 5, "has rank 4, expected 5");
  refused("lokr-both", "r", 3, "has rank 2, expected 3");
  refused("vera", "r", 3, "do not have rank 3");
  refused("hra", "r", 3, "has rank 4, expected 3");
  refused("oft", "oft_block_size", 4, "expected the upper triangle of each block of size 4");
  refused("oft", "block_share", true, "expected the upper triangle of one block of size 8");
  refused("oft-share", "block_share", false, "has one block of 8, expected blocks for the 32 columns");
  refused("adalora", "init_r", 5, "do not have one rank of at most 5");
  refused("pissa", "r", 40, "has rank 4, expected 40");
  refused("patterns", "rank_pattern", {{"q_proj", 5}}, "expected ");
}

// A zero column or row has no length to be set: an error when it is read, not NaN.
TEST_F(DamagedAdapters, DoraOfNothing) {
  Case made = read_case("dora");
  const std::vector<TensorPtr> base = {
      memory_tensor("model.layers.0.self_attn.q_proj.weight", {32, 32}, std::vector<float>(32 * 32, 0.0f))};
  Case one = made;
  one.tensors.clear();
  for (const RawTensor& tensor : made.tensors)
    if (tensor.name.find("layers.0.self_attn.q_proj") != std::string::npos) {
      one.tensors.push_back(tensor);
      if (tensor.name.find("lora_B") != std::string::npos)
        std::fill(one.tensors.back().bytes.begin(), one.tensors.back().bytes.end(), '\0');
    }
  write_bytes(folder_ / "adapter_config.json", one.config);
  write_bytes(folder_ / "adapter_model.safetensors", safetensors_bytes(one.tensors));
  const PeftAdapter adapter = read_peft_adapter(folder_.path());
  const MergeResult merged = merge_adapters(base, {{&adapter, 1}});
  expect_error(ErrorKind::bad_input, {"row 0 is zero with the adapter"}, [&] { (void)raw_bytes(*merged.tensors[0]); });
}

// What is no product of two thin matrices cannot be computed beside the weight; the rest can.
TEST_F(DamagedAdapters, UnmergedKindsAreRefusedByName) {
  const std::map<std::string, std::string> refused = {{"dora", "dora"},   {"loha", "loha"},  {"lokr", "lokr"},
                                                      {"ia3", "ia3"},     {"oft", "oft"},    {"hra", "hra"},
                                                      {"pissa", "pissa"}, {"olora", "olora"}};
  for (const std::string& name : kCases) {
    SCOPED_TRACE(name);
    const std::vector<TensorPtr> base =
        read_safetensors(kPeft / "bases" / read_case(name).base / "model.safetensors").tensors;
    const PeftAdapter adapter = read_peft_adapter(kPeft / name);
    const auto unmerged = [&] { return merge_adapters(base, {{&adapter, 1}}, {.unmerged = true}); };
    const auto kind = refused.find(name.substr(0, name.find('-')));
    if (kind != refused.end() || name == "embedding-dora") {
      expect_error(ErrorKind::unsupported,
                   {"is of kind " + (kind == refused.end() ? "dora" : kind->second), "--unmerged"}, unmerged);
      continue;
    }
    // rows of the unmerged form read as the merge before its rounding to the base's type, here float
    const std::vector<TensorPtr> apart = unmerged().tensors, merged = merge_adapters(base, {{&adapter, 1}}).tensors;
    for (std::size_t i = 0; i < merged.size(); ++i) EXPECT_EQ(raw_bytes(*apart[i]), raw_bytes(*merged[i]));
  }
}

// BOFT and constrained OFT against PEFT's merges in double (make/peft_rotations.py): one float32 step of the truth.
TEST(Rotations, EqualPeft) {
  const Json golden = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "peft_rotations.json");
  const std::vector<TensorPtr> base = read_safetensors(kPeft / "bases/llama-f32/model.safetensors").tensors;
  for (const auto& [name, one] : golden.items()) {
    SCOPED_TRACE(name);
    TestFolder folder;
    const auto decoded = [](const Json& text) { return *base64_bytes(text.get<std::string>()); };
    write_bytes(folder / "adapter_config.json", decoded(one["config"]));
    write_bytes(folder / "adapter_model.safetensors", decoded(one["weights"]));
    const PeftAdapter adapter = read_peft_adapter(folder.path());
    const MergeResult merged = merge_adapters(base, {{&adapter, 1}});
    std::size_t compared = 0;
    for (std::size_t i = 0; i < base.size(); ++i) {
      EXPECT_EQ(merged.exact[i] != nullptr, one["merged"].contains(base[i]->name()));
      if (!merged.exact[i]) continue;
      const std::string got = raw_bytes(*merged.tensors[i]), want = decoded(one["merged"][base[i]->name()]);
      ASSERT_EQ(got.size(), want.size());
      bool base_alone = true;
      for (std::size_t at = 0; at < want.size(); at += 4, ++compared) {
        float x = 0, y = 0;
        std::memcpy(&x, got.data() + at, 4), std::memcpy(&y, want.data() + at, 4);
        EXPECT_LE(std::abs(x - y), std::abs(std::nextafter(y, 2 * y) - y)) << at / 4;
        base_alone = base_alone && got.substr(at, 4) == raw_bytes(*base[i]).substr(at, 4);
      }
      EXPECT_FALSE(base_alone);
    }
    EXPECT_GT(compared, 0u);
  }
  EXPECT_EQ(golden.size(), 5u);
}

// A block size that divides no width: PEFT's choice for each, and its merges in double rounded once
// (make/peft_oft_blocks.py), the very bytes.
TEST(Rotations, OftBlocksOfOtherWidthsEqualPeft) {
  const Json golden = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "peft_oft_blocks.json");
  const auto ramp = [](const std::string& name, std::vector<std::uint64_t> shape) {
    RawTensor out = f32_tensor(name, std::move(shape));
    for (std::size_t i = 0; i < out.bytes.size() / 4; ++i) {
      const float value = (float(i * 7 % 11) - 5) / 16;
      std::memcpy(out.bytes.data() + 4 * i, &value, 4);
    }
    return out;
  };
  TestFolder folder;
  for (const auto& [which, one] : golden.items()) {
    SCOPED_TRACE(which);
    Json config = {{"peft_type", "OFT"}, {"r", 0}, {"oft_block_size", 7}, {"target_modules", Json::array()}};
    config.update(one["options"]);
    std::vector<RawTensor> weights, rotations;
    for (const auto& [name, block] : one["blocks"].items()) {
      config["target_modules"].push_back(name);
      weights.push_back(ramp(name + ".weight", {2, base64_bytes(one["merged"][name].get<std::string>())->size() / 8}));
      rotations.push_back(ramp("base_model.model." + name + ".oft_R.weight", {block[1], block[2]}));
    }
    write_bytes(folder / "model.safetensors", safetensors_bytes(weights));
    write_bytes(folder / "adapter_model.safetensors", safetensors_bytes(rotations));
    const std::vector<TensorPtr> base = read_safetensors(folder / "model.safetensors").tensors;
    const auto merged = [&] {
      write_bytes(folder / "adapter_config.json", config.dump());
      const PeftAdapter adapter = read_peft_adapter(folder.path());
      return merge_adapters(base, {{&adapter, 1}}).tensors;
    };
    std::size_t compared = 0;
    for (const TensorPtr& tensor : merged()) {
      const std::string name = tensor->name().substr(0, tensor->name().find('.'));
      EXPECT_EQ(raw_bytes(*tensor), *base64_bytes(one["merged"][name].get<std::string>())) << name;
      ++compared;
    }
    EXPECT_EQ(compared, 3u);
    config["oft_block_size"] = 9;  // 48 in blocks of 8
    expect_error(ErrorKind::bad_input, {"adapter_model.safetensors", ".oft_R.weight' has shape", "of size "}, merged);
  }
  EXPECT_EQ(golden.size(), 2u);
}

// Of an embedding OFT turns the rows that are looked up: W R, where a linear layer has W R^T. By hand: Q = [0 1; -1 0] gives
// R = (I + Q)^-1 (I - Q) = [0 -1; 1 0], so a row [a b] becomes [b -a], and [-b a] in a linear layer. PEFT's: peers.tied.
TEST(Rotations, AnEmbeddingIsTurnedTheOtherWay) {
  const std::vector<float> row = {0.25f, 0.75f};
  for (const bool embedding : {true, false}) {
    TestFolder folder;
    RawTensor weight = f32_tensor("m.weight", {1, 2});
    weight.bytes = f32_bytes(row);
    const std::string role = embedding ? "oft_embedding_R" : "oft_R";
    const RawTensor skew = f32_tensor("base_model.model.m." + role + ".weight", {1, 1}, 1);
    write_bytes(folder / "model.safetensors", safetensors_bytes({weight}));
    write_bytes(folder / "adapter_model.safetensors", safetensors_bytes({skew}));
    const Json config = {
        {"peft_type", "OFT"},      {"r", 0},        {"oft_block_size", 2}, {"use_cayley_neumann", false},
        {"target_modules", {"m"}}, {"coft", false}, {"block_share", false}};
    write_bytes(folder / "adapter_config.json", config.dump());
    const PeftAdapter adapter = read_peft_adapter(folder.path());
    const auto merged = merge_adapters(read_safetensors(folder / "model.safetensors").tensors, {{&adapter, 1}});
    const std::vector<float> want =
        embedding ? std::vector<float>{row[1], -row[0]} : std::vector<float>{-row[1], row[0]};
    EXPECT_EQ(raw_bytes(*merged.tensors.front()), f32_bytes(want)) << role;
  }
}

/// A case of peft_experts.json on disk, and its base.
struct ExpertsCase {
  TestFolder folder;
  std::vector<TensorPtr> base;
  PeftAdapter adapter;

  explicit ExpertsCase(const Json& one) {
    const auto decoded = [](const Json& text) { return *base64_bytes(text.get<std::string>()); };
    write_bytes(folder / "adapter_config.json", one["config"].get<std::string>());
    write_bytes(folder / "adapter_model.safetensors", decoded(one["weights"]));
    write_bytes(folder / "model.safetensors", decoded(one["base"]));
    base = read_safetensors(folder / "model.safetensors").tensors;
    adapter = read_peft_adapter(folder.path());
  }
};

// target_parameters against PEFT's merges in double, rounded once (make/peft_experts.py): the very bytes.
TEST(Experts, EqualPeft) {
  const Json golden = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "peft_experts.json");
  std::set<std::string> whole, apart;
  for (const auto& [name, one] : golden.items()) {
    SCOPED_TRACE(name);
    const ExpertsCase made(one);
    const MergeResult merged = merge_adapters(made.base, {{&made.adapter, 1}}),
                      off = merge_adapters(made.base, {{&made.adapter, 1.001}});
    EXPECT_EQ(merged.modules.size(), one["merged"].size()) << "the report has every tensor once";
    std::vector<std::string> warnings;
    check_peft_targets(made.adapter, made.base, warnings);
    EXPECT_EQ(warnings, std::vector<std::string>{});
    const auto by_name = [&](const std::string& tensor) {
      return *std::ranges::find_if(made.base, [&](const TensorPtr& held) { return held->name() == tensor; });
    };
    bool fused = false;
    for (const MergedModule& module : merged.modules) {
      const bool many = by_name(module.name)->info().shape.size() == 3;
      EXPECT_EQ(module.kind,
                std::string(name.find("gpt_oss-square") == 0 ? "rslora" : "lora") + (many ? "-experts" : ""));
      fused = fused || many;
    }
    const auto unmerged = [&] { return merge_adapters(made.base, {{&made.adapter, 1}}, {.unmerged = true}); };
    if (fused) expect_error(ErrorKind::unsupported, {"lora-experts, which is no product of two thin"}, unmerged);
    else EXPECT_NO_THROW(unmerged());
    for (std::size_t i = 0; i < made.base.size(); ++i) {
      const std::string& tensor = made.base[i]->name();
      ASSERT_EQ(merged.exact[i] != nullptr, one["merged"].contains(tensor)) << tensor;
      if (!merged.exact[i]) continue;
      const std::string want = *base64_bytes(one["merged"][tensor].get<std::string>());
      EXPECT_EQ(raw_bytes(*merged.tensors[i]), want) << tensor;
      EXPECT_NE(raw_bytes(*off.tensors[i]), want) << tensor << ", a thousandth off: the test shows nothing";
      expect_any_partition_agrees(*merged.exact[i]);
      (made.base[i]->info().shape.size() == 3 ? whole : apart).insert(name);
    }
  }
  EXPECT_GE(whole.size(), 3u);
  EXPECT_GE(apart.size(), 3u);
}

TEST(Experts, WhatDoesNotFitIsRefused) {
  const Json golden = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "peft_experts.json");
  const auto refused = [&](const char* name, ErrorKind kind, const std::vector<std::string>& parts,
                           const std::function<void(Json&, std::vector<RawTensor>&, std::vector<RawTensor>&)>& change) {
    SCOPED_TRACE(parts.front());
    Json one = golden[name];
    const ExpertsCase made(one);
    const auto raw = [](const std::vector<TensorPtr>& tensors) {
      std::vector<RawTensor> out;
      for (const TensorPtr& tensor : tensors)
        out.push_back({tensor->name(), "F32", tensor->info().shape, raw_bytes(*tensor)});
      return out;
    };
    Json config = Json::parse(one["config"].get<std::string>());
    std::vector<RawTensor> factors = raw(read_safetensors(made.folder / "adapter_model.safetensors").tensors),
                           base = raw(made.base);
    change(config, factors, base);
    write_bytes(made.folder / "adapter_config.json", config.dump());
    write_bytes(made.folder / "adapter_model.safetensors", safetensors_bytes(factors));
    write_bytes(made.folder / "model.safetensors", safetensors_bytes(base));
    expect_error(kind, parts, [&] {
      const PeftAdapter adapter = read_peft_adapter(made.folder.path());
      merge_adapters(read_safetensors(made.folder / "model.safetensors").tensors, {{&adapter, 1}});
    });
  };
  using Tensors = std::vector<RawTensor>;
  const auto drop = [](Tensors& tensors, const std::string& part) {
    std::erase_if(tensors, [&](const RawTensor& one) { return one.name.find(part) != std::string::npos; });
  };
  refused("gpt_oss", ErrorKind::bad_input, {"lora_A of 'model.layers.0.mlp.experts.base_layer' is missing"},
          [&](Json&, Tensors& factors, Tensors&) { drop(factors, "base_layer.lora_A"); });
  refused("gpt_oss", ErrorKind::bad_input, {"has factors of 1 parameters, expected 2"},
          [&](Json&, Tensors& factors, Tensors&) { drop(factors, "base_layer"); });
  refused("gpt_oss", ErrorKind::bad_input, {"has factors of 2 parameters, expected 1"},
          [](Json& config, Tensors&, Tensors&) { config["target_parameters"] = {"mlp.experts.down_proj"}; });
  refused("gpt_oss", ErrorKind::unsupported, {"names 3 parameters", "'fc1'"},
          [](Json& config, Tensors&, Tensors&) { config["target_parameters"].push_back("experts.fc1"); });
  refused("gpt_oss", ErrorKind::bad_input, {"'target_parameters' is [3], expected a list of names"},
          [](Json& config, Tensors&, Tensors&) { config["target_parameters"] = {3}; });
  refused("gpt_oss", ErrorKind::bad_input, {"of all experts together, expected one multiple of 4"},
          [](Json& config, Tensors&, Tensors&) { config["r"] = 4; });
  refused("gpt_oss-square", ErrorKind::bad_input, {"is of 6 experts, '", "has shape [3, "},
          [](Json& config, Tensors&, Tensors&) { config["r"] = 1; });
  refused("mixtral", ErrorKind::bad_input, {"is of 6 experts, the base has 6 tensors like ", "2 for each"},
          [](Json& config, Tensors&, Tensors&) { config["r"] = 1; });
  refused("mixtral", ErrorKind::bad_input, {"is of 3 experts, the base has 5 tensors like "},
          [&](Json&, Tensors&, Tensors& base) { drop(base, "experts.1.w3"); });
  refused("mixtral", ErrorKind::bad_input,
          {"do not fit matrices [12, 8] of 'model.layers.0.block_sparse_moe.experts.0.w1"},
          [&](Json& config, Tensors& factors, Tensors&) {
            config["target_parameters"] = {"mlp.experts.gate_up_proj"};
            drop(factors, "base_layer");
          });
  refused("mixtral", ErrorKind::bad_input,
          {"changes the parameter 'model.layers.0.mlp.experts.gate_up_proj', which the base's files do not"},
          [&](Json&, Tensors&, Tensors& base) { drop(base, "experts."); });
  refused("mixtral", ErrorKind::bad_input, {"is not like", "w3"}, [](Json&, Tensors&, Tensors& base) {
    for (RawTensor& one : base)
      if (one.name.find("experts.1.w3") != std::string::npos) std::swap(one.shape[0], one.shape[1]);
  });
  refused("gpt_oss-square", ErrorKind::unsupported, {"both ways round"},
          [&](Json&, Tensors&, Tensors& base) { drop(base, "_bias"); });
  refused("qwen3_moe-square", ErrorKind::unsupported, {"both ways round"},
          [](Json& config, Tensors&, Tensors&) { config.erase("peft_version"); });
}

TEST(Experts, WhatTheFileLacksIsTold) {
  const Json golden = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "peft_experts.json");
  ExpertsCase made(golden["qwen3_moe"]);
  std::erase_if(made.adapter.modules, [](const AdapterModule& one) { return one.target.ends_with("down_proj"); });
  std::vector<std::string> warnings;
  check_peft_targets(made.adapter, made.base, warnings);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(
      warnings.front().find("lacks 1 parameter 'model.layers.0.mlp.experts.down_proj' that its target_parameters"),
      std::string::npos)
      << warnings.front();
}

TEST(AdapterKeys, SpellingsOfOneKey) {
  for (const char* key : {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta",
                          "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta.default",
                          "embed_tokens.token_adapter.trainable_tokens_delta"}) {
    const auto parsed = parse_adapter_key(key);
    ASSERT_TRUE(parsed) << key;
    EXPECT_EQ(parsed->module, "model.embed_tokens");
    EXPECT_EQ(parsed->role, "token_adapter.trainable_tokens_delta");
  }
  const auto saved = parse_adapter_key("base_model.model.lm_head.modules_to_save.default.weight");
  ASSERT_TRUE(saved);
  EXPECT_EQ(saved->module + "/" + saved->role, "lm_head/weight");
  const auto dora =
      parse_adapter_key("base_model.model.model.layers.3.mlp.up_proj.lora_magnitude_vector.default.weight");
  ASSERT_TRUE(dora);
  EXPECT_EQ(dora->module + "/" + dora->role, "model.layers.3.mlp.up_proj/lora_magnitude_vector");
  const auto vera = parse_adapter_key("base_model.vera_A");
  ASSERT_TRUE(vera);
  EXPECT_EQ(vera->module + "/" + vera->role, "/vera_A");
  for (const char* key : {"", ".", "weight", "lora_A.weight", ".weight", "base_model.model.x.lora_Q", "xlora_A"})
    EXPECT_FALSE(parse_adapter_key(key)) << key;
}

}  // namespace
}  // namespace ropewalk::formats
