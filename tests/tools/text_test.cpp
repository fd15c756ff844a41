// Text and ids that are given: what is not UTF-8, pipes, empty texts, ids outside the vocabulary. The file at fault is
// named, and the byte or place.
#include <sys/stat.h>

#include <thread>

#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

class Text : public testing::Test {
 protected:
  Scratch scratch;
  const std::string source = model("stories260K");

  /// Every command that reads a text or ids, with `words` for them.
  std::vector<std::vector<std::string>> commands(const std::vector<std::string>& words) const {
    std::vector<std::vector<std::string>> all = {
        {"verify", source, "--against", source, "-c", "64"},
        {"perplexity", source, "-c", "64"},
        {"logits", source, "-c", "64", "-o", (scratch / "l.safetensors").string()},
        {"generate", source, "-n", "1"},
        {"tokenize", source}};
    for (auto& command : all) command.insert(command.end(), words.begin(), words.end());
    return all;
  }
  void refused(const std::vector<std::string>& words, const std::string& line) const {
    for (const auto& command : commands(words)) {
      const Ran ran = run(command);
      EXPECT_EQ(ran.exit, 3) << command[0] << ": " << ran.out << ran.err;
      EXPECT_EQ(ran.out, "") << command[0];
      EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
      EXPECT_NE(ran.err.find("error: " + line), std::string::npos) << command[0] << ": " << ran.err;
    }
  }
};

