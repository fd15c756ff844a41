#include "formats/adapters/peft.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "formats/safetensors.h"
#include "lib/sha256.h"
#include "tests/formats/hf_test_support.h"

namespace ropewalk::formats {
namespace {

const fs::path kPeft = kGolden / "peft";
const fs::path kFixtures = kGolden / "fixtures";

std::map<std::string, TensorPtr> by_name(const std::vector<TensorPtr>& tensors) {
  std::map<std::string, TensorPtr> out;
  for (const TensorPtr& tensor : tensors) out[tensor->name()] = tensor;
  return out;
}

std::set<std::string> exclusions(const std::string& archive) {
  std::set<std::string> out;
  const Json json = read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / "excluded.json");
  for (const auto& [name, reason] : json.items())
    if (name.starts_with(archive + "/")) out.insert(name.substr(archive.size() + 1));
  return out;
}

/// Merges and returns bytes by tensor name, in `dtype` (the base's own if nullopt).
std::map<std::string, std::string> merged_bytes(const std::vector<TensorPtr>& base, const PeftAdapter& adapter,
                                                std::optional<DType> dtype, double scale = 1) {
  std::map<std::string, std::string> out;
  for (const TensorPtr& tensor : merge_adapters(base, {{&adapter, scale}}, dtype, false).tensors)
    out[tensor->name()] = raw_bytes(*tensor);
  return out;
}

/// golden.safetensors' tensors under "prefix/", bytes by tensor name.
std::map<std::string, std::string> golden_bytes(const fs::path& folder, const std::string& prefix) {
  std::map<std::string, std::string> out;
  for (const TensorPtr& tensor : read_safetensors(folder / "golden.safetensors").tensors)
    if (tensor->name().starts_with(prefix + "/")) out[tensor->name().substr(prefix.size() + 1)] = raw_bytes(*tensor);
  return out;
}

/// Ours is rounded once, from double; `f16/` and `bf16/` are `true/` (float) rounded again. The two can only differ
/// where the float lies exactly between two neighbours of the narrow type, and then ours must be one of those
/// neighbours. Returns how many elements did.
std::size_t check_narrow(const std::string& got, const std::string& want, const std::string& truth, DType dtype) {
  const auto narrow = [&](float value) { return dtype == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value); };
  std::size_t ties = 0;
  for (std::size_t i = 0; i < want.size() / 2; ++i) {
    std::uint16_t ours, theirs;
    float value;
    std::memcpy(&ours, got.data() + 2 * i, 2);
    std::memcpy(&theirs, want.data() + 2 * i, 2);
    std::memcpy(&value, truth.data() + 4 * i, 4);
    EXPECT_EQ(theirs, narrow(value)) << "the golden is not what its README says";
    if (ours == theirs) continue;
    const std::uint16_t below = narrow(std::nextafter(value, -INFINITY)),
                        above = narrow(std::nextafter(value, INFINITY));
    EXPECT_NE(below, above) << "element " << i << ": " << value << " is no tie";
    EXPECT_TRUE(ours == below || ours == above) << "element " << i;
    ++ties;
  }
  return ties;
}

