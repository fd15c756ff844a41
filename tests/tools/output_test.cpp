// Where outputs go: names by kind, what --overwrite never replaces, and what is said when standard output fails.
#include "formats/gguf.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

/// The binary by a shell, for redirections; its exit code, standard error in `err`.
int shell(const std::string& line, const fs::path& err) {
  const int status = std::system(("'" ROPEWALK_BINARY "' " + line + " 2> '" + err.string() + "'").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class Output : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(run({"convert", base, "-o", gguf, "--type", "f16"}).exit, 0); }
  /// One line on standard error, and nothing else in the scratch folder than before.
  std::string refused(int exit, const std::vector<std::string>& words, const RunOptions& options = {}) {
    const std::vector<std::string> before = scratch.names();
    const Ran ran = run(words, options);
    EXPECT_EQ(ran.exit, exit) << words[0] << ": " << ran.out << ran.err;
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
    EXPECT_EQ(scratch.names(), before);
    return ran.err;
  }
  std::string at(const std::string& name) const { return (scratch / name).string(); }

  Scratch scratch;
  const std::string base = model("stories260K"), gguf = at("source.gguf"), rope = "linear,factor=2";
};

TEST_F(Output, NamesTellTheKind) {
  const std::string folder = "a folder is to be written, and this is a GGUF's name",
                    file = "a GGUF's name ends in .gguf";
  EXPECT_NE(refused(2, {"merge", base, "-o", at("x.gguf"), "--dtype", "f16"}).find(folder), std::string::npos);
  EXPECT_NE(refused(2, {"extend", base, "-o", at("x.gguf"), "--rope", rope}).find(folder), std::string::npos);
  EXPECT_NE(refused(2, {"convert", base, "-o", at("x.gguf"), "--type", "hf:f16"}).find(folder), std::string::npos);
  EXPECT_NE(refused(2, {"extend", gguf, "-o", at("xx"), "--rope", rope}).find(file), std::string::npos);
  EXPECT_NE(refused(2, {"extend", gguf, "-o", at("xx/"), "--rope", rope}).find(file), std::string::npos);
  EXPECT_NE(refused(2, {"convert", gguf, "-o", at("xx")}).find(file), std::string::npos);
}

// A lone NAME-00001-of-00005.gguf opens nowhere, and one of a set would spoil it.
TEST_F(Output, AShardIsNoOutput) {
  ASSERT_EQ(run({"convert", base, "-o", at("q.gguf"), "--type", "f16", "--split-max-tensors", "20"}).exit, 0);
  std::string shard;
  for (const std::string& name : scratch.names())
    if (name.starts_with("q-00001-of-")) shard = name;
  ASSERT_NE(shard, "");
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"convert", base, "--type", "f16", "--overwrite", "-o", at(shard)},
        {"extend", gguf, "--rope", rope, "--overwrite", "-o", at(shard)},
        {"convert", base, "--type", "f16", "-o", at("new-00001-of-00002.gguf")}}) {
    const std::string said = refused(2, words);
    EXPECT_NE(said.find("this is the name of one file of a split, which is written as a whole; give "),
              std::string::npos)
        << said;
  }
  EXPECT_EQ(run({"inspect", at(shard), "--quiet"}).exit, 0) << "the set is whole";
}

TEST_F(Output, TheWorkingDirectoryIsNotReplaced) {
  fs::create_directories(scratch / "here/inner");
  copy_of(base, scratch / "here/model");
  fs::copy_file(fs::path(base) / "config.json", scratch / "here/config.json");
  const RunOptions here{.folder = scratch / "here", .env = {}, .in = {}, .max_file_bytes = {}, .unprivileged = false};
  const RunOptions inner{
      .folder = scratch / "here/inner", .env = {}, .in = {}, .max_file_bytes = {}, .unprivileged = false};
  const std::string said = ": the target is or contains the working directory; write to another place";
  for (const std::vector<std::string>& words : {std::vector<std::string>{"merge", base, "--dtype", "f16"},
                                                {"extend", base, "--rope", rope},
                                                {"convert", base, "--type", "hf:f16"}})
    for (const auto& [target, options] :
         {std::pair{".", here}, {"./", here}, {"../here", here}, {"..", inner}, {"..", here}}) {
      std::vector<std::string> all = words;
      all.insert(all.end(), {"--overwrite", "-o", target});
      const std::string line = refused(5, all, options);
      EXPECT_NE(line.find(said), std::string::npos) << words[0] << " " << target << ": " << line;
    }
}

TEST_F(Output, WhatOverwriteDoesNotReplaceIsSaidBeforeThePlan) {
  fs::create_directories(scratch / "photos");
  spill(scratch / "photos/a.jpg", "mine");
  fs::create_directories(scratch / "is-a-folder.gguf");
  for (const std::vector<std::string>& words : {std::vector<std::string>{"merge", base, "--dtype", "f16"},
                                                {"extend", base, "--rope", rope},
                                                {"convert", base, "--type", "hf:f16"}}) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {"--overwrite", "-o", at("photos")});
    EXPECT_NE(refused(5, all).find("is not a model's folder"), std::string::npos);
  }
  EXPECT_NE(refused(5, {"extend", gguf, "--rope", rope, "--overwrite", "-o", at("is-a-folder.gguf")})
                .find("is a folder, a file is to be written"),
            std::string::npos);
}

