// What a person reads: options that are refused with the spelling that works, warnings that matter, sides named as they
// were given, tables of every kind.
#include "tests/tools/command.h"
#include "tools/command_line.h"
#include "tools/render.h"

namespace ropewalk::tools::test {
namespace {

/// The one line of a refusal.
std::string refusal(const std::vector<std::string>& words, int exit = 2) {
  const Ran ran = run(words);
  EXPECT_EQ(ran.exit, exit) << words[0] << ": " << ran.out << ran.err;
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
  return ran.err;
}

TEST(Refused, AnAdapterShowsThePlusForm) {
  EXPECT_EQ(refusal({"diff", "x", "y", "-a", "lora:0.5"}),
            "error: -a belongs to commands with one SOURCE; write it to the one it is for: SOURCE+lora:0.5\n");
  EXPECT_EQ(refusal({"tokenize", "x", "-p", "y", "--lora", "z"}),
            "error: -a belongs to commands with one SOURCE; write it to the one it is for: SOURCE+z\n");
  EXPECT_EQ(
      refusal({"diff", "x", "y", "--rope", "yarn,factor=8"}),
      "error: --rope belongs to commands with one SOURCE; write it to the one it is for: SOURCE+rope=yarn,factor=8\n");
  EXPECT_NE(refusal({"perplexity", "x", "y", "-a", "z"}).find("SOURCE+ADAPTER"), std::string::npos);
  EXPECT_NE(refusal({"extend", "x", "-o", "y", "-a", "z"}).find("ropewalk merge SOURCE+z+rope=SPEC -o DIR"),
            std::string::npos);
  EXPECT_NE(refusal({"verify", "x", "-a", "z"}).find("CANDIDATE+ADAPTER"), std::string::npos);
  EXPECT_EQ(run({"diff", "-h"}).out.find("--adapter"), std::string::npos) << "and no help lists it";
}

TEST(Refused, OptionsThatWouldDoNothing) {
  const std::string base = model("stories260K"),
                    out = (std::filesystem::path(testing::TempDir()) / "does-nothing").string();
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"extend", base, "-o", out, "--rope", "yarn,factor=2", "-c", "64k"}, "yarn,to=65536"},
      {{"extend", base, "-o", out, "--plan", "-c", "1k"}, "--plan writes nothing"},
      {{"verify", base, "--against", base, "--level", "structure", "--max", "kl_mean=0"}, "--level is structure"},
      {{"verify", base, "--against", base, "--level", "weights", "--min", "top1=99%"}, "--level is weights"}};
  for (const auto& [words, said] : cases) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 2) << ran.err;
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
    EXPECT_NE(ran.err.find(said), std::string::npos) << ran.err;
  }
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(Refused, UnknownOptionsGetAHelpfulNextStep) {
  EXPECT_EQ(refusal({"support", "-x"}), "error: unknown option '-x'; see ropewalk support -h\n");
  EXPECT_EQ(refusal({"inspect", "y", "-T", "2"}), "error: unknown option '-T'; did you mean -t?\n");
  EXPECT_EQ(refusal({"inspect", "y", "--tensor"}), "error: unknown option '--tensor'; did you mean --tensors?\n");
  EXPECT_EQ(refusal({"support", "-json"}), "error: unknown option '-json'; did you mean --json?\n");
}

TEST(Refused, FlagsWithValuesAndOptionsWithoutOrTwice) {
  EXPECT_EQ(refusal({"support", "--json=1"}), "error: --json takes no value, and has '1'; write --json\n");
  EXPECT_EQ(refusal({"support", "--json=true"}), "error: --json takes no value, and has 'true'; write --json\n");
  EXPECT_EQ(refusal({"verify", "x", "--keep-going=no", "--against", "y"}),
            "error: --keep-going takes no value, and has 'no'; write --keep-going\n");
  EXPECT_EQ(refusal({"verify", "x", "--against"}), "error: --against has no value; write --against SOURCE\n");
  EXPECT_EQ(refusal({"verify", "x", "--against", "y", "--against", "z"}),
            "error: --against is given more than once; give it once\n");
  EXPECT_EQ(refusal({"diff", "x"}), "error: B is missing; usage: ropewalk diff [options] A B\n");
  // A value may look like a flag.
  EXPECT_NE(run({"tokenize", model("stories260K"), "-p", "--json=1", "--count"}).out, "");
}

