#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "formats/gguf.h"
#include "lib/sha256.h"
#include "tests/tools/command.h"
#include "tools/units.h"

namespace ropewalk::tools::test {
namespace {

std::string source() { return model("tolstoy-4m-yarn-2k") + "+" + adapter(); }

TEST(Convert, SeveralOutputsFromOneReadEqualSingleOnes) {
  Scratch scratch;
  const Ran both = run(
      {"convert", source(), "-o", (scratch / "both-{type}.gguf").string(), "--type", "f16,q8_0,bf16,f32", "--json"});
  ASSERT_EQ(both.exit, 0) << both.err;
  EXPECT_NE(both.err.find("writing 4 files, "), std::string::npos) << both.err;
  ASSERT_EQ(both.json()["outputs"].size(), 4u);
  for (const Json& output : both.json()["outputs"]) {
    const std::string type = output["type"];
    const fs::path alone = scratch / (type + ".gguf");
    ASSERT_EQ(run({"convert", source(), "--outfile", alone.string(), "--outtype", type, "-t", "1", "--no-sync"}).exit,
              0);
    EXPECT_EQ(slurp(alone), slurp(output["path"].get<std::string>())) << type;
    EXPECT_EQ(output["bytes"], fs::file_size(alone));
    EXPECT_EQ(output["tensors"].size(), 39u);
  }
}

// The merged folder is a stop on the way, not another way: same tensors, byte for byte. (general.name differs: it comes
// from the folder.)
TEST(Convert, OnePassEqualsMergeThenConvert) {
  Scratch scratch;
  ASSERT_EQ(run({"merge", source(), "-o", (scratch / "merged").string()}).exit, 0);
  ASSERT_EQ(run({"convert", (scratch / "merged").string(), "-o", (scratch / "chain.gguf").string(), "--type", "q8_0",
                 "--model-name", "m"})
                .exit,
            0);
  ASSERT_EQ(
      run({"convert", source(), "-o", (scratch / "pass.gguf").string(), "--type", "q8_0", "--model-name", "m"}).exit,
      0);
  const Ran diff = run({"diff", (scratch / "chain.gguf").string(), (scratch / "pass.gguf").string(), "--exit-code"});
  EXPECT_EQ(diff.exit, 0) << diff.out;
  const std::string chain = slurp(scratch / "chain.gguf"), pass = slurp(scratch / "pass.gguf");
  const std::size_t data = 4'000'000;  // of 4.5 MB: tensors
  EXPECT_EQ(chain.substr(chain.size() - data), pass.substr(pass.size() - data));
  ASSERT_EQ(run({"convert", model("tolstoy-4m-yarn-2k"), "-o", (scratch / "base.gguf").string(), "--type", "q8_0",
                 "--model-name", "m"})
                .exit,
            0);
  EXPECT_EQ(run({"diff", (scratch / "base.gguf").string(), (scratch / "pass.gguf").string(), "--exit-code"}).exit, 1)
      << "control: the adapter changes weights";
}

TEST(Convert, KeepOfAGgufIsTheSameFile) {
  Scratch scratch;
  ASSERT_EQ(run({"convert", model("stories260K"), "-o", (scratch / "a.gguf").string(), "--type", "f16"}).exit, 0);
  ASSERT_EQ(run({"convert", (scratch / "a.gguf").string(), "-o", (scratch / "b.gguf").string()}).exit, 0);
  EXPECT_EQ(slurp(scratch / "a.gguf"), slurp(scratch / "b.gguf"));
}

TEST(Convert, NamesAndFolders) {
  Scratch scratch;
  fs::create_directory(scratch / "out");
  const std::string base = model("stories260K");
  ASSERT_EQ(run({"convert", base, "-o", (scratch / "out/").string(), "--type", "f16,hf:bf16"}).exit, 0);
  EXPECT_TRUE(fs::is_regular_file(scratch / "out/stories260K-f16.gguf"));
  EXPECT_TRUE(fs::is_directory(scratch / "out/stories260K-hf-bf16"));
  EXPECT_EQ(
      Json::parse(slurp(scratch / "out/stories260K-hf-bf16/config.json"))
          .value("dtype", Json::parse(slurp(scratch / "out/stories260K-hf-bf16/config.json")).value("torch_dtype", "")),
      "bfloat16");
  ASSERT_EQ(
      run({"convert", base, "-o", (scratch / "{name}.{FTYPE}.gguf").string(), "--type", "q8_0", "--model-name", "Tiny"})
          .exit,
      0);
  EXPECT_TRUE(fs::is_regular_file(scratch / "Tiny.Q8_0.gguf"));
}

// A pattern names folders as it names files.
TEST(Convert, PatternsNameFolders) {
  Scratch scratch;
  const std::string base = model("stories260K");
  const auto convert = [&](const std::string& output, std::vector<std::string> more) {
    std::vector<std::string> words = {"convert", base, "-o", (scratch.path() / output).string()};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  EXPECT_EQ(convert("{name}-{type}/", {"--type", "hf:f16", "--model-name", "Tiny"}).exit, 0);
  EXPECT_EQ(scratch.names().front(), "Tiny-hf-f16");
  EXPECT_TRUE(fs::is_regular_file(scratch / "Tiny-hf-f16/config.json"));
  fs::create_directory(scratch / "Big");
  EXPECT_EQ(convert("{name}/", {"--type", "f16,hf:f16", "--model-name", "Big"}).exit, 0);
  EXPECT_TRUE(fs::is_regular_file(scratch / "Big/Big-f16.gguf"));
  EXPECT_TRUE(fs::is_regular_file(scratch / "Big/Big-hf-f16/config.json"));
  const Ran unknown = convert("{nmae}/", {"--type", "hf:f16"});
  EXPECT_EQ(unknown.exit, 2);
  EXPECT_NE(unknown.err.find("the pattern's {nmae} stands for nothing"), std::string::npos) << unknown.err;
  const Ran unused = convert("fixed/", {"--type", "hf:f16", "--model-name", "Tiny"});
  EXPECT_EQ(unused.exit, 2);
  EXPECT_NE(unused.err.find("--model-name is about GGUFs"), std::string::npos) << unused.err;
}

// What only GGUFs have is not asked of a folder in vain, --sha256 is of its files.
TEST(Convert, OptionsOfAFolder) {
  Scratch scratch;
  const std::vector<std::string> words = {
      "convert", model("stories260K"), "-o", (scratch / "out").string() + "/", "--type", "hf:f16", "--json"};
  const auto convert = [&](std::vector<std::string> more) {
    more.insert(more.begin(), words.begin(), words.end());
    return run(more);
  };
  for (const std::vector<std::string>& unused :
       {std::vector<std::string>{"--rmse"}, {"--rope-encoding", "freqs"}, {"--allow-loss", "rope.dynamic"}}) {
    const Ran ran = convert(unused);
    EXPECT_EQ(ran.exit, 2) << ran.out;
    EXPECT_NE(ran.err.find(unused[0] + " is about GGUFs, and only Hugging Face folders are to be written"),
              std::string::npos)
        << ran.err;
  }
  EXPECT_TRUE(scratch.names().empty());
  const Ran ran = convert({"--sha256"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const Json output = ran.json()["outputs"][0];
  std::set<std::string> told, there;
  for (const Json& file : output["files"]) {
    EXPECT_EQ(file["sha256"], sha256(slurp(file["path"].get<std::string>()))) << file;
    told.insert(fs::path(file["path"].get<std::string>()).filename().string());
  }
  for (const auto& entry : fs::directory_iterator(scratch / "out")) there.insert(entry.path().filename().string());
  EXPECT_EQ(told, there);
  EXPECT_TRUE(there.contains("model.safetensors"));
  EXPECT_EQ(output["sha256"], nullptr) << "a folder has none";
}

// What a GGUF is called: the file's name without the numbers of a split and without its type.
TEST(Convert, TheNameOfAGguf) {
  Scratch scratch;
  ASSERT_EQ(run({"convert", model("stories260K"), "-o", (scratch / "m.gguf").string(), "--type", "f16"}).exit, 0);
  for (const auto& [file, name] : std::map<std::string, std::string>{{"tiny-f16", "tiny"},
                                                                     {"tiny.Q8_0", "tiny"},
                                                                     {"tiny-BF16", "tiny"},
                                                                     {"a-b.F32", "a-b"},
                                                                     {"tiny-chat", "tiny-chat"},
                                                                     {"tinyf16", "tinyf16"},
                                                                     {"tiny-q8_0-f16", "tiny-q8_0"}}) {
    const fs::path source = scratch / (file + ".gguf");
    fs::rename(scratch / "m.gguf", source);
    const Ran ran = run({"convert", source.string(), "-o", (scratch / "{name}!.gguf").string(), "--type", "keep",
                         "--dry-run", "--json"});
    EXPECT_EQ(ran.json()["outputs"][0]["path"], (scratch / (name + "!.gguf")).string()) << file;
    fs::rename(source, scratch / "m.gguf");
  }
  ASSERT_EQ(run({"convert", (scratch / "m.gguf").string(), "-o", (scratch / "s-f16.gguf").string(),
                 "--split-max-tensors", "30"})
                .exit,
            0);
  const Ran split = run({"convert", (scratch / "s-f16-00001-of-00002.gguf").string(), "-o",
                         (scratch / "{name}!.gguf").string(), "--dry-run", "--json"});
  EXPECT_EQ(split.json()["outputs"][0]["path"], (scratch / "s!.gguf").string()) << split.err;
}

TEST(Convert, SplitsReadBackAsTheWhole) {
  Scratch scratch;
  const std::string base = model("tolstoy-4m");
  ASSERT_EQ(run({"convert", base, "-o", (scratch / "whole.gguf").string(), "--type", "f16"}).exit, 0);
  const Ran split = run(
      {"convert", base, "-o", (scratch / "part.gguf").string(), "--type", "f16", "--split-max-size", "3M", "--json"});
  ASSERT_EQ(split.exit, 0) << split.err;
  const Json files = split.json()["outputs"][0]["files"];
  ASSERT_GE(files.size(), 3u);
  EXPECT_EQ(run({"diff", (scratch / "whole.gguf").string(), files[1]["path"], "--exit-code"}).exit, 0)
      << "any shard opens the model";
}

TEST(Convert, ASplitIsReportedUnderItsShards) {
  Scratch scratch;
  const std::string base = model("tolstoy-4m"), out = (scratch / "part.gguf").string();
  const std::vector<std::string> words = {"convert", base, "-o", out, "--type", "f16", "--split-max-tensors", "20"};
  std::vector<std::string> with_json = words;
  with_json.insert(with_json.end(), {"--json", "--dry-run"});
  const Ran dry = run(with_json);
  ASSERT_EQ(dry.exit, 0) << dry.err;
  const Ran ran = run(words);
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const auto names = scratch.names();
  const std::string last = std::to_string(names.size());
  ASSERT_GE(names.size(), 2u);
  EXPECT_EQ(names.front(), "part-00001-of-0000" + last + ".gguf");
  EXPECT_NE(ran.out.find((scratch / names.front()).string() + " and " + std::to_string(names.size() - 1) + " more"),
            std::string::npos)
      << ran.out;
  const Json output = dry.json()["outputs"][0];
  EXPECT_EQ(output["path"], (scratch / names.front()).string());
  ASSERT_EQ(output["files"].size(), names.size());
  for (std::size_t i = 0; i < names.size(); ++i) EXPECT_EQ(output["files"][i]["path"], (scratch / names[i]).string());
}

// A split of another count, or the unsplit file, beside the new one would be opened for the new one: it goes with
// --overwrite, and stops a run without.
TEST(Convert, FilesOfAnotherSplitDoNotStay) {
  Scratch scratch;
  const std::string base = model("stories260K"), out = (scratch / "m.gguf").string();
  const auto convert = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"convert", base, "-o", out, "--type", "f16", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const std::vector<std::string> bystanders = {"m-00001-of-00002.txt", "m2-00001-of-00002.gguf", "n.gguf"};
  for (const std::string& name : bystanders) spill(scratch / name, "mine");
  const auto written = [&] {
    auto names = scratch.names();
    std::erase_if(names, [&](const std::string& name) {
      return std::find(bystanders.begin(), bystanders.end(), name) != bystanders.end();
    });
    return names;
  };
  ASSERT_EQ(convert({}).exit, 0);
  const std::vector<std::vector<std::string>> steps = {
      {"--split-max-tensors", "20"}, {"--split-max-tensors", "10"}, {"--split-max-tensors", "25"}, {}};
  for (const auto& step : steps) {
    const auto before = written();
    const Ran refused = convert(step);
    EXPECT_EQ(refused.exit, 5) << refused.err;
    EXPECT_NE(refused.err.find(before.front() + ": exists already"), std::string::npos) << refused.err;
    EXPECT_EQ(written(), before);
    auto with = step;
    with.push_back("--overwrite");
    const Ran ran = convert(with);
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_NE(ran.err.find("in place of " + std::to_string(before.size()) + " older file"), std::string::npos)
        << ran.err;
    std::vector<std::string> listed;
    for (const Json& file : ran.json()["outputs"][0]["files"])
      listed.push_back(fs::path(file["path"].get<std::string>()).filename().string());
    EXPECT_EQ(written(), listed);
    for (const std::string& old : before)
      EXPECT_NE(ran.json()["outputs"][0]["notes"].dump().find(old), std::string::npos);
    EXPECT_EQ(run({"inspect", (scratch / listed.front()).string()}).exit, 0);
  }
  for (const std::string& name : bystanders) EXPECT_EQ(slurp(scratch / name), "mine");
}

TEST(Convert, ASplitThatIsTheSourceIsNotReplaced) {
  Scratch scratch;
  const std::string out = (scratch / "m.gguf").string();
  ASSERT_EQ(run({"convert", model("stories260K"), "-o", out, "--type", "f16", "--split-max-tensors", "20"}).exit, 0);
  const auto before = scratch.names();
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"convert", (scratch / before.front()).string(), "-o", out, "--overwrite"},
           {"extend", (scratch / before.front()).string(), "-o", out, "--rope", "yarn,factor=2", "--overwrite"}}) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 5) << ran.err;
    EXPECT_NE(ran.err.find("which is read as SOURCE"), std::string::npos) << ran.err;
    EXPECT_EQ(scratch.names(), before);
  }
}

