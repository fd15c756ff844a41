// adapter extract, rerank, rescale and convert. made_adapters.json: numpy's singular values, and the files that llama.cpp's
// own converter writes.

#include <cmath>
#include <set>
#include <span>

#include "formats/safetensors.h"
#include "lib/sha256.h"
#include "tests/formats/hf_test_support.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

const std::string kGolden = ROPEWALK_GOLDEN_DIR;
const Json& golden() {
  static const Json all = Json::parse(slurp(fs::path(ROPEWALK_TEST_DATA_DIR) / "made_adapters.json"));
  return all;
}
std::string peft(const std::string& name) { return kGolden + "/peft/" + name; }
const std::string kBase = peft("bases/llama-f32");

std::string sha256_of(const std::string& text) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  return hash.finish();
}

using Values = std::map<std::string, std::vector<double>>;
Values values_of(const fs::path& folder) {
  Values all;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors")
      for (const TensorPtr& tensor : formats::read_safetensors(entry.path()).tensors) {
        std::vector<double>& values = all[tensor->name()];
        values.resize(tensor->info().elements());
        tensor->read_f64({0, tensor->info().rows()}, values);
      }
  return all;
}
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

class Adapter : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return (scratch / name).string(); }
  Ran good(std::vector<std::string> words) {
    words.insert(words.end(), {"--json", "--quiet", "--no-sync"});
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << ran.err << ran.out;
    return ran;
  }
  /// Merges in f32; the new folder's tensors.
  Values merged(const std::string& source) {
    const std::string folder = at("merged" + std::to_string(merges_++));
    good({"merge", source, "-o", folder, "--dtype", "f32"});
    return values_of(folder);
  }
  Scratch scratch;

 private:
  int merges_ = 0;
};

/// Norms against numpy's, and of the error what numpy says is the least: the factors are f32, so it is more by 6e-8 of the
/// delta at most for each of the two, added as vectors.
void expect_best(const Json& modules, const Json& expected) {
  std::size_t compared = 0;
  for (const Json& module : modules) {
    if (!expected.contains(module["name"])) continue;
    ++compared;
    const double delta = expected[module["name"]][0], least = expected[module["name"]][1];
    EXPECT_LE(std::abs(module["delta_norm"].get<double>() - delta), 1e-9 * delta) << module;
    const double error = module["error_norm"];
    EXPECT_GE(error, least * (1 - 1e-9)) << module;
    EXPECT_LE(error, std::hypot(least * (1 + 1e-7), 2 * 6e-8 * delta)) << module;
  }
  EXPECT_EQ(compared, expected.size());
}

TEST_F(Adapter, ExtractIsTheBestOfItsRank) {
  const Json& expected = golden()["extract"];
  const std::string tuned = model(expected["tuned"]), base = model(expected["base"]);
  const Ran ran = good({"adapter", "extract", tuned, base, "--rank", "8", "-o", at("lora")});
  expect_best(ran.json()["modules"], expected["modules"]);
  std::set<std::string> saved;
  for (const Json& module : ran.json()["modules"])
    if (module["kind"] == "saved") saved.insert(module["name"].get<std::string>());
  EXPECT_EQ(saved, expected["whole"].get<std::set<std::string>>());
  EXPECT_NE(ran.json()["notes"][0].get<std::string>().find("rope"), std::string::npos);  // YaRN is not in an adapter

  // what was written does what was reported
  const Values got = merged(base + "+" + at("lora")), wanted = values_of(tuned);
  for (const auto& [name, least] : expected["modules"].items())
    EXPECT_NEAR(distance(got.at(name), wanted.at(name)), least[1].get<double>(), 1e-5 * least[0].get<double>()) << name;
  for (const std::string& name : saved) EXPECT_EQ(got.at(name), wanted.at(name)) << name;

  // the same bytes with any number of threads
  good({"adapter", "extract", tuned, base, "--rank", "8", "-o", at("again"), "-t", "3"});
  EXPECT_EQ(slurp(scratch / "again/adapter_model.safetensors"), slurp(scratch / "lora/adapter_model.safetensors"));
}

