#include "formats/tokenizers/newer_characters.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "formats/tokenizers/characters.h"

namespace ropewalk::formats {
namespace {

enum Binary : std::uint8_t {
  kAlphabetic = 1,
  kUppercase = 2,
  kLowercase = 4,
  kIdeographic = 8,
  kMath = 16,
  kEmoji = 32,
  kEmojiPresentation = 64
};
constexpr std::pair<std::string_view, Binary> kBinaryNames[] = {{"alphabetic", kAlphabetic},
                                                                {"uppercase", kUppercase},
                                                                {"lowercase", kLowercase},
                                                                {"ideographic", kIdeographic},
                                                                {"math", kMath},
                                                                {"emoji", kEmoji},
                                                                {"emojipresentation", kEmojiPresentation}};

struct Row {
  std::uint32_t first, last;
  std::string_view was, now;  // general categories to PCRE2 and to the library; empty: the same
  std::string_view script;    // to the library, to PCRE2 unknown; empty: the same
  unsigned gained;            // Binary
};
struct Script {
  std::string_view name, short_name;
  bool unknown;
};

// Made by asking both about every character (tests/golden/make/newer_characters.py table).
// clang-format off
constexpr Row kRows[] = {
    {0x363, 0x36F, "", "", "", kAlphabetic}, {0x897, 0x897, "cn", "mn", "arabic", kAlphabetic},
    {0xC04, 0xC04, "", "", "", kAlphabetic}, {0xCF3, 0xCF3, "cn", "mc", "kannada", kAlphabetic},
    {0xECE, 0xECE, "cn", "mn", "lao", 0}, {0xF82, 0xF83, "", "", "", kAlphabetic},
    {0x10FC, 0x10FC, "", "", "", kLowercase}, {0x1B4E, 0x1B4F, "cn", "po", "balinese", 0},
    {0x1B7F, 0x1B7F, "cn", "po", "balinese", 0}, {0x1C89, 0x1C89, "cn", "lu", "cyrillic", kAlphabetic | kUppercase},
    {0x1C8A, 0x1C8A, "cn", "ll", "cyrillic", kAlphabetic | kLowercase}, {0x1DD3, 0x1DE6, "", "", "", kAlphabetic},
    {0x2427, 0x2429, "cn", "so", "common", 0}, {0x2FFC, 0x2FFF, "cn", "so", "common", 0},
    {0x31E4, 0x31E5, "cn", "so", "common", 0}, {0x31EF, 0x31EF, "cn", "so", "common", 0},
    {0xA7CB, 0xA7CC, "cn", "lu", "latin", kAlphabetic | kUppercase},
    {0xA7CD, 0xA7CD, "cn", "ll", "latin", kAlphabetic | kLowercase},
    {0xA7DA, 0xA7DA, "cn", "lu", "latin", kAlphabetic | kUppercase},
    {0xA7DB, 0xA7DB, "cn", "ll", "latin", kAlphabetic | kLowercase},
    {0xA7DC, 0xA7DC, "cn", "lu", "latin", kAlphabetic | kUppercase}, {0xA7F2, 0xA7F4, "", "", "", kLowercase},
    {0xAB69, 0xAB69, "", "", "", kLowercase}, {0x105C0, 0x105F3, "cn", "lo", "todhri", kAlphabetic},
    {0x10D40, 0x10D49, "cn", "nd", "garay", 0}, {0x10D4A, 0x10D4D, "cn", "lo", "garay", kAlphabetic},
    {0x10D4E, 0x10D4E, "cn", "lm", "garay", kAlphabetic}, {0x10D4F, 0x10D4F, "cn", "lo", "garay", kAlphabetic},
    {0x10D50, 0x10D65, "cn", "lu", "garay", kAlphabetic | kUppercase},
    {0x10D69, 0x10D69, "cn", "mn", "garay", kAlphabetic}, {0x10D6A, 0x10D6D, "cn", "mn", "garay", 0},
    {0x10D6E, 0x10D6E, "cn", "pd", "garay", 0}, {0x10D6F, 0x10D6F, "cn", "lm", "garay", kAlphabetic},
    {0x10D70, 0x10D85, "cn", "ll", "garay", kAlphabetic | kLowercase}, {0x10D8E, 0x10D8F, "cn", "sm", "garay", kMath},
    {0x10EC2, 0x10EC4, "cn", "lo", "arabic", kAlphabetic}, {0x10EFC, 0x10EFC, "cn", "mn", "arabic", kAlphabetic},
    {0x10EFD, 0x10EFF, "cn", "mn", "arabic", 0}, {0x11080, 0x11081, "", "", "", kAlphabetic},
    {0x1123F, 0x11240, "cn", "lo", "khojki", kAlphabetic}, {0x11241, 0x11241, "cn", "mn", "khojki", kAlphabetic},
    {0x11380, 0x11389, "cn", "lo", "tulutigalari", kAlphabetic},
    {0x1138B, 0x1138B, "cn", "lo", "tulutigalari", kAlphabetic},
    {0x1138E, 0x1138E, "cn", "lo", "tulutigalari", kAlphabetic},
    {0x11390, 0x113B5, "cn", "lo", "tulutigalari", kAlphabetic},
    {0x113B7, 0x113B7, "cn", "lo", "tulutigalari", kAlphabetic},
    {0x113B8, 0x113BA, "cn", "mc", "tulutigalari", kAlphabetic},
    {0x113BB, 0x113C0, "cn", "mn", "tulutigalari", kAlphabetic},
    {0x113C2, 0x113C2, "cn", "mc", "tulutigalari", kAlphabetic},
    {0x113C5, 0x113C5, "cn", "mc", "tulutigalari", kAlphabetic},
    {0x113C7, 0x113CA, "cn", "mc", "tulutigalari", kAlphabetic},
    {0x113CC, 0x113CD, "cn", "mc", "tulutigalari", kAlphabetic}, {0x113CE, 0x113CE, "cn", "mn", "tulutigalari", 0},
    {0x113CF, 0x113CF, "cn", "mc", "tulutigalari", 0}, {0x113D0, 0x113D0, "cn", "mn", "tulutigalari", 0},
    {0x113D1, 0x113D1, "cn", "lo", "tulutigalari", kAlphabetic}, {0x113D2, 0x113D2, "cn", "mn", "tulutigalari", 0},
    {0x113D3, 0x113D3, "cn", "lo", "tulutigalari", kAlphabetic}, {0x113D4, 0x113D5, "cn", "po", "tulutigalari", 0},
    {0x113D7, 0x113D8, "cn", "po", "tulutigalari", 0}, {0x113E1, 0x113E2, "cn", "mn", "tulutigalari", 0},
    {0x116D0, 0x116E3, "cn", "nd", "myanmar", 0}, {0x1171E, 0x1171E, "mn", "mc", "", 0},
    {0x11B00, 0x11B09, "cn", "po", "devanagari", 0}, {0x11BC0, 0x11BE0, "cn", "lo", "sunuwar", kAlphabetic},
    {0x11BE1, 0x11BE1, "cn", "po", "sunuwar", 0}, {0x11BF0, 0x11BF9, "cn", "nd", "sunuwar", 0},
    {0x11F00, 0x11F01, "cn", "mn", "kawi", kAlphabetic}, {0x11F02, 0x11F02, "cn", "lo", "kawi", kAlphabetic},
    {0x11F03, 0x11F03, "cn", "mc", "kawi", kAlphabetic}, {0x11F04, 0x11F10, "cn", "lo", "kawi", kAlphabetic},
    {0x11F12, 0x11F33, "cn", "lo", "kawi", kAlphabetic}, {0x11F34, 0x11F35, "cn", "mc", "kawi", kAlphabetic},
    {0x11F36, 0x11F3A, "cn", "mn", "kawi", kAlphabetic}, {0x11F3E, 0x11F3F, "cn", "mc", "kawi", kAlphabetic},
    {0x11F40, 0x11F40, "cn", "mn", "kawi", kAlphabetic}, {0x11F41, 0x11F41, "cn", "mc", "kawi", 0},
    {0x11F42, 0x11F42, "cn", "mn", "kawi", 0}, {0x11F43, 0x11F4F, "cn", "po", "kawi", 0},
    {0x11F50, 0x11F59, "cn", "nd", "kawi", 0}, {0x11F5A, 0x11F5A, "cn", "mn", "kawi", 0},
    {0x1342F, 0x1342F, "cn", "lo", "egyptianhieroglyphs", kAlphabetic},
    {0x13439, 0x1343F, "cn", "cf", "egyptianhieroglyphs", 0}, {0x13440, 0x13440, "cn", "mn", "egyptianhieroglyphs", 0},
    {0x13441, 0x13446, "cn", "lo", "egyptianhieroglyphs", kAlphabetic},
    {0x13447, 0x13455, "cn", "mn", "egyptianhieroglyphs", 0},
    {0x13460, 0x143FA, "cn", "lo", "egyptianhieroglyphs", kAlphabetic},
    {0x16100, 0x1611D, "cn", "lo", "gurungkhema", kAlphabetic},
    {0x1611E, 0x16129, "cn", "mn", "gurungkhema", kAlphabetic},
    {0x1612A, 0x1612C, "cn", "mc", "gurungkhema", kAlphabetic},
    {0x1612D, 0x1612E, "cn", "mn", "gurungkhema", kAlphabetic}, {0x1612F, 0x1612F, "cn", "mn", "gurungkhema", 0},
    {0x16130, 0x16139, "cn", "nd", "gurungkhema", 0}, {0x16D40, 0x16D42, "cn", "lm", "kiratrai", kAlphabetic},
    {0x16D43, 0x16D6A, "cn", "lo", "kiratrai", kAlphabetic}, {0x16D6B, 0x16D6C, "cn", "lm", "kiratrai", kAlphabetic},
    {0x16D6D, 0x16D6F, "cn", "po", "kiratrai", 0}, {0x16D70, 0x16D79, "cn", "nd", "kiratrai", 0},
    {0x18CFF, 0x18CFF, "cn", "lo", "khitansmallscript", kAlphabetic | kIdeographic},
    {0x1B132, 0x1B132, "cn", "lo", "hiragana", kAlphabetic}, {0x1B155, 0x1B155, "cn", "lo", "katakana", kAlphabetic},
    {0x1CC00, 0x1CCEF, "cn", "so", "common", 0}, {0x1CCF0, 0x1CCF9, "cn", "nd", "common", 0},
    {0x1CD00, 0x1CEB3, "cn", "so", "common", 0}, {0x1D2C0, 0x1D2D3, "cn", "no", "common", 0},
    {0x1DF25, 0x1DF2A, "cn", "ll", "latin", kAlphabetic | kLowercase},
    {0x1E030, 0x1E06D, "cn", "lm", "cyrillic", kAlphabetic | kLowercase},
    {0x1E08F, 0x1E08F, "cn", "mn", "cyrillic", kAlphabetic}, {0x1E4D0, 0x1E4EA, "cn", "lo", "nagmundari", kAlphabetic},
    {0x1E4EB, 0x1E4EB, "cn", "lm", "nagmundari", kAlphabetic}, {0x1E4EC, 0x1E4EF, "cn", "mn", "nagmundari", 0},
    {0x1E4F0, 0x1E4F9, "cn", "nd", "nagmundari", 0}, {0x1E5D0, 0x1E5ED, "cn", "lo", "olonal", kAlphabetic},
    {0x1E5EE, 0x1E5EF, "cn", "mn", "olonal", 0}, {0x1E5F0, 0x1E5F0, "cn", "lo", "olonal", kAlphabetic},
    {0x1E5F1, 0x1E5FA, "cn", "nd", "olonal", 0}, {0x1E5FF, 0x1E5FF, "cn", "po", "olonal", 0},
    {0x1F6DC, 0x1F6DC, "cn", "so", "common", kEmoji | kEmojiPresentation}, {0x1F774, 0x1F776, "cn", "so", "common", 0},
    {0x1F77B, 0x1F77F, "cn", "so", "common", 0}, {0x1F7D9, 0x1F7D9, "cn", "so", "common", 0},
    {0x1F8B2, 0x1F8BB, "cn", "so", "common", 0}, {0x1F8C0, 0x1F8C1, "cn", "so", "common", 0},
    {0x1FA75, 0x1FA77, "cn", "so", "common", kEmoji | kEmojiPresentation},
    {0x1FA87, 0x1FA89, "cn", "so", "common", kEmoji | kEmojiPresentation},
    {0x1FA8F, 0x1FA8F, "cn", "so", "common", kEmoji | kEmojiPresentation},
    {0x1FAAD, 0x1FAAF, "cn", "so", "common", kEmoji | kEmojiPresentation},
    {0x1FABB, 0x1FABF, "cn", "so", "common", kEmoji | kEmojiPresentation},
    {0x1FAC6, 0x1FAC6, "cn", "so", "common", kEmoji | kEmojiPresentation},
    {0x1FACE, 0x1FACF, "cn", "so", "common", kEmoji | kEmojiPresentation},
    {0x1FADA, 0x1FADC, "cn", "so", "common", kEmoji | kEmojiPresentation},
    {0x1FADF, 0x1FADF, "cn", "so", "common", kEmoji | kEmojiPresentation},
    {0x1FAE8, 0x1FAE9, "cn", "so", "common", kEmoji | kEmojiPresentation},
    {0x1FAF7, 0x1FAF8, "cn", "so", "common", kEmoji | kEmojiPresentation}, {0x1FBCB, 0x1FBEF, "cn", "so", "common", 0},
    {0x2B739, 0x2B739, "cn", "lo", "han", kAlphabetic | kIdeographic},
    {0x2EBF0, 0x2EE5D, "cn", "lo", "han", kAlphabetic | kIdeographic},
    {0x31350, 0x323AF, "cn", "lo", "han", kAlphabetic | kIdeographic}};
constexpr Script kScripts[] = {
    {"arabic", "arab", false}, {"balinese", "bali", false}, {"common", "zyyy", false}, {"cyrillic", "cyrl", false},
    {"devanagari", "deva", false}, {"egyptianhieroglyphs", "egyp", false}, {"garay", "gara", true},
    {"gurungkhema", "gukh", true}, {"han", "hani", false}, {"hiragana", "hira", false}, {"kannada", "knda", false},
    {"katakana", "kana", false}, {"kawi", "kawi", true}, {"khitansmallscript", "kits", false},
    {"khojki", "khoj", false}, {"kiratrai", "krai", true}, {"lao", "laoo", false}, {"latin", "latn", false},
    {"myanmar", "mymr", false}, {"nagmundari", "nagm", true}, {"olonal", "onao", true}, {"sunuwar", "sunu", true},
    {"todhri", "todr", true}, {"tulutigalari", "tutg", true}};
constexpr CasePair kCasePairs[] = {
    {0x19B, 0xA7DC}, {0x264, 0xA7CB}, {0x390, 0x1FD3}, {0x3B0, 0x1FE3}, {0x1C89, 0x1C8A}, {0xA7CC, 0xA7CD},
    {0xA7DA, 0xA7DB}, {0xFB05, 0xFB06}, {0x10D50, 0x10D70}, {0x10D51, 0x10D71}, {0x10D52, 0x10D72}, {0x10D53, 0x10D73}, {0x10D54, 0x10D74}, {0x10D55, 0x10D75}, {0x10D56, 0x10D76}, {0x10D57, 0x10D77}, {0x10D58, 0x10D78}, {0x10D59, 0x10D79}, {0x10D5A, 0x10D7A}, {0x10D5B, 0x10D7B}, {0x10D5C, 0x10D7C}, {0x10D5D, 0x10D7D}, {0x10D5E, 0x10D7E}, {0x10D5F, 0x10D7F}, {0x10D60, 0x10D80}, {0x10D61, 0x10D81}, {0x10D62, 0x10D82}, {0x10D63, 0x10D83}, {0x10D64, 0x10D84}, {0x10D65, 0x10D85}};
// clang-format on

/// Whether `name`, of one letter or two, is or holds the general category.
bool holds(std::string_view name, std::string_view category) {
  if (name == "lc") return category == "lu" || category == "ll" || category == "lt";
  return !category.empty() && category.starts_with(name);
}

void append(std::vector<CodeRange>& ranges, const Row& row) {
  if (!ranges.empty() && ranges.back().last + 1 == row.first) ranges.back().last = row.last;
  else ranges.push_back({row.first, row.last});
}

/// Pages that have a row, so that texts without such characters are gone through quickly.
constexpr std::uint32_t kPageSize = 32;
constexpr auto kPages = [] {
  std::array<bool, 0x110000 / kPageSize> pages{};
  for (const Row& row : kRows)
    for (std::uint32_t page = row.first / kPageSize; page <= row.last / kPageSize; ++page) pages[page] = true;
  return pages;
}();

}  // namespace

PropertyChange property_change(std::string_view name) {
  PropertyChange change;
  const auto* script = std::find_if(std::begin(kScripts), std::end(kScripts),
                                    [name](const Script& one) { return one.name == name || one.short_name == name; });
  const auto* binary = std::find_if(std::begin(kBinaryNames), std::end(kBinaryNames),
                                    [name](const auto& one) { return one.first == name; });
  const bool category = name.size() == 1 || name.size() == 2;
  const bool no_script = name == "unknown" || name == "zzzz";
  change.unknown = script != std::end(kScripts) && script->unknown;
  for (const Row& row : kRows) {
    bool was = false, now = false;
    if (category) {
      was = holds(name, row.was);
      now = holds(name, row.now);
    } else if (no_script) {
      was = !row.script.empty();
    } else if (script != std::end(kScripts)) {
      now = row.script == script->name;
    } else if (binary != std::end(kBinaryNames)) {
      now = (row.gained & binary->second) != 0;
    }
    if (now && !was) append(change.gained, row);
    if (was && !now) append(change.lost, row);
  }
  return change;
}

std::span<const CasePair> newer_case_pairs() noexcept { return kCasePairs; }

bool has_newer_character(std::string_view text) noexcept {
  while (!text.empty()) {
    const auto lead = static_cast<unsigned char>(text[0]);
    if (lead < 0x80) {
      std::uint64_t eight = 0x80;
      if (text.size() >= sizeof eight) std::memcpy(&eight, text.data(), sizeof eight);
      text.remove_prefix((eight & 0x8080808080808080u) == 0 ? sizeof eight : 1);  // all ASCII
      continue;
    }
    if (lead < 0xE0 && lead != 0xCD) {  // of two bytes only U+0363 to U+036F are in the table
      text.remove_prefix(2);
      continue;
    }
    const Character next = first_character(text);
    text.remove_prefix(next.length);
    if (!kPages[next.code / kPageSize]) continue;
    const auto* row = std::partition_point(std::begin(kRows), std::end(kRows),
                                           [&next](const Row& one) { return one.last < next.code; });
    if (row != std::end(kRows) && row->first <= next.code) return true;
  }
  return false;
}

}  // namespace ropewalk::formats
