// What is written never replaces what is read, nor another thing that is written: one rule for all commands.
#include "tools/named_files.h"

#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

class NamedFiles : public testing::Test {
 protected:
  NamedFiles() {
    copy_of(model("stories260K"), scratch / "model");
    copy_of(model("tolstoy-4m"), scratch / "tolstoy");
    copy_of(adapter(), scratch / "lora");
    fs::create_directory(scratch / "sub");
    for (const char* name : {"text.json", "ids.json", "rows.json", "r.json", "plan.json"})
      spill(scratch / name, "[1, 2]");
  }
  Ran go(const std::vector<std::string>& words) const {
    RunOptions options;
    options.folder = scratch.path();
    return run(words, options);
  }
  /// It is refused, in one line, before anything is touched.
  std::string refused(const std::vector<std::string>& words, int exit = 5) const {
    const auto before = contents();
    const Ran ran = go(words);
    std::string all;
    for (const std::string& word : words) all += word + " ";
    EXPECT_EQ(ran.exit, exit) << all << ran.err;
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
    EXPECT_TRUE(contents() == before) << all;
    return ran.err;
  }
  std::map<std::string, std::string> contents() const {
    std::map<std::string, std::string> all;
    for (const std::string& name : scratch.names())
      if (fs::is_regular_file(scratch / name)) all[name] = slurp(scratch / name);
    return all;
  }
  const Scratch scratch;
};

TEST_F(NamedFiles, AnAdaptersWeightsAndAModelsConfigurationStay) {
  const std::string weights = "lora/adapter_model.safetensors";
  spill(scratch / "text.txt", "a text of some words");
  EXPECT_NE(refused({"logits", "tolstoy+lora", "-f", "text.txt", "-o", weights, "--overwrite"}).find(weights),
            std::string::npos);
  // that its first line speaks of ropewalk makes a configuration no report
  std::string config = slurp(scratch / "tolstoy/config.json");
  config.insert(config.find('{') + 1, "\n  \"_name_or_path\": \"/home/me/ropewalk/tolstoy\",");
  spill(scratch / "tolstoy/config.json", config);
  EXPECT_NE(refused({"convert", "tolstoy", "-o", "x.gguf", "--type", "auto", "--bpw", "6", "--save-plan",
                     "tolstoy/config.json", "--overwrite"})
                .find("config.json"),
            std::string::npos);
}

TEST_F(NamedFiles, NoReportReplacesAnInputOfAnyCommand) {
  const std::vector<std::vector<std::string>> commands = {
      {"perplexity", "tolstoy", "-c", "64", "-f", "r.json"},
      {"perplexity", "tolstoy", "-c", "64", "--tokens", "r.json"},
      {"perplexity", "tolstoy", "-c", "64", "--compare", "r.json"},
      {"perplexity", "tolstoy", "-c", "64", "-fr.json"},
      {"verify", "tolstoy", "--against", "tolstoy", "--baseline", "r.json"},
      {"verify", "tolstoy", "--reference", "r.json"},
      {"verify", "r.json", "--against", "tolstoy"},
      {"passkey", "tolstoy", "--haystack", "text", "-f", "r.json"},
      {"eval", "tolstoy", "r.json"},
      {"eval", "tolstoy", "rows.json", "--examples=r.json"},
      {"run", "r.json"},
      {"tokenize", "tolstoy", "-f", "r.json"},
      {"generate", "tolstoy", "-f", "r.json"},
      {"logits", "tolstoy", "-f", "r.json", "-o", "l.safetensors"},
      {"imatrix", "tolstoy", "-f", "r.json"},
      {"imatrix", "--in-file", "plan.json,r.json"},
      {"convert", "tolstoy", "-o", "x.gguf", "--metadata", "r.json"},
      {"convert", "tolstoy", "-o", "x.gguf", "--type", "auto", "--plan", "r.json"},
      {"quantize", "--imatrix", "r.json", "a.gguf", "b.gguf", "Q4_0"},
      {"quantize", "--tensor-type-file", "r.json", "a.gguf", "b.gguf", "Q4_0"},
      {"quantize", "r.json", "b.gguf", "Q4_0"},
      {"inspect", "synthetic:r.json"},
      {"lint", "r.json"},
      {"rope", "r.json"},
      {"diff", "tolstoy", "r.json"},
      {"merge", "tolstoy", "-a", "r.json:0.5", "-o", "merged"},
      {"merge", "tolstoy+r.json", "-o", "merged"},
      {"merge", "tolstoy", "--tokenizer", "r.json", "-o", "merged"},
      {"adapter", "rerank", "r.json", "-o", "less", "--rank", "2"},
      {"adapter", "extract", "tolstoy", "r.json", "-o", "less", "--rank", "2"},
      {"adapter", "convert", "r.json", "-o", "l.gguf"},
      {"extend", "r.json", "-o", "long", "--rope", "yarn,factor=2"},
  };
  for (const auto& command : commands) {
    std::vector<std::string> words = command;
    words.insert(words.end(), {"--report", "sub/../r.json", "--overwrite"});
    const std::string line = refused(words);
    EXPECT_NE(line.find("sub/../r.json: --report would replace 'r.json', which is read as "), std::string::npos)
        << command[0] << ": " << line;
  }
  EXPECT_EQ(refused({"verify", "tolstoy", "--against", "tolstoy", "--baseline", "r.json", "--report", "r.json",
                     "--overwrite"}),
            "error: r.json: --report would replace 'r.json', which is read as --baseline; write it elsewhere\n");
}

