// Bad input: one line that names the file and what to do, the exit code of docs/design.md (section 7), and nothing left
// behind.
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>

#include <sys/stat.h>

#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

/// The first eight bytes and the JSON of a safetensors file, and its data.
struct Parts {
  std::string header, data;
};
Parts split(const fs::path& path) {
  const std::string bytes = slurp(path);
  std::uint64_t n = 0;
  std::memcpy(&n, bytes.data(), 8);
  return {bytes.substr(8, n), bytes.substr(8 + n)};
}
void join(const fs::path& path, const std::string& header, const std::string& data) {
  const std::uint64_t n = header.size();
  std::string size(8, '\0');
  std::memcpy(size.data(), &n, 8);
  spill(path, size + header + data);
}
/// Changes the header's JSON.
void edit_header(const fs::path& path, const std::function<void(Json&)>& change) {
  Parts parts = split(path);
  Json json = Json::parse(parts.header);
  change(json);
  join(path, json.dump(), parts.data);
}

class BadInput : public ModelCopy {
 protected:
  /// Every command that opens a model refuses it alike (`merges`: but merge); writers leave the folder as it was.
  void refused(int exit, const std::string& place, const std::string& problem, const std::string& text = "",
               bool merges = false) {
    const std::string what = text.empty() ? source.string() : text;
    const auto before = scratch.names();
    const std::vector<std::vector<std::string>> commands = {
        {"inspect", what},
        {"convert", what, "-o", (scratch / "out.gguf").string(), "--type", "f16"},
        {"merge", what, "-o", (scratch / "out").string(), "--dtype", "f16"},
        {"perplexity", what, "-c", "64", "--windows", "1"},
    };
    for (const auto& command : commands) {
      if (merges && command[0] == "merge") continue;
      const Ran ran = run(command);
      SCOPED_TRACE(command[0] + ": " + ran.err);
      EXPECT_EQ(ran.exit, exit);
      EXPECT_EQ(ran.out, "");
      const auto lines = ran.err_lines();
      std::size_t errors = 0;
      for (const std::string& line : lines) errors += line.starts_with("error: ") ? 1 : 0;
      ASSERT_FALSE(lines.empty());
      EXPECT_EQ(errors, 1u);
      EXPECT_NE(lines.back().find(place), std::string::npos);
      EXPECT_NE(lines.back().find(problem), std::string::npos);
      EXPECT_NE(lines.back().find("; "), std::string::npos) << "says what to do";
      EXPECT_EQ(scratch.names(), before) << "nothing left behind";
    }
  }
};

TEST_F(BadInput, TheModelItselfPasses) {  // the control for every test below
  EXPECT_EQ(run({"inspect", source.string()}).exit, 0);
  EXPECT_EQ(run({"convert", source.string(), "-o", (scratch / "out.gguf").string(), "--type", "f16"}).exit, 0);
}

TEST_F(BadInput, NoSuchModel) { refused(3, "nothing-here", "no such model", (scratch / "nothing-here").string()); }

