// Whole GGUF files written by one stream, and rewritten with tensor bytes passed through.

#include "formats/gguf_write.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>

#include "formats/gguf_model.h"
#include "formats/gguf_rewrite.h"
#include "formats/hf_writer.h"
#include "formats/source.h"
#include "gguf_bytes.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/recipes.h"
#include "lib/sha256.h"

using namespace ropewalk;
using namespace ropewalk::formats;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = ROPEWALK_GOLDEN_DIR;

Source open(const fs::path& path) { return open_source(parse_source(path.string()), {}, {}); }
fs::path model(const std::string& name) {
  const fs::path trained = kGolden / "fixtures" / "models" / name;
  return fs::exists(trained) ? trained : kGolden / "zoo" / name;
}

const WriteOptions kNoSync{.overwrite = false, .sync = false};

std::vector<GgufExportOptions> all_types() {
  std::vector<GgufExportOptions> out;
  for (DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
    GgufExportOptions options;
    options.type = type;
    options.compat = "llama.cpp@0.5";
    out.push_back(options);
  }
  return out;
}

std::vector<GgufPlan> plans_of(std::vector<GgufExport> exports) {
  std::vector<GgufPlan> out;
  for (GgufExport& one : exports) out.push_back(std::move(one.plan));
  return out;
}

}  // namespace

TEST(GgufWrite, FourTypesFromOneReadEqualTheConverterAtAnyThreadCount) {
  for (const char* name : {"tolstoy-4m", "stories260K", "llama-bf16-sharded"}) {
    SCOPED_TRACE(name);
    const Json dump = read_json(kGolden / "gguf" / name / "dump.json");
    const Source source = open(model(name));
    for (int threads : {1, 2, 3}) {
      TestFolder folder("ropewalk-gguf-write");
      std::vector<GgufTarget> targets;
      for (const char* type : {"f32", "f16", "bf16", "q8_0"})
        targets.push_back({folder.path() / (std::string(type) + ".gguf")});
      StreamOptions streaming;
      streaming.threads = threads;
      streaming.block_bytes = 1 << 14;  // many blocks
      const auto written = write_ggufs(plans_of(export_ggufs(source, all_types())), targets, kNoSync, streaming);
      for (const GgufWritten& one : written) {
        ASSERT_EQ(one.files.size(), 1u);
        const std::string bytes = file_bytes(one.files[0]);
        const Json& want = dump["outtypes"][one.files[0].stem().string()];
        EXPECT_EQ(one.bytes, bytes.size());
        EXPECT_EQ(bytes.size(), want["size"].get<std::size_t>());
        EXPECT_EQ(sha256(bytes), want["sha256"].get<std::string>());
      }
    }
  }
}

TEST(GgufWrite, OnePassEqualsMergeThenConvert) {
  const fs::path adapter = kGolden / "fixtures" / "adapters" / "qlora-shakespeare";
  const Source both = open_source(parse_source(model("tolstoy-4m-yarn-2k").string() + "+" + adapter.string()), {}, {});
  TestFolder folder("ropewalk-gguf-chain");
  HfWriteOptions options;
  options.write = kNoSync;
  write_hf_folder(both, both.hf->config, folder.path() / "tolstoy-4m-yarn-2k",
                  options);  // the folder's name makes general.name
  const Source merged = open(folder.path() / "tolstoy-4m-yarn-2k"), base = open(model("tolstoy-4m-yarn-2k"));
  std::vector<GgufTarget> once, chained, unmerged;
  for (const char* type : {"f32", "f16", "bf16", "q8_0"}) {
    once.push_back({folder.path() / (std::string("once-") + type + ".gguf")});
    chained.push_back({folder.path() / (std::string("chained-") + type + ".gguf")});
    unmerged.push_back({folder.path() / (std::string("base-") + type + ".gguf")});
  }
  write_ggufs(plans_of(export_ggufs(both, all_types())), once, kNoSync, {});
  write_ggufs(plans_of(export_ggufs(merged, all_types())), chained, kNoSync, {});
  write_ggufs(plans_of(export_ggufs(base, all_types())), unmerged, kNoSync, {});
  for (std::size_t i = 0; i < once.size(); ++i) {
    EXPECT_TRUE(file_bytes(once[i].path) == file_bytes(chained[i].path)) << once[i].path;
    EXPECT_FALSE(file_bytes(once[i].path) == file_bytes(unmerged[i].path)) << once[i].path;
  }
}