TEST_F(NamedFiles, WhateverTheNameAndWhateverIsWritten) {
  fs::create_symlink("text.json", scratch / "link.json");
  fs::create_hard_link(scratch / "text.json", scratch / "hard.json");
  for (const std::string name : {"link.json", "hard.json", "./text.json", "sub/../text.json"})
    EXPECT_NE(refused({"tokenize", "tolstoy", "-f", "text.json", "--report", name, "--overwrite"})
                  .find("would replace 'text.json'"),
              std::string::npos);
  spill(scratch / "t.svg", "text"), spill(scratch / "m.gguf", "x"), spill(scratch / "x.safetensors", "x");
  const std::vector<std::string> text = {"-f", "text.json", "--overwrite"};
  const auto with_text = [&](std::vector<std::string> words) {
    words.insert(words.end(), text.begin(), text.end());
    return refused(words);
  };
  EXPECT_NE(
      with_text({"perplexity", "tolstoy", "--checkpoint", "text.json"}).find("text.json: --checkpoint would replace"),
      std::string::npos);
  EXPECT_NE(with_text({"verify", "--against", "tolstoy", "--save-reference", "text.json"}).find("--save-reference"),
            std::string::npos);
  EXPECT_NE(refused({"passkey", "tolstoy", "--haystack", "text", "-f", "t.svg", "--svg", "t.svg", "--overwrite"})
                .find("t.svg: --svg would replace"),
            std::string::npos);
  EXPECT_NE(refused({"imatrix", "tolstoy", "--in-file", "m.gguf", "-o", "m.gguf", "--overwrite"})
                .find("m.gguf: --output would replace"),
            std::string::npos);
  fs::copy_file(scratch / "m.gguf", scratch / "imatrix.gguf");
  EXPECT_NE(
      refused({"imatrix", "--in-file", "imatrix.gguf", "--overwrite"}).find("imatrix.gguf: the output would replace"),
      std::string::npos)
      << "by its default name";
  EXPECT_NE(
      refused({"quantize", "--imatrix", "m.gguf", "in.gguf", "m.gguf", "Q4_0"}).find("m.gguf: --output would replace"),
      std::string::npos);
  EXPECT_NE(refused({"quantize", "--bpw", "4", "--plan", "plan.json", "--save-plan", "plan.json", "in.gguf", "out.gguf",
                     "AUTO"})
                .find("plan.json: --save-plan would replace"),
            std::string::npos);
  EXPECT_NE(refused({"logits", "x.safetensors", "-o", "x.safetensors", "--overwrite"}).find("read as SOURCE"),
            std::string::npos);
  EXPECT_NE(
      refused({"merge", "tolstoy", "-o", "tolstoy", "--overwrite"}).find("tolstoy: --output would replace 'tolstoy'"),
      std::string::npos);
  // the files of a folder that is read, under any name
  fs::create_hard_link(scratch / "tolstoy/tokenizer.json", scratch / "other.json");
  EXPECT_NE(refused({"inspect", "tolstoy", "--report", "other.json", "--overwrite"})
                .find("would replace a file in 'tolstoy'"),
            std::string::npos);
}