TEST_F(BadInput, ShardCutInTheSize) {
  fs::resize_file(weights, 5);
  refused(3, "model.safetensors", "");
}
TEST_F(BadInput, ShardCutInTheHeader) {
  fs::resize_file(weights, 100);
  refused(3, "model.safetensors", "header");
}
TEST_F(BadInput, ShardCutInTheData) {
  fs::resize_file(weights, fs::file_size(weights) - 4);
  refused(3, "model.safetensors", "");
}
TEST_F(BadInput, ShardWithBytesAfterTheData) {
  spill(weights, slurp(weights) + "tail");
  refused(3, "model.safetensors", "");
}
TEST_F(BadInput, HeaderSizePastTheFile) {
  std::string bytes = slurp(weights);
  std::memset(bytes.data(), 0xff, 8);
  spill(weights, bytes);
  refused(3, "model.safetensors", "");
}
TEST_F(BadInput, HeaderIsNotJson) {
  Parts parts = split(weights);
  parts.header[1] = '!';
  join(weights, parts.header, parts.data);
  refused(3, "model.safetensors", "");
}
TEST_F(BadInput, ShapeThatOverflows) {
  edit_header(weights, [](Json& json) {
    json["model.embed_tokens.weight"]["shape"] = {std::uint64_t{1} << 32, std::uint64_t{1} << 32};
  });
  refused(3, "model.safetensors", "model.embed_tokens.weight");
}
TEST_F(BadInput, OffsetsThatOverlap) {
  edit_header(weights, [](Json& json) {
    json["model.norm.weight"]["data_offsets"] = json["model.layers.0.input_layernorm.weight"]["data_offsets"];
  });
  refused(3, "model.safetensors", "norm");
}
TEST_F(BadInput, UnknownDtype) {
  edit_header(weights, [](Json& json) { json["model.norm.weight"]["dtype"] = "F12"; });
  refused(4, "model.safetensors", "F12");
}
TEST_F(BadInput, WrongShape) {
  edit_header(weights, [](Json& json) {
    auto& shape = json["model.layers.1.mlp.down_proj.weight"]["shape"];
    std::swap(shape[0], shape[1]);
  });
  refused(3, "error: " + weights.string() + ": ", "model.layers.1.mlp.down_proj.weight");
}
// Values are found bad in the middle of the work, far from the file: the line still names it, and the place.
TEST_F(BadInput, ValuesThatAreNoNumbersOrTooLarge) {
  Parts parts = split(weights);
  const Json header = Json::parse(parts.header);
  const Json& entry = header["model.layers.1.mlp.down_proj.weight"];
  ASSERT_EQ(entry["dtype"], "F32");
  const std::uint64_t columns = entry["shape"][1], begin = entry["data_offsets"][0];
  const auto put = [&](float value) {
    std::memcpy(parts.data.data() + begin + 4 * (3 * columns + 17), &value, 4);
    join(weights, parts.header, parts.data);
  };
  put(std::numeric_limits<float>::quiet_NaN());
  const Ran nan = run({"perplexity", source.string(), "-c", "64", "--windows", "1", "--quiet"});
  EXPECT_EQ(nan.exit, 3) << nan.err;
  EXPECT_NE(
      nan.err.find("error: " + weights.string() +
                   ": 'model.layers.1.mlp.down_proj.weight' holds NaN in row 3, column 17, expected finite numbers; "),
      std::string::npos)
      << nan.err;
  put(-1e30f);
  const Ran large =
      run({"convert", source.string(), "-o", (scratch / "out.gguf").string(), "--type", "f16", "--quiet"});
  EXPECT_EQ(large.exit, 3) << large.err;
  EXPECT_NE(large.err.find("error: " + weights.string() + ": "), std::string::npos) << large.err;
  EXPECT_NE(large.err.find("row 3, column 17: -1.00000002e+30 is past the largest f16 value, 65504; "),
            std::string::npos)
      << large.err;
  EXPECT_FALSE(fs::exists(scratch / "out.gguf"));
}
TEST_F(BadInput, RopeThatNoGgufCanHold) {
  edit_json(config, [](Json& json) {
    json["rope_scaling"] = {
        {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}, {"attention_factor", 1e-50}};
  });
  const Ran ran = run({"convert", source.string(), "-o", (scratch / "out.gguf").string(), "--type", "f16", "--quiet"});
  EXPECT_EQ(ran.exit, 4) << ran.err;
  EXPECT_NE(ran.err.find("error: " + config.string() + ": llama.rope.scaling.attn_factor would be 8.78"),
            std::string::npos)
      << ran.err;
}
TEST_F(BadInput, LayerMissing) {
  edit_json(config, [](Json& json) { json["num_hidden_layers"] = json["num_hidden_layers"].get<int>() + 1; });
  refused(3, "", "model.layers.5");
}
TEST_F(BadInput, LayerTooMany) {
  edit_json(config, [](Json& json) { json["num_hidden_layers"] = json["num_hidden_layers"].get<int>() - 1; });
  refused(3, "", "model.layers.4");
}

