#include "formats/hf_writer.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/formats/tiny_llama.h"

namespace ropewalk::formats {
namespace {

Source open(const fs::path& path, const OpenOptions& options = {}) {
  return open_source({.text = path.string(), .model = path.string(), .adapters = {}, .rope = {}}, options, {});
}

HfWriteOptions quick(std::uint64_t max_shard_bytes = 5'000'000'000) {
  HfWriteOptions options;
  options.write.sync = false;
  options.max_shard_bytes = max_shard_bytes;
  return options;
}

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    files[entry.path().lexically_relative(folder).string()] =
        entry.is_directory() ? "(folder)" : read_bytes(entry.path());
  return files;
}

void expect_same_checkpoint(const Source& a, const Source& b) {
  ASSERT_EQ(a.checkpoint.tensors.size(), b.checkpoint.tensors.size());
  for (const TensorPtr& tensor : a.checkpoint.tensors) {
    const TensorPtr other = b.checkpoint.find(tensor->name());
    ASSERT_TRUE(other) << tensor->name();
    EXPECT_EQ(tensor->info().shape, other->info().shape);
    EXPECT_EQ(tensor->dtype(), other->dtype());
    EXPECT_TRUE(raw_bytes(*tensor) == raw_bytes(*other)) << tensor->name();
  }
  EXPECT_EQ(a.checkpoint.config.context, b.checkpoint.config.context);
  EXPECT_EQ(a.checkpoint.config.tied_head, b.checkpoint.config.tied_head);
  EXPECT_EQ(rope_table(a.checkpoint.config.rope, 4096).inv_freq, rope_table(b.checkpoint.config.rope, 4096).inv_freq);
}

TEST(HfWriter, FixturesAndZooComeBack) {
  int models = 0;
  for (const char* root : {"zoo", "fixtures/models"})
    for (const fs::directory_entry& entry : fs::directory_iterator(kGolden / root)) {
      if (!entry.is_directory()) continue;
      SCOPED_TRACE(entry.path().string());
      TestFolder folder;
      const Source source = open(entry.path());
      const HfWritten written = write_hf_folder(source, source.hf->config, folder / "out", quick());
      expect_same_checkpoint(source, open(folder / "out"));
      const auto files = files_of(folder / "out");
      std::vector<std::string> names;
      std::uint64_t bytes = 0;
      for (const auto& [name, content] : files) {
        names.push_back(name);
        bytes += content.size();
      }
      EXPECT_EQ(written.files, names);
      EXPECT_EQ(written.bytes, bytes);
      EXPECT_EQ(files.at("config.json"), read_bytes(entry.path() / "config.json"))
          << "these were written by transformers: nothing to change, not a byte";
      EXPECT_EQ(files.at("tokenizer.model"), read_bytes(entry.path() / "tokenizer.model"));
      write_hf_folder(source, source.hf->config, folder / "again", quick());
      EXPECT_EQ(files, files_of(folder / "again"));
      ++models;
    }
  EXPECT_EQ(models, 13);
}

TEST(HfWriter, ShardsWhenAskedAndTheShardsAreOneCheckpoint) {
  TestFolder folder;
  write_tiny(folder / "in");
  const Source source = open(folder / "in");
  const HfWritten written = write_hf_folder(source, source.hf->config, folder / "out", quick(4096));
  EXPECT_GT(written.files.size(), 3u);
  EXPECT_EQ(written.files.back(), "model.safetensors.index.json");
  expect_same_checkpoint(source, open(folder / "out"));
  const Json index = read_json(folder / "out/model.safetensors.index.json");
  std::uint64_t total = 0;
  for (const TensorPtr& tensor : source.checkpoint.tensors) total += tensor->info().bytes();
  EXPECT_EQ(index["metadata"]["total_size"], total);
}

TEST(HfWriter, DtypeIsWrittenInTheFilesDialect) {
  OpenOptions bf16;
  bf16.merge_dtype = DType::bf16;
  const auto written_config = [&](Json config) {
    TestFolder folder;
    write_tiny(folder / "in", tiny_tensors(), config);
    const Source source = open(folder / "in", bf16);
    Json quantized = source.hf->config;
    quantized["quantization_config"] = {{"quant_method", "bitsandbytes"}};
    write_hf_folder(source, quantized, folder / "out", quick());
    const std::string text = read_bytes(folder / "out/config.json");
    EXPECT_TRUE(text.starts_with("{\n  \"architectures\"") && text.ends_with("\n}\n")) << text;
    const Json json = parse_json("config.json", text);
    EXPECT_FALSE(json.contains("quantization_config"));
    expect_same_checkpoint(source, open(folder / "out"));
    return json;
  };
  const Json old = written_config(tiny_config());
  EXPECT_EQ(old["torch_dtype"], "bfloat16");
  EXPECT_FALSE(old.contains("dtype"));
  Json v5 = tiny_config();
  v5.erase("torch_dtype");
  v5.erase("rope_theta");
  v5.erase("rope_scaling");
  v5["rope_parameters"] = {{"rope_theta", 10000.0}, {"rope_type", "default"}};
  EXPECT_EQ(written_config(v5)["dtype"], "bfloat16") << "no dtype key: by the rope dialect";
  v5["dtype"] = "float32";
  const Json now = written_config(v5);
  EXPECT_EQ(now["dtype"], "bfloat16");
  EXPECT_FALSE(now.contains("torch_dtype"));
}

TEST(HfWriter, CardTokenizerAndOtherFiles) {
  TestFolder folder;
  const fs::path model = kGolden / "fixtures/models/tolstoy-4m", other = kGolden / "fixtures/models/stories260K";
  OpenOptions options;
  options.tokenizer = OpenOptions::TokenizerChoice::folder;
  options.tokenizer_folder = other;
  const Source source = open(model, options);
  HfWriteOptions write = quick();
  write.card = "# mine\n";
  write_hf_folder(source, source.hf->config, folder / "out", write);
  const auto files = files_of(folder / "out");
  EXPECT_EQ(files.at("README.md"), "# mine\n");
  EXPECT_EQ(files.at("tokenizer.model"), read_bytes(other / "tokenizer.model"));
  EXPECT_EQ(files.at("tokenizer_config.json"), read_bytes(other / "tokenizer_config.json"));
  EXPECT_EQ(files.at("generation_config.json"), read_bytes(model / "generation_config.json"));
  EXPECT_FALSE(files.contains("model-00001-of-00002.safetensors")) << "one shard now, no old one carried";
  EXPECT_TRUE(files.contains("model.safetensors"));
}

TEST(HfWriter, MergedFixtureIsThePublishedMerge) {
  TestFolder folder;
  const std::string text = (kGolden / "fixtures/models/tolstoy-4m-yarn-2k").string() + "+" +
                           (kGolden / "fixtures/adapters/qlora-shakespeare").string();
  const Source source = open_source(parse_source(text), {}, {});
  HfWriteOptions one = quick(), three = quick();
  one.stream.threads = 1;
  three.stream.threads = 3;
  three.stream.block_bytes = 10000;
  write_hf_folder(source, source.hf->config, folder / "one", one);
  write_hf_folder(source, source.hf->config, folder / "three", three);
  EXPECT_EQ(files_of(folder / "one"), files_of(folder / "three")) << "threads and block size must not show";
  expect_same_checkpoint(source, open(folder / "one"));
}

TEST(HfWriter, RefusesTargetsThatWouldDestroyAndLeavesNothing) {
  TestFolder folder;
  write_tiny(folder / "models/in");
  const Source source = open(folder / "models/in");
  HfWriteOptions overwrite = quick();
  overwrite.write.overwrite = true;
  for (const char* target : {"models/in", "models/in/", "models", "models/../models/in"}) {
    SCOPED_TRACE(target);
    expect_error(ErrorKind::io, {"is or contains the source"},
                 [&] { write_hf_folder(source, source.hf->config, folder / target, overwrite); });
  }
  fs::create_directory_symlink(folder / "models/in", folder / "link");
  expect_error(ErrorKind::io, {"is or contains the source"},
               [&] { write_hf_folder(source, source.hf->config, folder / "link", overwrite); });
  fs::create_directories(folder / "taken");
  write_bytes(folder / "taken/note", "mine");
  const auto before = files_of(folder.path());
  expect_error(ErrorKind::io, {"taken"},
               [&] { write_hf_folder(source, source.hf->config, folder / "taken", quick()); });

  HfWriteOptions stopped = quick();
  stopped.stream.progress = [](std::uint64_t) { throw Error(ErrorKind::io, {}, "stopped by the test", "nothing"); };
  expect_error(ErrorKind::io, {"stopped by the test"},
               [&] { write_hf_folder(source, source.hf->config, folder / "new", stopped); });
  EXPECT_EQ(files_of(folder.path()), before);

  expect_error(ErrorKind::io, {"taken", "not a model's folder"},
               [&] { write_hf_folder(source, source.hf->config, folder / "taken", overwrite); });
  EXPECT_TRUE(fs::exists(folder / "taken/note"));
  write_bytes(folder / "taken/config.json", "{}");
  expect_error(ErrorKind::io, {"taken", "holds 'note', which the new folder would not"},
               [&] { write_hf_folder(source, source.hf->config, folder / "taken", overwrite); });
  EXPECT_TRUE(fs::exists(folder / "taken/note"));
  fs::rename(folder / "taken/note", folder / "taken/model-00001-of-00002.safetensors");
  write_hf_folder(source, source.hf->config, folder / "taken", overwrite);
  EXPECT_FALSE(fs::exists(folder / "taken/model-00001-of-00002.safetensors"));
  expect_same_checkpoint(source, open(folder / "taken"));
}

TEST(HfWriter, OverflowOfANarrowTypeNamesTheTensorAndLeavesNothing) {
  TestFolder folder;
  std::vector<RawTensor> tensors = tiny_tensors();
  const float large = 70000;  // above float16's 65504
  std::memcpy(tensor_named(tensors, "model.layers.1.mlp.up_proj.weight").bytes.data() + 40, &large, 4);
  write_tiny(folder / "in", tensors);
  OpenOptions f16;
  f16.merge_dtype = DType::f16;
  const Source source = open(folder / "in", f16);
  expect_error(ErrorKind::bad_input, {"model.layers.1.mlp.up_proj.weight"},
               [&] { write_hf_folder(source, source.hf->config, folder / "out", quick()); });
  EXPECT_FALSE(fs::exists(folder / "out"));
  f16.saturate = true;
  const Source clamped = open(folder / "in", f16);
  write_hf_folder(clamped, clamped.hf->config, folder / "out", quick());
  EXPECT_TRUE(fs::exists(folder / "out/model.safetensors"));
}

}  // namespace
}  // namespace ropewalk::formats
