#include "formats/adapters/peft.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "formats/adapters/combine.h"
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
  for (const TensorPtr& tensor : merge_adapters(base, {{&adapter, scale}}, {.dtype = dtype}).tensors)
    out[tensor->name()] = raw_bytes(*tensor);
  return out;
}

/// The rows of a tensor in f64, read `step` at a time from the last to the first.
std::string rows_backwards(const LazyTensor& tensor, std::uint64_t step) {
  const std::uint64_t rows = tensor.info().rows(), columns = tensor.info().columns();
  std::vector<double> values(rows * columns);
  tensor.prepare();
  for (std::uint64_t first = (rows - 1) / step * step;; first -= step) {
    const RowRange range{first, std::min(first + step, rows)};
    tensor.read_f64(range, std::span(values).subspan(range.begin * columns, range.size() * columns));
    if (first == 0) break;
  }
  tensor.release();
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)};
}

/// What a case's golden says: of each tensor that a right merge changes or adds the hash of its f32 bytes, or the bytes.
struct Golden {
  Json json;
  std::map<std::string, std::string> sha256;
  std::map<std::string, std::vector<float>> values;             // cases kept whole
  std::map<std::string, std::vector<std::uint16_t>> f16, bf16;  // the same rounded, where kept

  explicit Golden(const fs::path& folder) : json(read_json(folder / "golden.json")) {
    std::map<std::string, TensorPtr> kept;
    if (fs::exists(folder / "golden.safetensors"))
      kept = by_name(read_safetensors(folder / "golden.safetensors").tensors);
    // untied/ and once/ are right where PEFT's own merge into one tied tensor is not (README): its logits say so
    const bool peft_is_right =
        json["f64_logits_unmerged_vs_merged"].is_null() || json["f64_logits_unmerged_vs_merged"].get<double>() < 1e-9;
    const Json hashes = json.value("sha256", Json::object());
    for (const char* prefix : {"true/", "untied/", "once/"}) {
      if (peft_is_right && prefix != std::string("true/")) continue;
      for (const auto& [name, hash] : hashes.items())
        if (name.starts_with(prefix)) sha256[name.substr(name.find('/') + 1)] = hash;
    }
    for (const auto& [name, tensor] : kept) {
      const std::string plain = name.substr(name.find('/') + 1);
      if (name.starts_with("true/")) {
        std::vector<float>& of = values[plain];
        of.resize(tensor->info().elements());
        tensor->read_f32({0, tensor->info().rows()}, of);
        sha256[plain] = ropewalk::sha256(raw_bytes(*tensor));
      }
      if (name.starts_with("f16/") || name.starts_with("bf16/")) {
        std::vector<std::uint16_t>& of = (name.starts_with("f16/") ? f16 : bf16)[plain];
        of.resize(tensor->info().elements());
        std::memcpy(of.data(), raw_bytes(*tensor).data(), of.size() * 2);
      }
    }
  }
};

/// Ours in 16 bits is rounded once, from double; the golden is the float merge rounded again. The two can only differ
/// where the float lies exactly between two neighbours of the narrow type, and then ours must be one of those
/// neighbours. Returns how many elements did.
std::size_t check_narrow(const std::string& got, const std::string& truth, DType dtype,
                         const std::vector<std::uint16_t>* golden) {
  const auto narrow = [&](float value) { return dtype == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value); };
  std::size_t ties = 0;
  for (std::size_t i = 0; i < truth.size() / 4; ++i) {
    std::uint16_t ours;
    float value;
    std::memcpy(&ours, got.data() + 2 * i, 2);
    std::memcpy(&value, truth.data() + 4 * i, 4);
    const std::uint16_t theirs = narrow(value);
    EXPECT_TRUE(!golden || theirs == (*golden)[i]) << "the golden is not what its README says";
    if (ours == theirs) continue;
    const std::uint16_t below = narrow(std::nextafter(value, -INFINITY)),
                        above = narrow(std::nextafter(value, INFINITY));
    EXPECT_NE(below, above) << "element " << i << ": " << value << " is no tie";
    EXPECT_TRUE(ours == below || ours == above) << "element " << i;
    ++ties;
  }
  return ties;
}