TEST_F(Text, ThatIsNotUtf8IsRefusedByteByByte) {
  const std::string file = (scratch / "latin1.txt").string();
  const std::string text = slurp(fixture("goldens/perplexity/doc-1.txt"));  // of enough words for verify to judge
  const std::size_t good = text.size();
  // a Latin-1 letter, a character cut short at the end, an overlong slash, a surrogate, one past U+10FFFF
  for (const char* bad : {"\xe9t\xe9", "\xe2\x82", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80"}) {
    spill(file, text + bad);
    refused({"-f", file}, file + ": byte " + std::to_string(good) + ": not UTF-8: the byte 0x");
  }
  spill(file, text + "\xc3\xa9t\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");  // control: the same letters as they should be
  for (const auto& command : commands({"-f", file})) EXPECT_EQ(run(command).exit, 0) << run(command).err;
}

TEST_F(Text, OfAnotherKindIsCalledSo) {
  spill(scratch / "utf16.txt", std::string("\xff\xfeO\0n\0", 6));
  EXPECT_NE(run({"tokenize", source, "-f", (scratch / "utf16.txt").string()})
                .err.find("byte 0: not UTF-8: the byte 0xff begins no character there (the file looks like UTF-16); "),
            std::string::npos);
  const Ran binary = run({"tokenize", source, "-f", source + "/model.safetensors"});
  EXPECT_EQ(binary.exit, 3);
  EXPECT_NE(binary.err.find("model.safetensors: byte "), std::string::npos) << binary.err;
  for (const char* command : {"tokenize", "generate"}) {
    const Ran prompt = run({command, source, "-p", "caf\xe9"});
    EXPECT_EQ(prompt.exit, 3);
    EXPECT_NE(prompt.err.find("error: prompt: byte 3: not UTF-8"), std::string::npos) << prompt.err;
  }
  const Ran wide = run({"generate", source, "-p", "\xff\xfeO"});
  EXPECT_NE(wide.err.find("(the prompt looks like UTF-16); give the prompt in UTF-8"), std::string::npos) << wide.err;
  for (const char* device : {"/dev/zero", "/dev/null"})
    refused({"-f", device}, std::string(device) + ": is a device, expected a regular file; ");
  RunOptions in;
  in.in = "caf\xe9";
  EXPECT_NE(run({"tokenize", source, "-f", "-"}, in).err.find("error: standard input: byte 3: not UTF-8"),
            std::string::npos);
}

// -f <(command): a pipe is read to its end, also past what a pipe holds at once.
TEST_F(Text, FromAPipe) {
  const fs::path pipe = scratch / "pipe", file = scratch / "file";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "Once upon a time ";
  spill(file, text);
  const auto through = [&](std::vector<std::string> words, const std::string& bytes) {
    std::thread writer([&] { spill(pipe, bytes); });
    words.insert(words.end(), {pipe.string(), "--json"});
    const Ran ran = run(words);
    writer.join();
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return ran.json();
  };
  const Json piped = through({"tokenize", source, "--count", "-f"}, text);
  EXPECT_EQ(piped["count"], run({"tokenize", source, "--count", "-f", file.string(), "--json"}).json()["count"]);
  EXPECT_GT(piped["count"].get<int>(), 40'000);
  EXPECT_EQ(through({"tokenize", source, "--tokens"}, "[5, 6]")["ids"], Json({5, 6}));
  Json corpus = through({"perplexity", source, "-c", "64", "--windows", "1", "-f"}, text)["corpus"];
  EXPECT_EQ(corpus["path"], pipe.string());
  EXPECT_EQ(corpus["sha256"], run({"perplexity", source, "-c", "64", "--windows", "1", "-f", file.string(), "--json"})
                                  .json()["corpus"]["sha256"]);
}

/// Files of the same four documents: texts, lines of JSON, either compressed.
TEST_F(Text, DocumentsOfJsonLinesAndCompressed) {
  std::vector<std::string> texts = {"perplexity", source, "-c", "128", "--windows", "20", "--json"}, packed = texts;
  std::string lines;
  for (int i = 1; i <= 4; ++i) {
    const std::string from = fixture("goldens/perplexity/doc-" + std::to_string(i) + ".txt"),
                      name = (scratch / ("doc-" + std::to_string(i) + ".txt")).string();
    spill(name, slurp(from));
    ASSERT_EQ(std::system(("zstd -q " + name).c_str()), 0);
    texts.insert(texts.end(), {"-f", from}), packed.insert(packed.end(), {"-f", name + ".zst"});
    lines += Json{{"meta", {{"n", i}}}, {"text", slurp(from)}, {"body", "Once upon a time"}}.dump() + "\n";
  }
  const std::string file = (scratch / "docs.jsonl").string();
  spill(file, lines);
  ASSERT_EQ(std::system(("zstd -q " + file).c_str()), 0);
  const Json expected = run(texts).json();
  const auto same = [&](const std::vector<std::string>& words) {
    const Ran ran = run(words);
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(ran.json()["results"], expected["results"]);
    EXPECT_EQ(ran.json()["corpus"]["sha256"], expected["corpus"]["sha256"]);
  };
  same(packed);
  for (const std::string& name : {file, file + ".zst"})
    same({"perplexity", source, "-c", "128", "--windows", "20", "--json", "-f", name});
  EXPECT_EQ(run({"tokenize", source, "--count", "-f", file, "--text-field", "body"}).exit, 0);

  refused({"-f", file, "--text-field", "meta"}, file + ":1:9: 'meta' is {\"n\":1}, expected the text of a document");
  refused({"-f", file, "--text-field", "title"}, file + ":1:1: 'title' is missing, expected the text of a document");
  const Ran usage = run({"tokenize", source, "-f", fixture("goldens/perplexity/doc-1.txt"), "--text-field", "body"});
  EXPECT_EQ(usage.exit, 2);
  EXPECT_NE(usage.err.find("--text-field was given, and no -f is a .jsonl"), std::string::npos) << usage.err;
  spill(scratch / "short.jsonl", lines + "{\"text\": \"Once upon\"}\n");
  EXPECT_NE(run({"perplexity", source, "-c", "128", "-f", (scratch / "short.jsonl").string()})
                .err.find("error: " + (scratch / "short.jsonl").string() + ", document 5: the text has "),
            std::string::npos);
  spill(scratch / "none.jsonl", "\n");
  refused({"-f", (scratch / "none.jsonl").string()}, (scratch / "none.jsonl").string() + ": has no documents");
}

// What a header claims is not believed: a frame that says it holds 2^60 bytes, one cut short. Bombs: formats/zstd_test.
TEST_F(Text, HostileCompression) {
  const std::string plain = (scratch / "a.txt").string(), file = plain + ".zst";
  spill(file, std::string("\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\0\0\x10\x01\0\0", 16));
  refused({"-f", file}, file + ": byte ");
  spill(plain, slurp(fixture("goldens/perplexity/doc-1.txt")));
  ASSERT_EQ(std::system(("zstd -q -f " + plain).c_str()), 0);
  const std::string whole = slurp(file);
  for (const std::size_t size : {std::size_t{0}, std::size_t{3}, whole.size() / 2, whole.size() - 1}) {
    spill(file, whole.substr(0, size));
    refused({"-f", file}, file + ": byte " + std::to_string(size) + ": ");
  }
  spill(file, whole);
  EXPECT_EQ(run({"tokenize", source, "--count", "-f", file}).out,
            run({"tokenize", source, "--count", "-f", plain}).out);
}

TEST_F(Text, ThatIsTooShortIsNamed) {
  const std::string empty = (scratch / "empty.txt").string(), brief = (scratch / "brief.txt").string(),
                    lengthy = fixture("goldens/perplexity/doc-1.txt");
  spill(empty, ""), spill(brief, "Once upon a time");
  const auto said = [&](const std::vector<std::string>& words) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 3) << ran.out << ran.err;
    return ran.err;
  };
  EXPECT_NE(said({"perplexity", source, "-c", "64", "-f", empty}).find("error: " + empty + ": the text has 0 tokens, "),
            std::string::npos);
  EXPECT_NE(
      said({"perplexity", source, "-c", "64", "-f", lengthy, "-f", brief}).find("error: " + brief + ": the text has "),
      std::string::npos);
  EXPECT_NE(said({"verify", source, "--against", source, "-c", "64", "-f", empty})
                .find("error: " + empty + ": the text has 0 tokens, 1 window of 64 needs 63; "),
            std::string::npos);
}