TEST(Generate, PastTheContextWarns) {
  const std::vector<std::string> words = {"generate",         model("stories260K"), "-p",
                                          "Once upon a time", "--ignore-eos",       "-n"};
  const auto with = [&](const std::string& n, const std::string& more) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {n, more});
    return run(all);
  };
  const Json quiet = with("4", "--json").json();
  EXPECT_EQ(quiet["warnings"], Json::array());
  const int prompt = static_cast<int>(quiet["prompt_ids"].size());
  const std::string last = std::to_string(512 - prompt), past = std::to_string(513 - prompt);
  EXPECT_EQ(with(last, "--json").json()["warnings"], Json::array()) << "the last position is the model's own";
  const Ran ran = with(past, "--json");
  EXPECT_EQ(ran.exit, 0) << ran.err;
  ASSERT_EQ(ran.json()["warnings"].size(), 1u);
  EXPECT_NE(ran.json()["warnings"][0].get<std::string>().find("go past the model's context of 512"), std::string::npos);
  EXPECT_NE(ran.err.find("warning: a prompt of " + std::to_string(prompt) + " tokens and up to " + past + " more"),
            std::string::npos)
      << ran.err;
}

TEST(Diff, NamesAAndB) {
  Scratch scratch;
  const fs::path other = copy_of(model("stories260K"), scratch / "other");
  edit_json(other / "config.json",
            [](Json& json) { json["rms_norm_eps"] = 1e-3, json["max_position_embeddings"] = 1024; });
  const std::string text = run({"diff", model("stories260K"), other.string()}).out;
  EXPECT_EQ(text.find("source"), std::string::npos) << text;
  EXPECT_EQ(text.find("candidate"), std::string::npos) << text;
  EXPECT_NE(text.find("\ngeometry        B has rms_eps 0.001 for 1e-05\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\ncontext         B serves 1024 tokens, A 512\n"), std::string::npos) << text;
  // Which context is longer does not depend on the order.
  edit_json(other / "config.json", [](Json& json) { json["rms_norm_eps"] = 1e-5; });
  EXPECT_EQ(run({"diff", model("stories260K"), other.string(), "--exit-code"}).exit, 1);
  EXPECT_EQ(run({"diff", other.string(), model("stories260K"), "--exit-code"}).exit, 1);
  const std::string apart = run({"diff", model("tolstoy-4m"), model("stories260K")}).out;
  EXPECT_NE(apart.find("\n  'lm_head.weight' is [512, 64] in B, [2048, 256] in A\n"), std::string::npos) << apart;
  EXPECT_NE(apart.find("\n  and 38 more (--all)\n"), std::string::npos) << apart;
  EXPECT_NE(apart.find("\nweights: none to compare\n"), std::string::npos) << apart;
}

TEST(Inspect, ATokenizerComesFromSomewhereOnlyWhereThereIsAChoice) {
  EXPECT_EQ(run({"inspect", model("tolstoy-4m")}).out.find("from base"), std::string::npos);
  EXPECT_NE(run({"inspect", model("tolstoy-4m-yarn-2k") + "+" + adapter()}).out.find(", from base"), std::string::npos);
}

TEST(Perplexity, TheDocumentThatIsTooShortIsNamed) {
  Scratch scratch;
  spill(scratch / "short.txt", "hello");
  spill(scratch / "long.txt", slurp(fixture("goldens/perplexity/doc-1.txt")));
  const std::string brief = (scratch / "short.txt").string(), lengthy = (scratch / "long.txt").string();
  EXPECT_NE(refusal({"perplexity", model("tolstoy-4m"), "-c", "128", "-f", brief}, 3)
                .find("error: " + brief + ": the text has 3 tokens, a context of 128 needs 127; "),
            std::string::npos);
  EXPECT_NE(refusal({"perplexity", model("tolstoy-4m"), "-c", "128", "-f", lengthy, "-f", brief}, 3)
                .find("error: " + brief + ": the text has 3 tokens, "),
            std::string::npos);
}

