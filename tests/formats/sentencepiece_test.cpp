// The reader of tokenizer.model on hostile files. What a good file means is tested in tokenizer_test.cpp against the
// real library.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>

#include "formats/tokenizers/sentencepiece_normalizer.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

// --- a writer of protobuf's wire format, for the test alone

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string tag(int number, int wire_type) { return varint(static_cast<std::uint64_t>(number * 8 + wire_type)); }
std::string scalar(int number, std::uint64_t value) { return tag(number, 0) + varint(value); }
std::string bytes(int number, std::string_view value) {
  return tag(number, 2) + varint(value.size()) + std::string(value);
}
std::string real(int number, float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  std::string out = tag(number, 5);
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(bits >> shift);
  return out;
}
std::string piece(std::string_view text, float score = 0, int type = 0) {
  return bytes(1, bytes(1, text) + real(2, score) + (type ? scalar(3, static_cast<std::uint64_t>(type)) : ""));
}
const std::string kTrainer = bytes(2, scalar(3, 2) + scalar(40, 0));
const std::string kNormalizer = bytes(3, bytes(1, "identity") + scalar(4, 0));
const std::string kPieces =
    piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("a", -1) + piece("b", -2) + piece("ab", -3);
const std::string kModel = kPieces + kTrainer + kNormalizer;

/// Parses a copy in an allocation of exactly its size, so that an address sanitizer sees every byte read past it.
Vocabulary parse(std::string_view model) {
  const auto exact = std::make_unique<char[]>(model.size());
  std::memcpy(exact.get(), model.data(), model.size());
  return parse_sentencepiece_model("m.model", {exact.get(), model.size()});
}

std::string refusal(std::string_view model) {
  try {
    parse(model);
  } catch (const Error& error) {
    return std::string(error_kind_name(error.kind())) + ": " + error.what();
  }
  return "accepted";
}

std::string at(std::size_t offset, const std::string& problem,
               const char* fix = "the file is cut short or corrupt: fetch it again") {
  return "bad_input: m.model: byte " + std::to_string(offset) + ": " + problem + "; " + fix;
}
constexpr const char* kNotMade = "the file is corrupt or was not made by SentencePiece: fetch it again";

TEST(SentencepieceModel, ReadsEveryField) {
  const Vocabulary vocabulary =
      parse(kPieces + piece("u", -4, 4) + piece("<PAD>", 0, 3) + piece("x", 1.5f, 5) +
            bytes(2, bytes(44, "?!") + scalar(3, 2) + bytes(46, "</s>") + bytes(47, "") + bytes(48, "<PAD>") +
                         real(10, 0.5f) + tag(52, 1) + std::string(8, 'x')) +
            bytes(3, bytes(1, "mine") + scalar(3, 0) + scalar(5, 0) + bytes(6, "ignored")) + bytes(5, scalar(3, 0)) +
            bytes(4, "old"));
  ASSERT_EQ(vocabulary.pieces.size(), 9u);
  EXPECT_EQ(vocabulary.pieces[5].text, "ab");
  EXPECT_EQ(vocabulary.pieces[5].score, -3);
  EXPECT_EQ(vocabulary.pieces[5].type, PieceType::normal);
  EXPECT_EQ(vocabulary.pieces[6].type, PieceType::user_defined);
  EXPECT_EQ(vocabulary.pieces[8].type, PieceType::unused);
  EXPECT_EQ(vocabulary.unk, 0);
  EXPECT_EQ(vocabulary.bos, 2);  // the trainer's name counts, not its id
  EXPECT_EQ(vocabulary.eos, 2);  // an empty name is the default one
  EXPECT_EQ(vocabulary.pad, 7);
  EXPECT_EQ(vocabulary.unk_surface, "?!");
  EXPECT_EQ(vocabulary.normalizer_name, "mine");
  EXPECT_FALSE(vocabulary.add_dummy_prefix);
  EXPECT_TRUE(vocabulary.remove_extra_whitespaces);  // the default
  EXPECT_FALSE(vocabulary.escape_whitespaces);
  EXPECT_FALSE(vocabulary.byte_fallback);
  EXPECT_EQ(vocabulary.add_bos, std::nullopt);
}