/// pissa and olora: the library's own residual carries the error of a float32 SVD or QR (README of the goldens).
void expect_near(const std::string& got, const std::vector<float>& want, float tolerance, const std::string& name) {
  for (std::size_t i = 0; i < want.size(); ++i) {
    float value;
    std::memcpy(&value, got.data() + 4 * i, 4);
    ASSERT_TRUE(std::abs(value - want[i]) <= tolerance)
        << name << ", element " << i << ": " << value << ", " << want[i];
  }
}

using Bytes = std::map<std::string, std::string>;

/// A merge of `adapters` in f32 against the golden: `tolerance` 0 asks for its very bytes.
Bytes check_truth(const Golden& golden, const MergeResult& merged, float tolerance) {
  Bytes got;
  for (const TensorPtr& tensor : merged.tensors) got[tensor->name()] = raw_bytes(*tensor);
  const bool tied = !got.contains("lm_head.weight");
  for (const auto& [name, hash] : golden.sha256) {
    const std::string& ours = got[tied && name == "lm_head.weight" ? "model.embed_tokens.weight" : name];
    if (tolerance == 0) EXPECT_EQ(sha256(ours), hash) << name << " differs from the float64 merge rounded once";
    else expect_near(ours, golden.values.at(name), tolerance, name);
  }
  return got;
}

/// One golden case. `true/` is the float64 merge rounded once to float, so every bit of a float merge must agree; a
/// merge into 16 bits as check_narrow says.
void check_case(const fs::path& adapter_folder, const fs::path& golden_folder, float tolerance = 0) {
  const Golden golden(golden_folder);
  const fs::path folder = kPeft / "bases" / golden.json["base"].get<std::string>();
  const std::vector<TensorPtr> base = read_safetensors(folder / "model.safetensors").tensors;
  const bool tied = !by_name(base).contains("lm_head.weight");
  const PeftAdapter adapter = read_peft_adapter(adapter_folder);
  const MergeResult merged = merge_adapters(base, {{&adapter, 1}}, {.dtype = DType::f32, .tied_head = tied});
  const Bytes got = check_truth(golden, merged, tolerance);

  const auto before = by_name(base);
  const DType own = base.front()->dtype();
  const auto untouched = golden.json["untouched"].get<std::set<std::string>>();
  const bool grown = golden.json["config_changes"].contains("vocab_size");
  const auto in_own = by_name(merge_adapters(base, {{&adapter, 1}}, {.tied_head = tied}).tensors);
  for (std::size_t i = 0; i < merged.tensors.size(); ++i) {
    const std::string& name = merged.tensors[i]->name();
    SCOPED_TRACE(name);
    EXPECT_EQ(in_own.at(name)->dtype(), own);
    if (untouched.contains(name)) {
      EXPECT_EQ(in_own.at(name), before.at(name)) << "is not the base's own tensor";
      continue;
    }
    if (!merged.exact[i]) {  // a head of its own that is the embedding's old values
      EXPECT_TRUE(name == "lm_head.weight" || name == "model.embed_tokens.weight");
      continue;
    }
    for (const std::uint64_t step : {1, 5})
      EXPECT_EQ(rows_backwards(*merged.exact[i], step), rows_backwards(*merged.exact[i], 1000))
          << "in ranges of " << step;
    if (own != DType::f32) {
      const auto& kept = own == DType::f16 ? golden.f16 : golden.bf16;
      const auto narrow = kept.find(name);
      EXPECT_LE(check_narrow(raw_bytes(*in_own.at(name)), got.at(name), own,
                             narrow == kept.end() ? nullptr : &narrow->second),
                2u)
          << "ties are one in thousands";
    }
  }
  EXPECT_EQ(merged.untied, tied && got.contains("lm_head.weight"));
  EXPECT_EQ(grown, merged.tensors.front()->info().rows() != base.front()->info().rows());
  if (grown) return;  // what takes another shape cannot be scaled
  const Bytes off = [&] {
    Bytes bytes;
    const MergeResult other = merge_adapters(base, {{&adapter, 1.001}}, {.dtype = DType::f32, .tied_head = tied});
    for (std::size_t i = 0; i < other.tensors.size(); ++i)
      if (other.exact[i]) bytes[other.tensors[i]->name()] = raw_bytes(*other.tensors[i]);
    return bytes;
  }();
  EXPECT_FALSE(off.empty());
  for (const auto& [name, bytes] : off)
    EXPECT_FALSE(bytes == got.at(name)) << name << " also matches at a scale 1e-3 off: the test shows nothing";
}