TEST(GgufWrite, AnotherSplitOfTheNameIsRefusedOrReplaced) {
  TestFolder folder("ropewalk-gguf-stale");
  const Source source = open(model("stories260K"));
  const auto write = [&](std::optional<std::uint64_t> max_tensors, bool overwrite) {
    return write_ggufs({export_gguf(source, all_types()[1]).plan},
                       {{folder.path() / "m.gguf", {.max_tensors = max_tensors}}},
                       {.overwrite = overwrite, .sync = false}, {});
  };
  const auto first = write(20, false)[0];
  EXPECT_TRUE(first.replaced.empty());
  EXPECT_THROW(write(std::nullopt, false), Error);
  EXPECT_THROW(write(10, false), Error);
  EXPECT_FALSE(fs::exists(folder.path() / "m.gguf"));
  const auto second = write(10, true)[0];
  EXPECT_EQ(second.replaced, first.files);
  EXPECT_EQ(write(std::nullopt, true)[0].replaced, second.files);
  std::size_t left = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.path())) ++left;
  EXPECT_EQ(left, 1u);
  fs::create_directory(folder.path() / "m-00001-of-00007.gguf");  // no shard: nothing is written, nothing is removed
  EXPECT_THROW(write(10, true), Error);
  EXPECT_TRUE(fs::exists(folder.path() / "m.gguf"));
}

// An adapter on a GGUF base: B's rows follow the base's interleaved pairs, so that the f16 file of base + adapter is
// reached either way.
TEST(GgufWrite, AnAdapterOnAGgufEqualsTheOneOnItsFolder) {
  const fs::path adapter = kGolden / "fixtures" / "adapters" / "qlora-shakespeare";
  TestFolder folder("ropewalk-gguf-base");
  const auto f16 = all_types()[1];
  write_ggufs({export_gguf(open(model("tolstoy-4m-yarn-2k")), f16).plan}, {{folder.path() / "base.gguf"}}, kNoSync, {});
  const Source on_gguf =
      open_source(parse_source((folder.path() / "base.gguf").string() + "+" + adapter.string()), {}, {});
  const Source on_folder =
      open_source(parse_source(model("tolstoy-4m-yarn-2k").string() + "+" + adapter.string()), {}, {});
  write_ggufs(
      {rewrite_gguf_source(on_gguf, std::nullopt, RopeEncoding::automatic).plan, export_gguf(on_folder, f16).plan},
      {{folder.path() / "a.gguf"}, {folder.path() / "b.gguf"}}, kNoSync, {});
  EXPECT_TRUE(file_bytes(folder.path() / "a.gguf") == file_bytes(folder.path() / "b.gguf"));
}

TEST(GgufWrite, TypesShareEveryTensor) {
  const Source source = open(model("llama-gqa"));
  TestFolder folder("ropewalk-gguf-share");
  GgufOutputs outputs(plans_of(export_ggufs(source, all_types())),
                      {{folder.path() / "a"}, {folder.path() / "b"}, {folder.path() / "c"}, {folder.path() / "d"}},
                      kNoSync);
  StreamPlan pass;
  outputs.append_items(pass);
  EXPECT_EQ(pass.items().size(), source.checkpoint.tensors.size());
  for (const StreamItem& item : pass.items()) EXPECT_EQ(item.sinks.size(), 4u) << item.tensor->name();
  // Destroyed unfinished: nothing is left.
}