TEST(Convert, Sha256OfWhatWasWritten) {
  Scratch scratch;
  const Ran ran = run(
      {"convert", model("stories260K"), "-o", (scratch / "a.gguf").string(), "--type", "f16", "--sha256", "--json"});
  EXPECT_EQ(ran.json()["outputs"][0]["sha256"], sha256(slurp(scratch / "a.gguf")));
}

// llama.cpp runs every layer of arch llama with full attention, whatever the keys say.
TEST(Convert, ALossStopsUnlessAllowed) {
  Scratch scratch;
  const std::string windowed = std::string(ROPEWALK_GOLDEN_DIR) + "/zoo/mistral-swa";
  const Ran refused = run({"convert", windowed, "-o", (scratch / "a.gguf").string(), "--type", "f16"});
  EXPECT_EQ(refused.exit, 4) << refused.err;
  EXPECT_NE(refused.err.find("--allow-loss sliding_window"), std::string::npos) << refused.err;
  EXPECT_TRUE(scratch.names().empty());
  const Ran allowed = run({"convert", windowed, "-o", (scratch / "a.gguf").string(), "--type", "f16", "--allow-loss",
                           "sliding_window", "--json"});
  ASSERT_EQ(allowed.exit, 0) << allowed.err;
  EXPECT_EQ(allowed.json()["outputs"][0]["losses"][0]["name"], "sliding_window");
}