/// Adapters a, b, c of `multi` in the combination that golden.json names: in sequence as they are named, or as one.
void check_combination(const fs::path& golden_folder, float tolerance) {
  const Golden golden(golden_folder);
  const std::vector<TensorPtr> base =
      read_safetensors(kPeft / "bases" / golden.json["base"].get<std::string>() / "model.safetensors").tensors;
  const Json& how = golden.json["combine"];
  std::vector<PeftAdapter> adapters;
  for (const Json& name : how[how.contains("adapters") ? "adapters" : "sequential"])
    adapters.push_back(read_peft_adapter(kPeft / "multi" / name.get<std::string>()));
  const auto merged = [&](double factor) {
    std::vector<ScaledAdapter> scaled;
    for (std::size_t i = 0; i < adapters.size(); ++i)
      scaled.push_back({&adapters[i], factor * (how.contains("weights") ? how["weights"][i].get<double>() : 1)});
    if (how.contains("sequential")) return merge_adapters(base, scaled, {.dtype = DType::f32});
    std::string spec = how["combination_type"];
    if (how.contains("density")) spec += ",density=" + how["density"].dump();
    if (how.contains("svd_rank")) spec += ",rank=" + how["svd_rank"].dump();
    if (how.contains("svd_clamp")) spec += ",clamp=" + how["svd_clamp"].dump();
    if (how.contains("majority_sign_method")) spec += ",sign=" + how["majority_sign_method"].get<std::string>();
    std::vector<std::string> notes;
    const PeftAdapter one = combine_adapters(scaled, parse_combination(spec), notes);
    EXPECT_TRUE(notes.empty()) << notes.front();
    return merge_adapters(base, {{&one, 1}}, {.dtype = DType::f32});
  };
  const MergeResult result = merged(1);
  const Bytes got = check_truth(golden, result, tolerance);
  EXPECT_EQ(golden.sha256.size(), 6u);
  for (std::size_t i = 0; i < result.tensors.size(); ++i) {
    EXPECT_EQ(bool(result.exact[i]), golden.sha256.contains(result.tensors[i]->name()));
    if (!result.exact[i]) continue;
    EXPECT_EQ(rows_backwards(*result.exact[i], 3), rows_backwards(*result.exact[i], 1000));
  }
  for (const TensorPtr& tensor : merged(1.001).tensors)
    EXPECT_NE(golden.sha256.contains(tensor->name()), raw_bytes(*tensor) == got.at(tensor->name()))
        << "what the adapters change differs at another scale, and nothing else";
}