/// One golden case: `true/` is the float64 merge rounded once to float, so every bit of a float merge must agree; the
/// narrow ones as check_narrow says.
void check_case(const fs::path& adapter_folder, const fs::path& golden_folder) {
  const Json golden = read_json(golden_folder / "golden.json");
  const std::vector<TensorPtr> base =
      read_safetensors(kPeft / "bases" / golden["base"].get<std::string>() / "model.safetensors").tensors;
  const PeftAdapter adapter = read_peft_adapter(adapter_folder);
  const auto changed = golden["changed"].get<std::set<std::string>>(),
             untouched = golden["untouched"].get<std::set<std::string>>();

  std::set<std::string> targets;
  for (const LoraModule& module : adapter.modules) targets.insert(module.target);
  EXPECT_EQ(targets, changed);

  const auto truth = golden_bytes(golden_folder, "true");
  const std::map<std::string, std::pair<const char*, DType>> prefixes = {
      {"f32", {"true", DType::f32}}, {"f16", {"f16", DType::f16}}, {"bf16", {"bf16", DType::bf16}}};
  int compared = 0;
  for (const auto& [type, prefix] : prefixes) {
    const auto want = golden_bytes(golden_folder, prefix.first);
    if (want.empty()) continue;
    const auto got = merged_bytes(base, adapter, prefix.second),
               off = merged_bytes(base, adapter, prefix.second, 1.001);
    for (const auto& [name, bytes] : want) {
      ASSERT_TRUE(got.contains(name)) << name;
      if (prefix.second == DType::f32)
        EXPECT_TRUE(got.at(name) == bytes) << name << " differs from the float64 merge rounded once";
      else
        EXPECT_LE(check_narrow(got.at(name), bytes, truth.at(name), prefix.second), 2u)
            << type << " " << name << ": ties are one in thousands";
      EXPECT_FALSE(off.at(name) == bytes)
          << type << " " << name << " also matches at a scale 1e-3 off: the test shows nothing";
      ++compared;
    }
  }
  EXPECT_GE(compared, int(changed.size()));

  const auto before = by_name(base),
             after = by_name(merge_adapters(base, {{&adapter, 1}}, std::nullopt, false).tensors);
  EXPECT_EQ(before.size(), after.size());
  for (const std::string& name : untouched)
    EXPECT_EQ(after.at(name), before.at(name)) << name << " is not the base's own tensor";
  for (const auto& [name, tensor] : after) EXPECT_EQ(tensor->dtype(), before.at(name)->dtype()) << name;
}

TEST(Peft, EveryCaseOfTheGoldenPassesOrIsExcluded) {
  const std::set<std::string> excluded = exclusions("peft");
  const Json index = read_json(kPeft / "index.json");
  EXPECT_TRUE(index["failed"].empty());
  std::set<std::string> all, passed;
  for (const auto& [name, unused] : index["ok"].items()) {
    all.insert(name);
    if (excluded.contains(name)) continue;
    SCOPED_TRACE(name);
    check_case(kPeft / name, kPeft / name);
    passed.insert(name);
  }
  for (const std::string& name : excluded)
    EXPECT_TRUE(all.contains(name)) << name << " is excluded but not in the index";
  const std::set<std::string> required = {
      "dtype-bf16-on-bf16", "dtype-bf16-on-f32", "dtype-f16-on-f16", "dtype-f16-on-f32",  "dtype-f32-on-bf16",
      "dtype-f32-on-f16",   "lora-all-linear",   "lora-basic",       "lora-regex-target", "rslora"};
  EXPECT_TRUE(std::includes(passed.begin(), passed.end(), required.begin(), required.end()));
}

TEST(Peft, KeySpellingsMetInTheWild) {
  int variants = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(kPeft / "key-variants")) {
    SCOPED_TRACE(entry.path().filename().string());
    check_case(entry.path(), kPeft / "lora-basic");
    ++variants;
  }
  EXPECT_EQ(variants, 4);
}