// Dynamic NTK is there for sequences past the context it names, which is the one written: what is asked for would be
// lost in silence.
TEST(Convert, DynamicRopeIsALossForFoldersAndGgufs) {
  Scratch scratch;
  const std::string out = (scratch / "a.gguf").string(), plain = (scratch / "plain.gguf").string();
  ASSERT_EQ(run({"convert", model("stories260K"), "-o", plain, "--type", "f16"}).exit, 0);
  const std::vector<std::vector<std::string>> ways = {{"convert", model("stories260K"), "--rope", "dynamic,factor=4"},
                                                      {"convert", plain, "--rope", "dynamic,factor=4"},
                                                      {"extend", plain, "--rope", "dynamic,factor=4"}};
  for (std::vector<std::string> words : ways) {
    words.insert(words.end(), {"-o", out});
    const Ran refused = run(words);
    EXPECT_EQ(refused.exit, 4) << refused.out;
    EXPECT_NE(refused.err.find("--allow-loss rope.dynamic: up to a context of 512 tokens nothing is lost"),
              std::string::npos)
        << refused.err;
    EXPECT_FALSE(fs::exists(out));
    words.insert(words.end(), {"--allow-loss", "rope.dynamic", "--overwrite"});
    const Ran allowed = run(words);
    EXPECT_EQ(allowed.exit, 0) << allowed.err;
    EXPECT_NE(allowed.out.find("loss: rope.dynamic: "), std::string::npos) << allowed.out;
    words.push_back("--json");
    const Ran ran = run(words);
    const Json& json = ran.json();
    EXPECT_EQ((json.contains("losses") ? json : json["outputs"][0])["losses"][0]["name"], "rope.dynamic");
    fs::remove(out);
  }
  // the converter's own fault: asked for, and said
  const Ran compat =
      run({"convert", model("stories260K"), "--rope", "dynamic,factor=4", "-o", out, "--compat", "llama.cpp@0.5"});
  EXPECT_EQ(compat.exit, 0) << compat.err;
  EXPECT_NE(compat.out.find("loss: rope.dynamic: "), std::string::npos) << compat.out;
}