TEST(SentencepieceModel, EveryPrefixIsRefused) {
  ASSERT_EQ(refusal(kModel), "accepted");
  for (std::size_t size = 0; size < kModel.size(); ++size)
    EXPECT_EQ(refusal(std::string_view(kModel).substr(0, size)).substr(0, 9), "bad_input") << size;
  EXPECT_EQ(refusal(""), at(0, "no pieces, so this is no SentencePiece model"));
  EXPECT_EQ(refusal(kPieces), at(kPieces.size(), "trainer_spec is missing"));
  EXPECT_EQ(refusal(kPieces + kTrainer), at(kPieces.size() + kTrainer.size(), "normalizer_spec is missing"));
}

TEST(SentencepieceModel, EveryPrefixOfARealFileIsRefusedOrWhole) {
  std::ifstream file(std::string(ROPEWALK_GOLDEN_DIR) + "/fixtures/models/stories260K/tokenizer.model",
                     std::ios::binary);
  const std::string model{std::istreambuf_iterator<char>(file), {}};
  ASSERT_GT(model.size(), 1000u);
  const std::size_t n_pieces = parse(model).pieces.size();
  for (std::size_t size = 0; size < model.size(); ++size) {
    if (refusal(std::string_view(model).substr(0, size)) != "accepted") continue;
    // Only what follows the normalizer may be missing: an empty denormalizer.
    EXPECT_GT(size, model.size() - 8);
    EXPECT_EQ(parse(std::string_view(model).substr(0, size)).pieces.size(), n_pieces);
  }
}

TEST(SentencepieceModel, WireFormatThatLies) {
  EXPECT_EQ(refusal("\x80"), at(1, "a field's tag ends in the middle of a number"));
  EXPECT_EQ(refusal(std::string(11, '\xFF')), at(9, "a field's tag does not fit in 64 bits"));
  EXPECT_EQ(refusal(std::string(9, '\xFF') + '\x02'), at(9, "a field's tag does not fit in 64 bits"));
  EXPECT_EQ(refusal(std::string(9, '\xFF') + '\x01'), at(0, "field number 2305843009213693951 is out of range"));
  EXPECT_EQ(refusal(std::string(1, '\0')), at(0, "field number 0 is out of range"));
  EXPECT_EQ(refusal("\x0B"), at(0, "field 1 has wire type 3, expected 0, 1, 2 or 5"));
  EXPECT_EQ(refusal("\x0F"), at(0, "field 1 has wire type 7, expected 0, 1, 2 or 5"));
  EXPECT_EQ(refusal(tag(1, 2) + varint(std::numeric_limits<std::uint64_t>::max())),
            at(0, "field 1 needs 18446744073709551615 bytes, 0 are left"));
  EXPECT_EQ(refusal(tag(9, 5) + "abc"), at(1, "a field needs 4 bytes, 3 are left"));
  EXPECT_EQ(refusal(scalar(1, 5)), at(0, "a piece has wire type 0, expected 2"));
  EXPECT_EQ(refusal(bytes(1, scalar(1, 5))), at(2, "a piece's text has wire type 0, expected 2"));
  EXPECT_EQ(refusal(bytes(1, bytes(1, "x") + scalar(2, 0))), at(5, "a piece's score has wire type 0, expected 5"));
  EXPECT_EQ(refusal(bytes(1, tag(1, 2) + varint(6) + "abcde")),
            at(2, "field 1 needs 6 bytes, 5 are left"));  // past the piece, not past the file
}

TEST(SentencepieceModel, PiecesAreCounted) {  // while they are read: before they are compared
  constexpr std::size_t kMost = std::size_t{1} << 20;
  std::string model;
  for (std::size_t i = 0; i <= kMost; ++i) model += piece("x");
  EXPECT_EQ(refusal(model + "!"), at(kMost * piece("x").size(), "more than 1048576 pieces"));
}

