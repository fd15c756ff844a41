// Commands wrongly called: one line with a next step and the exit code of docs/design.md (section 7), as JSON too;
// help; too little text.
#include <sstream>

#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

class Usage : public testing::Test {
 protected:
  void refused(const std::vector<std::string>& words, const std::string& text) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 2) << ran.err;
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
    EXPECT_NE(ran.err.find(text), std::string::npos) << ran.err;
  }
};

TEST_F(Usage, OneLineAndANextStep) {
  const std::string source = model("stories260K");
  refused({}, "no command given");
  refused({"inspekt"}, "unknown command 'inspekt'; did you mean inspect?");
  refused({"inspect"}, "SOURCE is missing; usage: ropewalk inspect [options] SOURCE");
  refused({"inspect", source, "--tensor"}, "unknown option '--tensor'; did you mean --tensors?");
  refused({"inspect", source, "more"}, "unexpected argument 'more'");
  refused({"convert", source, "-o", "x.gguf", "--type", "q8_1_0"}, "unknown --type 'q8_1_0'; did you mean q8_0?");
  refused({"convert", source, "-o", "x.gguf", "--type", "f16,q8_0"}, "two outputs would have this name");
  refused({"convert", source, "-o", "x.bin", "--type", "f16"}, "ends in .gguf");
  refused({"convert", source, "--type", "f16"}, "no output given");
  refused({"extend", source, "-o", "x"}, "no rope given");
  refused({"extend", source, "-o", "x", "--rope", "yran,factor=2"}, "yran");
  refused({"merge", source, "-o", "x"}, "no adapter to merge");
  refused({"verify", source}, "nothing to verify against");
  refused({"verify", source, "--against", source, "--max", "kl_mean"}, "kl_mean");
  refused({"verify", source, "--against", source, "-c", "1"}, "at least 2");
  refused({"verify", source, "--against", source, "--level", "deep"}, "--level is 'deep'");
  refused({"verify", source, "--against", source, "--level", "structure", "--device", "nonsense"},
          "--device is 'nonsense'");
  refused({"verify", source, "--against", source, "--level", "weights", "--precision", "f64"}, "--precision is 'f64'");
  refused({"perplexity", source, "-c", "many"}, "--context has 'many'");
  refused({"perplexity", source, "--protocol", "tokns"}, "did you mean tokens?");
  refused({"perplexity", source, source, "--rope", "yarn,factor=2"}, "belong to one SOURCE");
  refused({"inspect", source, "-t", "0"}, "--threads is '0'");
  refused({"inspect", source, "--report", "out.pdf"}, "use .json, .md, .html, .csv or .xml");
}

TEST_F(Usage, FailuresAsJson) {
  const Ran ran = run({"inspect", "/nothing/here", "--json"});
  EXPECT_EQ(ran.exit, 3);
  const Json error = ran.json()["error"];
  EXPECT_EQ(error["kind"], "bad_input");
  EXPECT_EQ(error["exit"], 3);
  EXPECT_EQ(error["path"], "/nothing/here");
  EXPECT_TRUE(error["offset"].is_null());
  EXPECT_TRUE(error["message"].is_string());
  EXPECT_TRUE(error["fix"].is_string());
  EXPECT_EQ(run({"inspekt", "--json"}).json()["error"]["kind"], "usage");
}

