// tokenizer.json from strangers: what is refused and how; texts made to be slow.
#include "formats/tokenizers/tokenizer_json.h"

#include <gtest/gtest.h>

#include "formats/tokenizers/regex.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/unicode_forms.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

using Ids = std::vector<std::int32_t>;

std::string file(const std::string& model, const std::string& more = "") {
  return R"({"version": "1.0", "added_tokens": [], )" + more + R"("model": )" + model + "}";
}
std::string bpe(const std::string& vocab, const std::string& merges, const std::string& more = "") {
  return R"({"type": "BPE", "vocab": )" + vocab + R"(, "merges": )" + merges + more + "}";
}
const std::string kVocab = R"({"a": 0, "b": 1, "ab": 2})";
const std::string kModel = bpe(kVocab, R"(["a b"])");

std::string refusal(const std::string& text) {
  try {
    Tokenizer::create(parse_tokenizer_json("t.json", text));
  } catch (const Error& error) {
    return std::string(error_kind_name(error.kind())) + ": " + error.what();
  }
  return "accepted";
}

std::unique_ptr<Tokenizer> tokenizer(const std::string& text) {
  return Tokenizer::create(parse_tokenizer_json("t.json", text));
}

TEST(TokenizerJson, BothSpellingsOfMerges) {
  EXPECT_EQ(tokenizer(file(kModel))->encode("aab"), (Ids{0, 2}));
  EXPECT_EQ(tokenizer(file(bpe(kVocab, R"([["a", "b"]])")))->encode("aab"), (Ids{0, 2}));
  EXPECT_EQ(tokenizer(file(bpe(kVocab, R"(["#version: 0.2", "a b"])")))->encode("aab"), (Ids{0, 2}));
}

/// The message without what to do, at the value that begins with `where`.
void expect_refused(const std::string& text, const std::string& kind, const std::string& where,
                    const std::string& problem) {
  const std::string all = refusal(text);
  ASSERT_NE(text.find(where), std::string::npos) << where;
  EXPECT_EQ(all.substr(0, all.find("; ")),
            kind + ": t.json:1:" + std::to_string(text.find(where) + 1) + ": " + problem);
}

TEST(TokenizerJson, RefusesWhatTheLibraryRefuses) {
  const auto bad = [](const std::string& text, const std::string& where, const std::string& problem) {
    expect_refused(text, "bad_input", where, problem);
  };
  bad(file(bpe(kVocab, R"(["a c"])")), R"("a c")",
      "'model/merges/0' needs the piece 'c', which is not in the vocabulary");
  bad(file(bpe(kVocab, R"(["b a"])")), R"("b a")",
      "'model/merges/0' needs the piece 'ba', which is not in the vocabulary");
  bad(file(bpe(kVocab, R"(["a b c"])")), R"("a b c")", "'model/merges/0' is not two pieces with a space between them");
  bad(file(bpe(R"({"": 0, "a": 1})", R"([["", "a"]])")), R"(["",)", "'model/merges/0' merges an empty piece");
  bad(file(bpe(kVocab, R"([["a", "b"], "a b"])")), R"("a b")",
      "'model/merges/1' is spelled otherwise than the first merge");
  bad(file(bpe(R"({"x": 10, "a": 7, "b": 7 })", "[]")), "7 }", "'model/vocab/b' has the id of 'a', 7");
  bad(file(bpe(R"({"a": -1})", "[]")), "-1", "'model/vocab/a' is -1, expected a whole number from 0 to 16777215");
  bad(file(bpe(R"({"a": 99999999999})", "[]")), "99999999999",
      "'model/vocab/a' is 99999999999, expected a whole number from 0 to 16777215");
  bad(file(bpe(R"({"a": 16777215})", "[]")), R"({"a")", "'model/vocab' has 1 pieces and ids up to 16777215");
  bad(file(R"({"type": "Unigram", "vocab": [["a", 0], ["a", 1]]})"), R"(["a", 1])",
      "'model/vocab/1' is 'a', which is 'model/vocab/0' already");
  bad(file(R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": 17})"), "17",
      "'model/unk_id' is 17, expected a whole number from 0 to 0");
  bad(R"({"version": "1.0"})", "{", "the file has no 'model'");
  bad(file(R"({"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a", "max_input_chars_per_word": 100})"),
      R"({"type")", "'model' has no 'continuing_subword_prefix'");
  bad(file(kModel, R"("post_processor": {"type": "BertProcessing", "sep": [ 1, 1], "cls": ["a", 0]}, )"), "1, 1]",
      "'post_processor/sep/0' is 1, expected a string");
  bad(file(kModel, R"("vocabulary": {}, )"), "{}, ", "'vocabulary' is no key of a tokenizer.json");
  bad(file(kModel, R"("truncation": 5, )"), "5, ", "'truncation' is 5, expected an object");
  bad(R"({"version": null, "model": )" + kModel + "}", "null", "'version' is null, expected a string");
  bad(R"({"added_tokens": null, "model": )" + kModel + "}", "null", "'added_tokens' is null, expected a list");
  bad(file(R"({"type": null, "vocab": {"a": 0}, "merges": []})"), R"({"type")",
      "'model' is of type null, expected a string");
  EXPECT_NE(refusal(file(R"({"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []})")).find("bad_input"),
            std::string::npos);
}

TEST(TokenizerJson, NamesWhatIsNotUnderstood) {
  const auto unsupported = [](const std::string& text, const std::string& where, const std::string& problem) {
    expect_refused(text, "unsupported", where, problem);
  };
  const auto step = [](const char* field, const std::string& json) {
    return file(kModel, std::string("\"") + field + "\": " + json + ", ");
  };
  unsupported(file(R"({"type": "Magic"})"), R"({"type")", "'model' is of type 'Magic', which is not known");
  unsupported(file(bpe(kVocab, "[]", R"(, "dropout": 0.1)")), "0.1", "'model/dropout' asks for random merges");
  unsupported(step("normalizer", R"({"type": "Uppercase"})"), R"({"type": "Upp)",
              "'normalizer' is the normalizer 'Uppercase', which is not known");
  unsupported(step("pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "UnicodeScripts"}]})"),
              R"({"type": "Uni)",
              "'pre_tokenizer/pretokenizers/0' is the pre-tokenizer 'UnicodeScripts', which is not known");
  unsupported(step("decoder", R"({"type": "Odd"})"), R"({"type": "Odd)",
              "'decoder' is the decoder 'Odd', which is not known");
  unsupported(step("post_processor", R"({"type": "Odd"})"), R"({"type": "Odd)",
              "'post_processor' is the post-processor 'Odd', which is not known");
  expect_refused(step("post_processor", R"({"type": "BertProcessing", "sep": ["b", 7], "cls": ["a", 0]})"), "bad_input",
                 R"({"type": "Bert)", "'post_processor' names the id 7 of 3");
}