TEST_F(BadInput, ConfigMissing) {
  fs::remove(config);
  refused(3, "config.json", "");
}
TEST_F(BadInput, ConfigIsNotJson) {
  spill(config, "{\n  \"hidden_size\": 64,,\n}");
  refused(3, "config.json:2:", "");
}
TEST_F(BadInput, ConfigWithoutHiddenSize) {
  edit_json(config, [](Json& json) { json.erase("hidden_size"); });
  refused(3, "config.json", "hidden_size");
}
TEST_F(BadInput, ConfigWithAStringForHiddenSize) {
  edit_json(config, [](Json& json) { json["hidden_size"] = "64"; });
  refused(3, "config.json:", "hidden_size");
}
TEST_F(BadInput, UnknownArchitecture) {
  edit_json(config, [](Json& json) { json["model_type"] = "mamba", json["architectures"] = {"MambaForCausalLM"}; });
  refused(4, "config.json", "mamba", "", true);
}
TEST_F(BadInput, UnknownRopeType) {
  edit_json(config, [](Json& json) { json["rope_scaling"] = {{"rope_type", "spiral"}, {"factor", 2.0}}; });
  refused(4, "config.json", "spiral");
}

TEST_F(BadInput, IndexNamesAMissingFile) {
  source = copy_of(model("tolstoy-4m"), scratch / "sharded");
  fs::remove(source / "model-00002-of-00002.safetensors");
  refused(3, "model-00002-of-00002.safetensors", "");
}
// What is no file is said to be what it is, and nothing waits for a writer of a pipe.
TEST_F(BadInput, WhatIsNoRegularFile) {
  const std::vector<std::pair<std::string, std::function<void(const fs::path&)>>> kinds = {
      {"is a folder", [](const fs::path& path) { fs::create_directory(path); }},
      {"is a pipe", [](const fs::path& path) { ASSERT_EQ(mkfifo(path.c_str(), 0600), 0); }},
      {"is a device", [](const fs::path& path) { fs::create_symlink("/dev/zero", path); }},
      {"links lead in a circle", [](const fs::path& path) { fs::create_symlink(path.filename(), path); }},
  };
  for (const auto& [words, make] : kinds) {
    for (const char* name : {"model-00002-of-00002.safetensors", "model.safetensors.index.json", "config.json",
                             "generation_config.json", "tokenizer.model"}) {
      SCOPED_TRACE(words + " " + name);
      source = copy_of(model("tolstoy-4m"), scratch / "sharded");
      fs::remove(source / name);
      make(source / name);
      // A tokenizer does not keep inspect from the weights, nor they tokenize from it.
      const Ran ran = name == std::string("tokenizer.model") ? run({"tokenize", source.string(), "-p", "text"})
                                                             : run({"inspect", source.string()});
      EXPECT_EQ(ran.exit, 3) << ran.err;
      EXPECT_NE(ran.err.find("error: " + (source / name).string() + ": "), std::string::npos) << ran.err;
      EXPECT_NE(ran.err.find(words), std::string::npos) << ran.err;
      fs::remove_all(source);
    }
  }
  source = copy_of(model("tolstoy-4m"), scratch / "sharded");
  fs::remove(source / "model-00002-of-00002.safetensors");
  fs::create_symlink("../blobs/gone",
                     source / "model-00002-of-00002.safetensors");  // a Hub cache whose blob was deleted
  refused(3, "model.safetensors.index.json", "'model-00002-of-00002.safetensors', which is a link to nothing");
}
TEST_F(BadInput, GgufShardThatIsNoFile) {
  ASSERT_EQ(run({"convert", source.string(), "-o", (scratch / "m.gguf").string(), "--type", "f16",
                 "--split-max-tensors", "20"})
                .exit,
            0);
  const fs::path last = scratch / "m-00003-of-00003.gguf";
  ASSERT_TRUE(fs::remove(last)) << "the split has another count";
  ASSERT_EQ(mkfifo(last.c_str(), 0600), 0);
  refused(3, last.string(), "is a pipe, expected a regular file", (scratch / "m-00001-of-00003.gguf").string());
}
TEST_F(BadInput, LinksToNothing) {  // a Hub cache whose blobs were deleted
  fs::remove(weights);
  fs::create_symlink("../blobs/gone", weights);
  refused(3, weights.string() + ": is a link to nothing", "expected the model's weights");
  fs::remove(config);
  fs::create_symlink("../blobs/gone", config);
  refused(3, config.string() + ": is a link to nothing", "expected the model's configuration");
}
// What a file or a name holds is said in UTF-8, and a number as it stands there.
TEST_F(BadInput, WordsOfAGguf) {
  const fs::path gguf = scratch / "m.gguf";
  ASSERT_EQ(run({"convert", source.string(), "-o", gguf.string(), "--type", "f16"}).exit, 0);
  const std::string good = slurp(gguf), key = "llama.attention.layer_norm_rms_epsilon";
  const auto bent = [&](std::size_t at, const std::string& bytes) {
    spill(gguf, std::string(good).replace(at, bytes.size(), bytes));
    return run({"inspect", gguf.string()}).err;
  };
  const std::size_t arch = good.find("general.architecture") + 20 + 4 + 8;
  ASSERT_EQ(good.substr(arch, 5), "llama");
  EXPECT_NE(bent(arch, "ll\xffma").find("ll\\xffma"), std::string::npos) << bent(arch, "ll\xffma");
  const float eps = -0.00123f;
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &eps, 4);
  EXPECT_NE(bent(good.find(key) + key.size() + 4, bytes).find("epsilon is -0.00123, expected 0 to 1"),
            std::string::npos)
      << bent(good.find(key) + key.size() + 4, bytes);
  EXPECT_NE(run({"inspect", (scratch / "caf\xe9.gguf").string()}).err.find("caf\\xe9.gguf"), std::string::npos);
}
TEST_F(BadInput, IndexNamesAFileOutside) {
  source = copy_of(model("tolstoy-4m"), scratch / "sharded");
  edit_json(source / "model.safetensors.index.json",
            [](Json& json) { json["weight_map"]["model.norm.weight"] = "../../etc/passwd"; });
  refused(3, "index.json", "");
}