TEST_F(Text, IdsOutsideTheVocabularyAreNamedWithTheirPlace) {
  const std::string ids = (scratch / "ids.json").string();
  std::string list;
  for (int i = 0; i < 100; ++i) list += std::to_string(i) + ", ";
  spill(ids, "[" + list + "512]");
  refused({"--tokens", ids},
          ids + ": id 512, number 101 of 101, is outside the vocabulary of 512 of '" + source + "'; ");
  spill(ids, "[[" + list + "5], [7, 9999]]");
  EXPECT_NE(run({"perplexity", source, "-c", "64", "--tokens", ids})
                .err.find("error: " + ids + ", list 2: id 9999, number 2 of 2, is outside"),
            std::string::npos);
  EXPECT_NE(run({"tokenize", source, "--decode", "-p", "5 512"}).err.find("error: prompt: id 512, number 2 of 2, "),
            std::string::npos);
  spill(ids, "[" + list + "511]");  // control: the last id of the vocabulary
  for (const auto& command : commands({"--tokens", ids})) EXPECT_EQ(run(command).exit, 0) << run(command).err;
}

TEST_F(Text, IdsThatAreNoneAreNamedWithTheirLine) {
  const std::string ids = (scratch / "ids.json").string();
  const auto said = [&](const std::string& text) {
    spill(ids, text);
    const Ran ran = run({"tokenize", source, "--tokens", ids});
    EXPECT_EQ(ran.exit, 3) << ran.out;
    return ran.err.substr(0, ran.err.find("; "));
  };
  EXPECT_EQ(said("[1,\n 2.5]"), "error: " + ids + ":2:2: 2.5 is not a token id, expected a whole number of 0 or more");
  EXPECT_EQ(said("[-1]"), "error: " + ids + ":1:2: -1 is not a token id, expected a whole number of 0 or more");
  EXPECT_EQ(said("[[1],\n[2, true]]"),
            "error: " + ids + ":2:5: true is not a token id, expected a whole number of 0 or more");
  EXPECT_EQ(said("[1, [2]]"), "error: " + ids + ":1:5: [2] is not a token id, expected a whole number of 0 or more");
  EXPECT_EQ(said("[[1], 2]"), "error: " + ids + ":1:7: 2 stands among lists of token ids");
  EXPECT_EQ(said("[]"), "error: " + ids + ":1:1: the file holds an empty list, expected a list of token ids");
  EXPECT_EQ(said("{}"), "error: " + ids + ":1:1: the file holds object, expected a list of token ids");
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"tokenize", source, "--decode", "-p", "1 2", "--bos"},
                                             {"tokenize", source, "--tokens", ids, "--bos"},
                                             {"tokenize", source, source, "--decode", "-p", "1 2"},
                                             {"tokenize", source, source, "--tokens", ids},
                                             {"perplexity", source, "-c", "64", "-f", "-", "-f", "-"}}) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 2) << ran.out << ran.err;
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
  }
}