// A shell whose folder was removed: whole paths serve all the same.
TEST_F(Output, ARemovedWorkingDirectory) {
  const fs::path before = fs::current_path();
  fs::create_directory(scratch / "gone");
  fs::current_path(scratch / "gone");
  fs::remove(scratch / "gone");
  const Ran whole = run({"merge", base, "-o", at("merged"), "--dtype", "f16"});
  const std::string said =
      "working directory has been removed; change to a folder that is there, or give the whole path";
  std::vector<std::string> lines;
  for (const std::vector<std::string>& words : {std::vector<std::string>{"merge", base, "--dtype", "f16", "-o", "x"},
                                                {"extend", base, "--rope", rope, "-o", "x"},
                                                {"convert", base, "--type", "f16", "-o", "x.gguf"}})
    lines.push_back(refused(5, words));
  const std::string report = refused(5, {"inspect", base, "--report", "a.json"});
  fs::current_path(before);
  EXPECT_EQ(whole.exit, 0) << whole.err;
  for (const std::string& line : lines) EXPECT_NE(line.find(said), std::string::npos) << line;
  EXPECT_NE(report.find("there is no such folder"), std::string::npos) << report;
}

// Written last, it would take config.json's place.
TEST_F(Output, AReportInTheFolderThatIsWritten) {
  ASSERT_EQ(run({"merge", base, "-o", at("merged"), "--dtype", "f16"}).exit, 0);
  const std::string before = slurp(scratch / "merged/config.json");
  spill(scratch / "merged/older.json", "{}");
  for (const std::vector<std::string>& words : {std::vector<std::string>{"merge", base, "--dtype", "f16"},
                                                {"extend", base, "--rope", rope},
                                                {"convert", base, "--type", "hf:f16"}})
    for (const char* name : {"merged/older.json", "merged/new.json"}) {
      std::vector<std::string> all = words;
      all.insert(all.end(), {"--overwrite", "-o", at("merged"), "--report", at(name)});
      EXPECT_EQ(refused(2, all), "error: " + at(name) +
                                     ": the report would lie in the folder that is to be written; give it a place "
                                     "outside\n");
    }
  EXPECT_EQ(slurp(scratch / "merged/config.json"), before);
  fs::remove(scratch / "merged/older.json");
  EXPECT_EQ(
      run({"merge", base, "--dtype", "f16", "-o", at("merged"), "--overwrite", "--report", at("merged.json")}).exit, 0)
      << "beside it";
}

TEST_F(Output, AReportInAFolderThatNeverWas) {
  EXPECT_EQ(refused(5, {"inspect", base, "--report", at("no/../a.json")}),
            "error: " + at("no/../a.json") +
                ": cannot write the report: there is no such folder; create it first, or check the path\n")
      << "before any work, though its words lead back";
  EXPECT_EQ(refused(5, {"inspect", base, "--report", at("no/a.json")}),
            "error: " + at("no/a.json") +
                ": cannot write the report: there is no such folder; create it first, or check the path\n");
}

TEST_F(Output, StandardOutputThatTakesNothing) {
  const fs::path err = scratch / "err";
  EXPECT_EQ(shell("--help > /dev/full", err), 5);
  EXPECT_EQ(slurp(err), "error: standard output could not be written; check where it is redirected to\n");
  EXPECT_EQ(shell("merge -h > /dev/full", err), 5);
  EXPECT_EQ(shell("--version >&-", err), 5);
  const auto said = [&](const std::string& line, const std::string& names) {
    EXPECT_EQ(shell(line, err), 5);
    EXPECT_NE(slurp(err).find("error: standard output could not be written, but what was to be written is complete "
                              "and in place: " +
                              names + "; check where it is redirected to\n"),
              std::string::npos)
        << slurp(err);
  };
  const auto quoted = [](const std::string& name) { return "'" + name + "'"; };
  said("convert " + quoted(base) + " --type f16,hf:f16 -o " + quoted(at("{type}.gguf")) + " > /dev/full",
       quoted(at("f16.gguf")) + ", " + quoted(at("hf-f16")));
  said("merge " + quoted(base) + " --dtype f16 -o " + quoted(at("merged")) + " >&-", quoted(at("merged")));
  said("extend " + quoted(base) + " --rope " + rope + " -o " + quoted(at("long")) + " >&-", quoted(at("long")));
  said("extend " + quoted(gguf) + " --rope " + rope + " -o " + quoted(at("long.gguf")) + " >&-",
       quoted(at("long.gguf")));
  EXPECT_EQ(shell("merge " + quoted(base) + " --dtype f16 --dry-run -o " + quoted(at("dry")) + " >&-", err), 5);
  EXPECT_EQ(slurp(err).find("complete"), std::string::npos) << slurp(err);
}