// Q and K stand in both orders, and every tensor is still read once; nothing has its name before all of it is whole.
TEST(GgufWrite, FoldersJoinTheSamePass) {
  const Source source = open(model("llama-gqa"));
  TestFolder folder("ropewalk-gguf-mixed");
  StreamPlan pass;
  GgufOutputs ggufs(plans_of(export_ggufs(source, all_types())),
                    {{folder.path() / "a"}, {folder.path() / "b"}, {folder.path() / "c"}, {folder.path() / "d"}},
                    kNoSync);
  HfWriteOptions options;
  options.write = kNoSync;
  options.dtype = DType::bf16;
  HfOutput hf(source, source.hf->config, folder.path() / "hf", options);
  ggufs.append_items(pass);
  hf.append_items(pass);
  ASSERT_EQ(pass.items().size(), source.checkpoint.tensors.size());
  for (const StreamItem& item : pass.items()) EXPECT_EQ(item.sinks.size(), 5u) << item.tensor->name();
  stream(pass.items(), {});
  hf.seal();
  for (const char* name : {"a", "b", "c", "d", "hf"}) EXPECT_FALSE(fs::exists(folder.path() / name)) << name;
  ggufs.finish();
  hf.finish();
  for (const char* name : {"a", "b", "c", "d", "hf"}) EXPECT_TRUE(fs::exists(folder.path() / name)) << name;
  const Source back = open(folder.path() / "hf");
  for (const TensorPtr& tensor : source.checkpoint.tensors) {
    const TensorPtr rounded = cast(tensor, DType::bf16), written = back.checkpoint.find(tensor->name());
    std::vector<float> want(tensor->info().elements()), got(want.size());
    rounded->read_f32({0, tensor->info().rows()}, want);
    written->read_f32({0, tensor->info().rows()}, got);
    EXPECT_EQ(got, want) << tensor->name();
  }
}

TEST(GgufWrite, SplitsEqualTheConverter) {
  const Source source = open(model("llama-gqa"));
  GgufExportOptions options;
  options.compat = "llama.cpp@0.5";
  TestFolder folder("ropewalk-gguf-splits");
  const fs::path golden = kGolden / "gguf" / "llama-gqa" / "split";
  const auto written = write_ggufs({export_gguf(source, options).plan},
                                   {{folder.path() / "llama-gqa.f16.gguf", {.max_bytes = 100000}}}, kNoSync, {});
  ASSERT_EQ(written[0].files.size(), 3u);
  std::uint64_t total = 0;
  for (const fs::path& file : written[0].files) {
    EXPECT_TRUE(file_bytes(file) == file_bytes(golden / file.filename())) << file.filename();
    total += fs::file_size(file);
  }
  EXPECT_EQ(written[0].bytes, total);
}

TEST(GgufWrite, AnUnfinishedOutputLeavesNothing) {
  const Source source = open(model("llama-gqa"));
  TestFolder folder("ropewalk-gguf-unfinished");
  int blocks = 0;
  StreamOptions streaming;
  streaming.block_bytes = 1 << 12;
  streaming.progress = [&](std::uint64_t) {
    if (++blocks > 5) throw Error(ErrorKind::io, {}, "stopped by the test", "nothing");
  };
  EXPECT_ANY_THROW(write_ggufs(
      plans_of(export_ggufs(source, all_types())),
      {{folder.path() / "a.gguf"}, {folder.path() / "b.gguf"}, {folder.path() / "c.gguf"}, {folder.path() / "d.gguf"}},
      kNoSync, streaming));
  EXPECT_TRUE(fs::is_empty(folder.path()));

  folder.write("there.gguf", "precious");
  EXPECT_THROW(write_ggufs({export_gguf(source, {}).plan}, {{folder.path() / "there.gguf"}}, kNoSync, {}), Error);
  EXPECT_EQ(file_bytes(folder.path() / "there.gguf"), "precious");
  EXPECT_THROW(GgufOutputs(plans_of(export_ggufs(source, {GgufExportOptions{}, GgufExportOptions{}})),
                           {{folder.path() / "x.gguf"}, {folder.path() / "x.gguf"}}, kNoSync),
               Error);
}