/// stories260K with one value of its embedding ([512, 64] f32, first in the file's data) replaced.
std::string bent_model(const Scratch& scratch, std::size_t row, std::size_t column, float value) {
  const fs::path folder = copy_of(model("stories260K"), scratch / "bent");
  std::string bytes = slurp(folder / "model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  std::memcpy(bytes.data() + 8 + header + (row * 64 + column) * 4, &value, 4);
  spill(folder / "model.safetensors", bytes);
  return folder.string();
}

TEST(Convert, NanIsNeverWrittenInSilence) {
  Scratch scratch;
  const std::string bent = bent_model(scratch, 12, 34, std::numeric_limits<float>::quiet_NaN()),
                    f32 = (scratch / "f32.gguf").string();
  const std::vector<std::vector<std::string>> ways = {
      {"convert", bent, "-o", f32, "--type", "f32"},                              // raw bytes pass through
      {"convert", bent, "-o", (scratch / "f16.gguf").string(), "--type", "f16"},  // values are rounded
      {"convert", f32, "-o", (scratch / "kept.gguf").string()},                   // a GGUF's bytes
      {"convert", bent, "-o", (scratch / "hf/").string(), "--type", "hf:f16"},
      {"merge", bent, "-o", (scratch / "merged").string(), "--dtype", "f16"},
      {"extend", f32, "-o", (scratch / "long.gguf").string(), "--rope", "linear,factor=2"}};
  for (std::vector<std::string> words : ways) {
    SCOPED_TRACE(words[0] + " " + words[3]);
    const std::string tensor = words[0] == "extend" ? "token_embd.weight" : "model.embed_tokens.weight";
    const std::string warning =
        "tensor '" + tensor + "' holds 1 value that is infinite or NaN, the first in row 12: written as they are";
    words.push_back("--json");
    const Ran ran = run(words);
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_NE(ran.err.find("warning: " + warning), std::string::npos) << ran.err;
    ASSERT_FALSE(ran.json()["warnings"].empty());
    EXPECT_EQ(ran.json()["warnings"].back(), warning);
  }
  for (const std::string& source : {bent, f32}) {
    const Ran refused = run({"convert", source, "--type", "f16,q8_0", "-o", (scratch / "x-{type}.gguf").string()});
    EXPECT_EQ(refused.exit, 3) << refused.err;
    EXPECT_NE(refused.err.find(
                  (source == bent ? bent + "/model.safetensors" : f32) +
                  ": tensor 'model.embed_tokens.weight': row 12, column 34: NaN would spoil a whole block of q8_0"),
              std::string::npos)
        << refused.err;
    EXPECT_FALSE(fs::exists(scratch / "x-f16.gguf"));
  }
  EXPECT_EQ(run({"convert", model("stories260K"), "-o", (scratch / "clean.gguf").string(), "--type", "f16", "--json"})
                .json()["warnings"],
            Json::array())
      << "control";
}

TEST(Convert, ValuesPastF16AreRefusedOrClamped) {
  Scratch scratch;
  const std::string bent = bent_model(scratch, 2, 5, -70000.125f), f32 = (scratch / "f32.gguf").string(),
                    out = (scratch / "f16.gguf").string();
  ASSERT_EQ(run({"convert", bent, "-o", f32, "--type", "f32"}).exit, 0);
  for (const std::string& source : {bent, f32}) {
    const Ran refused = run({"convert", source, "-o", out, "--type", "f16"});
    EXPECT_EQ(refused.exit, 3) << refused.err;
    EXPECT_NE(refused.err.find((source == bent ? bent + "/model.safetensors" : f32) +
                               ": tensor 'model.embed_tokens.weight': row 2, column 5: -70000.125 is past the largest "
                               "f16 value, 65504; use bf16 or f32, or clamp it with --saturate"),
              std::string::npos)
        << refused.err;
    const Ran clamped = run({"convert", source, "-o", out, "--type", "f16", "--saturate", "--json"});
    ASSERT_EQ(clamped.exit, 0) << clamped.err;
    EXPECT_EQ(clamped.json()["warnings"].back(),
              "tensor 'model.embed_tokens.weight': 1 value past the range of the type written, clamped to its largest");
    const auto row_2 = [&] {
      const formats::GgufFile file = formats::read_gguf(out);
      const auto embedding = std::find_if(file.tensors.begin(), file.tensors.end(), [](const TensorPtr& tensor) {
        return tensor->name() == "token_embd.weight";
      });
      std::vector<float> row(64);
      (*embedding)->read_f32({2, 3}, row);
      return row;
    };
    EXPECT_EQ(row_2()[5], -65504);
    fs::remove(out);
    if (source != bent) continue;
    // What the converter of llama.cpp writes in silence: said, by tensor and number.
    const Ran compat = run({"convert", source, "-o", out, "--type", "f16", "--compat", "llama.cpp@0.5", "--json"});
    ASSERT_EQ(compat.exit, 0) << compat.err;
    EXPECT_EQ(compat.json()["warnings"].back(),
              "overflow: tensor 'model.embed_tokens.weight': 1 finite value past the range of the type written became "
              "infinite, as the converter of --compat writes it");
    EXPECT_EQ(row_2()[5], -std::numeric_limits<float>::infinity());
    fs::remove(out);
  }
}

TEST(Convert, FoldersAndGgufsFromOneReadEqualSingleOnes) {
  Scratch scratch;
  const Ran both =
      run({"convert", source(), "-o", (scratch / "both-{type}.gguf").string(), "--type", "q8_0,hf:bf16,f16", "--json"});
  ASSERT_EQ(both.exit, 0) << both.err;
  for (const char* type : {"q8_0", "f16", "hf:bf16"}) {
    ASSERT_EQ(
        run({"convert", source(), "-o", (scratch / "alone-{type}.gguf").string(), "--type", type, "-t", "1"}).exit, 0);
  }
  for (const std::string type : {"q8_0", "f16"}) {
    EXPECT_EQ(slurp(scratch / ("both-" + type + ".gguf")), slurp(scratch / ("alone-" + type + ".gguf"))) << type;
  }
  EXPECT_EQ(slurp(scratch / "both-hf-bf16/model.safetensors"), slurp(scratch / "alone-hf-bf16/model.safetensors"));
  ASSERT_EQ(run({"merge", source(), "-o", (scratch / "merged").string()}).exit,
            0);  // another way there: fp16, then bf16
  ASSERT_EQ(
      run({"convert", (scratch / "merged").string(), "-o", (scratch / "chain/").string(), "--type", "hf:bf16"}).exit,
      0);
  EXPECT_EQ(slurp(scratch / "both-hf-bf16/model.safetensors"), slurp(scratch / "chain/model.safetensors"));
}

TEST(Convert, NamesThatStandForNothingAreUsageErrors) {
  Scratch scratch;
  const auto refused = [&](std::vector<std::string> words, const std::string& what) {
    words.insert(words.begin(), {"convert", model("stories260K")});
    if (std::find(words.begin(), words.end(), "-o") == words.end())
      words.insert(words.end(), {"-o", (scratch / "a.gguf").string()});
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 2) << ran.err;
    EXPECT_NE(ran.err.find(what), std::string::npos) << ran.err;
    EXPECT_TRUE(scratch.names().empty());
  };
  refused({"--allow-loss", "foo"}, "--allow-loss 'foo' is the name of no loss; known are rope.dynamic, ");
  refused({"--allow-loss", "rope.dynamik"}, "did you mean rope.dynamic?");
  refused({"--model-name", ""}, "--model-name is empty; give the model's name, or leave it out");
  refused({"--model-name", " "}, "--model-name is empty");
  refused({"--type", ""}, "--type holds an empty name; use f32, f16, ");
  refused({"--type", "f16,"}, "--type holds an empty name");
  refused({"-o", (scratch / "{foo}.gguf").string()},
          "the pattern's {foo} stands for nothing; use {name}, {type} or {TYPE}");
}