// Each must be refused for its own reason: the message names the field or key (peft README, "refuse").
TEST(Peft, RefusesByName) {
  const std::map<std::string, std::pair<ErrorKind, std::vector<std::string>>> cases = {
      {"alora", {ErrorKind::unsupported, {"adapter_config.json:2:", "'alora_invocation_tokens' is [5,6]"}}},
      {"extra-key",
       {ErrorKind::bad_input,
        {"adapter_model.safetensors",
         "'base_model.model.model.layers.0.self_attn.q_proj.lora_C.weight' is no LoRA factor of a linear layer, "
         "expected "}}},
      {"missing-B",
       {ErrorKind::bad_input,
        {"'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight' has no partner", "lora_B"}}},
      {"nan", {ErrorKind::bad_input, {"NaN", "lora_"}}},
      {"pissa-niter", {ErrorKind::unsupported, {"adapter_config.json:", "'init_lora_weights' is \"pissa_niter_4\""}}},
      {"prefix-tuning", {ErrorKind::unsupported, {"peft_type is \"PREFIX_TUNING\""}}},
      {"prompt-tuning", {ErrorKind::unsupported, {"peft_type is \"PROMPT_TUNING\""}}},
      {"ptuning", {ErrorKind::unsupported, {"peft_type is \"P_TUNING\""}}},
      {"rank-mismatch", {ErrorKind::bad_input, {"lora_A.weight' has rank 4, expected 7"}}},
      {"shape-mismatch",
       {ErrorKind::bad_input,
        {"adapter_model.safetensors", "q_proj.lora_A.weight' has shape [4, 31]", "31 inputs, expected 32",
         "[32, 32]"}}},
      {"unknown-module",
       {ErrorKind::bad_input, {"adapter_model.safetensors", "which the base does not have", "lora_A.weight' targets"}}},
      {"vera-no-projection", {ErrorKind::unsupported, {"peft_type is \"VERA\""}}},
  };
  const std::vector<TensorPtr> base = read_safetensors(kPeft / "bases/llama-f32/model.safetensors").tensors;
  std::set<std::string> seen;
  for (const fs::directory_entry& entry : fs::directory_iterator(kPeft / "refuse")) {
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(name);
    ASSERT_TRUE(cases.contains(name));
    expect_error(cases.at(name).first, cases.at(name).second, [&] {
      const PeftAdapter adapter = read_peft_adapter(entry.path());
      merge_adapters(base, {{&adapter, 1}}, std::nullopt, false);
    });
    seen.insert(name);
  }
  EXPECT_EQ(seen.size(), cases.size());
}

TEST(Peft, EveryFieldThatChangesTheMergeIsRefused) {
  const Json plain = read_json(kPeft / "lora-basic/adapter_config.json");
  const std::vector<std::pair<std::string, Json>> fields = {{"use_dora", true},
                                                            {"bias", "all"},
                                                            {"bias", "lora_only"},
                                                            {"lora_bias", true},
                                                            {"modules_to_save", {"lm_head", "embed_tokens"}},
                                                            {"rank_pattern", {{"q_proj", 2}}},
                                                            {"alpha_pattern", {{"q_proj", 2}}},
                                                            {"trainable_token_indices", {1, 2}},
                                                            {"layer_replication", {{0, 2}, {1, 2}}},
                                                            {"target_parameters", {"a", "b"}},
                                                            {"use_qalora", true},
                                                            {"arrow_config", {{"top_k", 3}}},
                                                            {"use_bdlora", {{"nblocks", 2}}},
                                                            {"kasa_config", {{"beta", 1}}},
                                                            {"monteclora_config", {{"buffer_size", 1}}},
                                                            {"init_lora_weights", "pissa"},
                                                            {"init_lora_weights", "olora"},
                                                            {"init_lora_weights", "loftq"},
                                                            {"init_lora_weights", "corda"},
                                                            {"field_of_a_later_version", 1}};
  TestFolder folder;
  write_bytes(folder / "adapter_model.safetensors", read_bytes(kPeft / "lora-basic/adapter_model.safetensors"));
  for (const auto& [field, value] : fields) {
    SCOPED_TRACE(field);
    Json config = plain;
    config[field] = value;
    write_bytes(folder / "adapter_config.json", config.dump(2));
    expect_error(ErrorKind::unsupported, {"adapter_config.json:", "'" + field + "'"},
                 [&] { read_peft_adapter(folder.path()); });
  }
  const auto refused = [&](const std::string& field, const Json& value, const std::string& found) {
    SCOPED_TRACE(field);
    Json config = plain;
    config[field] = value;
    write_bytes(folder / "adapter_config.json", config.dump(2));
    expect_error(ErrorKind::bad_input, {"adapter_config.json:", "'" + field + "' is " + found},
                 [&] { read_peft_adapter(folder.path()); });
  };
  refused("r", "4", "\"4\"");
  refused("r", 0, "0, expected 1 to");
  refused("lora_alpha", "9", "\"9\"");
  refused("lora_alpha", nullptr, "null, expected a number");
  refused("peft_type", nullptr, "null, expected \"LORA\"");
  refused("use_rslora", 1, "1");
  // ill-typed, whatever it would change
  refused("use_dora", "yes", "\"yes\", expected true or false");
  refused("bias", true, "true, expected \"none\", \"all\" or \"lora_only\"");
  refused("bias", false, "false, expected \"none\", \"all\" or \"lora_only\"");
  refused("rank_pattern", {1, 2}, "[1,2], expected an object");
  refused("modules_to_save", "lm_head", "\"lm_head\", expected a list");
  refused("trainable_token_indices", 3, "3, expected a list or an object");
  for (const char* init : {"gaussian", "eva", "orthogonal", "mica"}) {
    Json config = plain;
    config["init_lora_weights"] = init;
    write_bytes(folder / "adapter_config.json", config.dump(2));
    EXPECT_NO_THROW(read_peft_adapter(folder.path())) << init;
  }
}