TEST(SentencepieceModel, PiecesThatLie) {
  const std::string end = kTrainer + kNormalizer;
  EXPECT_EQ(refusal(piece("a\xC3") + end), at(5, "a piece's text is not UTF-8"));
  EXPECT_EQ(refusal(bytes(1, bytes(1, "x") + real(2, std::numeric_limits<float>::quiet_NaN()))),
            at(5, "a piece's score is not a number"));
  EXPECT_EQ(refusal(bytes(1, scalar(3, 7))), at(2, "a piece has type 7, expected 1 to 6"));
  EXPECT_EQ(refusal(bytes(1, bytes(1, std::string(8000, 'x')))),
            at(3, "a piece of 8000 bytes, expected fewer than 8000"));
  const std::size_t next = kPieces.size();
  EXPECT_EQ(refusal(kPieces + piece("") + end), at(next, "piece 6 '' has no text", kNotMade));
  EXPECT_EQ(refusal(kPieces + piece("ab") + end),
            at(next, "piece 6 'ab' is defined twice, first as piece 5", kNotMade));
  EXPECT_EQ(refusal(kPieces + piece("x", 0, 2) + end),
            at(next, "piece 6 'x' is a second unknown piece, the first is piece 0", kNotMade));
  EXPECT_EQ(refusal(kPieces + piece("<0x41>", 0, 6) + end),
            at(next, "piece 6 '<0x41>' is a byte, but byte_fallback is false", kNotMade));
  EXPECT_EQ(refusal(kPieces + piece(std::string_view("a\0", 2)) + end),
            at(next, "piece 6 holds a NUL character", kNotMade));
  EXPECT_EQ(refusal(piece("a") + end),
            at(piece("a").size(), "no piece of type unknown", "the file is corrupt: fetch it again"));
}

TEST(SentencepieceModel, ByteFallbackNeedsItsBytes) {
  const std::string trainer = bytes(2, scalar(3, 2) + scalar(35, 1));
  EXPECT_EQ(refusal(kPieces + trainer + kNormalizer),
            at(kPieces.size(), "byte_fallback is set, but <0x00> is missing", "the file is corrupt: fetch it again"));
  std::string pieces = kPieces;
  for (int byte = 0; byte < 256; ++byte) pieces += piece(byte_piece(static_cast<std::uint8_t>(byte)), 0, 6);
  EXPECT_TRUE(parse(pieces + trainer + kNormalizer).byte_fallback);
  EXPECT_EQ(refusal(pieces + piece("<0x4g>", 0, 6) + trainer + kNormalizer),
            at(pieces.size(), "piece 262 '<0x4g>' is no byte, expected '<0x00>' to '<0xFF>'", kNotMade));
  const Vocabulary with_null = parse(pieces + piece(std::string_view("\0", 1)) + trainer + kNormalizer);
  EXPECT_EQ(with_null.pieces.back().type, PieceType::unused);  // as the library takes it
}

TEST(SentencepieceModel, OtherKindsAreUnsupported) {
  const std::string place = "unsupported: m.model: byte " + std::to_string(kPieces.size()) + ": ";
  const char* fix = "; use a checkpoint with a BPE or unigram tokenizer.model";
  EXPECT_EQ(refusal(kPieces + bytes(2, scalar(3, 3)) + kNormalizer),
            place + "a SentencePiece model of type word, only bpe and unigram are read" + fix);
  EXPECT_EQ(refusal(kPieces + bytes(2, scalar(3, 9)) + kNormalizer),
            place + "a SentencePiece model of type 9, only bpe and unigram are read" + fix);
  EXPECT_EQ(parse(kPieces + bytes(2, "") + kNormalizer).model, "unigram");  // the field's default
  EXPECT_TRUE(parse(kPieces + bytes(2, scalar(24, 1)) + kNormalizer).whitespace_as_suffix);
  EXPECT_EQ(refusal(kModel + bytes(5, bytes(2, "x"))),
            "unsupported: m.model: byte " + std::to_string(kModel.size() + 2) +
                ": the denormalizer has a table of its own; use a model trained without --denormalization_rule_tsv");
}

// --- the table of replacements

std::string u32(std::uint32_t value) {
  std::string out;
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(value >> shift);
  return out;
}