// q8_0 of 32 weights of a bell curve: steps of max/127, about 2/127 of their rms; errors are uniform in a step: rms /
// sqrt(12) of it, so some 0.5 % of the weights' rms.
TEST(Convert, ErrorsPerTensor) {
  Scratch scratch;
  const Ran ran = run({"convert", model("tolstoy-4m"), "-o", (scratch / "{type}.gguf").string(), "--type", "f16,q8_0",
                       "--rmse", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const std::string text = run({"convert", model("tolstoy-4m"), "-o", (scratch / "{type}.gguf").string(), "--type",
                                "f16,q8_0", "--rmse", "--overwrite"})
                               .out;
  double largest = 0, total = 0;
  std::size_t n = 0;
  std::string worst;
  for (const Json& tensor : ran.json()["outputs"][1]["tensors"]) {
    if (tensor["type"] != "q8_0") continue;
    ++n, total += tensor["rmse"].get<double>();
    if (tensor["rmse"].get<double>() > largest) largest = tensor["rmse"], worst = tensor["name"];
  }
  std::istringstream lines(text);
  std::vector<std::string> rows;
  for (std::string line; std::getline(lines, line);) {
    line.erase(std::remove(line.begin(), line.end(), ' '), line.end());
    if (line.find("|q8_0|") != std::string::npos) rows.push_back(line);
  }
  ASSERT_EQ(rows.size(), 2u) << text;  // the output, and the errors of its matrices
  EXPECT_EQ(rows[1], "|q8_0.gguf|q8_0|" + std::to_string(n) + "|" + number_text(total / double(n), 3) + "|" +
                         number_text(largest, 3) + "|" + worst + "|");
  EXPECT_NE(text.find("largest rmse"), std::string::npos) << text;
  for (const Json& tensor : ran.json()["outputs"][0]["tensors"]) EXPECT_EQ(tensor["rmse"], 0.0) << "the source is f16";
  std::map<std::string, double> rms;
  const Ran diff = run({"diff", model("tolstoy-4m"), model("tolstoy-4m"), "--json"});
  for (const Json& tensor : diff.json()["weights"]) rms[tensor["name"]] = tensor["rms"];
  for (const Json& tensor : ran.json()["outputs"][1]["tensors"]) {
    if (tensor["name"] != "blk.1.ffn_up.weight") continue;
    const double relative = tensor["rmse"].get<double>() / rms["model.layers.1.mlp.up_proj.weight"];
    EXPECT_GT(relative, 0.003);
    EXPECT_LT(relative, 0.008);
  }
}

TEST(Convert, AGgufQuantizedEqualsTheFolderQuantized) {
  Scratch scratch;
  ASSERT_EQ(run({"convert", model("tolstoy-4m"), "-o", (scratch / "{type}.gguf").string(), "--type", "f16,q8_0"}).exit,
            0);
  ASSERT_EQ(
      run({"convert", (scratch / "f16.gguf").string(), "-o", (scratch / "again.gguf").string(), "--type", "q8_0"}).exit,
      0);
  EXPECT_EQ(run({"diff", (scratch / "q8_0.gguf").string(), (scratch / "again.gguf").string(), "--exit-code"}).exit, 0);
}

}  // namespace
}  // namespace ropewalk::tools::test
