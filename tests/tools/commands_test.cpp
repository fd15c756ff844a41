// What single commands do with folders and options that are out of the ordinary.
#include <cstring>
#include <sstream>

#include "lib/error.h"
#include "tests/tools/command.h"
#include "tools/one_line.h"
#include "tools/output_plan.h"
#include "tools/render.h"

namespace ropewalk::tools::test {
namespace {

class Commands : public ModelCopy {
 protected:
  std::string out = (scratch / "out").string();

  void extended_opens(const std::string& from) {
    const Ran ran = run({"extend", from, "-o", out, "--rope", "yarn,factor=2", "--no-sync"});
    ASSERT_EQ(ran.exit, 0) << ran.err;
    const Ran back = run({"inspect", out, "--json"});
    EXPECT_EQ(back.exit, 0) << back.err;
    EXPECT_EQ(run({"diff", from, out}).exit, 0);
  }
};

TEST_F(Commands, ExtendOfOneShardWithAnIndex) {
  const std::string shard = "model-00001-of-00001.safetensors";
  fs::rename(source / "model.safetensors", source / shard);
  const std::string bytes = slurp(source / shard);
  std::uint64_t n = 0;
  std::memcpy(&n, bytes.data(), 8);
  Json index = {{"metadata", Json::object()}, {"weight_map", Json::object()}};
  const Json header = Json::parse(bytes.substr(8, n));
  for (const auto& [name, tensor] : header.items())
    if (name != "__metadata__") index["weight_map"][name] = shard;
  spill(source / "model.safetensors.index.json", index.dump());
  extended_opens(source.string());
}

TEST_F(Commands, ExtendOfALoneFile) {
  fs::rename(source / "model.safetensors", source / "foo.safetensors");
  extended_opens((source / "foo.safetensors").string());
  EXPECT_TRUE(fs::exists(scratch / "out/model.safetensors"));
}

TEST_F(Commands, InspectOfAModelBesideAnAdaptersFiles) {
  EXPECT_EQ(run({"inspect", adapter(), "--json"}).json()["kind"], "adapter");
  fs::copy(fs::path(adapter()) / "adapter_config.json", source);
  EXPECT_EQ(run({"inspect", source.string(), "--json"}).json()["kind"], "hf");
}

TEST_F(Commands, InspectOfAnAdapterInTheHubCache) {
  const fs::path repository = scratch / "hub/models--org--lora";
  fs::create_directories(repository / "refs");
  fs::create_directories(repository / "snapshots");
  spill(repository / "refs/main", "abc");
  copy_of(adapter(), repository / "snapshots/abc");
  RunOptions options;
  options.env["HF_HUB_CACHE"] = (scratch / "hub").string();
  const Ran ran = run({"inspect", "org/lora", "--json"}, options);  // its base is not there, and need not be
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.json()["kind"], "adapter");
}

TEST_F(Commands, OverwriteSparesWhatIsNoModel) {
  fs::create_directory(out);
  spill(scratch / "out/thesis", "x");
  const Ran ran = run({"merge", source.string(), "-o", out, "--dtype", "f16", "--overwrite"});
  EXPECT_EQ(ran.exit, 5) << ran.err;
  EXPECT_EQ(slurp(scratch / "out/thesis"), "x");
}

TEST_F(Commands, OptionsOfAGgufAreNotIgnoredForAFolder) {
  spill(scratch / "m.json", "{}");
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{"--compat", "llama.cpp@0.5"},
                                             {"--metadata", (scratch / "m.json").string()},
                                             {"--model-name", "x"},
                                             {"--split-max-tensors", "3"}}) {
    std::vector<std::string> words = {"convert", source.string(), "-o", out, "--type", "hf:f16", "--dry-run"};
    EXPECT_EQ(run(words).exit, 0);
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 2) << more[0];
    EXPECT_NE(ran.err.find(more[0]), std::string::npos) << ran.err;
  }
  EXPECT_EQ(run({"convert", source.string(), "-o", (scratch / "{name}").string(), "--type", "hf:f16", "--dry-run",
                 "--model-name", "x"})
                .exit,
            0)
      << "the pattern has it";
  spill(scratch / "m.json", R"({"general.nmae": "x"})");
  const Ran ran = run(
      {"convert", source.string(), "-o", out + ".gguf", "--type", "f16", "--metadata", (scratch / "m.json").string()});
  EXPECT_EQ(ran.exit, 3);
  EXPECT_NE(ran.err.find("general.nmae"), std::string::npos) << ran.err;
}

TEST_F(Commands, DiffSeesTheRopeAndTheGeometry) {
  const auto exit_code = [&](const fs::path& other) {
    return run({"diff", source.string(), other.string(), "--exit-code"}).exit;
  };
  const fs::path other = copy_of(source.string(), scratch / "other");
  EXPECT_EQ(exit_code(other), 0);
  edit_json(other / "config.json", [](Json& json) { json["rope_theta"] = 20000.0; });
  EXPECT_EQ(exit_code(other), 1);
  fs::copy_file(source / "config.json", other / "config.json", fs::copy_options::overwrite_existing);
  EXPECT_EQ(exit_code(other), 0);
  edit_json(other / "config.json", [](Json& json) { json["rms_norm_eps"] = 1e-3; });
  EXPECT_EQ(exit_code(other), 1);
}

TEST(OutputPlan, EveryFileSystemNeedsItsOwnRoom) {
  Scratch scratch;
  std::ostringstream standard, errors;
  std::istringstream in;
  Io io{.in = in, .out = standard, .err = errors, .hub_cache = {}};
  const OutputPlan here{.targets = {{scratch / "a", 10}}, .what = "1 file"};
  EXPECT_NO_THROW(announce(here, {}, io));
  EXPECT_NE(errors.str().find("writing 1 file, 10 bytes"), std::string::npos) << errors.str();
  const OutputPlan both{.targets = {{scratch / "a", 10}, {"/proc/b", 10}},
                        .what = "2 files"};  // nothing is ever free on procfs
  EXPECT_THROW(announce(both, {}, io), Error);
}

TEST(Printed, TextFromFilesCannotDriveTheTerminal) {
  EXPECT_EQ(one_line("a\033[2Jb\nc\x7f"), "a [2Jb c ");
  EXPECT_EQ(one_line("\xc2\x9b"
                     "31m \xc3\xa9"),
            "  31m \xc3\xa9")
      << "U+009B is ESC [ to some; letters stay";
  EXPECT_EQ(plain_lines("a\033\nb\tc"), "a \nb\tc");
  Output output;
  output.warnings = {"w\033[2J\nfake"};
  output.text(aligned({{"name", "x\033[2J\ny"}}));
  output.table({{{"tensor"}}, {{"t\033]0;x\007\n"}}});
  for (const std::string& text : {render_text(output), render_markdown(output)}) {
    EXPECT_EQ(text.find('\033'), std::string::npos) << text;
    EXPECT_EQ(text.find('\007'), std::string::npos) << text;
    EXPECT_EQ(text.find("\ny"), std::string::npos) << text;
    EXPECT_EQ(text.find("\nfake"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace ropewalk::tools::test