/// A double array of 256 units with one rule, "a" -> "xyz": the root's offset is 1, so 'a' is at 1 ^ 'a'; that unit has
/// a leaf, at its place ^ its offset.
std::vector<std::uint32_t> small_trie() {
  std::vector<std::uint32_t> units(256, 1u << 10);
  // labels that match nobody's byte
  for (std::uint32_t place = 1; place < 256; ++place) units[place] = 1u << 10 | ((place ^ 1u) & 0xFF ? 0u : 1u);
  units[0] = 1u << 10;
  units[1 ^ 'a'] = 'a' | 1u << 8 | ((1u ^ 'a' ^ 200u) << 10);
  units[200] = 0x80000000u;
  return units;
}

std::string charsmap(const std::vector<std::uint32_t>& units, std::string_view replacements) {
  std::string out = u32(static_cast<std::uint32_t>(units.size() * 4));
  for (std::uint32_t unit : units) out += u32(unit);
  return out + std::string(replacements);
}

std::string table_refusal(const std::string& blob) {
  try {
    Charsmap table(blob);
  } catch (const Error& error) {
    return error.problem();
  }
  return "accepted";
}

TEST(Charsmap, FindsItsRule) {
  const Charsmap table(charsmap(small_trie(), std::string_view("xyz\0", 4)));
  const auto rule = table.longest("ab", 32);
  EXPECT_EQ(rule.length, 1u);
  EXPECT_EQ(rule.replacement, "xyz");
  EXPECT_EQ(table.longest("b", 32).length, 0u);
  EXPECT_EQ(table.longest("", 32).length, 0u);
  EXPECT_EQ(Charsmap("").longest("a", 32).length, 0u);
}

TEST(Charsmap, TablesThatLie) {
  const std::string name = "precompiled_charsmap: ";
  const std::string_view replacements("xyz\0", 4);
  EXPECT_EQ(table_refusal("abc"), name + "its size is cut short");
  EXPECT_EQ(table_refusal(u32(0xFFFFFFFF) + "abcd"), name + "its trie needs 4294967295 bytes, 4 are left");
  EXPECT_EQ(table_refusal(u32(8) + std::string(20, '\0')), name + "its trie has 8 bytes, expected a multiple of 1024");
  EXPECT_EQ(table_refusal(charsmap(small_trie(), "xyz")), name + "its replacements do not end with a NUL");
  auto units = small_trie();
  units[0] = 0;
  EXPECT_EQ(table_refusal(charsmap(units, replacements)), name + "its root is malformed");
  units = small_trie();
  units[7] = 256u << 10;
  EXPECT_EQ(table_refusal(charsmap(units, replacements)), name + "unit 7 points past the trie");
  units = small_trie();
  units[200] = 0x80000004u;
  EXPECT_EQ(table_refusal(charsmap(units, replacements)), name + "unit 200 points past the replacements");
  units = small_trie();
  units[200] = 1u << 10;
  EXPECT_EQ(table_refusal(charsmap(units, replacements)),
            name + "unit " + std::to_string(1 ^ 'a') + " has no leaf where it says");
}

// --- UTF-8

TEST(Utf8, EveryCodePointAndItsNeighbours) {
  for (std::uint32_t code = 0; code <= 0x110000; code += code < 0x10000 ? 1 : 37) {
    std::string text;
    if (code < 0x80) text = {static_cast<char>(code)};
    else if (code < 0x800) text = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
    else if (code < 0x10000)
      text = {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 63)),
              static_cast<char>(0x80 | (code & 63))};
    else
      text = {static_cast<char>(0xF0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 63)),
              static_cast<char>(0x80 | (code >> 6 & 63)), static_cast<char>(0x80 | (code & 63))};
    const bool valid = code <= 0x10FFFF && !(code >= 0xD800 && code < 0xE000);
    ASSERT_EQ(valid_utf8_prefix(text), valid ? text.size() : 0u) << code;
    ASSERT_EQ(utf8_length(text[0]), text.size()) << code;
    ASSERT_EQ(valid_utf8_prefix(std::string_view(text).substr(0, text.size() - 1)), 0u) << code;
  }
  for (const char* overlong : {"\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                               "\xF5\x80\x80\x80", "\x80", "\xFF"})
    EXPECT_EQ(valid_utf8_prefix(overlong), 0u);
}

}  // namespace
}  // namespace ropewalk::formats