TEST_F(Adapter, ExtractFindsALoraAgain) {
  good({"merge", kBase + "+" + peft("embedding-lora-lmhead"), "-o", at("tuned")});
  const Ran ran =
      good({"adapter", "extract", at("tuned"), kBase, "--rank", "8", "--embeddings", "lora", "-o", at("lora")});
  const Values got = merged(kBase + "+" + at("lora")), wanted = values_of(scratch / "tuned");
  for (const Json& module : ran.json()["modules"]) {
    EXPECT_EQ(module["kind"], "lora");
    // the merge was rounded to f32, and so is this one
    EXPECT_LE(module["error_norm"].get<double>(), 1e-6 * module["delta_norm"].get<double>()) << module;
  }
  for (const auto& [name, values] : wanted) {
    double size = 0;
    for (const double value : values) size += value * value;
    EXPECT_LE(distance(got.at(name), values), 1e-6 * std::sqrt(size)) << name;
  }
  EXPECT_GT(ran.json()["modules"].size(), 2u);
}

TEST_F(Adapter, RerankIsTheBestOfItsRank) {
  const Json& expected = golden()["rerank"];
  const std::string adapter = kGolden + "/" + expected["adapter"].get<std::string>();
  const Ran ran = good({"adapter", "rerank", adapter, "--rank", "2", "-o", at("two")});
  expect_best(ran.json()["modules"], expected["modules"]);
  const Values two = merged(kBase + "+" + at("two")), whole = merged(kBase + "+" + adapter);
  for (const auto& [name, least] : expected["modules"].items())
    EXPECT_NEAR(distance(two.at(name), whole.at(name)), least[1].get<double>(), 1e-5 * least[0].get<double>()) << name;

  // a rank that holds all of it, and more
  good({"adapter", "rerank", adapter, "--rank", "20", "-o", at("twenty")});
  const Values twenty = merged(kBase + "+" + at("twenty"));
  for (const auto& [name, least] : expected["modules"].items())
    EXPECT_LE(distance(twenty.at(name), whole.at(name)), 1e-6 * least[0].get<double>()) << name;
}

TEST_F(Adapter, RescaleMultipliesAlphas) {
  for (const char* name : {"patterns", "lora-bias-rslora", "lokr", "adalora"}) {
    const std::string base = std::string(name) == "lora-bias-rslora" ? peft("bases/llama-bias") : kBase;
    good({"adapter", "rescale", peft(name), "--scale", "0.5", "-o", at(name)});
    const Values once = merged(base + "+" + at(name)), asked = merged(base + "+" + peft(name) + ":0.5");
    EXPECT_EQ(once, asked) << name;
    EXPECT_NE(once, merged(base + "+" + peft(name))) << name;
  }
  EXPECT_EQ(values_of(scratch / "patterns"), values_of(peft("patterns")));
}

// Key by key and byte by byte what convert_lora_to_gguf.py of llama.cpp 0.5 writes; and it reads as the folder does.
TEST_F(Adapter, TheConvertersGguf) {
  int on_gguf = 0;
  for (const Json& one : golden()["gguf"]) {
    const std::string source =
        kGolden + "/" + one["base"].get<std::string>() + "+" + kGolden + "/" + one["adapter"].get<std::string>();
    const std::string file = at(one["type"].get<std::string>() + ".gguf");
    good({"adapter", "convert", source, "-o", file, "--type", one["type"], "--overwrite"});
    EXPECT_EQ(fs::file_size(file), one["bytes"]) << source;
    EXPECT_EQ(sha256_of(slurp(file)), one["sha256"]) << source << " " << one["type"];
    if (one["type"] != "f32") continue;
    const std::string base = kGolden + "/" + one["base"].get<std::string>();
    EXPECT_EQ(merged(base + "+" + file), merged(source)) << source;
    EXPECT_EQ(merged(base + "+" + file + ":0.25"), merged(source + ":0.25")) << source;
    // and back
    good({"adapter", "convert", base + "+" + file, "-o", at("back"), "--overwrite"});
    EXPECT_EQ(values_of(scratch / "back"), values_of(kGolden + "/" + one["adapter"].get<std::string>())) << source;
    EXPECT_EQ(merged(base + "+" + at("back")), merged(source));
    // a GGUF base, whose Q and K stand in another order; one without a tokenizer is none
    if (!fs::exists(base + "/tokenizer.model")) continue;
    ++on_gguf;
    good({"convert", base, "-o", at("base.gguf"), "--type", "f32", "--overwrite"});
    good({"convert", source, "-o", at("wanted.gguf"), "--type", "f32", "--dtype", "f32", "--overwrite"});
    good({"convert", at("base.gguf") + "+" + file, "-o", at("got.gguf"), "--type", "keep", "--overwrite"});
    EXPECT_EQ(run({"diff", at("wanted.gguf"), at("got.gguf"), "--exit-code"}).exit, 0) << source;
    EXPECT_EQ(run({"diff", at("wanted.gguf"), at("base.gguf"), "--exit-code"}).exit, 1);
  }
  EXPECT_GT(on_gguf, 0);
}