// Random weights say so wherever they go, once each.
TEST_F(Output, SyntheticWeightsSaySo) {
  const std::string source = "synthetic:" + base + "/config.json", words = "Random weights of this shape";
  const auto warned = [](const Ran& ran) {
    EXPECT_EQ(ran.exit, 0) << ran.err;
    std::size_t n = 0;
    for (const std::string& line : ran.err_lines()) n += line.starts_with("warning: synthetic: ");
    EXPECT_EQ(n, 1u) << ran.err;
    n = 0;
    for (const Json& warning : ran.json()["warnings"]) n += warning.get<std::string>().starts_with("synthetic: ");
    EXPECT_EQ(n, 1u) << ran.out;
  };
  warned(run({"convert", source, "-o", at("{type}.gguf"), "--type", "f16,hf:f16", "--json"}));
  warned(run({"merge", source, "-o", at("merged"), "--dtype", "f16", "--json"}));
  warned(run({"diff", source, source, "--json"}));
  EXPECT_NE(slurp(scratch / "merged/README.md").find(words), std::string::npos);
  EXPECT_NE(slurp(scratch / "hf-f16/README.md").find(words), std::string::npos);
  const formats::GgufFile file = formats::read_gguf(scratch / "f16.gguf");
  ASSERT_TRUE(file.find("general.description"));
  EXPECT_NE(slurp(scratch / "f16.gguf").find(words), std::string::npos);
  EXPECT_EQ(slurp(gguf).find(words), std::string::npos) << "control";
}

TEST(Help, OfACommand) {
  EXPECT_EQ(run({"help", "inspect"}).out, run({"inspect", "--help"}).out);
  EXPECT_EQ(run({"help"}).out, run({"--help"}).out);
  EXPECT_EQ(run({"help", "inspekt"}).err, "error: unknown command 'inspekt'; did you mean inspect?\n");
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--help"}, {"convert", "--help"}, {"verify", "--help"}, {"tokenize", "--help"}})
    EXPECT_NE(run(words).out.find("synthetic:CONFIG.json"), std::string::npos) << words[0];
  EXPECT_EQ(run({"support", "--help"}).out.find("synthetic:"), std::string::npos);
}

TEST(Words, SyntheticOfNothing) {
  EXPECT_EQ(run({"inspect", "synthetic:"}).err,
            "error: 'synthetic:' without a configuration; write synthetic:CONFIG.json\n");
}

TEST(Words, AFolderThatHoldsNoModelAndASecondRope) {
  Scratch scratch;
  EXPECT_EQ(run({"inspect", scratch.path().string()}).err,
            "error: " + scratch.path().string() +
                ": no config.json and no weights here, expected a model's folder; check the path\n");
  spill(scratch / "model.safetensors", "x");
  EXPECT_NE(run({"inspect", scratch.path().string()}).err.find("no config.json beside the weights"), std::string::npos);
  EXPECT_NE(run({"inspect", "m+rope=yarn,factor=2+rope=linear,factor=2"}).err.find(": two ropes, and a model has one;"),
            std::string::npos);
}

// What support says is read is what the readers say: kinds of adapters by their peft_type, methods of quantization in the
// refusal of another, kinds of vocabularies by docs/tokenizers.md.
TEST(Support, NamesWhatIsRead) {
  const Ran ran = run({"support", "--json"});
  ASSERT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.json()["adapters"],
            Json({"LoRA", "LoHa", "LoKr", "IA3", "VeRA", "AdaLoRA", "LN tuning", "OFT", "BOFT", "HRA"}));
  const std::string text = run({"support"}).out;
  for (const char* variant : {"rsLoRA", "DoRA", "PiSSA", "OLoRA", "target_parameters", "layer_replication"})
    EXPECT_NE(text.find(variant), std::string::npos) << variant;
  Scratch scratch;
  const fs::path folder = copy_of(model("stories260K"), scratch / "model");
  edit_json(folder / "config.json", [](Json& json) { json["quantization_config"] = {{"quant_method", "hqq"}}; });
  std::string methods;
  for (const Json& method : ran.json()["quantized"])
    methods += (methods.empty() ? "" : ", ") + method.get<std::string>();
  EXPECT_NE(run({"inspect", folder.string()}).err.find("which is not read; read are " + methods + ";"),
            std::string::npos);
  EXPECT_NE(text.find("quantized checkpoints: " + methods + "\n"), std::string::npos);
  const std::string page = slurp(fs::path(ROPEWALK_TEST_DATA_DIR) / "../../docs/tokenizers.md");
  const std::string tokenizers = ran.json()["tokenizers"].dump();
  for (const char* kind : {"llama", "gpt2", "gemma4", "plamo2", "t5"}) {
    EXPECT_NE(tokenizers.find(kind), std::string::npos) << kind;
    EXPECT_NE(page.find("`" + std::string(kind) + "`"), std::string::npos) << kind;
  }
  for (const Json& row : ran.json()["architectures"]) EXPECT_EQ(row["merge"], true) << row;
}

}  // namespace
}  // namespace ropewalk::tools::test