/// tokenizers 0.23.3 encodes "aab" with this file as 3 4 0 2, without special tokens as 0 2. A text as a whole begins with
/// both; windows of one begin with one token.
TEST_F(Text, MayBeginWithTwoTokens) {
  const fs::path folder = copy_of(source, scratch / "two");
  for (const char* name : {"tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"})
    fs::remove(folder / name);
  const auto added = [](int id, const char* content) {
    return Json{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  };
  const auto placed = [](const char* kind, const char* id) { return Json{{kind, {{"id", id}, {"type_id", 0}}}}; };
  Json tokenizer = {{"version", "1.0"},
                    {"added_tokens", Json::array({added(3, "[gMASK]"), added(4, "<sop>")})},
                    {"post_processor",
                     {{"type", "TemplateProcessing"},
                      {"single", Json::array({placed("SpecialToken", "[gMASK]"), placed("SpecialToken", "<sop>"),
                                              placed("Sequence", "A")})},
                      {"special_tokens", {{"[gMASK]", {{"ids", {3}}}}, {"<sop>", {{"ids", {4}}}}}}}},
                    {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", {"a b"}}}}};
  spill(folder / "tokenizer.json", tokenizer.dump());
  spill(folder / "text.txt", "aabaabaab");
  const Ran refused = run({"perplexity", folder.string(), "-f", (folder / "text.txt").string(), "-c", "2"});
  EXPECT_EQ(refused.exit, 4) << refused.out;
  EXPECT_NE(refused.err.find("error: " + folder.string() +
                             ": its tokenizer puts 2 tokens before a text, and windows of a text begin with one; pass "
                             "token ids, those tokens first, instead of text"),
            std::string::npos)
      << refused.err;
  const Ran both = run({"tokenize", folder.string(), "--bos", "-p", "aab", "--json"});
  EXPECT_EQ(both.exit, 0) << both.err;
  EXPECT_EQ(both.json()["ids"], Json({3, 4, 0, 2})) << both.out;
  const Ran whole = run({"logits", folder.string(), "-f", (folder / "text.txt").string(), "-o",
                         (scratch / "l.safetensors").string(), "--dry-run", "--json"});
  EXPECT_EQ(whole.exit, 0) << whole.err;
  EXPECT_EQ(whole.json()["context"], 8) << whole.out;
  const Ran plain = run({"tokenize", folder.string(), "-p", "aab", "--json"});
  EXPECT_EQ(plain.exit, 0) << plain.err;
  EXPECT_EQ(plain.json()["ids"], Json({0, 2})) << plain.out;
  tokenizer["post_processor"]["single"].erase(0);  // control: one token is
  spill(folder / "tokenizer.json", tokenizer.dump());
  const Ran one = run({"tokenize", folder.string(), "--bos", "-p", "aab", "--json"});
  EXPECT_EQ(one.exit, 0) << one.err;
  EXPECT_EQ(one.json()["ids"], Json({4, 0, 2})) << one.out;
}

TEST_F(Text, WithoutATokenizerTheOptionThatHelpsIsNamed) {
  const fs::path bare = copy_of(source, scratch / "bare");
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) fs::remove(bare / name);
  EXPECT_NE(run({"verify", source, "--against", bare.string(), "-c", "64"}).err.find("--tokenizer DIR"),
            std::string::npos);
  EXPECT_EQ(
      run({"verify", source, "--against", bare.string(), "-c", "64", "--tokenizer", source, "--windows", "1"}).exit, 0)
      << "and it helps";
  EXPECT_EQ(run({"perplexity", bare.string(), "-c", "64"}).err.find("--tokenizer"), std::string::npos)
      << "perplexity has none";
}

/// Whoever needs ids says why there are none, in one line; whoever does not goes on.
TEST_F(Text, ARefusedTokenizerIsOneLineWithItsReason) {
  const std::string folder = copy_of(source, scratch / "refused").string(), ids = (scratch / "ids.json").string(),
                    out = (scratch / "out.gguf").string();
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) fs::remove(fs::path(folder) / name);
  spill(folder + "/vocab.json", "{}");
  spill(ids, Json(std::vector<int>(70, 5)).dump());
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"tokenize", folder, "-p", "text"},
                                             {"perplexity", folder, "-c", "64"},
                                             {"verify", source, "--against", folder, "-c", "64"},
                                             {"generate", folder, "-p", "text"},
                                             {"logits", folder, "-c", "64", "-o", (scratch / "l.safetensors").string()},
                                             {"passkey", folder, "-c", "64"},
                                             {"convert", folder, "-o", out}})
    for (const bool quiet : {false, true}) {
      std::vector<std::string> all = words;
      if (quiet) all.emplace_back("-q");
      const Ran ran = run(all);
      EXPECT_EQ(ran.exit, 4) << words[0] << ": " << ran.err;
      EXPECT_EQ(ran.err_lines().size(), 1u) << words[0] << ": " << ran.err;
      EXPECT_NE(ran.err.find("error: " + folder + ": no tokenizer.json or tokenizer.model, only vocab.json"),
                std::string::npos)
          << words[0] << ": " << ran.err;
    }
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"inspect", folder},
           {"perplexity", folder, "-c", "64", "--tokens", ids},
           {"convert", folder, "-o", (scratch / "folder").string(), "--type", "hf:f16"}}) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << words[0] << ": " << ran.err;
    EXPECT_NE(ran.err.find("warning: tokenizer not read: "), std::string::npos) << words[0] << ": " << ran.err;
  }
}