// What an editor needs to go there: a line and column, and which value of a JSON file.
TEST_F(Usage, FailuresAsJsonSayWhere) {
  Scratch scratch;
  const fs::path folder = copy_of(model("stories260K"), scratch / "model");
  const std::string config = slurp(folder / "config.json");
  const auto error = [&](const std::vector<std::string>& words) {
    std::vector<std::string> all = words;
    all.push_back("--json");
    const Json found = run(all).json();
    return found["error"];
  };
  edit_json(folder / "config.json", [](Json& json) { json["num_hidden_layers"] = nullptr; });
  Json found = error({"inspect", folder.string()});
  EXPECT_EQ(found["path"], (folder / "config.json").string());
  EXPECT_EQ(found["pointer"], "/num_hidden_layers");
  EXPECT_TRUE(found["line"].is_number_integer() && found["column"].is_number_integer()) << found;
  EXPECT_EQ(found["message"], "'num_hidden_layers' is null, expected an integer");
  spill(folder / "config.json", "{\n  \"hidden_size\": 64,,\n}");
  found = error({"inspect", folder.string()});
  EXPECT_EQ(found["line"], 2);
  EXPECT_EQ(found["column"], 21);
  EXPECT_TRUE(found["pointer"].is_null());
  spill(folder / "config.json", config);
  edit_json(folder / "config.json", [](Json& json) {
    json["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", "8"}};
  });
  EXPECT_EQ(error({"inspect", folder.string()})["pointer"], "/rope_scaling/factor");
  spill(folder / "config.json", config);
  edit_json(folder / "config.json", [](Json& json) { json["bos_token_id"] = -1; });
  found = error({"convert", folder.string(), "-o", (scratch / "o.gguf").string(), "--type", "f16"});
  EXPECT_EQ(found["path"], (folder / "config.json").string());
  EXPECT_EQ(found["pointer"], "/bos_token_id");
  EXPECT_EQ(found["message"], "'bos_token_id' is -1, expected 0 or more");
  spill(folder / "config.json", config);
  const std::string tokenizer = slurp(folder / "tokenizer.json");
  edit_json(folder / "tokenizer.json", [](Json& json) { json["added_tokens"][0]["id"] = -1; });
  found = error({"convert", folder.string(), "-o", (scratch / "o.gguf").string(), "--type", "f16"});
  EXPECT_EQ(found["path"], (folder / "tokenizer.json").string()) << found;
  EXPECT_EQ(found["pointer"], "/added_tokens/0/id");
  EXPECT_TRUE(found["line"].is_number_integer() && found["column"].is_number_integer()) << found;
  spill(folder / "tokenizer.json", tokenizer);
  EXPECT_TRUE(error({"inspect", "/nothing"})["line"].is_null());
}

TEST_F(Usage, HelpAndVersion) {
  EXPECT_EQ(run({"--version"}).out.substr(0, 9), "ropewalk ");
  EXPECT_EQ(run({"--help"}).exit, 0);
  for (const char* command : {"inspect", "rope", "extend", "merge", "convert", "quantize", "verify", "diff",
                              "perplexity", "imatrix", "logits", "tokenize", "generate", "support"}) {
    const Ran brief = run({command, "-h"}), whole = run({command, "--help"});
    EXPECT_EQ(brief.exit, 0);
    EXPECT_EQ(whole.exit, 0);
    EXPECT_EQ(brief.err + whole.err, "");
    EXPECT_LE(std::count(brief.out.begin(), brief.out.end(), '\n'), 40) << command << ": -h fits a screen";
    std::istringstream lines(brief.out);
    for (std::string line; std::getline(lines, line);)
      EXPECT_EQ(std::count(line.begin(), line.end(), '('), std::count(line.begin(), line.end(), ')')) << line;
    EXPECT_NE(whole.out.find("Examples:"), std::string::npos) << command;
    EXPECT_NE(run({"--help"}).out.find(std::string("  ") + command), std::string::npos);
  }
  for (const char* shell : {"bash", "zsh", "fish"})
    EXPECT_NE(run({"completion", shell}).out.find("perplexity"), std::string::npos);
}

TEST_F(Usage, TooLittleText) {
  Scratch scratch;
  spill(scratch / "short.txt", "Once upon a time there was a king.");
  const std::string source = model("stories260K");
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"perplexity", source, "-f", (scratch / "short.txt").string(), "-c", "512"},
           {"verify", source, "--against", source, "-f", (scratch / "short.txt").string(), "-c", "512"},
           {"verify", source, "--against", source, "-f", (scratch / "short.txt").string(), "-c", "2147483647"},
           {"logits", source, "-f", (scratch / "short.txt").string(), "-c", "512", "-o",
            (scratch / "x.safetensors").string()}}) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 3) << ran.err;
    EXPECT_NE(ran.err.find("tokens"), std::string::npos) << ran.err;
    EXPECT_EQ(scratch.names(), std::vector<std::string>{"short.txt"});
  }
}

}  // namespace
}  // namespace ropewalk::tools::test