// Scales that one alpha cannot say: the converter's file would have the adapter at other scales.
TEST_F(Adapter, FoldedScales) {
  for (const char* name : {"rslora", "patterns", "patterns-rslora"}) {
    const Ran ran = good({"adapter", "convert", kBase + "+" + peft(name), "-o", at("lora.gguf"), "--overwrite"});
    EXPECT_EQ(ran.json()["notes"].size(), 1u) << ran.json()["notes"];
    const Values got = merged(kBase + "+" + at("lora.gguf")), wanted = merged(kBase + "+" + peft(name)),
                 wrong = merged(kBase + "+" + at("lora.gguf") + ":1.001");
    const auto base = values_of(kBase);
    for (const auto& [name_of, values] : wanted) {
      const double delta = distance(base.at(name_of), values);
      // B is rounded once, half a step of 2^-23 of it, and each merge to f32
      EXPECT_LE(distance(got.at(name_of), values), 3e-7 * delta) << name_of;
      if (delta > 0) {
        EXPECT_GT(distance(wrong.at(name_of), values), 3e-7 * delta) << name_of;
      }
    }
  }
}

// PEFT saves the tensor below its own change: as the base has it, it says nothing; grown or changed, it would be lost.
TEST_F(Adapter, TheBaseBelowAnAdapter) {
  using namespace formats;
  const std::string grown = peft("vocab-resized-target-embed");
  good({"merge", kBase + "+" + grown, "-o", at("of-its-size")});
  for (const std::string& base : {kBase, at("of-its-size")}) {
    const Ran ran = run({"adapter", "convert", base + "+" + grown, "-o", at("x.gguf")});
    EXPECT_EQ(ran.exit, 4) << ran.out;
    EXPECT_NE(ran.err.find("base_layer.weight' [99, 32] is another tensor than"), std::string::npos) << ran.err;
    EXPECT_FALSE(fs::exists(scratch / "x.gguf"));
  }
  const fs::path copied = copy_of(peft("embedding-lora-lmhead"), at("copied"));
  const auto tensors_in = [](const fs::path& file) {
    std::vector<RawTensor> all;
    for (const TensorPtr& tensor : read_safetensors(file).tensors)
      all.push_back({tensor->name(), "F32", tensor->info().shape, raw_bytes(*tensor)});
    return all;
  };
  std::vector<RawTensor> factors = tensors_in(copied / "adapter_model.safetensors");
  for (RawTensor& tensor : tensors_in(fs::path(kBase) / "model.safetensors"))
    if (tensor.name == "model.embed_tokens.weight") {
      tensor.name = "base_model.model.model.embed_tokens.base_layer.weight";
      factors.push_back(std::move(tensor));
    }
  spill(copied / "adapter_model.safetensors", safetensors_bytes(factors));
  const Ran ran = good({"adapter", "convert", kBase + "+" + copied.string(), "-o", at("y.gguf")});
  EXPECT_NE(ran.json()["notes"].dump().find("own change, as the base has it: left out"), std::string::npos);
}

