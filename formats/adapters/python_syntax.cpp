#include "formats/adapters/python_syntax.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <vector>

namespace ropewalk::formats {
namespace {

constexpr std::string_view kSpaces = " \t\n\r\v\f", kFlags = "aiLmsux";
constexpr std::uint64_t kMostRepeats = 65535;  // PCRE2's

[[noreturn]] void wrong(std::string reason) { throw NoTranslation{false, std::move(reason)}; }
[[noreturn]] void unsupported(std::string what) { throw NoTranslation{true, std::move(what)}; }

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_octal(char c) { return c >= '0' && c <= '7'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool has(std::string_view set, char c) { return set.find(c) != set.npos; }

std::string code_point(std::uint32_t code) {
  char digits[8];
  const auto end = std::to_chars(digits, digits + 8, code, 16).ptr;
  return "\\x{" + std::string(digits, end) + "}";
}

/// Reads one expression from left to right, as Python's parser does, and writes it token by token.
class Translator {
 public:
  explicit Translator(std::string_view text) : text_(text) {}

  TranslatedPattern translate() {
    open_.push_back({});
    while (at_ < text_.size()) token();
    if (open_.size() > 1) wrong("a group is not closed");
    if (highest_reference_ > groups_) wrong("it refers to a group that is not there");
    if (ignores_case_ && beyond_ascii_) unsupported("characters beyond ASCII in any case");
    return {std::move(out_), idx_};
  }

 private:
  enum class Last { nothing, item, repeat, place };
  struct Group {
    bool verbose = false, ascii = false;
    std::size_t number = 0;  // of a group that captures
    bool conditional = false;
    int branches = 1;
    Last last = Last::nothing;  // of the branch, what a quantifier would repeat
  };
  struct Unit {
    bool set = false;  // \d and its kin
    std::uint32_t code = 0;
    std::string text;  // of a set, inside brackets
  };

  bool next_is(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool take(char c) { return next_is(c) && ++at_; }
  char get(const char* missing) {
    if (at_ == text_.size()) wrong(missing);
    return text_[at_++];
  }
  template <typename Belongs>
  std::string_view run(std::size_t most, Belongs belongs) {
    const std::size_t begin = at_;
    while (at_ < text_.size() && at_ - begin < most && belongs(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  static std::uint64_t number(std::string_view digits, int base = 10) {
    std::uint64_t value = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), value, base).ec != std::errc{}) return ~0ull;
    return value;
  }

  Group& here() { return open_.back(); }
  void put(std::string_view text, Last last = Last::item) {
    out_ += text;
    here().last = last;
  }
  std::string literal(std::uint32_t code) {
    if (code >= 0xD800 && code < 0xE000) unsupported("a surrogate");
    if (code > 0x10FFFF) wrong("a character is past U+10FFFF");
    beyond_ascii_ |= code >= 0x80;
    if (code < 0x80 && (is_digit(char(code)) || is_letter(char(code)))) return std::string(1, char(code));
    return code_point(code);
  }
  /// The character that begins with `first`, which is read already.
  std::uint32_t character(char first) {
    const auto lead = std::uint8_t(first);
    if (lead < 0x80) return lead;
    const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    std::uint32_t code = lead & (0x3Fu >> more);
    for (int i = 0; i < more; ++i) code = code << 6 | (std::uint8_t(get("it is no UTF-8")) & 0x3Fu);
    return code;
  }

  void token() {
    const char c = text_[at_++];
    if (here().verbose && has(kSpaces, c)) return;
    if (here().verbose && c == '#') return skip_line();
    switch (c) {
      case '\\': return escape();
      case '[': return brackets();
      case '(': return group();
      case ')': return close();
      case '|': return branch();
      case '*': return repeat(0, ~0ull);
      case '+': return repeat(1, ~0ull);
      case '?': return repeat(0, 1);
      case '{': return braces();
      case '.': return put(".");
      case '^':
      case '$': return put(std::string(1, c), Last::place);
      default: return put(literal(character(c)));
    }
  }

  void skip_line() {
    while (at_ < text_.size() && text_[at_++] != '\n')
      if (text_[at_ - 1] == '\\' && at_ < text_.size()) ++at_;  // with what follows it, one character
  }
  void branch() {
    if (here().conditional && ++here().branches > 2) wrong("a condition has more than two branches");
    put("|", Last::nothing);
  }
  void close() {
    if (open_.size() == 1) wrong("a group is closed that was not opened");
    open_.pop_back();
    put(")");
  }

  void braces() {
    const std::size_t begin = at_;
    const auto as_text = [&] {
      at_ = begin;
      put(literal('{'));
    };
    if (next_is('}')) return as_text();
    const std::string_view low = run(text_.size(), is_digit);
    const std::string_view high = take(',') ? run(text_.size(), is_digit) : low;
    if (!take('}')) return as_text();
    const std::uint64_t least = low.empty() ? 0 : number(low), most = high.empty() ? ~0ull : number(high);
    if (most < least) wrong("a repetition's least is past its most");
    if (least > kMostRepeats || (!high.empty() && most > kMostRepeats)) unsupported("so many repetitions");
    repeat(least, most);
  }
  void repeat(std::uint64_t least, std::uint64_t most) {
    if (here().last == Last::repeat) wrong("a repetition is repeated");
    if (here().last != Last::item) wrong("there is nothing to repeat");
    put("{" + std::to_string(least) + "," + (most == ~0ull ? "" : std::to_string(most)) + "}", Last::repeat);
    if (next_is('?') || next_is('+')) out_ += text_[at_++];
  }

  /// What follows a backslash, where both inside and outside of brackets it is the same.
  Unit shared_escape(char c) {
    static const std::map<char, std::uint32_t> controls = {{'a', 7}, {'f', 12}, {'n', 10},   {'r', 13},
                                                           {'t', 9}, {'v', 11}, {'\\', '\\'}};
    if (const auto found = controls.find(c); found != controls.end()) return {false, found->second, {}};
    if (has("dDwW", c)) return {true, 0, std::string("\\") + c};
    const bool ascii = here().ascii;
    if (c == 's') return {true, 0, ascii ? "\\x{9}-\\x{d}\\x{20}" : "\\x{9}-\\x{d}\\x{1c}-\\x{20}"};
    if (c == 'S')
      return {true, 0, std::string("\\x{0}-\\x{8}\\x{e}-") + (ascii ? "\\x{1f}" : "\\x{1b}") + "\\x{21}-\\x{10ffff}"};
    if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t length = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      const std::string_view digits = run(length, is_hex);
      if (digits.size() != length) wrong(std::string("\\") + c + " has too few digits");
      return {false, std::uint32_t(number(digits, 16)), {}};
    }
    if (c == 'N') unsupported("a character by its name, \\N{...}");
    if (is_letter(c) || is_digit(c)) wrong(std::string("\\") + c + " is no escape");
    return {false, character(c), {}};
  }
  void escape() {
    const char c = get("it ends in a backslash");
    if (has("AbB", c)) return put(std::string("\\") + c, Last::place);
    if (c == 'Z') return put("\\z", Last::place);
    if (is_digit(c)) return digits(c);
    const Unit unit = shared_escape(c);
    put(!unit.set ? literal(unit.code) : c == 's' || c == 'S' ? "[" + unit.text + "]" : unit.text);
  }
  /// An octal number, or a group's.
  void digits(char first) {
    const std::size_t begin = at_ - 1;
    if (first == '0') {
      run(2, is_octal);
      return put(literal(std::uint32_t(number(text_.substr(begin, at_ - begin), 8))));
    }
    if (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    if (at_ - begin == 2 && is_octal(first) && is_octal(text_[at_ - 1]) && at_ < text_.size() && is_octal(text_[at_])) {
      ++at_;
      const std::uint64_t code = number(text_.substr(begin, 3), 8);
      if (code > 0377) wrong("an octal escape is past \\377");
      return put(literal(std::uint32_t(code)));
    }
    refer(number(text_.substr(begin, at_ - begin)));
  }
  void refer(std::uint64_t group) {
    if (group > groups_) wrong("it refers to a group that is not there");
    if (std::ranges::any_of(open_, [&](const Group& one) { return one.number == group; }))
      wrong("it refers to a group that is still open");
    put("\\g{" + std::to_string(group) + "}");
  }

  Unit in_brackets(char c) {
    if (c != '\\') return {false, character(c), {}};
    const char escaped = get("a set of characters is not closed");
    if (escaped == 'b') return {false, 8, {}};
    if (!is_octal(escaped)) return shared_escape(escaped);
    const std::size_t begin = at_ - 1;
    run(2, is_octal);
    const std::uint64_t code = number(text_.substr(begin, at_ - begin), 8);
    if (code > 0377) wrong("an octal escape is past \\377");
    return {false, std::uint32_t(code), {}};
  }
  void brackets() {
    constexpr const char* kOpen = "a set of characters is not closed";
    std::string set = take('^') ? "[^" : "[";
    for (bool first = true;; first = false) {
      const char c = get(kOpen);
      if (c == ']' && !first) break;
      const Unit low = in_brackets(c);
      const auto text = [&](const Unit& unit) { return unit.set ? unit.text : literal(unit.code); };
      set += text(low);
      if (!take('-')) continue;
      const char end = get(kOpen);
      if (end == ']') {
        set += literal('-');
        break;
      }
      const Unit high = in_brackets(end);
      if (low.set || high.set || high.code < low.code) wrong("a range of characters is none");
      set += "-" + text(high);
    }
    put(set + "]");
  }

  std::string name(char end) {
    std::string text;
    for (char c = get("a group's name is not closed"); c != end; c = get("a group's name is not closed")) text += c;
    if (std::ranges::any_of(text, [](char c) { return std::uint8_t(c) >= 0x80; }))
      unsupported("a group's name beyond ASCII");
    return text;
  }
  static void require_name(const std::string& text) {
    const auto fits = [](char c) { return is_letter(c) || is_digit(c) || c == '_'; };
    if (text.empty() || is_digit(text[0]) || !std::ranges::all_of(text, fits)) wrong("a group's name is none");
  }
  void enter(const std::string& begin, Group group) {
    out_ += begin;
    open_.push_back(group);
  }
  void capture(const std::string& name) {
    if (!name.empty() && !names_.emplace(name, groups_ + 1).second) wrong("two groups have one name");
    Group group{here().verbose, here().ascii};
    group.number = ++groups_;
    if (name == "idx") idx_ = groups_;
    enter("(", group);
  }
  void group() {
    if (!take('?')) return capture("");
    const Group plain{here().verbose, here().ascii};
    const char c = get("a group is not closed");
    switch (c) {
      case 'P': return named();
      case ':': return enter("(?:", plain);
      case '>': return enter("(?>", plain);
      case '=': return enter("(?=", plain);
      case '!': return enter("(?!", plain);
      case '<':
        if (take('=')) return enter("(?<=", plain);
        if (take('!')) return enter("(?<!", plain);
        wrong("(?< begins no group");
      case '#':
        for (char skipped = get("a comment is not closed"); skipped != ')'; skipped = get("a comment is not closed"))
          if (skipped == '\\') get("a comment is not closed");
        return;
      case '(': return condition(plain);
      default:
        if (c != '-' && !has(kFlags, c)) wrong(std::string("(?") + c + " begins no group");
        flags(c, plain);
    }
  }
  void named() {
    if (take('<')) {
      const std::string called = name('>');
      require_name(called);
      return capture(called);
    }
    if (!take('=')) wrong("(?P begins no group");
    const auto found = names_.find(name(')'));
    if (found == names_.end()) wrong("it refers to a group that is not there");
    refer(found->second);
  }
  void condition(Group group) {
    const std::string called = name(')');
    std::uint64_t of = 0;
    if (!called.empty() && std::ranges::all_of(called, is_digit)) {
      of = number(called);
    } else {
      require_name(called);
      const auto found = names_.find(called);
      if (found != names_.end()) of = found->second;
    }
    if (of == 0 || of > kMostRepeats) wrong("a condition is of a group that is not there");
    highest_reference_ = std::max(highest_reference_, of);
    group.conditional = true;
    enter("(?(" + std::to_string(of) + ")", group);
  }
  void flags(char c, Group group) {
    constexpr const char* kCut = "flags are not closed";
    std::string on, off;
    for (; has(kFlags, c); c = get(kCut)) on += c;
    const bool removes = c == '-';
    if (removes)
      for (c = get(kCut); has(kFlags, c); c = get(kCut)) off += c;
    if ((c != ':' && (c != ')' || removes)) || (removes && off.empty())) wrong("a flag is not known");
    if (has(on, 'L') || (has(on, 'a') && has(on, 'u'))) wrong("its flags exclude one another");
    if (off.find_first_of("aLu") != off.npos || off.find_first_of(on) != off.npos) wrong("a flag cannot be turned off");
    const bool whole = c == ')';
    if (whole && (open_.size() > 1 || here().last != Last::nothing || has(out_, '|')))
      wrong("flags of the whole expression do not begin it");
    Group& target = whole ? here() : group;
    if (has(on, 'x')) target.verbose = true;
    if (has(off, 'x')) target.verbose = false;
    if (has(on, 'a')) target.ascii = true;
    if (has(on, 'u')) target.ascii = false;
    ignores_case_ |= has(on, 'i');
    const auto known = [](std::string letters) {
      std::erase_if(letters, [](char letter) { return !has("ims", letter); });
      return letters;
    };
    const std::string changed = known(on) + (known(off).empty() ? "" : "-" + known(off));
    if (!whole) return enter("(?" + changed + ":", group);
    if (!changed.empty()) out_ += "(?" + changed + ")";
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::string out_;
  std::vector<Group> open_;
  std::map<std::string, std::size_t> names_;
  std::uint64_t groups_ = 0, highest_reference_ = 0;
  std::size_t idx_ = 0;
  bool ignores_case_ = false, beyond_ascii_ = false;
};

}  // namespace

TranslatedPattern translate_python_pattern(std::string_view text) { return Translator(text).translate(); }

}  // namespace ropewalk::formats