TEST_F(NamedFiles, TwoOutputsOfOnePath) {
  const std::vector<std::string> base = {"perplexity", "tolstoy", "-c", "64", "--windows", "1"};
  const auto both = [&](std::vector<std::string> words, const std::string& said) {
    EXPECT_NE(refused(words, 2).find(said + " are one file; give each a name of its own"), std::string::npos);
  };
  both({"perplexity", "tolstoy", "-c", "64", "--report", "a.json", "--report", "sub/../a.json"},
       "--report 'a.json' and --report 'sub/../a.json'");
  both({"perplexity", "tolstoy", "-c", "64", "--checkpoint", "a.json", "--report", "a.json"},
       "--checkpoint 'a.json' and --report 'a.json'");
  both({"verify", "--against", "tolstoy", "--save-reference", "a.json", "--report", "./a.json"},
       "--save-reference 'a.json' and --report './a.json'");
  both({"passkey", "tolstoy", "--svg", "a.svg", "--report", "a.svg"}, "--svg 'a.svg' and --report 'a.svg'");
  both({"rope", "tolstoy", "--svg", "a.svg", "--report", "a.svg"}, "--svg 'a.svg' and --report 'a.svg'");
  both({"quantize", "--bpw", "4", "--save-plan", "a.json", "--report", "a.json", "in.gguf", "out.gguf", "AUTO"},
       "--save-plan 'a.json' and --report 'a.json'");
}

// The control: what replaces nothing that is read goes on, beside a GGUF in the working directory too.
TEST_F(NamedFiles, EarlierReportsAreReplaced) {
  ASSERT_EQ(go({"convert", "tolstoy", "-o", "t.gguf", "--type", "f16"}).exit, 0);
  for (const std::string source : {"t.gguf", "tolstoy", "tolstoy/config.json"})
    for (int again = 0; again < 2; ++again) {
      const Ran ran = go({"rope", source, "--report", "new.json", "--report", "new.md", "--overwrite"});
      EXPECT_EQ(ran.exit, 0) << source << ran.err;
    }
  for (int again = 0; again < 2; ++again)
    EXPECT_EQ(go({"tokenize", "t.gguf", "-f", "text.json", "--report", "tokens.json", "--overwrite"}).exit, 0);
  RunOptions inside;
  inside.folder = scratch / "tolstoy";
  for (int again = 0; again < 2; ++again) {  // as in a repository of a model
    const Ran ran = run({"lint", ".", "--report", "lint.sarif", "--report", "lint.json", "--overwrite"}, inside);
    EXPECT_LE(ran.exit, 1) << ran.err;
    EXPECT_EQ(Json::parse(slurp(scratch / "tolstoy/lint.json"))["command"], "lint");
  }
  EXPECT_EQ(run({"lint", ".", "--report", "config.json", "--overwrite"}, inside).exit, 5) << "but no file of the model";
}

// A word that happens to be a file's name is none where the option takes a value.
TEST_F(NamedFiles, ValuesAreNoPaths) {
  fs::create_directory(scratch / "f16");
  ASSERT_EQ(go({"merge", "tolstoy", "--dtype", "f16", "-o", "f16", "--overwrite"}).exit, 0);
  EXPECT_EQ(go({"merge", "tolstoy", "--dtype", "f16", "-o", "f16", "--overwrite"}).exit, 0);
}

}  // namespace
}  // namespace ropewalk::tools::test