std::string with_regex(const std::string& regex) {
  return file(kModel, R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": )" + Json(regex).dump() +
                          R"(}, "behavior": "Isolated", "invert": false}, )");
}

TEST(TokenizerJson, RefusesRegularExpressionsThatCannotWork) {
  const auto kind = [](const std::string& regex) {
    const std::string all = refusal(with_regex(regex));
    EXPECT_EQ(all.find('\n'), std::string::npos);
    return all.substr(0, all.find(": "));
  };
  EXPECT_EQ(kind("("), "bad_input");
  EXPECT_EQ(kind("a)b"), "bad_input");
  EXPECT_EQ(kind("["), "unsupported");
  EXPECT_EQ(kind(std::string(100'000, '(')), "unsupported");  // too long
  EXPECT_EQ(kind(std::string(60'000, '(')), "unsupported");   // too deep
  EXPECT_EQ(kind(std::string(60'000, '[')), "unsupported");
  EXPECT_EQ(kind("((((((a{999}){999}){999}){999}){999}){999})"), "unsupported");  // too large for the compiler
  for (const char* odd : {R"(\K)", R"(\g<a>)", R"((?~a))", R"((?<a>b)(?(<a>)c|d))", R"([[:alpha:]])", R"(\p{Punct})",
                          R"(\X)", R"((*F))", R"((?x)a)", R"(\012)"})
    EXPECT_EQ(kind(odd), "unsupported") << odd;
  // what the library refuses too
  for (const char* odd : {R"([\s-z])", R"([\w-.])", R"([\d-\s])", R"([\s--])", R"([\p{L}-z])", R"([a-\d])"})
    EXPECT_EQ(kind(odd), "unsupported") << odd;
  for (const char* taken : {R"([\w-])", R"([-\s])", R"([a-c-\d])", R"([\s-&&[a]])", "[a-b-c]", "[--a]"})
    EXPECT_EQ(refusal(with_regex(taken)), "accepted") << taken;
  for (const char* odd : {R"(\B?)", "(?=a)+", "(?!a)*b", R"(\b{2})", "^+", "$*", "(?<=a)?b", "(?i)+a", "a|*b"})
    EXPECT_EQ(kind(odd), "unsupported") << odd;
  // to tokenizers 0.23.3 "\u00DF" and "ss" are each other's cases, as are the two of a category
  for (const char* odd :
       {"(?i)ss", "(?i)a\u017Ft", "(?i:\u00DF)", "(?i)j\u030C", R"((?i)\p{Lu})", R"((?i)[\p{Lowercase}])", "(?i)(?:s)s",
        "(?i)s(?:t|x)", "(?i)s{1}s", "(?i)[\u00DF]", "(?i)[\u00C0-\u00FF]", R"((?i)[\p{L}])", R"((?i)[[^\P{L}]])"})
    EXPECT_EQ(kind(odd), "unsupported") << odd;
  for (const char* known : {"ss", "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?i:s)s", "(?i)s+s", "(?i)(s)s", "(?i)(?:s|x)s",
                            "(?i)[a-z]s", R"((?i)(?-i:\p{Lu}ss))", "(?>a)+", "(?:a|b)?"})
    EXPECT_EQ(refusal(with_regex(known)), "accepted") << known;
  EXPECT_EQ(kind(R"(\p{Nonsense})"), "unsupported");  // may be a script that PCRE2 is too old for
  // tokenizers 0.23.3 takes these two: PCRE2's lookbehinds are of one length
  EXPECT_EQ(kind("(?<=a(?:b|cd))x"), "unsupported");
  EXPECT_EQ(kind("(?<=a+)x"), "unsupported");
  EXPECT_EQ(refusal(with_regex("(?<=a+)x")),
            "unsupported: its regular expression is not understood: lookbehind assertion is not fixed length; "
            "pass token ids instead of text");
}

/// The matches and what lies between them, as Split with "isolated" has them.
std::vector<std::string> pieces(const std::string& regex, const std::string& text) {
  std::vector<std::string> out;
  std::size_t end = 0;
  const auto add = [&](std::size_t from, std::size_t to) {
    if (from < to) out.push_back(text.substr(from, to - from));
  };
  Regex({.text = regex, .is_regex = true}).for_each_match(text, [&](const auto& match) {
    add(end, match.begin);
    add(match.begin, match.end);
    end = match.end;
  });
  add(end, text.size());
  return out;
}

// Pieces by tokenizers 0.23.3: Split(Regex(...), "isolated").pre_tokenize_str.
TEST(TokenizerJson, OptionsHoldTheRestOfTheirGroupTogether) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(pieces("a(?i)b|c", "xcxaBxaC"), (Texts{"xcx", "aB", "x", "aC"}));
  EXPECT_EQ(pieces("(a(?i)b|c)d", "xcdxaBdxaCdxaCDaD"), (Texts{"xcdx", "aBd", "x", "aCd", "xaCDaD"}));
  EXPECT_EQ(pieces("(?i)ab|cd", "xABCDcdX"), (Texts{"x", "AB", "CD", "cd", "X"}));
  EXPECT_EQ(pieces("a|b(?i)c|d", "aABCxbDdbd"), (Texts{"a", "ABCx", "bD", "d", "bd"}));
  EXPECT_EQ(pieces("(?i)a(?-i)b|c", "AbACABxcC"), (Texts{"Ab", "ACABxcC"}));
  EXPECT_EQ(pieces("(?:(?i)x|y){2}+z", "xXyYzz"), (Texts{"xXyYz", "z"}));
  EXPECT_EQ(pieces("a(?i)b|c(?m).|d", "aBaC\naDdx"), (Texts{"aB", "aC\n", "aDdx"}));
  EXPECT_EQ(pieces("(?:a(?i)b|c)+|z", "aBaCzZcb"), (Texts{"aBaC", "z", "Zcb"}));
  EXPECT_EQ(pieces("q(?i)", "qQ"), (Texts{"q", "Q"}));
  EXPECT_EQ(pieces("(?i:a|b)c|d", "BcDd"), (Texts{"Bc", "D", "d"}));
  // what the library refuses too
  for (const char* bad : {"a(?i)*b|c", "(?i)a)b", "a(?i){2}+b"}) EXPECT_THROW(pieces(bad, "ab"), Error) << bad;
}

// Pieces by tokenizers 0.23.3, as above.
TEST(TokenizerJson, WordCharactersInAndOutOfBrackets) {
  using Texts = std::vector<std::string>;
  const std::string text = "a²b ⅓ ①c ½";
  EXPECT_EQ(pieces(R"(\w+)", text), (Texts{"a²b", " ⅓ ①", "c", " ", "½"}));
  EXPECT_EQ(pieces(R"([\w]+)", text), (Texts{"a", "²", "b", " ⅓ ①", "c", " ½"}));
}

/// Catastrophic patterns end with one line, not with the heat death.
/// NFC, NFD, NFKC, NFKD of tokenizers 0.23.3: what came after Unicode 9 is left as it is, and nothing passes it.
TEST(UnicodeForm, IsThatOfTheLibrarysAge) {
  struct Case {
    const char *text, *nfc, *nfd, *nfkc, *nfkd;
  };
  for (const Case& one : {
           Case{"\u32FF\u32FE", "\u32FF\u32FE", "\u32FF\u32FE", "\u32FF\u30F2", "\u32FF\u30F2"},
           Case{"a\u1ABF\u0301", "a\u1ABF\u0301", "a\u1ABF\u0301", "a\u1ABF\u0301", "a\u1ABF\u0301"},
           Case{"e\u0301\u1DFA\u0323\u0301", "\u00E9\u1DFA\u0323\u0301", "e\u0301\u1DFA\u0323\u0301",
                "\u00E9\u1DFA\u0323\u0301", "e\u0301\u1DFA\u0323\u0301"},
           Case{"\U00011935\U00011930", "\U00011935\U00011930", "\U00011935\U00011930", "\U00011935\U00011930",
                "\U00011935\U00011930"},
           Case{"\U00011938", "\U00011938", "\U00011938", "\U00011938", "\U00011938"},
           Case{"\uA7F2\uFB01", "\uA7F2\uFB01", "\uA7F2\uFB01", "\uA7F2fi", "\uA7F2fi"},
       }) {
    EXPECT_EQ(unicode_form(one.text, true, false), one.nfc);
    EXPECT_EQ(unicode_form(one.text, false, false), one.nfd);
    EXPECT_EQ(unicode_form(one.text, true, true), one.nfkc);
    EXPECT_EQ(unicode_form(one.text, false, true), one.nfkd);
  }
}

/// Chains of steps that each multiply a text end before they fill the memory.
TEST(TokenizerJson, StepsThatMultiplyATextAreRefused) {
  const auto expect = [](const std::string& steps, const char* what, const auto& work) {
    const auto bomb = tokenizer(file(kModel, steps));
    try {
      work(*bomb);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported);
      EXPECT_EQ(error.problem(), std::string(what) + " makes more than 65536 bytes of the text");
    }
  };
  const auto chain = [](const char* field, const char* list, const std::string& step) {
    std::string steps = step;
    for (int i = 0; i < 59; ++i) steps += ", " + step;
    return std::string("\"") + field + R"(": {"type": "Sequence", ")" + list + "\": [" + steps + "]}, ";
  };
  const auto encode = [](const Tokenizer& one) { one.encode("aa\u00E9"); };
  const auto decode = [](const Tokenizer& one) { one.decode(Ids{0, 1, 2}); };
  const std::string twice = R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  expect(chain("normalizer", "normalizers", twice), "normalizing", encode);
  expect(chain("normalizer", "normalizers", R"({"type": "ByteLevel"})"), "normalizing", encode);
  expect(
      chain("pre_tokenizer", "pretokenizers", R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": false})"),
      "cutting into words", encode);
  expect(chain("decoder", "decoders", twice), "decoding", decode);
  expect(chain("decoder", "decoders", R"({"type": "Replace", "pattern": {"Regex": "a|b"}, "content": "abab"})"),
         "decoding", decode);
}

TEST(TokenizerJson, GivesUpOnCatastrophicMatches) {
  const auto bomb = tokenizer(with_regex("(a+)+$|(a*)*b"));
  try {
    bomb->encode(std::string(100'000, 'a') + "c");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_NE(error.problem().find("its regular expression gives up"), std::string::npos) << error.problem();
  }
}

/// A megabyte of the worst, for each kind of model: all come out, and whole.
TEST(TokenizerJson, AdversarialTextsAreEncoded) {
  const std::string merges = R"([["a", "a"], ["aa", "aa"], ["aaaa", "aaaa"], ["a", "b"]])";
  const std::string vocab = R"({"a": 0, "b": 1, "aa": 2, "aaaa": 3, "aaaaaaaa": 4, "ab": 5, "\u0120": 6, "<unk>": 7})";
  const auto one = tokenizer(file(bpe(vocab, merges)));
  EXPECT_EQ(one->encode(std::string(1 << 20, 'a')), Ids((1 << 20) / 8, 4));
  EXPECT_EQ(one->encode(std::string((1 << 20) + 1, 'a')).back(), 0);
  const auto spaces = tokenizer(file(
      bpe(vocab, merges), R"("pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}, )"));
  EXPECT_EQ(spaces->encode(std::string(1 << 20, ' ')), Ids(1 << 20, 6));

  const auto unigram = tokenizer(
      file(R"({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["a", -1], ["aa", -1.5], ["aaaaaaaa", -2]]})"));
  EXPECT_EQ(unigram->encode(std::string(1 << 20, 'a')), Ids((1 << 20) / 8, 3));
  EXPECT_EQ(unigram->encode(std::string(1 << 20, 'x')), Ids(1, 0));
  // marks out of order, of which utf8proc's own sorting would take a day
  const auto marks = tokenizer(file(bpe(vocab, merges), R"("normalizer": {"type": "NFC"}, )"));
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += i % 2 ? "\xCC\x81" : "\xCC\xA3";
  EXPECT_EQ(marks->encode(text), Ids{});  // U+1EA1 and marks: none is a piece, and there is no unknown token
}

TEST(TokenizerJson, NoUnknownTokenIsAnErrorWhereTheLibraryHasOne) {
  const auto lacking = tokenizer(file(bpe(kVocab, "[]", R"(, "unk_token": "<unk>")")));
  EXPECT_EQ(lacking->encode("ab"), (Ids{0, 1}));
  EXPECT_THROW(lacking->encode("abc"), Error);
  EXPECT_THROW(lacking->decode(Ids{3}), Error);
  EXPECT_THROW(lacking->decode(Ids{-1}), Error);
  EXPECT_EQ(lacking->piece(2), "ab");
}

/// Ids of added tokens are the library's, whatever the file says; what is around a text is told apart.
TEST(TokenizerJson, AddedTokensAndTheTemplate) {
  const std::string token =
      R"(, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})";
  const std::string text = R"({"added_tokens": [{"id": 9, "content": "<s>")" + token + R"(, {"id": 1, "content": "b")" +
                           token + R"(], "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
    {"SpecialToken": {"id": "b", "type_id": 0}}], "special_tokens": {"<s>": {"ids": [3]}, "b": {"ids": [1]}}}]}, "model": )" +
                           kModel + "}";
  const Vocabulary vocabulary = parse_tokenizer_json("t.json", text);
  EXPECT_EQ(vocabulary.pipeline->before, Ids{3});
  EXPECT_EQ(vocabulary.pipeline->after, Ids{1});
  EXPECT_EQ(Tokenizer::create(vocabulary)->encode("a<s>b", true), (Ids{0, 3, 1}));
  EXPECT_EQ(Tokenizer::create(vocabulary)->size(), 4);
}

/// What the library says of tokens that take the white space beside them, which may be tokens too.
TEST(TokenizerJson, WhiteSpaceIsTakenOnce) {
  const auto added = [](std::string content, bool left, bool right) {
    const std::string flags = std::string(R"(, "single_word": false, "lstrip": )") + (left ? "true" : "false") +
                              R"(, "rstrip": )" + (right ? "true" : "false") +
                              R"(, "normalized": false, "special": false})";
    return R"({"id": 0, "content": ")" + content + "\"" + flags;
  };
  const auto of = [](const std::string& tokens) {
    return tokenizer(R"({"added_tokens": [)" + tokens + R"(], "model": )" + bpe(kVocab, "[]") + "}");
  };
  EXPECT_EQ(of(added(" ", true, true))->encode("a   b"), (Ids{0, 3, 1}));
  const auto both = of(added("x", false, true) + ", " + added(" ", true, false));
  EXPECT_EQ(both->encode("ax b"), (Ids{0, 3, 1}));
  EXPECT_EQ(both->encode("a b"), (Ids{0, 4, 1}));
  EXPECT_THROW(both->encode("ax   b"), Error);  // the library ends there
  EXPECT_EQ(of(added("x", false, true) + ", " + added(" ", false, false))->encode("ax   b"), (Ids{0, 3, 4, 4, 4, 1}));
}

/// Every prefix of a file is refused, and nothing but an Error comes out.
TEST(TokenizerJson, EveryPrefixIsRefused) {
  const std::string whole = with_regex(R"(\s+|[a-z&&[^x]]{2,3}+)");
  ASSERT_EQ(refusal(whole), "accepted");
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_NE(refusal(whole.substr(0, size)), "accepted") << size;
}

}  // namespace
}  // namespace ropewalk::formats