// A .csv that was asked for holds something, or is refused before the work.
TEST(Csv, EveryCommandHasATableOrRefuses) {
  Scratch scratch;
  const std::string base = model("stories260K");
  int n = 0;
  const auto csv = [&](std::vector<std::string> words) {
    const fs::path file = scratch / (std::to_string(++n) + ".csv");
    words.insert(words.end(), {"--quiet", "--report", file.string()});
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << words[0] << ": " << ran.err;
    return slurp(file);
  };
  EXPECT_TRUE(csv({"inspect", base}).starts_with("field,value\r\nkind,\"Hugging Face folder, read as by "));
  EXPECT_TRUE(csv({"inspect", base, "--tensors"}).starts_with("tensor,shape,dtype,bytes\r\n"));
  EXPECT_NE(csv({"inspect", base, "--tensors"}).find("\r\nmodel.embed_tokens.weight,\"[512, 64]\",f32,131072\r\n"),
            std::string::npos);
  EXPECT_TRUE(csv({"inspect", adapter()}).starts_with("field,value\r\nkind,adapter (LoRA)\r\n"));
  EXPECT_EQ(csv({"diff", base, base}), "tensor,type,largest difference,mean,mean / rms\r\n")
      << "nothing differs: no rows";
  EXPECT_TRUE(csv({"tokenize", base, "-p", "a, \"b\""}).starts_with("source,token,id,piece\r\n"));
  EXPECT_TRUE(csv({"support"}).starts_with("source,architecture,"));
  EXPECT_TRUE(csv({"extend", base, "--plan", "-c", "1k"}).starts_with("method,"));
  const std::string report = (scratch / "no.csv").string();
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"extend", base, "-o", (scratch / "out").string(), "--rope", "yarn,factor=2"},
           {"logits", base, "-o", (scratch / "l.safetensors").string()},
           {"generate", base, "-p", "x"},
           {"tokenize", base, "-p", "x", "--count"},
           {"diff", base, base, "--structure"}}) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {"--report", report});
    EXPECT_NE(refusal(all).find("no.csv': this command's result is no table; use .json, .md, .html or .xml"),
              std::string::npos)
        << words[0];
  }
  EXPECT_FALSE(fs::exists(report));
  EXPECT_FALSE(fs::exists(scratch / "out"));
}

TEST(Csv, CellsWithCommasQuotesAndLineEndsAreQuoted) {
  Output output;
  output.table({{{"tensor"}, {"n", true}}, {{"a,b", "1"}, {"c\"d", "2"}, {"e\nf", "3"}}});
  EXPECT_EQ(render_csv(output), "tensor,n\r\n\"a,b\",1\r\n\"c\"\"d\",2\r\n\"e\nf\",3\r\n");
}

TEST(Completion, NamesWithSpacesStayWhole) {
  Scratch scratch;
  fs::create_directory(scratch / "my model");
  spill(scratch / "my other.gguf", "");
  spill(scratch / "complete.sh",
        run({"completion", "bash"}).out +
            "COMP_WORDS=(ropewalk inspect my) COMP_CWORD=2\n_ropewalk\nprintf '%s|' \"${COMPREPLY[@]}\"\n"
            "COMP_WORDS=(ropewalk diff --str) COMP_CWORD=2\n_ropewalk\nprintf '%s|' \"${COMPREPLY[@]}\"\n"
            "COMP_WORDS=(ropewalk per) COMP_CWORD=1\n_ropewalk\nprintf '%s|' \"${COMPREPLY[@]}\"\n");
  ASSERT_EQ(std::system(("cd '" + scratch.path().string() + "' && bash complete.sh > out.txt 2> err.txt").c_str()), 0)
      << slurp(scratch / "err.txt");
  const std::string out = slurp(scratch / "out.txt");
  EXPECT_TRUE(out == "my model|my other.gguf|--structure|perplexity|" ||
              out == "my other.gguf|my model|--structure|perplexity|")
      << out;
}

TEST(Help, DefaultsAreWhatHappens) {
  for (const char* command : {"generate", "tokenize"})
    EXPECT_EQ(run({command, "--help"}).out.find("bundled"), std::string::npos) << command << " has no default text";
  for (const char* command : {"verify", "perplexity", "logits"})
    EXPECT_NE(run({command, "--help"}).out.find("bundled"), std::string::npos) << command;
}

TEST(Plural, OneOfAThing) {
  Scratch scratch;
  EXPECT_NE(run({"logits", model("stories260K"), "-p", "x"}).exit, 0);
  spill(scratch / "ids.json", "[1, 5]");
  EXPECT_NE(run({"logits", model("stories260K"), "--tokens", (scratch / "ids.json").string(), "--last", "1", "-o",
                 (scratch / "l.safetensors").string(), "-q"})
                .out.find("logits of 1 position, mean NLL "),
            std::string::npos);
  EXPECT_NE(run({"verify", model("stories260K"), "--against", model("stories260K"), "-c", "64", "--windows", "1", "-q"})
                .out.find("1 window of 64 tokens"),
            std::string::npos);
}

}  // namespace
}  // namespace ropewalk::tools::test