TEST(Peft, RefusesWhatIsMissingOrDoubled) {
  TestFolder folder;
  expect_error(ErrorKind::bad_input, {"no adapter_config.json"}, [&] { read_peft_adapter(folder.path()); });
  write_bytes(folder / "adapter_config.json", read_bytes(kPeft / "lora-basic/adapter_config.json"));
  expect_error(ErrorKind::bad_input, {"no adapter_model.safetensors"}, [&] { read_peft_adapter(folder.path()); });
  write_bytes(folder / "adapter_model.bin", "PK");
  expect_error(ErrorKind::unsupported, {"adapter_model.bin", "torch pickle"},
               [&] { read_peft_adapter(folder.path()); });
  const std::string key = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
  const auto with = [&](const std::vector<RawTensor>& tensors) {
    write_bytes(folder / "adapter_model.safetensors", safetensors_bytes(tensors));
  };
  with({});
  expect_error(ErrorKind::bad_input, {"no tensors"}, [&] { read_peft_adapter(folder.path()); });
  with({f32_tensor(key + "A.weight", {4, 32}), f32_tensor(key + "A.default.weight", {4, 32}),
        f32_tensor(key + "B.weight", {32, 4})});
  expect_error(ErrorKind::bad_input, {"both name lora_A"}, [&] { read_peft_adapter(folder.path()); });
  with({f32_tensor(key + "A.weight", {4, 32}), f32_tensor(key + "B.weight", {32, 5})});
  expect_error(ErrorKind::bad_input, {"rank 4", "rank 5"}, [&] { read_peft_adapter(folder.path()); });
  with({f32_tensor(key + "A.weight", {4, 32, 1}), f32_tensor(key + "B.weight", {32, 4})});
  expect_error(ErrorKind::bad_input, {"[4, 32, 1]", "two axes"}, [&] { read_peft_adapter(folder.path()); });
  RawTensor infinite = f32_tensor(key + "B.weight", {32, 4});
  const float inf = -std::numeric_limits<float>::infinity();
  std::memcpy(infinite.bytes.data() + 4 * (4 * 7 + 3), &inf, 4);
  with({f32_tensor(key + "A.weight", {4, 32}), infinite});
  expect_error(ErrorKind::bad_input, {"lora_B.weight' holds an infinity in row 7"},
               [&] { read_peft_adapter(folder.path()); });
}