TEST_F(BadInput, TokenizerMissing) {
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) fs::remove(source / name);
  for (const auto& command : std::vector<std::vector<std::string>>{{"perplexity", source.string(), "-c", "64"},
                                                                   {"tokenize", source.string(), "-p", "text"}}) {
    const Ran ran = run(command);
    EXPECT_EQ(ran.exit, 3) << ran.err;
    EXPECT_NE(ran.err.find("tokenizer"), std::string::npos) << ran.err;
  }
  const Ran convert = run({"convert", source.string(), "-o", (scratch / "out.gguf").string(), "--type", "f16"});
  EXPECT_EQ(convert.exit, 3) << convert.err;
  EXPECT_FALSE(fs::exists(scratch / "out.gguf"));
}

class BadAdapter : public BadInput {
 protected:
  fs::path lora = copy_of(adapter(), scratch / "lora");
  std::string with_adapter(const std::string& base) { return base + "+" + lora.string(); }
};

TEST_F(BadAdapter, ShapesThatDoNotFitTheBase) { refused(3, "lora", "shape", with_adapter(source.string())); }
TEST_F(BadAdapter, KeyThatMatchesNothing) {
  edit_header(lora / "adapter_model.safetensors", [](Json& json) {
    Json renamed = Json::object();
    for (const auto& [key, value] : json.items())
      renamed[key == "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
                  ? "base_model.model.model.layers.0.self_attn.q_prod.lora_A.weight"
                  : key] = value;
    json = renamed;
  });
  refused(3, "", "q_prod", with_adapter(model("tolstoy-4m-yarn-2k")));
}
TEST_F(BadAdapter, KindNotRead) {
  edit_json(lora / "adapter_config.json", [](Json& json) { json["peft_type"] = "PREFIX_TUNING"; });
  refused(4, "adapter_config.json", "PREFIX_TUNING", with_adapter(model("tolstoy-4m-yarn-2k")));
}
TEST_F(BadAdapter, DoraWithoutItsMagnitudes) {
  edit_json(lora / "adapter_config.json", [](Json& json) { json["use_dora"] = true; });
  refused(3, "adapter_model.safetensors", "lora_magnitude_vector", with_adapter(model("tolstoy-4m-yarn-2k")));
}
TEST_F(BadAdapter, AnotherBaseThatFitsIsAWarning) {
  const Ran ran = run({"inspect", with_adapter(model("tolstoy-4m")), "--json"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(ran.err.find("warning: "), std::string::npos) << ran.err;
  EXPECT_EQ(ran.json()["warnings"].size(), 1u);
}

}  // namespace
}  // namespace ropewalk::tools::test