TEST(Peft, EveryCaseOfTheGoldenPassesOrIsExcluded) {
  const std::set<std::string> excluded = exclusions("peft");
  const Json index = read_json(kPeft / "index.json");
  EXPECT_TRUE(index["failed"].empty());
  std::set<std::string> all;
  for (const auto& [name, unused] : index["ok"].items()) {
    all.insert(name);
    if (excluded.contains(name)) continue;
    SCOPED_TRACE(name);
    if (name.starts_with(
            "multi/")) {  // tolerances of the README: products of an SVD, and of factors cut whose signs it chose
      check_combination(kPeft / ("multi/golden-" + name.substr(6)), name == "multi/svd-abc-clamp"           ? 1e-2f
                                                                    : name.find("svd") != std::string::npos ? 5e-7f
                                                                                                            : 0);
      continue;
    }
    check_case(kPeft / name, kPeft / name, name == "pissa" || name == "olora" ? 2e-6f : 0);
  }
  for (const std::string& name : excluded)
    EXPECT_TRUE(all.contains(name)) << name << " is excluded but not in the index";
  for (const char* name : {"lora-basic", "rslora", "dtype-f16-on-f16", "dtype-bf16-on-f32", "patterns"})
    EXPECT_FALSE(excluded.contains(name)) << name;
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
         "key 'base_model.model.model.layers.0.self_attn.q_proj.lora_C.weight' has no place in the LoRA adapter"}}},
      {"missing-B",
       {ErrorKind::bad_input,
        {"'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight' has no partner", "lora_B"}}},
      {"nan", {ErrorKind::bad_input, {"NaN", "lora_"}}},
      {"pissa-niter", {ErrorKind::unsupported, {"adapter_config.json:", "'init_lora_weights' is \"pissa_niter_4\""}}},
      {"prefix-tuning",
       {ErrorKind::unsupported,
        {"peft_type is \"PREFIX_TUNING\": it is keys and values before the text, not a change"}}},
      {"prompt-tuning",
       {ErrorKind::unsupported, {"peft_type is \"PROMPT_TUNING\": it is virtual tokens before the text"}}},
      {"ptuning", {ErrorKind::unsupported, {"peft_type is \"P_TUNING\""}}},
      {"rank-mismatch", {ErrorKind::bad_input, {"lora_A.weight' has rank 4, expected 7"}}},
      {"shape-mismatch",
       {ErrorKind::bad_input,
        {"adapter_model.safetensors", "q_proj.lora_A.weight' has shape [4, 31]", "31 inputs, expected 32",
         "[32, 32]"}}},
      {"unknown-module",
       {ErrorKind::bad_input, {"adapter_model.safetensors", "which the base does not have", "lora_A.weight' targets"}}},
      {"vera-no-projection",
       {ErrorKind::unsupported, {"adapter_config.json:", "saved without its projections vera_A and vera_B"}}},
  };
  const std::vector<TensorPtr> base = read_safetensors(kPeft / "bases/llama-f32/model.safetensors").tensors;
  std::set<std::string> seen;
  for (const fs::directory_entry& entry : fs::directory_iterator(kPeft / "refuse")) {
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(name);
    ASSERT_TRUE(cases.contains(name));
    expect_error(cases.at(name).first, cases.at(name).second, [&] {
      const PeftAdapter adapter = read_peft_adapter(entry.path());
      merge_adapters(base, {{&adapter, 1}});
    });
    seen.insert(name);
  }
  EXPECT_EQ(seen.size(), cases.size());
}