TEST(GgufWrite, EveryBlockTypeIsReadAndBecomesF32) {
  TestFolder folder("ropewalk-gguf-block-types");
  std::size_t seen = 0;
  for (const DTypeInfo& type : kDTypes) {
    if (!is_block_type(type.dtype) || !can_decode(type.dtype)) continue;
    const TensorInfo info{.name = "t", .shape = {3, 512}, .dtype = type.dtype};
    std::vector<std::byte> blocks(info.bytes());
    for (std::size_t i = 0; i < blocks.size(); ++i)  // an f16 of these bytes is finite and normal
      blocks[i] = static_cast<std::byte>(32 + (i * 37 + i / 7) % 64);
    std::vector<float> want(3 * 512), stored(want.size()), converted(want.size());
    decode_f32(type.dtype, blocks, want);
    GgufPlan plan;
    plan.tensors.push_back({"t", memory_tensor(info, blocks), type.dtype, OutOfRange::refuse});
    const fs::path path = folder.path() / (std::string(type.name) + ".gguf"), wide = folder.path() / "wide.gguf";
    write_ggufs({plan}, {{path}}, kNoSync, {});
    const TensorPtr tensor = read_gguf(path).tensors[0];
    EXPECT_EQ(tensor->dtype(), type.dtype);
    tensor->read_f32({0, 3}, stored);
    EXPECT_EQ(stored, want) << type.name;
    plan.tensors[0] = {"t", tensor, DType::f32, OutOfRange::refuse};
    fs::remove(wide);
    write_ggufs({plan}, {{wide}}, kNoSync, {});
    read_gguf(wide).tensors[0]->read_f32({0, 3}, converted);
    EXPECT_EQ(converted, want) << type.name;
    ++seen;
  }
  EXPECT_EQ(seen, 25u);
}

TEST(GgufWrite, ValuesPastF16AreRefusedOrClampedUnlessTheConverterIsImitated) {
  TestFolder folder("ropewalk-gguf-overflow");
  for (const float value : {65504.0f, 65519.996f, 65520.0f, -1e6f, std::numeric_limits<float>::infinity()}) {
    std::vector<float> values(4096, 1.0f);
    values[1234] = value;
    GgufPlan plan;
    plan.tensors.push_back({"t", memory_tensor("model.t", {64, 64}, values), DType::f16, OutOfRange::refuse});
    const fs::path path = folder.path() / (std::to_string(value) + ".gguf");
    const auto written = [&](OutOfRange policy) {
      plan.tensors[0].out_of_range = policy;
      fs::remove(path);
      write_ggufs({plan}, {{path}}, kNoSync, {});
      std::vector<float> back(4096);
      read_gguf(path).tensors[0]->read_f32({0, 64}, back);
      return back[1234];
    };
    if (std::isfinite(value) && std::abs(value) >= 65520) {  // rounds to infinity
      try {
        (void)written(OutOfRange::refuse);
        ADD_FAILURE() << "written";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::bad_input);
        const std::string shown = value == -1e6f ? "-1000000" : "65520";
        EXPECT_EQ(error.problem(),
                  "tensor 'model.t': row 19, column 18: " + shown + " is past the largest f16 value, 65504");
      }
      EXPECT_FALSE(fs::exists(path));
      EXPECT_EQ(written(OutOfRange::clamp), std::copysign(65504.0f, value));
      EXPECT_EQ(written(OutOfRange::ieee), std::copysign(std::numeric_limits<float>::infinity(), value));
    } else {
      EXPECT_EQ(written(OutOfRange::refuse), std::isfinite(value) ? 65504.0f : value);
    }
  }
}

TEST(GgufRewrite, NothingChangedIsTheSameFile) {
  for (const char* name : {"llama-gqa", "llama-yarn-opts", "stories260K"}) {
    const fs::path path = kGolden / "gguf" / name / (std::string(name) + ".f16.gguf");
    TestFolder folder("ropewalk-gguf-same");
    const auto written = write_ggufs({rewrite_gguf_source(open(path), std::nullopt, RopeEncoding::automatic).plan},
                                     {{folder.path() / "out.gguf"}}, kNoSync, {});
    EXPECT_TRUE(file_bytes(written[0].files[0]) == file_bytes(path)) << name;
  }
}

TEST(GgufRewrite, ASplitFileBecomesTheWholeOne) {
  const fs::path folder_of = kGolden / "gguf" / "llama-gqa";
  TestFolder folder("ropewalk-gguf-join");
  const auto written = write_ggufs({rewrite_gguf_source(open(folder_of / "split" / "llama-gqa.f16-00002-of-00003.gguf"),
                                                        std::nullopt, RopeEncoding::automatic)
                                        .plan},
                                   {{folder.path() / "out.gguf"}}, kNoSync, {});
  EXPECT_TRUE(file_bytes(written[0].files[0]) == file_bytes(folder_of / "llama-gqa.f16.gguf"));
}