// fixtures: 28 tensors of a trained model and its QLoRA adapter, sha256 of the float64 merge rounded once to float16.
TEST(Peft, MergedFixtureHasTheExactHashes) {
  const Json golden = read_json(kFixtures / "adapters/qlora-shakespeare-merged/merged.json");
  const std::vector<TensorPtr> base =
      read_safetensors(kFixtures / "models/tolstoy-4m-yarn-2k/model.safetensors").tensors;
  const PeftAdapter adapter = read_peft_adapter(kFixtures / "adapters/qlora-shakespeare");
  const auto got = merged_bytes(base, adapter, std::nullopt), off = merged_bytes(base, adapter, std::nullopt, 1.001);
  const auto original = by_name(base);
  const std::set<std::string> excluded = exclusions("fixtures");
  ASSERT_EQ(golden["tensors"].size(), 28u);
  EXPECT_EQ(got.size(), base.size());
  for (const auto& [name, bytes] : got) {
    if (!golden["tensors"].contains(name)) {
      EXPECT_EQ(bytes, raw_bytes(*original.at(name))) << name << " is not targeted and must not change";
      continue;
    }
    const Json& want = golden["tensors"][name];
    EXPECT_EQ(sha256(bytes), want["exact"]) << name;
    EXPECT_NE(sha256(off.at(name)), want["exact"]) << name;
    for (const auto& [key, hash] : want.items()) {
      EXPECT_TRUE(!hash.is_string() || key == "exact" || excluded.contains("adapters/qlora-shakespeare-merged/" + key))
          << key << " is neither compared nor excluded";
    }
  }
}

// Scale 0 changes nothing; two adapters are summed before the one rounding, so the order of naming them cannot show
// where the sum is exact.
TEST(Peft, ScalesAndSeveralAdapters) {
  const std::vector<TensorPtr> base = read_safetensors(kPeft / "bases/llama-f32/model.safetensors").tensors;
  const PeftAdapter adapter = read_peft_adapter(kPeft / "lora-basic");
  const auto zero = merged_bytes(base, adapter, std::nullopt, 0);
  for (const TensorPtr& tensor : base) EXPECT_EQ(zero.at(tensor->name()), raw_bytes(*tensor)) << tensor->name();

  const auto once = merged_bytes(base, adapter, std::nullopt, 1);
  std::map<std::string, std::string> halves;  // 0.5 x twice: scaling by a power of two is exact, so is d/2 + d/2
  const MergeResult both = merge_adapters(base, {{&adapter, 0.5}, {&adapter, 0.5}}, std::nullopt, false);
  EXPECT_EQ(both.modules.size(), 2 * adapter.modules.size());
  EXPECT_EQ(both.modules.front().scale, adapter.modules.front().scale / 2);
  for (const TensorPtr& tensor : both.tensors) {
    std::vector<float> a(tensor->info().elements()), b(a.size());
    tensor->prepare();
    tensor->read_f32({0, tensor->info().rows()}, a);
    std::memcpy(b.data(), once.at(tensor->name()).data(), b.size() * 4);
    // (W + d/2) + d/2 rounds once more in double than W + d: the sums differ by at most 2^-52 |W|, so their roundings
    // to float by at most one step, and that only next to a tie.
    std::size_t different = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      EXPECT_LE(std::abs(a[i] - b[i]), 1.2e-7f * std::abs(b[i])) << tensor->name();
      different += a[i] != b[i];
    }
    EXPECT_LE(different, 1u) << tensor->name();
  }
}

TEST(Peft, ReportsKindRankAndScale) {
  const PeftAdapter plain = read_peft_adapter(kPeft / "lora-basic"), rs = read_peft_adapter(kPeft / "rslora");
  EXPECT_EQ(plain.base_model, "../bases/llama-f32");
  EXPECT_EQ(plain.modules.front().rank, 4u);
  EXPECT_EQ(plain.modules.front().scale, 9.0 / 4);
  EXPECT_EQ(rs.modules.front().scale, 9.0 / 2) << "alpha 9 over the root of r 4";
  const std::vector<TensorPtr> base = read_safetensors(kPeft / "bases/llama-f32/model.safetensors").tensors;
  EXPECT_EQ(merge_adapters(base, {{&rs, 1}}, std::nullopt, false).modules.front().kind, "rslora");
  EXPECT_EQ(merge_adapters(base, {{&plain, 1}}, std::nullopt, false).modules.front().kind, "lora");
}

}  // namespace
}  // namespace ropewalk::formats
