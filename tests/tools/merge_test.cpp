#include <cmath>
#include <cstring>
#include <set>

#include "formats/safetensors.h"
#include "lib/sha256.h"
#include "tests/tools/command.h"
#include "tools/observed_merge.h"

namespace ropewalk::tools::test {
namespace {

std::string tensor_sha256(const LazyTensor& tensor) {
  std::vector<std::byte> bytes(tensor.info().bytes());
  tensor.read_raw({0, tensor.info().rows()}, bytes);
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

// merged.json: sha256 of float16(W + s B A) in float64 with one rounding, by numpy.
TEST(Merge, TensorsEqualTheExactHashes) {
  Scratch scratch;
  const Ran ran =
      run({"merge", model("tolstoy-4m-yarn-2k") + "+" + adapter(), "-o", (scratch / "merged").string(), "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const Json golden = Json::parse(slurp(fixture("adapters/qlora-shakespeare-merged/merged.json")))["tensors"];
  std::map<std::string, std::string> base;
  for (const TensorPtr& tensor : formats::read_safetensors(model("tolstoy-4m-yarn-2k") + "/model.safetensors").tensors)
    base[tensor->name()] = tensor_sha256(*tensor);
  std::size_t changed = 0;
  for (const TensorPtr& tensor : formats::read_safetensors(scratch / "merged/model.safetensors").tensors) {
    const auto expected = golden.find(tensor->name());
    changed += expected == golden.end() ? 0 : 1;
    EXPECT_EQ(tensor_sha256(*tensor),
              expected == golden.end() ? base.at(tensor->name()) : (*expected)["exact"].get<std::string>())
        << tensor->name();
  }
  EXPECT_EQ(changed, golden.size());
  EXPECT_EQ(ran.json()["tensors_changed"], changed);
  EXPECT_EQ(ran.json()["tensors_untouched"], base.size() - changed);
  EXPECT_EQ(ran.json()["tokenizer"], "base");
}

// A checkpoint of bitsandbytes is a source like any other: what is written of it holds the values that bitsandbytes
// dequantizes (index.json: sha256), and the forward pass on it and on what was written gives the same bits.
TEST(Merge, AQuantizedCheckpointIsASource) {
  Scratch scratch;
  const std::string folder = ROPEWALK_GOLDEN_DIR "/bnb/hf-nf4-dq";
  const Json golden = Json::parse(slurp(ROPEWALK_GOLDEN_DIR "/bnb/index.json"))["checkpoints"]["hf-nf4-dq"];
  const std::string plain = (scratch / "plain").string();
  const Ran ran = run({"merge", folder, "-o", plain, "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  std::size_t compared = 0;
  for (const TensorPtr& tensor : formats::read_safetensors(plain + "/model.safetensors").tensors) {
    if (!golden.contains(tensor->name())) continue;
    ++compared;
    EXPECT_EQ(tensor_sha256(*tensor), golden[tensor->name()]["dequant"].get<std::string>()) << tensor->name();
  }
  EXPECT_EQ(compared, golden.size());
  EXPECT_FALSE(Json::parse(slurp(plain + "/config.json")).contains("quantization_config"));

  EXPECT_EQ(run({"inspect", folder, "--json"}).json()["quantization"], "bitsandbytes nf4, double quantization");
  EXPECT_NE(run({"inspect", folder}).out.find("nf4, double quantization of 14 weights, stored in "), std::string::npos);
  EXPECT_EQ(run({"inspect", plain, "--json"}).json()["quantization"], nullptr);
  spill(scratch / "ids.json", "[1, 5, 17, 3, 44, 90, 12]");
  const auto logits = [&](const std::string& source) {
    const std::string out = (scratch / "logits.safetensors").string();
    const Ran computed =
        run({"logits", source, "--tokens", (scratch / "ids.json").string(), "-o", out, "--overwrite", "--quiet"});
    EXPECT_EQ(computed.exit, 0) << computed.err;
    return slurp(out);
  };
  EXPECT_EQ(logits(folder), logits(plain));
  const auto rounded = [&](const std::string& source) {
    const fs::path out = scratch / "rounded";
    const Ran written = run({"convert", source, "-o", out.string(), "--type", "hf:bf16", "--overwrite", "--quiet"});
    EXPECT_EQ(written.exit, 0) << written.err;
    return slurp(out / "model.safetensors");
  };
  EXPECT_EQ(rounded(folder), rounded(plain));
}

// --qlora-base nf4 against merged.json's hashes of the merge into what bitsandbytes dequantizes; --measure tells it from the
// merge into the original by orders of magnitude: the one is off by its rounding to float16, the other by NF4's noise.
TEST(Merge, QloraBaseAndItsMeasure) {
  Scratch scratch;
  const std::string source = model("tolstoy-4m-yarn-2k") + "+" + adapter();
  const Ran ran = run({"merge", source, "-o", (scratch / "nf4").string(), "--qlora-base", "nf4", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.json()["qlora_base"], "nf4");
  const Json golden = Json::parse(slurp(fixture("adapters/qlora-shakespeare-merged/merged.json")))["tensors"];
  std::size_t compared = 0;
  for (const TensorPtr& tensor : formats::read_safetensors(scratch / "nf4/model.safetensors").tensors)
    if (golden.contains(tensor->name())) {
      ++compared;
      EXPECT_EQ(tensor_sha256(*tensor), golden[tensor->name()]["nf4"].get<std::string>()) << tensor->name();
    }
  EXPECT_EQ(compared, golden.size());

  const Ran measured = run({"merge", source, "--measure", "-c", "64", "--windows", "2", "--json"});
  ASSERT_EQ(measured.exit, 0) << measured.err;
  const Json rows = measured.json()["measure"]["checkpoints"];
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0]["name"], "unmerged");
  EXPECT_EQ(rows[0]["kl_mean"], 0);
  EXPECT_EQ(rows[1]["name"], "merged_original");
  EXPECT_EQ(rows[2]["name"], "merged_nf4");
  EXPECT_GT(rows[1]["kl_mean"].get<double>(), 1e-3);
  EXPECT_LT(rows[2]["kl_mean"].get<double>(), 1e-6);
  EXPECT_GT(rows[2]["kl_mean"].get<double>(), 0);
  EXPECT_EQ(run({"merge", source, "-c", "64"}).exit, 2);
  EXPECT_EQ(run({"merge", source, "-o", (scratch / "x").string(), "--qlora-base", "int8"}).exit, 2);
  const Ran twice =
      run({"merge", ROPEWALK_GOLDEN_DIR "/bnb/hf-nf4", "-o", (scratch / "x").string(), "--qlora-base", "nf4"});
  EXPECT_EQ(twice.exit, 2);
  EXPECT_NE(twice.err.find("is bitsandbytes nf4; leave it out"), std::string::npos) << twice.err;

  // what the folder records of its base decides the advice
  const std::string folder = copy_of(adapter(), scratch / "lora").string();
  const auto advised = [&] {
    return run({"merge", model("tolstoy-4m-yarn-2k") + "+" + folder, "-o", (scratch / "y").string(), "--dry-run"})
               .err.find("was trained on a 4-bit base, says ") != std::string::npos;
  };
  EXPECT_FALSE(advised());
  spill(folder + "/README.md", "- load_in_8bit: False\n- load_in_4bit: True\n");
  EXPECT_TRUE(advised());
}

// |scale B A| and |W| of one module, computed here from the files with plain loops.
TEST(Merge, ReportedNorms) {
  Scratch scratch;
  const Ran ran = run(
      {"merge", model("tolstoy-4m-yarn-2k") + "+" + adapter() + ":0.5", "-o", (scratch / "merged").string(), "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const std::string name = "model.layers.2.self_attn.k_proj";
  const auto values = [](const std::string& file, const std::string& tensor) {
    for (const TensorPtr& candidate : formats::read_safetensors(file).tensors)
      if (candidate->name() == tensor) {
        std::vector<float> out(candidate->info().elements());
        candidate->read_f32({0, candidate->info().rows()}, out);
        return out;
      }
    return std::vector<float>();
  };
  const auto w = values(model("tolstoy-4m-yarn-2k") + "/model.safetensors", name + ".weight");
  const auto a = values(adapter() + "/adapter_model.safetensors", "base_model.model." + name + ".lora_A.weight");
  const auto b = values(adapter() + "/adapter_model.safetensors", "base_model.model." + name + ".lora_B.weight");
  const std::size_t rank = 16, in = 256, out = w.size() / in;
  ASSERT_EQ(a.size(), rank * in);
  ASSERT_EQ(b.size(), out * rank);
  double delta = 0, weight = 0;
  for (std::size_t row = 0; row < out; ++row)
    for (std::size_t c = 0; c < in; ++c) {
      double sum = 0;
      for (std::size_t r = 0; r < rank; ++r) sum += double(b[row * rank + r]) * a[r * in + c];
      delta += sum * sum;  // scale: 32 / 16 * 0.5
      weight += double(w[row * in + c]) * w[row * in + c];
    }
  bool found = false;
  for (const Json& module : ran.json()["modules"]) {
    if (module["name"] != name + ".weight") continue;
    found = true;
    EXPECT_EQ(module["kind"], "lora");
    EXPECT_EQ(module["rank"], 16);
    EXPECT_EQ(module["scale"], 1.0);
    EXPECT_NEAR(module["delta_norm"].get<double>(), std::sqrt(delta),
                1e-9 * std::sqrt(delta));  // sums of 65,536 doubles in another order
    EXPECT_NEAR(module["weight_norm"].get<double>(), std::sqrt(weight), 1e-12 * std::sqrt(weight));
    EXPECT_GT(module["rounding_loss"].get<double>(), 0);
    EXPECT_LT(module["rounding_loss"].get<double>(), 0.05);
  }
  EXPECT_TRUE(found);
}

TEST(Merge, Bf16TellsMoreOfTheDeltaWasEaten) {
  Scratch scratch;
  const auto loss = [&](const std::string& dtype) {
    const Ran ran = run({"merge", model("tolstoy-4m-yarn-2k") + "+" + adapter(), "-o", (scratch / dtype).string(),
                         "--dtype", dtype, "--json"});
    return ran.json()["modules"][0]["rounding_loss"].get<double>();
  };
  const double f16 = loss("f16"), bf16 = loss("bf16"), f32 = loss("f32");
  // Three bits fewer: errors eight times as large, give or take how values fall on the grids.
  EXPECT_GT(bf16, 6 * f16);
  EXPECT_LT(bf16, 10 * f16);
  EXPECT_LT(f32, 1e-3 * f16);
}

// --dtype reaches every float tensor: what no adapter touches has other bytes as well, and counts as neither merged nor
// untouched. Counted here by the hashes of base and result.
TEST(Merge, TensorsThatOnlyTheDtypeChangesAreToldApart) {
  Scratch scratch;
  const std::string base = model("tolstoy-4m-yarn-2k");
  std::map<std::string, std::string> before;
  for (const TensorPtr& tensor : formats::read_safetensors(base + "/model.safetensors").tensors)
    before[tensor->name()] = tensor_sha256(*tensor);
  const auto merge = [&](const std::string& source, const std::string& dtype, const std::string& out) {
    const Ran ran = run({"merge", source, "-o", (scratch / out).string(), "--dtype", dtype, "--json"});
    EXPECT_EQ(ran.exit, 0) << ran.err;
    const Json& json = ran.json();
    std::size_t same = 0;
    for (const TensorPtr& tensor : formats::read_safetensors(scratch / (out + "/model.safetensors")).tensors)
      same += tensor_sha256(*tensor) == before.at(tensor->name()) ? 1 : 0;
    EXPECT_EQ(json["tensors_untouched"], same) << out;
    EXPECT_EQ(json["tensors_recast"], json["recast"].size());
    for (const Json& one :
         json["recast"]) {  // each value is off by at most 2^-8 of itself; trained ones by some of that
      EXPECT_EQ(one["from"], "f16");
      EXPECT_LE(one["rounding_loss"].get<double>(), 0x1p-8) << one;
      EXPECT_GT(one["rounding_loss"].get<double>(), 0x1p-12) << one;
    }
    return std::pair<int, int>(json["tensors_changed"], json["tensors_recast"]);
  };
  EXPECT_EQ(merge(base + "+" + adapter(), "bf16", "a"), std::pair(28, 11));
  EXPECT_EQ(merge(base, "bf16", "b"), std::pair(0, 39));
  EXPECT_EQ(merge(base + "+" + adapter(), "f16", "c"), std::pair(28, 0)) << "the base's own";
  const Ran text = run({"merge", base, "-o", (scratch / "d").string(), "--dtype", "bf16"});
  EXPECT_NE(text.out.find(" of their size, model."), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("), 0 tensors untouched"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("0 weights merged, 39 more rounded to bf16 (off by at most 0.00"), std::string::npos)
      << text.out;
}

TEST(Merge, ZeroScaleChangesNothing) {
  Scratch scratch;
  ASSERT_EQ(
      run({"merge", model("tolstoy-4m-yarn-2k") + "+" + adapter() + ":0", "-o", (scratch / "same").string()}).exit, 0);
  EXPECT_EQ(run({"diff", model("tolstoy-4m-yarn-2k"), (scratch / "same").string(), "--exit-code"}).exit, 0);
}

// The base is finite, so what is written is finite: no scale makes infinities, whatever the type, and none is reported
// as a share of the delta.
TEST(Merge, AScaleThatOverflowsIsRefused) {
  Scratch scratch;
  const auto refusal = [&](const std::string& scale, const std::string& dtype) {
    const Ran ran = run({"merge", model("tolstoy-4m-yarn-2k") + "+" + adapter() + ":" + scale, "-o",
                         (scratch / "out").string(), "--dtype", dtype, "--quiet"});
    EXPECT_EQ(ran.exit, 3) << scale << " " << dtype << ran.err;
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
    EXPECT_FALSE(fs::exists(scratch / "out"));
    return ran.err;
  };
  for (const char* dtype : {"f32", "f16", "bf16"}) {  // 2 of lora_alpha / r, times 1e308
    EXPECT_NE(refusal("1e308", dtype).find("its scale is past the largest number: 1e+308 times 2"), std::string::npos);
    const std::string said = refusal("1e300", dtype);
    EXPECT_NE(said.find(std::string("is past the largest ") + dtype + " value"), std::string::npos) << said;
    EXPECT_NE(said.find(": tensor 'model.layers.0."), std::string::npos) << said;
    EXPECT_NE(said.find("': row 0, column 0: "), std::string::npos) << said;
    EXPECT_NE(said.find("; no type written holds it: is an adapter's scale too large"), std::string::npos) << said;
    EXPECT_EQ(said.find("use "), std::string::npos) << said;
  }
  EXPECT_NE(refusal("1e8", "f16").find("use bf16 or f32, or clamp it with --saturate"), std::string::npos);
  const Ran clamped = run({"merge", model("tolstoy-4m-yarn-2k") + "+" + adapter() + ":1e300", "-o",
                           (scratch / "clamped").string(), "--dtype", "f32", "--saturate"});
  EXPECT_EQ(clamped.exit, 0) << clamped.err;
  EXPECT_EQ(clamped.out.find("inf"), std::string::npos) << clamped.out;
  EXPECT_EQ(clamped.out.find("nan"), std::string::npos) << clamped.out;
  EXPECT_NE(clamped.err.find("past the range of the type written, clamped"), std::string::npos) << clamped.err;
}

// A delta far below half a unit of every weight's last place rounds away: sha256 of base and merge are the same.
TEST(Merge, ADeltaThatRoundingAteWarns) {
  Scratch scratch;
  const std::string base = model("tolstoy-4m-yarn-2k"), line = "rounding to f16 takes ";
  const auto merged = [&](const std::string& scale, const std::string& out) {
    const Ran ran = run({"merge", base + "+" + adapter() + ":" + scale, "-o", (scratch / out).string()});
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return ran.err;
  };
  EXPECT_NE(merged("1e-12", "a").find("warning: " + line + "100 % of the adapters' delta: little or nothing of the "),
            std::string::npos);
  EXPECT_NE(merged("1e-5", "d").find("warning: " + line), std::string::npos) << "some small weights keep theirs";
  const Ran converted =
      run({"convert", base + "+" + adapter() + ":1e-12", "-o", (scratch / "a.gguf").string(), "--type", "f16"});
  EXPECT_NE(converted.err.find("warning: " + line + "100 % of"), std::string::npos) << converted.err;
  EXPECT_EQ(run({"diff", base, (scratch / "a").string(), "--exit-code"}).exit, 0);
  EXPECT_EQ(merged("1e-2", "b").find("warning: "), std::string::npos);
  EXPECT_EQ(merged("0", "c").find(line), std::string::npos) << "said before the work, in words of its own";
}

TEST(Merge, SharesAreWrittenAsPeopleWriteThem) {
  for (const auto& [share, text] : std::vector<std::pair<double, std::string>>{{0, "0 %"},
                                                                               {1, "100 %"},
                                                                               {0.99993, "99.99 %"},
                                                                               {0.999999, "99.99 %"},
                                                                               {0.9, "90 %"},
                                                                               {0.123, "12 %"},
                                                                               {0.0345, "3.5 %"},
                                                                               {7.2e-8, "0.0000072 %"},
                                                                               {12.5, "1250 %"},
                                                                               {INFINITY, "-"}})
    EXPECT_EQ(share_text(share), text) << share;
}

TEST(Merge, TheDtypesOfAMerge) {
  for (const char* dtype : {"f64", "q8_0", "f8_e4m3", "i8", ""})
    EXPECT_EQ(run({"merge", "x+y", "-o", "z", "--dtype", dtype}).err,
              std::string("error: --dtype is '") + dtype + "'; give f32, f16 or bf16\n");
}

TEST(Merge, AnAdapterWithoutEffectWarns) {
  Scratch scratch;
  const auto warnings = [&](const std::string& source) {
    const Ran ran = run({"merge", source, "-o", (scratch / "out").string(), "--dry-run", "--json"});
    EXPECT_EQ(ran.exit, 0) << ran.err;
    std::vector<std::string> out;
    for (const Json& one : ran.json()["warnings"])
      if (one.get<std::string>().find("changes nothing") != std::string::npos) out.push_back(one.get<std::string>());
    return out;
  };
  const std::string base = model("tolstoy-4m-yarn-2k"), folder = copy_of(adapter(), scratch / "lora").string();
  EXPECT_TRUE(warnings(base + "+" + folder).empty());
  EXPECT_EQ(warnings(base + "+" + folder + ":0"),
            std::vector<std::string>{"adapter '" + folder + "' changes nothing: its scale is 0"});
  edit_json(folder + "/adapter_config.json", [](Json& json) { json["lora_alpha"] = 0; });
  EXPECT_EQ(warnings(base + "+" + folder).size(), 1u);
  edit_json(folder + "/adapter_config.json", [](Json& json) { json["lora_alpha"] = 32; });
  std::string bytes = slurp(folder + "/adapter_model.safetensors");  // header: length, JSON; then the factors
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  spill(folder + "/adapter_model.safetensors",
        bytes.substr(0, 8 + header) + std::string(bytes.size() - 8 - header, '\0'));
  EXPECT_EQ(warnings(base + "+" + folder),
            std::vector<std::string>{"adapter '" + folder +
                                     "' changes nothing: one factor of every module is zero, as before any training"});
}

// Goldens of PEFT (README there): what follows an adapter into config.json and the report.
TEST(Merge, AdaptersOfOtherKindsAndTheirReport) {
  const std::string peft = std::string(ROPEWALK_GOLDEN_DIR) + "/peft/";
  Scratch scratch;
  const auto merged = [&](const std::string& base, const std::string& adapters, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {
        "merge", peft + "bases/" + base + adapters, "-o", (scratch / "out").string(), "--json", "--overwrite"};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return ran.json();
  };
  const auto config = [&] { return Json::parse(slurp(scratch / "out/config.json")); };
  const Json tied = merged("llama-tied", "+" + peft + "tied-lmhead-lora");
  EXPECT_EQ(config()["tie_word_embeddings"], false);
  EXPECT_NE(tied["warnings"].dump().find("change the head but not the embedding tied to it"), std::string::npos);
  EXPECT_NE(tied["warnings"].dump().find("delta is larger than the weight itself"), std::string::npos);
  merged("llama-f32", "+" + peft + "vocab-resized");
  EXPECT_EQ(config()["vocab_size"], 99);
  EXPECT_EQ(merged("llama-f32", "+" + peft + "ln-tuning")["tensors_changed"], 4u);
  const Json scaled = merged("llama-bias", "+" + peft + "ia3-bias:0.5");
  EXPECT_EQ(scaled["tensors_changed"], 10u);
  EXPECT_EQ(scaled["modules"][0]["rank"], nullptr);
  const Json combined =
      merged("llama-f32", "+" + peft + "multi/a:0.1+" + peft + "multi/b:0.1", {"--combine", "ties,density=0.5"});
  EXPECT_EQ(combined["modules"][0]["kind"], "combined");
  EXPECT_EQ(combined["warnings"], Json::array());
  const auto told = [&](const std::string& adapters, const std::string& how) {
    return merged("llama-f32", adapters, {"--combine", how})["warnings"].dump();
  };
  EXPECT_NE(told("+" + peft + "multi/a:0.1", "svd,rank=1").find("--combine svd of one adapter alone is linear"),
            std::string::npos);
  EXPECT_NE(told("+" + peft + "multi/c:0.1+" + peft + "multi/a:0.1", "cat")
                .find("multi/c', the first of the adapters, is rsLoRA: PEFT 0.21.2 takes the combination of rank 6"),
            std::string::npos);
}

TEST(Merge, AnAdapterFindsItsBase) {
  Scratch scratch;
  copy_of(adapter(), scratch / "adapter");
  const Ran lost = run({"merge", (scratch / "adapter").string(), "-o", (scratch / "merged").string()});
  EXPECT_EQ(lost.exit, 3) << lost.err;
  copy_of(model("tolstoy-4m-yarn-2k"), scratch / "tolstoy-4m-yarn-2k");
  EXPECT_EQ(run({"merge", (scratch / "adapter").string(), "-o", (scratch / "merged").string()}).exit, 0);
  ASSERT_EQ(run({"merge", model("tolstoy-4m-yarn-2k"), "-a", adapter(), "-o", (scratch / "explicit").string()}).exit,
            0);
  EXPECT_EQ(slurp(scratch / "merged/model.safetensors"), slurp(scratch / "explicit/model.safetensors"));
  // a folder that has the repository's name alone
  const auto warned = [&](const std::string& base, const Json& revision) {
    edit_json(scratch / "adapter/adapter_config.json", [&](Json& json) {
      json["base_model_name_or_path"] = base;
      json["revision"] = revision;
    });
    const Ran ran = run({"merge", (scratch / "adapter").string(), "-o", (scratch / "merged").string(), "--overwrite"});
    EXPECT_EQ(ran.exit, 0) << ran.err;
    EXPECT_NE(ran.out.find("base: " + (scratch / "tolstoy-4m-yarn-2k").string()), std::string::npos) << ran.out;
    return ran.err;
  };
  const std::string taken = "beside the adapter was taken for its name";
  EXPECT_EQ(warned("tolstoy-4m-yarn-2k", nullptr).find(taken), std::string::npos) << "control";
  EXPECT_NE(warned("org/tolstoy-4m-yarn-2k", nullptr).find(taken + "; another is taken"), std::string::npos);
  EXPECT_NE(warned("org/tolstoy-4m-yarn-2k", "abc").find(taken + ": its revision is not known"), std::string::npos);
}

// -a and --rope are shorthand for the '+' form, wherever the rope was written: none of them drops it.
TEST(Merge, EverySpellingOfAnAdapterAndARopeIsTheSameSource) {
  const std::string base = model("tolstoy-4m"), rope = "+rope=yarn,factor=8";
  const Json want = run({"inspect", base + "+" + adapter() + rope, "--json"}).json();
  EXPECT_EQ(want["context"], 2048);
  for (const std::vector<std::string>& words : {std::vector<std::string>{base, "-a", adapter() + rope},
                                                {base, "-a", adapter(), "--rope", "yarn,factor=8"},
                                                {base + rope, "-a", adapter()},
                                                {base + "+" + adapter(), "--rope", "yarn,factor=8"}}) {
    std::vector<std::string> line = {"inspect"};
    line.insert(line.end(), words.begin(), words.end());
    line.push_back("--json");
    const Ran ran = run(line);
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(ran.json(), want) << ran.out;
  }
  EXPECT_EQ(run({"inspect", base + rope, "--rope", "linear,factor=2"}).exit, 2) << "two ropes";
}

TEST(Merge, FolderIsCompleteAndItsCardFactual) {
  Scratch scratch;
  const std::string base = copy_of(model("tolstoy-4m-yarn-2k"), scratch / "base").string();
  spill(scratch / "base/README.md", "---\nlicense: cc0-1.0\n---\nThe base's own words.\n");
  const Ran ran =
      run({"merge", base + "+" + adapter(), "-o", (scratch / "merged").string(), "--max-shard-size", "3MB", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  std::set<std::string> written;
  for (const Json& name : ran.json()["written"]) written.insert(name.get<std::string>());
  for (const char* name : {"config.json", "README.md", "tokenizer.model", "tokenizer_config.json",
                           "model.safetensors.index.json", "model-00001-of-00003.safetensors"}) {
    EXPECT_TRUE(written.contains(name)) << name;
    EXPECT_TRUE(fs::exists(scratch / (std::string("merged/") + name))) << name;
  }
  const std::string card = slurp(scratch / "merged/README.md");
  EXPECT_TRUE(card.starts_with("---\nlicense: cc0-1.0\n---\n")) << card;
  for (const char* part : {"# merged", "qlora-shakespeare", "rank 16", "YaRN x8 of 256", "The base's own words."})
    EXPECT_NE(card.find(part), std::string::npos) << part;
  EXPECT_EQ(card.find(scratch.path().string()), std::string::npos) << "no path of this machine";
  for (const char* part : {"times", "combination", "NF4", "dequantized"})
    EXPECT_EQ(card.find(part), std::string::npos) << "control: " << part;
}

// What was done beside the defaults is in the card and in the JSON.
TEST(Merge, CardAndJsonSayHow) {
  Scratch scratch;
  const std::string base = model("tolstoy-4m-yarn-2k"), out = (scratch / "out").string();
  // as the Hub cache has it
  const fs::path commit = scratch / "models--org--tuned/snapshots/0123abcd";
  fs::create_directories(commit.parent_path());
  copy_of(adapter(), commit);
  const auto merged = [&](const std::string& source, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"merge", source, "-o", out, "--json", "--overwrite"};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return std::pair(ran.json(), slurp(out + "/README.md"));
  };
  const auto holds = [](const std::string& card, std::vector<std::string> parts) {
    for (const std::string& part : parts) EXPECT_NE(card.find(part), std::string::npos) << part << "\n" << card;
  };
  const auto [plain, plain_card] = merged(base + "+" + commit.string());
  EXPECT_EQ(plain["combination"], nullptr);
  EXPECT_EQ(plain["base"], base);
  EXPECT_EQ(plain["base_quantization"], nullptr);
  EXPECT_EQ(plain["adapters"][0]["path"], commit.string());
  EXPECT_EQ(plain_card.find("0123abcd"), std::string::npos) << plain_card;
  EXPECT_EQ(plain_card.find("times"), std::string::npos) << "control";
  holds(plain_card, {"org/tuned, LoRA of 28 modules, rank 16"});
  const std::string two = base + "+" + commit.string() + ":0.5+" + adapter() + ":0.25";
  const auto [drawn, drawn_card] = merged(two, {"--combine", "dare_linear,density=0.75", "--seed", "7"});
  EXPECT_EQ(drawn["combination"], (Json{{"type", "dare_linear"},
                                        {"density", 0.75},
                                        {"rank", nullptr},
                                        {"sign", "total"},
                                        {"clamp", nullptr},
                                        {"seed", 7}}));
  holds(drawn_card,
        {"org/tuned, LoRA of 28 modules, rank 16", ", times 0.5", ", times 0.25", "dare_linear, density 0.75, seed 7"});
  const auto [ties, ties_card] = merged(two, {"--combine", "ties,density=0.5,sign=frequency"});
  EXPECT_EQ(ties["combination"]["seed"], nullptr);
  holds(ties_card, {"ties, density 0.5, sign by frequency"});
  const auto [nf4, nf4_card] = merged(base + "+" + adapter(), {"--qlora-base", "nf4"});
  EXPECT_EQ(nf4["qlora_base"], "nf4");
  holds(nf4_card, {"28 linear layers through NF4 and back first"});
}

// A base whose files are packed: what is written is what they hold, and that is no tensor left alone.
TEST(Merge, ADequantizedBaseIsSaid) {
  Scratch scratch;
  const std::string out = (scratch / "out").string();
  const auto written = [&](const std::string& base) {
    return run({"merge", std::string(ROPEWALK_GOLDEN_DIR) + "/bnb/" + base, "-o", out, "--json", "--overwrite"});
  };
  const Ran ran = written("hf-nf4-dq");
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const Json& json = ran.json();
  EXPECT_EQ(json["qlora_base"], "dequantized");
  EXPECT_EQ(json["base_quantization"], "bitsandbytes nf4, double quantization");
  const Json golden = Json::parse(slurp(ROPEWALK_GOLDEN_DIR "/bnb/index.json"))["checkpoints"]["hf-nf4-dq"];
  EXPECT_EQ(json["tensors_dequantized"], golden.size());
  EXPECT_GT(json["tensors_untouched"], 0) << "control: norms are stored as they are";
  EXPECT_NE(slurp(out + "/README.md").find("dequantized from bitsandbytes nf4"), std::string::npos);
}

// stories260K has 512 pieces, the model 2048 rows: padding is fine, and said. The other way round ids would point at
// nothing.
// additional_chat_templates/ moves with the tokenizer's other files.
TEST(Merge, ChatTemplatesOfASubfolderAreCarried) {
  Scratch scratch;
  const fs::path base = copy_of(model("tolstoy-4m-yarn-2k"), scratch / "base");
  spill(base / "chat_template.jinja", "{{ one }}");
  fs::create_directories(base / "additional_chat_templates");
  spill(base / "additional_chat_templates/tool_use.jinja", "{{ two }}");
  const std::string merged = (scratch / "merged").string(), longer = (scratch / "longer").string(),
                    plain = (scratch / "plain").string();
  const std::vector<std::vector<std::string>> commands = {
      {"merge", base.string() + "+" + adapter(), "-o", merged},
      {"convert", base.string(), "-o", plain, "--type", "hf:f16"},
      {"extend", base.string(), "-o", longer, "--rope", "yarn,factor=16,original=256"}};
  for (std::vector<std::string> words : commands) {
    const fs::path out = words[3];
    ASSERT_EQ(run(words).exit, 0) << words[0];
    EXPECT_EQ(slurp(out / "additional_chat_templates/tool_use.jinja"), "{{ two }}") << words[0];
    words.emplace_back("--overwrite");  // as any folder that holds one
    const Ran refused = run(words);
    EXPECT_EQ(refused.exit, 5) << words[0];
    EXPECT_NE(refused.err.find("holds the folder 'additional_chat_templates', so it is not replaced"),
              std::string::npos)
        << refused.err;
  }
  EXPECT_NE(run({"inspect", merged}).out.find("tool_use"), std::string::npos);
}

// The adapter's tokenizer ends a text otherwise than the base's configuration, which stays; and a folder that was made
// with one tokenizer is made again with the other.
TEST(Merge, IdsThatTheConfigurationGivesOtherwiseAreTold) {
  Scratch scratch;
  const std::string tuned = (scratch / "tuned").string(), out = (scratch / "out").string();
  copy_of(adapter(), tuned);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    spill(tuned + "/" + name, slurp(model("tolstoy-4m-yarn-2k") + "/" + name));
  const auto merged = [&](const std::string& choice) {
    return run({"merge", model("tolstoy-4m-yarn-2k") + "+" + tuned, "-o", out, "--tokenizer", choice, "--overwrite"});
  };
  const std::string told = "generate() goes by them";
  EXPECT_EQ(merged("adapter").err.find(told), std::string::npos) << "control: the same ids";
  edit_json(tuned + "/tokenizer_config.json", [](Json& json) { json["eos_token"] = "<s>"; });
  const Ran own = merged("auto");
  ASSERT_EQ(own.exit, 0) << own.err;
  EXPECT_NE(own.err.find("eos_token_id is 1 '<s>' to the tokenizer from adapter " + tuned +
                         ", config.json says 2 '</s>', generation_config.json says 2 '</s>': left so"),
            std::string::npos)
      << own.err;
  EXPECT_EQ(own.err.find("bos_token_id"), std::string::npos) << own.err;
  EXPECT_FALSE(fs::exists(out + "/tokenizer.model"));
  const Ran base = merged("base");  // tokenizer.model instead of the adapter's tokenizer.json, over our own folder
  ASSERT_EQ(base.exit, 0) << base.err;
  EXPECT_EQ(base.err.find(told), std::string::npos) << "control: " << base.err;
  EXPECT_TRUE(fs::exists(out + "/tokenizer.model"));
  ASSERT_EQ(merged("adapter").exit, 0);
  EXPECT_FALSE(fs::exists(out + "/tokenizer.model"));
  spill(out + "/notes.txt", "mine");
  EXPECT_EQ(merged("base").exit, 5) << "control: what is not ours stays";
  fs::remove(out + "/notes.txt");
  ASSERT_EQ(merged("base").exit, 0);
  spill(out + "/README.md", "mine");
  EXPECT_EQ(merged("adapter").exit, 5) << "control: a folder that is not known to be ours";
}

TEST(Merge, TheTokenizerFitsOrIsRefused) {
  Scratch scratch;
  const Ran fewer = run({"merge", model("tolstoy-4m") + "+" + adapter(), "-o", (scratch / "a").string(), "--tokenizer",
                         model("stories260K")});
  ASSERT_EQ(fewer.exit, 0) << fewer.err;
  EXPECT_NE(fewer.out.find("tokenizer from folder " + model("stories260K") +
                           " (512 ids for 2048 rows of the embedding; 1536 ids fewer than "
                           "the base's; "),
            std::string::npos)
      << fewer.out;
  // an adapter trained with tokens of its own: the base has room for none, so they take an id's place
  const std::string renamed = (scratch / "renamed").string();
  fs::copy(adapter(), renamed, fs::copy_options::recursive);
  for (const char* name : {"tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"})
    fs::copy_file(model("tolstoy-4m") + "/" + name, renamed + "/" + name, fs::copy_options::overwrite_existing);
  fs::remove(renamed + "/tokenizer.json");
  spill(renamed + "/added_tokens.json", R"({"<note>": 2047})");
  const Ran own = run({"merge", model("tolstoy-4m") + "+" + renamed, "-o", (scratch / "own").string()});
  ASSERT_EQ(own.exit, 0) << own.err;
  EXPECT_NE(own.out.find("tokenizer from adapter " + renamed + " (1 id of another text: 2047 is '<note>', not '"),
            std::string::npos)
      << own.out;
  const Ran more = run({"merge", model("stories260K") + "+rope=linear,factor=2", "-o", (scratch / "b").string(),
                        "--tokenizer", model("tolstoy-4m")});
  EXPECT_EQ(more.exit, 3) << more.err;
  EXPECT_NE(more.err.find(model("tolstoy-4m") + ": the tokenizer has 2048 ids, the embedding 512 rows"),
            std::string::npos)
      << more.err;
  EXPECT_FALSE(fs::exists(scratch / "b"));
}

}  // namespace
}  // namespace ropewalk::tools::test