/// Ids of a folder or GGUF that has nothing but the tokenizer are those of the whole model.
TEST_F(Text, ATokenizerNeedsNoWeights) {
  const Json whole = run({"tokenize", source, "-p", "Once upon a time", "--json"}).json();
  const fs::path alone = scratch / "alone";
  fs::create_directory(alone);
  const std::string empty = (scratch / "empty").string();
  fs::create_directory(empty);
  const auto check = [&](const std::string& of) {
    const Ran ran = run({"tokenize", of, "-p", "Once upon a time", "--json"});
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(ran.json()["ids"], whole["ids"]) << of;
    const Ran seen = run({"inspect", of, "--json"});
    ASSERT_EQ(seen.exit, 0) << seen.err;
    EXPECT_EQ(seen.json()["kind"], "tokenizer");
    EXPECT_EQ(seen.json()["tokenizer"]["pieces"], 512) << seen.out;
    EXPECT_EQ(run({"inspect", of}).exit, 0);
    EXPECT_EQ(run({"perplexity", of, "-c", "64"}).exit, 3) << "who computes needs weights";
  };
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) {
    fs::copy_file(fs::path(source) / name, alone / name);
    check(alone.string());
    fs::remove(alone / name);
  }
  fs::copy_file(fs::path(source) / "config.json", alone / "config.json");  // without weights it is a tokenizer still
  fs::copy_file(fs::path(source) / "tokenizer.model", alone / "tokenizer.model");
  EXPECT_EQ(run({"tokenize", alone.string(), "-p", "Once upon a time", "--json"}).json()["ids"], whole["ids"]);
  EXPECT_EQ(run({"tokenize", empty, "-p", "Once upon a time"}).exit, 3);

  const std::string vocabulary = std::string(ROPEWALK_GOLDEN_DIR) + "/bpe/toys/alphabet.gguf";
  EXPECT_EQ(run({"tokenize", vocabulary, "-p", "a", "--count"}).out, "1\n");
  EXPECT_EQ(run({"inspect", vocabulary, "--json"}).json()["kind"], "tokenizer");
  EXPECT_EQ(run({"perplexity", vocabulary, "-c", "64"}).exit, 3);
}

/// transformers 5.23.0 decodes 1 403 407 of this folder as "<s> Once upon" with skip_special_tokens=False.
TEST_F(Text, SpecialTokensAreWrittenIfAskedFor) {
  const Json ids = run({"tokenize", source, "-p", "Once upon", "--bos", "--json"}).json()["ids"];
  EXPECT_EQ(ids, Json({1, 403, 407}));
  EXPECT_EQ(run({"tokenize", source, "--decode", "-p", "1 403 407"}).out, "Once upon\n");
  EXPECT_EQ(run({"tokenize", source, "--decode", "--special", "-p", "1 403 407"}).out, "<s> Once upon\n");
}

}  // namespace
}  // namespace ropewalk::tools::test
