#include "formats/tokenizers/regex_syntax.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <utility>
#include <vector>

#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/newer_characters.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr int kMaxDepth = 32;
constexpr std::size_t kMaxTails = 50;
constexpr std::size_t kMaxTranslatedBytes = std::size_t{1} << 18;
constexpr const char* kSeveralLetters = "letters under (?i) that are more or fewer in another case";

// Insides of PCRE2 classes. PCRE2's own \s has U+180E too, its \w neither marks nor connectors.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNoSpaces =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
// Oniguruma's \w has Latin-1's fractions and superscripts outside brackets, and not inside; others (No) in neither.
constexpr std::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
constexpr std::string_view kWordAlone =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
constexpr std::string_view kEverything = R"(\x{0}-\x{10ffff})";
constexpr std::string_view kHex = "0-9A-Fa-f";
constexpr std::string_view kNoHex = R"(\x{0}-/:-@G-`g-\x{10ffff})";

struct LongName {
  std::string_view name, short_name;
};
constexpr std::array kLongNames = {
    LongName{"letter", "L"},
    LongName{"mark", "M"},
    LongName{"number", "N"},
    LongName{"punctuation", "P"},
    LongName{"symbol", "S"},
    LongName{"separator", "Z"},
    LongName{"other", "C"},
    LongName{"uppercaseletter", "Lu"},
    LongName{"lowercaseletter", "Ll"},
    LongName{"titlecaseletter", "Lt"},
    LongName{"modifierletter", "Lm"},
    LongName{"otherletter", "Lo"},
    LongName{"nonspacingmark", "Mn"},
    LongName{"spacingmark", "Mc"},
    LongName{"enclosingmark", "Me"},
    LongName{"decimalnumber", "Nd"},
    LongName{"letternumber", "Nl"},
    LongName{"othernumber", "No"},
};

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorKind::unsupported, {}, "its regular expression has " + what + ", which is not understood",
              "pass token ids instead of text");
}

/// What a class holds: `items` stand in PCRE2's brackets, `others` ("|[^...]") beside them.
struct Inside {
  std::string items, others = "";

  /// As an atom of its own.
  std::string alone() const {
    if (others.empty()) return "[" + (items.empty() ? "^" + std::string(kEverything) : items) + "]";
    return items.empty() ? others.substr(1) : "(?:[" + items + "]" + others + ")";
  }
};

std::string spelled(std::uint32_t code) {
  char text[16];
  std::snprintf(text, sizeof text, "\\x{%x}", static_cast<unsigned>(code));
  return text;
}
std::string spelled(const std::vector<CodeRange>& ranges) {
  std::string out;
  for (const CodeRange& range : ranges) out += spelled(range.first) + "-" + spelled(range.last);
  return out;
}

class Translator {
 public:
  Translator(std::string_view pattern, bool newer) : rest_(pattern), newer_(newer) {}

  std::string run() {
    while (!rest_.empty()) {
      item();
      if (out_.size() > kMaxTranslatedBytes) refuse("too many classes");
    }
    out_.append(tails_, ')');
    return out_;
  }

 private:
  /// An open one.
  struct Group {
    std::size_t begin;
    bool caseless;          // before it
    bool look = false;      // matches nothing itself: (?=, (?<!, ...
    bool joins = false;     // (?:...) without alternatives: its last letter stands beside what follows
    std::size_t tails = 0;  // groups inside that options opened, which end with it
  };