TEST(GgufRewrite, KeysAndTensorsChangeInPlace) {
  const GgufFile file = read_gguf(kGolden / "gguf" / "llama-gqa" / "llama-gqa.f16.gguf");
  GgufChanges changes;
  changes.remove_keys = {"general.size_label", "not.there"};
  changes.set_keys = {{"llama.new", gguf_u32(7)}, {"general.name", gguf_string("Renamed")}};
  changes.after = "llama.context_length";
  changes.remove_tensors = {"output.weight", "not.there"};
  changes.first_tensors = {{"rope_freqs.weight", memory_tensor("f", {8}, std::vector<float>(8, 1.0f)), DType::f32}};
  const GgufPlan plan = rewrite_gguf(file, changes);
  ASSERT_EQ(plan.keys.size(), file.keys.size());  // one gone, one new
  std::vector<std::string> names;
  for (const GgufKey& key : plan.keys) names.push_back(key.name);
  EXPECT_EQ(names[2], "general.name");
  EXPECT_EQ(std::get<std::string>(plan.keys[2].value.value), "Renamed");
  EXPECT_EQ(std::find(names.begin(), names.end(), "general.size_label"), names.end());
  EXPECT_EQ(*(std::find(names.begin(), names.end(), "llama.context_length") + 1), "llama.new");
  EXPECT_EQ(plan.tensors.size(), file.tensors.size());
  EXPECT_EQ(plan.tensors[0].name, "rope_freqs.weight");
  EXPECT_EQ(plan.tensors[1].name, "token_embd.weight");
  EXPECT_EQ(plan.tensors[1].dtype, DType::f16);
}

TEST(GgufRewrite, RopeOfTheGoldenYarnFile) {
  // The plain model's file with the YaRN model's rope and context has the YaRN model's keys.
  const GgufFile plain = read_gguf(kGolden / "gguf" / "llama-gqa" / "llama-gqa.f16.gguf");
  ModelConfig config = read_gguf_model(plain, "plain").config;
  config.context = 2048;
  config.rope.scaling = RopeYarn{.factor = 4, .original_context = 512};
  const GgufExport out = rewrite_gguf_rope(plain, config, RopeEncoding::automatic);
  EXPECT_TRUE(out.losses.empty());
  const Json dump = read_json(kGolden / "gguf" / "llama-yarn" / "dump.json");
  std::vector<std::string> want, got;
  for (const Json& key : dump["keys"]) want.push_back(key[0]);
  for (const GgufKey& key : out.plan.keys) got.push_back(key.name);
  EXPECT_EQ(got, want);
  // Read back by the loader's rules it is that rope.
  TestFolder folder("ropewalk-gguf-rope");
  const auto written = write_ggufs({out.plan}, {{folder.path() / "out.gguf"}}, kNoSync, {});
  const Checkpoint back = open(written[0].files[0]).checkpoint;
  EXPECT_EQ(back.config.context, 2048);
  ASSERT_TRUE(std::holds_alternative<RopeYarn>(back.config.rope.scaling));
  EXPECT_EQ(std::get<RopeYarn>(back.config.rope.scaling).factor, 4);
  EXPECT_EQ(std::get<RopeYarn>(back.config.rope.scaling).original_context, 512);
}

TEST(GgufRewrite, TypesOfAnF32FileAreThoseOfTheSource) {
  // f32 GGUF, then bf16 or q8_0 of it: tensor by tensor what the converter gives from the folder.
  const Source source = open(model("stories260K"));
  TestFolder folder("ropewalk-gguf-retype");
  auto options = all_types();
  const auto direct = write_ggufs(plans_of(export_ggufs(source, options)),
                                  {{folder.path() / "f32.gguf"},
                                   {folder.path() / "f16.gguf"},
                                   {folder.path() / "bf16.gguf"},
                                   {folder.path() / "q8_0.gguf"}},
                                  kNoSync, {});
  const Source first = open(direct[0].files[0]);
  for (int i : {0, 1, 2, 3}) {
    const auto again = write_ggufs(
        {rewrite_gguf_source(first, options[static_cast<std::size_t>(i)].type, RopeEncoding::automatic).plan},
        {{folder.path() / ("again" + std::to_string(i) + ".gguf")}}, kNoSync, {});
    EXPECT_TRUE(file_bytes(again[0].files[0]) == file_bytes(direct[static_cast<std::size_t>(i)].files[0])) << i;
  }
}
