#include "verify/passkey.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "lib/sha256.h"
#include "tests/verify/golden_models.h"

namespace ropewalk::verify {
namespace {

std::unique_ptr<formats::Tokenizer> tokenizer() {
  return formats::Tokenizer::create(*formats::read_hf_vocabulary(golden_dir() / "fixtures/models/tolstoy-4m"));
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// sha256 of what generate_prompt() of the YaRN repository's eval/passkey.py (911591d) returned with random.randint
// giving these numbers; key is the one that mt19937_64(seed) draws.
TEST(Passkey, PromptsAreTheYarnRepositorys) {
  struct Case {
    std::size_t n_garbage, prefix;
    std::uint64_t seed;
    const char *key, *sha256;
  };
  for (const Case& c : std::initializer_list<Case>{
           {0, 0, 1, "11529", "74fb60cfc92a59edaa8f3ee1c4d943883de89ea2096daf402bd2c6ef4deb898e"},
           {100, 37, 2, "4829", "46ce6ab090305ee86602c802887e5b5ef1e9f50cfa2902bf8decf28e54550952"},
           {5000, 5000, 3, "31468", "f3d0ab8b939432f10916027ca8dcb4813c49a3a4093e5936d840d1f9aaa8d4f7"},
           {20000, 10000, 4, "12200", "ee9dd78e03479c26ad77d631080340d10d2797c2b6c03fdd0837ab091cf59fa9"},
           {88, 0, 5, "28343", "cba4abf5232da7a8018aa36066d1a2c582db49913e6e8510f4d6e9d989b5db1e"},
           {89, 88, 6, "38721", "a3913f8dd10611cac6dc175836f6f14fefb94fd197158b9db6af71afd994f63d"},
           {30000, 12345, 7, "11016", "c2fec4cd92f85ceec3eecf2ac6335c71f8830e3ed4ea000b8f61bc470753c8c8"}}) {
    const double depth = c.n_garbage == 0 ? 0 : double(c.prefix) / double(c.n_garbage);
    const PasskeyPrompt prompt = passkey_prompt({.context = 0, .depth = depth, .seed = c.seed}, c.n_garbage);
    EXPECT_EQ(prompt.answer, c.key) << c.n_garbage;
    EXPECT_EQ(sha256(prompt.text), c.sha256) << c.n_garbage;
  }
}

constexpr std::string_view kTaskLine =
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you "
    "about "
    "the important information there.\n";

// eval/passkey_hard.py's lines: the text goes on behind each key, and the keys are counted as they stand.
TEST(Passkey, SeveralKeysInText) {
  const PasskeyTask task{
      .depth = 0.5, .seed = 3, .n_keys = 3, .haystack = Haystack::text, .text = "one two three four"};
  const PasskeyPrompt prompt = passkey_prompt(task, task.text.size());
  ASSERT_TRUE(prompt.text.starts_with(kTaskLine));
  std::string hay, line;
  std::size_t keys = 0, asked = 0;
  for (std::size_t at = kTaskLine.size(); at < prompt.text.size(); at += line.size() + 1) {
    line = prompt.text.substr(at, prompt.text.find('\n', at) - at);
    static constexpr const char* kOrdinals[] = {"1st", "2nd", "3rd"};
    if (line.starts_with("The ")) {
      const std::string name = std::string(kOrdinals[keys]) + " pass key",
                        key = line.substr(name.size() + 8, line.find('.') - name.size() - 8);
      EXPECT_EQ(line, "The " + name + " is " + key + ". Remember it. " + key + " is the " + name + ".");
      if (key == prompt.answer) asked = ++keys;
      else ++keys;
    } else if (line.starts_with("What")) {
      const std::string name = std::string(kOrdinals[asked - 1]) + " pass key";
      EXPECT_EQ(line, "What is the " + name + "? The " + name + " is");
      EXPECT_EQ(at + line.size(), prompt.text.size());
    } else {
      hay += line;
    }
  }
  EXPECT_EQ(keys, 3u);
  EXPECT_NE(asked, 0u);
  EXPECT_EQ(hay, task.text);
}

TEST(Passkey, OnlyKeysAreCountedInEnglish) {
  const PasskeyPrompt prompt = passkey_prompt({.depth = 1, .seed = 9, .haystack = Haystack::keys}, 113);
  for (const char* name :
       {"The 1st pass", "The 2nd pass", "The 3rd pass", "The 11th pass", "The 12th pass", "The 13th pass",
        "The 21st pass", "The 22nd pass", "The 101st pass", "The 111th pass", "The 112th pass"})
    EXPECT_NE(prompt.text.find(name), std::string::npos) << name;
  EXPECT_TRUE(prompt.text.ends_with("What is the 113th pass key? The 113th pass key is"));
  EXPECT_NE(prompt.text.find("The 113th pass key is " + prompt.answer + ". Remember it."), std::string::npos);
}

TEST(Passkey, WindowsFillTheContext) {
  const auto cut = tokenizer();
  const std::string text = text_of(golden_dir() / "fixtures/goldens/perplexity/doc-1.txt");
  const std::vector<std::int32_t> bos = {1};
  for (const Haystack haystack : {Haystack::grass, Haystack::text, Haystack::keys})
    for (const int context : {160, 400, 1500})
      for (const double depth : {0.0, 0.3, 1.0}) {
        const PasskeyTask task{context, depth, 7, 1, haystack, text};
        const PasskeyWindow window = passkey_window(task, *cut, bos);
        const std::string name = haystack_name(haystack) + (" " + std::to_string(context));
        EXPECT_EQ(window.first + window.n + 1, window.ids.size()) << name;
        EXPECT_LE(window.first + window.n, std::size_t(context)) << name;
        EXPECT_GE(window.first + window.n + (haystack == Haystack::keys ? 60 : 12), std::size_t(context)) << name;
        EXPECT_EQ(window.ids[0], 1);
        const std::vector<std::int32_t> ids(window.ids.begin() + 1, window.ids.end() - 1);
        EXPECT_EQ(cut->decode(ids), passkey_prompt(task, window.units).text + " " + window.answer) << name;
        const std::vector<std::int32_t> answer(ids.end() - std::ptrdiff_t(window.n), ids.end());
        EXPECT_NE(cut->decode(answer).find(window.answer), std::string::npos) << name;
      }
  EXPECT_THROW(passkey_window({.context = 20}, *cut, bos), Error);
  EXPECT_THROW(passkey_window({.context = 900, .haystack = Haystack::text, .text = "too short"}, *cut, bos), Error);
}

// What counts as found, by hand.
TEST(Passkey, AnswersAreFoundWhole) {
  const auto cut = tokenizer();
  PasskeyWindow window;
  window.ids = cut->encode("x 512");
  window.first = cut->encode("x").size(), window.n = window.ids.size() - window.first;
  const std::int32_t full_stop = cut->encode(".").back(), digit = cut->encode("7").back();
  window.ids.push_back(full_stop);
  ASSERT_GE(window.n, 1u);
  std::vector<TokenScore> scores(window.ids.size() - 1);
  for (std::size_t t = 0; t + 1 < window.ids.size(); ++t) scores[t] = {0.5, window.ids[t + 1], 0};

  PasskeyAnswer answer = passkey_answer(window, scores, *cut);
  EXPECT_TRUE(answer.correct);
  EXPECT_EQ(answer.right, window.n);
  EXPECT_EQ(answer.nll, 0.5 * double(window.n));

  scores.back().argmax = digit;  // the number would go on
  EXPECT_FALSE(passkey_answer(window, scores, *cut).correct);
  EXPECT_TRUE(passkey_answer(window, scores, *cut).judged);
  scores.back().argmax = -1;  // nothing is likeliest: what would come next is not known
  EXPECT_FALSE(passkey_answer(window, scores, *cut).judged);
  EXPECT_FALSE(passkey_answer(window, scores, *cut).correct);
  scores.back().argmax = full_stop;
  for (const double loss : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    scores[window.first - 1].nll = loss;
    EXPECT_FALSE(passkey_answer(window, scores, *cut).judged);
    EXPECT_FALSE(passkey_answer(window, scores, *cut).correct) << "every first choice is right, of no numbers";
  }
  scores[window.first - 1].nll = 0.5;
  scores[window.first - 1].argmax = full_stop;
  answer = passkey_answer(window, scores, *cut);
  EXPECT_FALSE(answer.correct);
  EXPECT_EQ(answer.right, window.n - 1);
}

}  // namespace
}  // namespace ropewalk::verify