TEST(Peft, EveryFieldThatChangesTheMergeIsRefused) {
  const Json plain = read_json(kPeft / "lora-basic/adapter_config.json");
  const std::vector<std::pair<std::string, Json>> fields = {{"use_qalora", true},
                                                            {"arrow_config", {{"top_k", 3}}},
                                                            {"use_bdlora", {{"nblocks", 2}}},
                                                            {"kasa_config", {{"beta", 1}}},
                                                            {"monteclora_config", {{"buffer_size", 1}}},
                                                            {"init_lora_weights", "loftq"},
                                                            {"init_lora_weights", "lora_ga"},
                                                            {"init_lora_weights", "corda"},
                                                            {"init_lora_weights", "corda_x"},
                                                            {"enable_lora", {true, false}},
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
    expect_error(ErrorKind::bad_input, {"adapter_config.json:", "'" + field + "'", found},
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
  refused("rank_pattern", {{"q_proj", "2"}}, "\"q_proj\"");
  // torch.empty of PEFT's layers raises TypeError for sizes that are no int
  refused("r", 4.0, "4.0 (number), expected an integer");
  refused("rank_pattern", {{"q_proj", 4.0}}, "\"q_proj\" is 4.0, expected an integer from 1 to");
  refused("rank_pattern", {{"q_proj", 4.7}}, "\"q_proj\" is 4.7, expected an integer from 1 to");
  for (const char* ranges : {"[3]", "[[0]]", "[[0, 1, 2]]", "[[1, 1]]", "[[2, 1]]", "[[-1, 2]]", "[[0, 1.5]]",
                             "[[0, 9000], [0, 9000]]", "[[0, 10001]]", "[[0, \"2\"]]", "[[0, 1], null]"})
    refused("layer_replication", Json::parse(ranges), "expected a list of [first layer, the one after the last]");
  // The words as PeftModel.from_pretrained of PEFT 0.21.2 took them, and those for which it raised ValueError.
  const auto kind_of = [&](const std::string& init) {
    Json config = plain;
    config["init_lora_weights"] = init;
    write_bytes(folder / "adapter_config.json", config.dump(2));
    return read_peft_adapter(folder.path()).modules.front().kind;
  };
  for (const char* init : {"gaussian", "Gaussian", "GAUSSIAN", "eva", "orthogonal", "mica", "MiCA", ""})
    EXPECT_EQ(kind_of(init), "lora") << init;
  for (const char* init : {"olora", "OLoRA"}) EXPECT_EQ(kind_of(init), "olora") << init;
  EXPECT_EQ(kind_of("pissa"), "pissa");
  for (const char* init : {"PiSSA", "pissax", "EVA", "Orthogonal", "LoftQ", "LORA_GA", "nonsense"})
    refused("init_lora_weights", init, "\", expected true, false, \"gaussian\"");
  // PEFT drops it with a warning
  Json former = plain;
  former["merge_weights"] = true;
  write_bytes(folder / "adapter_config.json", former.dump(2));
  EXPECT_EQ(read_peft_adapter(folder.path()).modules.front().kind, "lora");
}

TEST(Peft, RefusesWhatIsMissingOrDoubled) {
  TestFolder folder;
  expect_error(ErrorKind::bad_input, {"no adapter_config.json"}, [&] { read_peft_adapter(folder.path()); });
  write_bytes(folder / "adapter_config.json", read_bytes(kPeft / "lora-basic/adapter_config.json"));
  expect_error(ErrorKind::bad_input, {"no adapter_model.safetensors"}, [&] { read_peft_adapter(folder.path()); });
  write_bytes(folder / "adapter_model.bin", "PK");
  expect_error(ErrorKind::bad_input, {"adapter_model.bin", "neither a zip file nor a pickle"},
               [&] { read_peft_adapter(folder.path()); });
  const std::string key = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
  const auto with = [&](const std::vector<RawTensor>& tensors) {
    write_bytes(folder / "adapter_model.safetensors", safetensors_bytes(tensors));
  };
  with({});
  expect_error(ErrorKind::bad_input, {"no tensors"}, [&] { read_peft_adapter(folder.path()); });
  with({f32_tensor(key + "A.weight", {4, 32}), f32_tensor(key + "A.default.weight", {4, 32}, 0.5f),
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

// The keys that PEFT 0.21.2 writes of a head with LoRA (save_embedding_layers="auto"), and of one in modules_to_save after
// the vocabulary grew: copies change nothing, and a copy that is not the base's is a tensor in its place.
TEST(Peft, CopiesOfTheBaseChangeNothing) {
  TestFolder folder;
  const auto read = [&](const Json& fields, const std::vector<RawTensor>& tensors) {
    Json config = {{"peft_type", "LORA"}, {"r", 4}, {"lora_alpha", 4}, {"target_modules", {"lm_head"}}};
    config.update(fields);
    write_bytes(folder / "adapter_config.json", config.dump());
    write_bytes(folder / "adapter_model.safetensors", safetensors_bytes(tensors));
    return read_peft_adapter(folder.path());
  };
  const std::string head = "base_model.model.lm_head.";
  write_bytes(folder / "base.safetensors", safetensors_bytes({f32_tensor("lm_head.weight", {8, 6}, 2)}));
  const std::vector<TensorPtr> base = read_safetensors(folder / "base.safetensors").tensors;
  const auto kinds = [&](const PeftAdapter& adapter) {
    std::string out;
    for (const MergedModule& module : merge_adapters(base, {{&adapter, 1}}).modules) out += module.kind + " ";
    return out;
  };
  const RawTensor a = f32_tensor(head + "lora_A.weight", {4, 6}), b = f32_tensor(head + "lora_B.weight", {8, 4});
  EXPECT_EQ(kinds(read(Json::object(), {f32_tensor(head + "base_layer.weight", {8, 6}, 2), a, b})), "lora ");
  EXPECT_EQ(kinds(read(Json::object(), {f32_tensor(head + "base_layer.weight", {8, 6}, 3), a, b})), "saved lora ");
  EXPECT_EQ(kinds(read({{"modules_to_save", {"lm_head"}}, {"target_modules", {"q_proj"}}},
                       {f32_tensor(head + "weight", {9, 6}), f32_tensor(head + "modules_to_save.weight", {9, 6}),
                        f32_tensor(head + "original_module.weight", {9, 6}, 5)})),
            "saved ");
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
      if (key.starts_with("nf4")) continue;  // in bitsandbytes_test
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
  const MergeResult both = merge_adapters(base, {{&adapter, 0.5}, {&adapter, 0.5}}, {});
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

TEST(Peft, CombinationsBesideTheGoldens) {
  const PeftAdapter a = read_peft_adapter(kPeft / "multi/a"), b = read_peft_adapter(kPeft / "multi/b"),
                    c = read_peft_adapter(kPeft / "multi/c"), dora = read_peft_adapter(kPeft / "dora");
  const std::vector<TensorPtr> base = read_safetensors(kPeft / "bases/llama-f32/model.safetensors").tensors;
  std::vector<std::string> notes;
  const auto merged = [&](const std::string& spec, std::uint64_t seed = 0) {
    CombineOptions options = parse_combination(spec);
    options.seed = seed;
    const PeftAdapter one = combine_adapters({{&a, 1}, {&b, -0.6}}, options, notes);
    std::string all;
    for (const TensorPtr& tensor : merge_adapters(base, {{&one, 1}}).tensors) all += raw_bytes(*tensor);
    return all;
  };
  // torch's own masks cannot be drawn here (README of the goldens); ours are the same everywhere, for each seed
  EXPECT_EQ(merged("dare_linear,density=0.7", 3), merged("dare_linear,density=0.7", 3));
  EXPECT_NE(merged("dare_linear,density=0.7", 3), merged("dare_linear,density=0.7", 4));
  EXPECT_EQ(merged("dare_linear,density=1"), merged("linear"));
  EXPECT_EQ(merged("magnitude_prune,density=1"), merged("linear"));
  EXPECT_EQ(merged("dare_ties,density=1"), merged("ties,density=1"));
  EXPECT_NE(merged("ties,density=1"), merged("linear"));
  const auto refused = [&](const std::string& spec, const std::string& part) {
    expect_error(ErrorKind::usage, {"--combine '" + spec, part}, [&] { parse_combination(spec); });
  };
  refused("tis", "did you mean ties?");
  refused("", "is no combination");
  refused("ties,density=2", "density is '2', no number from 0 to 1");
  refused("svd,rank=1.5", "no whole number");
  refused("svd,size=3", "'size=3' is not known");
  expect_error(ErrorKind::usage, {"no density is given"}, [&] { merged("ties"); });
  expect_error(ErrorKind::bad_input, {"expected one rank", "combine them with cat or svd"}, [&] {
    combine_adapters({{&a, 1}, {&c, 1}}, parse_combination("linear"), notes);
  });
  expect_error(ErrorKind::unsupported, {"is of kind dora, and only LoRA deltas are combined"}, [&] {
    combine_adapters({{&a, 1}, {&dora, 1}}, parse_combination("cat"), notes);
  });
}

TEST(Peft, ReportsKindRankAndScale) {
  const PeftAdapter plain = read_peft_adapter(kPeft / "lora-basic"), rs = read_peft_adapter(kPeft / "rslora");
  EXPECT_EQ(plain.base_model, "../bases/llama-f32");
  EXPECT_EQ(plain.modules.front().rank, 4u);
  EXPECT_EQ(plain.modules.front().scale, 9.0 / 4);
  EXPECT_EQ(rs.modules.front().scale, 9.0 / 2) << "alpha 9 over the root of r 4";
  const std::vector<TensorPtr> base = read_safetensors(kPeft / "bases/llama-f32/model.safetensors").tensors;
  EXPECT_EQ(merge_adapters(base, {{&rs, 1}}, {}).modules.front().kind, "rslora");
  EXPECT_EQ(merge_adapters(base, {{&plain, 1}}, {}).modules.front().kind, "lora");
}

}  // namespace
}  // namespace ropewalk::formats
