// Every command in docs/goals, run in the order of its page on small models: 64k is 2k there, YaRN 16 of 4096 is 8 of 256, and
// limits are what so small a model reaches. A line ends in "# exit N" where that is not 0.
#include <cctype>
#include <regex>

#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

const fs::path kDocs = fs::path(ROPEWALK_TEST_DATA_DIR) / "../../docs";

struct Line {
  std::vector<std::string> words;
  int exit = 0;
  std::string text;
};

/// As a shell splits them, where only single quotes are used.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  bool quoted = false;
  for (const char c : text) {
    if (c == '\'') quoted = !quoted;
    else if (c == ' ' && !quoted) {
      if (!word.empty()) words.push_back(word);
      word.clear();
    } else {
      word += c;
    }
  }
  if (!word.empty()) words.push_back(word);
  return words;
}

/// Indented lines and those of a workflow that begin with ropewalk.
std::vector<Line> commands_of(const std::string& page) {
  static const std::regex kCommand(R"(^(?:    |  +- |  +run: |  +- run: )ropewalk (.*?)(?:  # exit ([0-9]+))?$)");
  std::vector<Line> lines;
  std::istringstream in(page);
  for (std::string text; std::getline(in, text);) {
    std::smatch match;
    if (!std::regex_match(text, match, kCommand)) continue;
    std::string small = match[1];
    for (const auto& [from, to] :
         std::vector<std::pair<std::string, std::string>>{{"64k", "2k"},
                                                          {"4k", "256"},
                                                          {"1k", "128"},
                                                          {"factor=16,original=4096", "factor=8,original=256"},
                                                          // what four million parameters reach
                                                          {"ppl@256=4.6", "ppl@256=100"},
                                                          {"short_context_tax=5%", "short_context_tax=20%"},
                                                          {"accuracy=0.9", "accuracy=0"},
                                                          {"acc@arc=58%", "acc@arc=50%"}})
      for (std::size_t at = 0; (at = small.find(from, at)) != std::string::npos; at += to.size())
        if (at == 0 || !std::isalnum(static_cast<unsigned char>(small[at - 1]))) small.replace(at, from.size(), to);
    lines.push_back({words_of(small), match[2].matched ? std::stoi(match[2]) : 0, small});
  }
  return lines;
}

class Goals : public testing::Test {
 protected:
  Goals() {
    copy_of(model("tolstoy-4m-yarn-2k"), scratch / "model");
    copy_of(model("tolstoy-4m"), scratch / "base");
    copy_of(adapter(), scratch / "adapter");
    const Json rows = Json::parse(slurp(fs::path(ROPEWALK_TEST_DATA_DIR) / "eval_rows.json"))["arc"];
    for (const char* split : {"test", "train"}) {
      std::string lines;
      for (const Json& row : rows[split]) lines += row.dump() + "\n";
      spill(scratch / ("arc-" + std::string(split) + ".jsonl"), lines);
    }
    spill(scratch / "calibration.txt", slurp(fixture("goldens/perplexity/doc-1.txt")));
    here.folder = scratch.path();
  }
  void page(const std::string& name, std::size_t at_least) {
    const auto lines = commands_of(slurp(kDocs / "goals" / name));
    EXPECT_GE(lines.size(), at_least) << name;
    for (const Line& line : lines) {
      std::vector<std::string> words = line.words;
      for (const char* report : {"junit.xml", "summary.md", "verify.xml", "verify.md"}) fs::remove(scratch / report);
      const Ran ran = run(words, here);
      EXPECT_EQ(ran.exit, line.exit) << name << ": ropewalk " << line.text << "\n" << ran.err << ran.out;
    }
  }
  Ran here_run(const std::vector<std::string>& words) const { return run(words, here); }
  Scratch scratch;
  RunOptions here;
};

TEST_F(Goals, Gibberish) {
  ASSERT_EQ(here_run({"convert", "model", "-o", "model.gguf", "--type", "f16"}).exit, 0);
  page("gibberish.md", 6);
  EXPECT_TRUE(fs::exists(scratch / "passkey.svg"));
}

TEST_F(Goals, LostYarn) {
  // the same weights without the rope: as a config.json that lost its rope_scaling is converted
  copy_of((scratch / "model").string(), scratch / "plain");
  edit_json(scratch / "plain/config.json", [](Json& json) {
    json.erase("rope_scaling");
    json["max_position_embeddings"] = 256;
  });
  ASSERT_EQ(here_run({"convert", "plain", "-o", "stripped.gguf", "--type", "q8_0"}).exit, 0);
  page("lost-yarn.md", 8);
}

TEST_F(Goals, MergeAndPublish) { page("merge-and-publish.md", 7); }

TEST_F(Goals, TwentyQuants) {
  fs::create_directory(scratch / "quants");
  page("twenty-quants.md", 7);
  std::size_t quants = 0;
  for (const auto& entry : fs::directory_iterator(scratch / "quants")) quants += entry.path().extension() == ".gguf";
  EXPECT_EQ(quants, 20u);
}

TEST_F(Goals, GateARelease) {
  ASSERT_EQ(here_run({"convert", "model", "-o", "model-q8_0.gguf", "--type", "q8_0"}).exit, 0);
  page("gate-a-release.md", 11);
  // the gates are gates: the export that lost its rope fails each that it should
  copy_of((scratch / "model").string(), scratch / "plain");
  edit_json(scratch / "plain/config.json", [](Json& json) { json.erase("rope_scaling"); });
  ASSERT_EQ(here_run({"convert", "plain", "-o", "broken.gguf", "--type", "q8_0"}).exit, 0);
  EXPECT_EQ(here_run({"verify", "broken.gguf", "--reference", "model.rwref"}).exit, 1);
}

// The recipe of docs/recipes.md, as it stands there.
TEST_F(Goals, Recipe) {
  std::istringstream in(slurp(kDocs / "recipes.md"));
  std::string recipe;
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    if (line == "    {") inside = true;
    if (inside) recipe += line + "\n";
    if (line == "    }") break;
  }
  for (std::size_t at = 0; (at = recipe.find("\"4k\"", at)) != std::string::npos;) recipe.replace(at, 4, "\"256\"");
  const std::size_t tax = recipe.find("short_context_tax=5%");
  ASSERT_NE(tax, std::string::npos);
  recipe.replace(tax, 20, "short_context_tax=90%");  // a base of four million parameters pays more
  fs::create_directories(scratch / "models"), fs::create_directories(scratch / "adapters");
  fs::create_directory(scratch / "out");
  fs::rename(scratch / "model", scratch / "models/base"), fs::rename(scratch / "adapter", scratch / "adapters/tuned");
  spill(scratch / "release.json", recipe);
  const Ran ran = here_run({"run", "release.json", "-q"});
  EXPECT_EQ(ran.exit, 0) << ran.err << ran.out;
  const Ran again = here_run({"run", "release.json", "-q", "--json"});
  for (const Json& step : again.json()["steps"]) EXPECT_EQ(step["state"], "up to date") << step;
}

}  // namespace
}  // namespace ropewalk::tools::test