  char peek(std::size_t at = 0) const { return at < rest_.size() ? rest_[at] : '\0'; }
  bool take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }
  char next() {
    if (rest_.empty()) refuse("no end");
    const char c = rest_[0];
    rest_.remove_prefix(1);
    return c;
  }
  /// A piece that a quantifier may follow.
  void atom(std::string_view text) {
    atom_ = out_.size();
    out_ += text;
    repeatable_ = true;
    last_literal_.reset();
  }
  /// As the library refuses it: of what matches nothing, or of nothing.
  void check_repeatable() const {
    if (!repeatable_) refuse("a count of nothing that could be repeated");
  }

  /// One character. Ignoring case the library takes some for several ("ss" for sharp s), and several for them.
  void literal_atom(const std::string& text) {
    const std::uint32_t code = code_of(text);
    if (caseless_ && last_literal_ && is_one_letter(*last_literal_, code)) refuse(kSeveralLetters);
    refuse_several_letters(code, code);
    atom(in_both_cases(text));
    last_literal_ = code;
  }
  /// If any character from `first` to `last` is several in another case.
  void refuse_several_letters(std::uint32_t first, std::uint32_t last) const {
    constexpr std::pair<std::uint32_t, std::uint32_t> kRanges[] = {
        {0xDF, 0xDF},   {0x130, 0x130},   {0x149, 0x149},   {0x1F0, 0x1F0},   {0x390, 0x390},  {0x3B0, 0x3B0},
        {0x587, 0x587}, {0x1E96, 0x1E9A}, {0x1E9E, 0x1E9E}, {0x1F50, 0x1FFC}, {0xFB00, 0xFB17}};
    for (const auto& [from, to] : kRanges)
      if (caseless_ && first <= to && last >= from) refuse(kSeveralLetters);
  }
  static bool is_one_letter(std::uint32_t first, std::uint32_t second) {
    const auto lower = [](std::uint32_t code) { return code < 0x80 ? code | 0x20 : code == 0x17F ? 's' : code; };
    const auto one = lower(first), other = lower(second);
    return (one == 's' && (other == 's' || other == 't')) ||
           (one == 'f' && (other == 'f' || other == 'i' || other == 'l')) || (one == 0x2BC && other == 'n') ||
           (other >= 0x300 && other < 0x370) || other == 0x2BE;
  }

  void item() {
    const char c = next();
    switch (c) {
      case '\\': return escape();
      case '[': return atom(character_class(0));
      case '(': return open_group();
      case ')':
        if (!groups_.empty()) {
          out_.append(groups_.back().tails, ')');
          atom_ = groups_.back().begin;
          caseless_ = groups_.back().caseless;
          repeatable_ = !groups_.back().look;
          if (!groups_.back().joins) last_literal_.reset();
          groups_.pop_back();
        }
        out_ += c;
        return;
      case '{': return interval();
      default:
        if (c == '|' || c == '^' || c == '$') {
          out_ += c;
          repeatable_ = false;
          last_literal_.reset();
          if (c == '|' && !groups_.empty()) groups_.back().joins = false;
        } else if (c == '*' || c == '+' || c == '?') {
          check_repeatable();
          out_ += c;
          last_literal_.reset();
        } else {
          literal_atom(character(c));
        }
    }
  }

  /// "{n,m}" and what follows it; a brace that counts nothing is a character.
  void interval() {
    std::size_t end = rest_.find('}');
    const std::string_view inside = end == std::string_view::npos ? "" : rest_.substr(0, end);
    const bool counts = !inside.empty() && inside != "," && inside.find_first_not_of("0123456789,") == inside.npos &&
                        std::count(inside.begin(), inside.end(), ',') <= 1;
    if (!counts) return atom("\\{");
    rest_.remove_prefix(end + 1);
    check_repeatable();
    out_ += "{" + std::string(inside[0] == ',' ? "0" : "") + std::string(inside) + "}";
    if (inside != "1") last_literal_.reset();
    const bool fixed = inside.find(',') == inside.npos;  // {n}? is an option, not a lazy count
    if (peek() != '+' && !(fixed && peek() == '?')) return;
    out_.insert(atom_, "(?:");
    out_ += ")";
  }

  void open_group() {
    groups_.push_back({out_.size(), caseless_});
    const std::optional<std::uint32_t> before = std::exchange(last_literal_, std::nullopt);
    repeatable_ = false;
    if (groups_.size() > 200) refuse("more than 200 nested groups");
    if (!take("?")) {
      if (peek() == '*') refuse("a callout");
      out_ += '(';
      return;
    }
    for (std::string_view kind : {":", "=", "!", ">", "<=", "<!"})
      if (take(kind)) {
        groups_.back().look = kind != ":" && kind != ">";
        groups_.back().joins = kind == ":";
        if (kind == ":") last_literal_ = before;
        out_ += "(?" + std::string(kind);
        return;
      }
    if (take("#")) {
      groups_.pop_back();
      const std::size_t end = rest_.find(')');
      if (end == std::string_view::npos) refuse("no end");
      rest_.remove_prefix(end + 1);
      last_literal_ = before;
      return;
    }
    if (peek() == '<') {
      out_ += "(?";
      return;  // a name: its letters are the same in both
    }
    std::string options;
    while (peek() == 'i' || peek() == 'm' || peek() == 'x' || peek() == '-') {
      const char option = next();
      if (option == 'i') caseless_ = options.find('-') == options.npos;
      options += option == 'm' ? 's' : option;
    }
    if (options.empty() || (peek() != ':' && peek() != ')'))
      refuse("a group of kind '(?" + std::string(1, peek()) + "'");
    if (options.find('x') != std::string::npos) refuse("the option x");
    out_ += "(?" + options + ":";
    if (next() == ':') return;
    // a(?i)b|c is a(?i:b|c): options of their own make one group of the rest of theirs, alternatives too
    groups_.pop_back();
    if (++(groups_.empty() ? tails_ : groups_.back().tails) > kMaxTails) refuse("more than 50 options in one group");
    atom_ = out_.size();
  }

  /// Behind a backslash outside a class.
  void escape() {
    if (const auto inside = class_escape(kWordAlone)) return atom(inside->alone());
    const char c = next();
    if (c == 'A' || c == 'z' || c == 'Z') {
      out_ += std::string("\\") + c;
      repeatable_ = false;
      last_literal_.reset();
      return;
    }
    if (c == 'b' || c == 'B') {  // PCRE2's own goes by its own \w
      const std::string word = Inside{word_items(kWordAlone)}.alone() + ")";
      const std::string here = "(?=" + word, not_here = "(?!" + word;
      atom("(?:(?<=" + word + (c == 'b' ? not_here : here) + "|(?<!" + word + (c == 'b' ? here : not_here) + ")");
      repeatable_ = false;
      return;
    }
    if (c >= '1' && c <= '9') return atom(std::string("\\") + c);
    literal_atom(literal(c));
  }

  /// Behind a backslash.
  static bool is_class_escape(char c) {
    return c != '\0' && std::string_view("sSwWdDhHpP").find(c) != std::string_view::npos;
  }

  /// A class that an escape stands for; nullopt: none, nothing is taken.
  std::optional<Inside> class_escape(std::string_view word) {
    const char c = peek();
    if (!is_class_escape(c)) return std::nullopt;
    rest_.remove_prefix(1);
    switch (c) {
      case 's': return Inside{std::string(kSpaces)};
      case 'S': return Inside{std::string(kNoSpaces)};
      case 'w': return Inside{word_items(word)};
      case 'W': return Inside{"", "|[^" + word_items(word) + "]"};
      case 'd':
      case 'D': return having("Nd", c == 'D', property_change("nd"));
      case 'h': return Inside{std::string(kHex)};
      case 'H': return Inside{std::string(kNoHex)};
      default: return property(c == 'P');
    }
  }

  /// \w's items; of later characters no word character became another.
  std::string word_items(std::string_view word) const {
    std::string out(word);
    for (const char* part : {"l", "m", "nd", "nl", "pc"})
      if (newer_) out += spelled(property_change(part).gained);
    return out;
  }

  /// The property that PCRE2 calls `name`, or all without it, with what the library says otherwise of later characters.
  Inside having(const std::string& name, bool negated, const PropertyChange& change) const {
    const std::string yes = change.unknown ? "" : "\\p{" + name + "}";
    const std::string no = change.unknown ? std::string(kEverything) : "\\P{" + name + "}";
    const bool differs = newer_ || change.unknown;
    const std::string gained = differs ? spelled(change.gained) : "", lost = differs ? spelled(change.lost) : "";
    if (negated) return gained.empty() ? Inside{no + lost} : Inside{lost, "|[^" + yes + gained + "]"};
    return lost.empty() ? Inside{yes + gained} : Inside{gained, "|[^" + no + lost + "]"};
  }

  Inside property(bool negated) {
    if (!take("{")) refuse("\\p without braces");
    if (take("^")) negated = !negated;
    const std::size_t end = rest_.find('}');
    if (end == std::string_view::npos || end == 0 || end > 40) refuse("\\p without a name");
    std::string name(rest_.substr(0, end));
    rest_.remove_prefix(end + 1);
    std::string loose;
    for (char c : name) {
      if (c == '_' || c == ' ' || c == '-') continue;
      if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
        refuse("the property '" + name + "'");
      loose += static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    for (const LongName& row : kLongNames)
      if (row.name == loose) {
        name = row.short_name;
        loose.clear();
        for (char c : name) loose += static_cast<char>(c | 0x20);
      }
    if (loose == "space" || loose == "whitespace") return {std::string(negated ? kNoSpaces : kSpaces)};
    // POSIX names: Oniguruma's meaning is not the one PCRE2 gives them
    for (std::string_view odd : {"alnum", "blank", "cntrl", "digit", "graph", "print", "punct", "word", "xdigit",
                                 "alpha", "any", "l&", "xan", "xps", "xsp", "xuc", "xwd", "bidi"})
      if (loose.starts_with(odd) && loose != "alphabetic") refuse("the property '" + name + "'");
    // A script's bare name is its extensions to PCRE2, the script alone to Oniguruma.
    const bool category = loose.size() <= 2;
    constexpr std::array kBinary = {"alphabetic",   "uppercase", "lowercase",         "emoji",
                                    "ideographic",  "math",      "emojipresentation", "extendedpictographic",
                                    "emojimodifier"};
    const bool binary = std::find(kBinary.begin(), kBinary.end(), loose) != kBinary.end();
    if (caseless_ && (loose == "lu" || loose == "ll" || loose == "lt" || loose == "uppercase" || loose == "lowercase"))
      refuse("the property '" + name + "' under (?i)");
    return having((category || binary ? "" : "sc:") + name, negated, property_change(loose));
  }

  /// The character whose first byte was taken, as it stands.
  std::string character(char first) {
    std::string out(1, first);
    while ((static_cast<unsigned char>(peek()) & 0xC0) == 0x80) out += next();
    return out;
  }

  /// The number of a character as literal() and character() spell it.
  static std::uint32_t code_of(const std::string& text) {
    if (text.starts_with("\\x{")) return static_cast<std::uint32_t>(std::stoul(text.substr(3), nullptr, 16));
    return text.size() > 1 && text[0] == '\\' ? static_cast<unsigned char>(text[1]) : first_character(text).code;
  }

  /// The other cases that PCRE2 does not know of what stands from `first` to `last`, as items.
  std::string other_cases(std::uint32_t first, std::uint32_t last) const {
    std::string out;
    if (!caseless_) return out;
    for (const CasePair& pair : newer_case_pairs()) {
      if (pair.one >= first && pair.one <= last) out += spelled(pair.other);
      if (pair.other >= first && pair.other <= last) out += spelled(pair.one);
    }
    return out;
  }

  std::string in_both_cases(const std::string& text) const {
    const std::uint32_t code = code_of(text);
    const std::string others = other_cases(code, code);
    return others.empty() ? text : "[" + text + others + "]";
  }

  /// A character behind a backslash, spelled for either place.
  std::string literal(char c) {
    constexpr std::string_view kPlain = "tnrfvae";
    constexpr std::array kCodes = {"\\x{9}", "\\x{a}", "\\x{d}", "\\x{c}", "\\x{b}", "\\x{7}", "\\x{1b}"};
    if (const std::size_t at = kPlain.find(c); at != kPlain.npos) return kCodes[at];
    if (c == 'x' || c == 'u') return coded(c);
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) refuse(std::string("\\") + c);
    return static_cast<unsigned char>(c) >= 0x80 ? character(c) : std::string("\\") + c;
  }

  std::string coded(char letter) {
    std::string digits;
    const auto hex = [](char c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); };
    const bool braces = letter == 'x' && take("{");
    const std::size_t most = braces ? 8 : letter == 'x' ? 2 : 4;
    while (digits.size() < most && hex(peek())) digits += next();
    if (digits.empty() || (braces && !take("}"))) refuse(std::string("\\") + letter);
    if (letter == 'u' && digits.size() != 4) refuse("\\u");
    if (!braces && letter == 'x' && std::stoul(digits, nullptr, 16) >= 0x80) refuse("\\x with a single byte");
    return "\\x{" + digits + "}";
  }

  /// Behind "[": a PCRE2 class, or an alternative of what one class cannot say.
  std::string character_class(int depth) {
    if (depth > kMaxDepth) refuse("classes nested too deeply");
    const bool negated = take("^");
    std::vector<std::string> parts;  // what && joins
    std::string items, nested;
    const auto finish_part = [&] {
      std::string part = items.empty() ? "" : "[" + items + "]";
      if (!nested.empty()) part = "(?:" + (part.empty() ? nested.substr(1) : part + nested) + ")";
      if (part.empty()) refuse("an empty class");
      parts.push_back(part);
      items.clear();
      nested.clear();
    };
    for (bool first = true;; first = false) {
      if (rest_.empty()) refuse("a class without an end");
      if (peek() == ']' && !first) break;
      if (take("&&")) {
        finish_part();
        continue;
      }
      class_item(depth, items, nested);
    }
    rest_.remove_prefix(1);
    const bool plain = parts.empty() && nested.empty();
    if (plain) return (negated ? "[^" : "[") + items + "]";
    finish_part();
    std::string all = parts.back();
    for (std::size_t at = parts.size() - 1; at-- > 0;) all = "(?=" + parts[at] + ")" + all;
    return negated ? "(?:(?!" + all + ")(?s:.))" : "(?:" + all + ")";
  }

  void class_item(int depth, std::string& items, std::string& nested) {
    if (take("[")) {
      if (peek() == ':') refuse("a POSIX bracket");
      nested += "|" + character_class(depth + 1);
      return;
    }
    if (peek() == '\\' && is_class_escape(peek(1))) {
      take("\\");
      if (caseless_ && (peek() | 0x20) == 'p') refuse("a property in brackets under (?i)");  // the library adds cases
      const auto inside = class_escape(kWord);
      items += inside->items;
      nested += inside->others;
      if (peek() == '-' && peek(1) != ']' && !rest_.starts_with("-&&")) refuse("a range that begins with a class");
      return;
    }
    const std::string first = class_character();
    if (peek() == '-' && peek(1) == '\\' && is_class_escape(peek(2))) refuse("a range that ends with a class");
    const bool range = peek() == '-' && peek(1) != ']' && peek(1) != '[' && !rest_.starts_with("-&&");
    items += first;
    if (!range) {
      refuse_several_letters(code_of(first), code_of(first));
      items += other_cases(code_of(first), code_of(first));
      return;
    }
    take("-");
    const std::string last = class_character();
    refuse_several_letters(code_of(first), code_of(last));
    items += "-" + last + other_cases(code_of(first), code_of(last));
  }

  /// One inside brackets.
  std::string class_character() {
    const char c = next();
    if (c == ']' || c == '^' || c == '-') return std::string("\\") + c;  // where it is a character
    if (c != '\\') return character(c);
    const char escaped = next();
    return escaped == 'b' ? "\\x{8}" : literal(escaped);
  }

  std::string_view rest_;
  bool newer_;             // characters that PCRE2 does not know count as the library has them
  bool caseless_ = false;  // here
  bool repeatable_ = false;
  std::optional<std::uint32_t> last_literal_;  // directly before
  std::string out_;
  std::size_t atom_ = 0;  // where the last atom begins
  std::vector<Group> groups_;
  std::size_t tails_ = 0;  // as a group's, of the whole pattern
};

}  // namespace

std::string oniguruma_to_pcre2(std::string_view pattern, bool newer_characters) {
  return Translator(pattern, newer_characters).run();
}

}  // namespace ropewalk::formats