TEST_F(Adapter, WhatCannotBeSaid) {
  struct Case {
    std::vector<std::string> words;
    int exit;
    std::string says;
  };
  spill(scratch / "other", "x");
  good({"adapter", "convert", kBase + "+" + peft("lora-basic"), "-o", at("lora.gguf")});
  const fs::path deeper = copy_of(peft("lora-basic"), at("deeper"));  // layers as they are, and said to be others
  Json config = Json::parse(slurp(deeper / "adapter_config.json"));
  config["layer_replication"] = {{0, Json::parse(slurp(fs::path(kBase) / "config.json"))["num_hidden_layers"]}};
  spill(deeper / "adapter_config.json", config.dump());
  const std::vector<Case> cases = {
      {{"convert", kBase + "+" + peft("dora"), "-o", at("x.gguf")}, 4, "is of kind dora"},
      {{"convert", kBase + "+" + peft("modules-to-save"), "-o", at("x.gguf")}, 4, "is of kind saved"},
      {{"convert", kBase + "+" + peft("loha"), "-o", at("x.gguf")}, 4, "is of kind loha"},
      {{"convert", kBase + "+" + deeper.string(), "-o", at("x.gguf")}, 4, "'layer_replication' makes a deeper model"},
      {{"convert", peft("bases/llama-tied") + "+" + peft("tied-lmhead-lora"), "-o", at("x.gguf")}, 4, "tied"},
      {{"convert", kBase + "+" + peft("lora-basic"), "-o", at("x")}, 2, "is a folder of PEFT already"},
      {{"convert", kBase, "-o", at("x.gguf")}, 2, "has 0 adapters"},
      {{"convert", at("lora.gguf"), "-o", at("x")}, 2, "name its base"},
      {{"convert", kBase + "+" + peft("lora-basic"), "-o", at("lora.gguf")}, 5, "exists already"},
      {{"rerank", peft("dora"), "--rank", "2", "-o", at("x")}, 4, "is of kind dora"},
      {{"rerank", peft("vera"), "--rank", "2", "-o", at("x")}, 4, "is of kind vera"},
      {{"rerank", peft("lora-basic"), "-o", at("x")}, 2, "no rank given"},
      {{"rerank", at("lora.gguf"), "--rank", "2", "-o", at("x")}, 2, "adapter convert"},
      {{"rerank", peft("lora-basic"), "--rank", "2", "-o", at("other")}, 5, "exists already"},
      {{"rerank", peft("lora-basic"), "--rank", "2", "-o", at("x.gguf")}, 2, "a folder is to be written"},
      {{"rescale", peft("ia3"), "--scale", "2", "-o", at("x")}, 4, "no alpha"},
      {{"rescale", peft("lora-basic"), "--scale", "nan", "-o", at("x")}, 2, "expected a finite number"},
      {{"rescale", peft("lora-basic"), "--scale", "2", "-o", peft("lora-basic"), "--overwrite"},
       5,
       "which is read as ADAPTER"},
      {{"extract", kBase, kBase, "--rank", "2", "-o", at("x")}, 3, "nothing to extract"},
      {{"extract", kBase, peft("bases/llama-bias"), "--rank", "2", "-o", at("x")}, 3, "has no '"},
      {{"extract", kBase, model("tolstoy-4m"), "--rank", "2", "-o", at("x")}, 3, "expected"},
      {{"extrakt"}, 2, "did you mean adapter extract"},
      {{}, 2, "without what to do"}};
  for (const Case& one : cases) {
    std::vector<std::string> words = {"adapter"};
    words.insert(words.end(), one.words.begin(), one.words.end());
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, one.exit) << one.says << ran.err;
    EXPECT_NE(ran.err.find(one.says), std::string::npos) << ran.err;
    EXPECT_FALSE(fs::exists(scratch / "x") || fs::exists(scratch / "x.gguf"));
  }
}

TEST_F(Adapter, DryRunAndOverwrite) {
  const std::vector<std::string> words = {"adapter", "rerank", peft("lora-basic"), "--rank", "2", "-o", at("x")};
  std::vector<std::string> dry = words;
  dry.push_back("--dry-run");
  EXPECT_EQ(good(dry).json()["written"], Json::array());
  EXPECT_FALSE(fs::exists(scratch / "x"));
  EXPECT_EQ(good(words).json()["written"], Json({"adapter_config.json", "adapter_model.safetensors"}));
  std::vector<std::string> again = words;
  again.push_back("--overwrite");
  good(again);
  spill(scratch / "x/mine.txt", "x");  // what somebody put there is not deleted
  EXPECT_EQ(run(again).exit, 5);
}

TEST_F(Adapter, Help) {
  for (const char* part : {"extract", "rerank", "rescale", "convert"}) {
    EXPECT_NE(run({"adapter", "-h"}).out.find(part), std::string::npos);
    const Ran ran = run({"adapter", part, "--help"});
    EXPECT_EQ(ran.exit, 0);
    EXPECT_NE(ran.out.find(std::string("ropewalk adapter ") + part), std::string::npos) << ran.out;
  }
}

}  // namespace
}  // namespace ropewalk::tools::test
