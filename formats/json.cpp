#include "formats/json.h"

#include <algorithm>
#include <iterator>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kSmallObject = 16;  // keys
constexpr std::size_t kShownBytes = 80;   // of a message that quotes the file

/// Iterator over the text that tells how far the lexer has read: nlohmann's SAX events carry no position.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

/// Where the lexer stands, and from that where the token of the current event began.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text), furthest_(text.data()), last_end_(text.data()) {}
  CountingIterator begin() { return {text_.data(), &furthest_}; }
  CountingIterator end() { return {text_.data() + text_.size(), &furthest_}; }

  /// Byte at which the token of this event starts. Call once per event, in order. Between two tokens there are only
  /// blanks and separators. The lexer reads one character past a number, and that is then a blank, a separator or the
  /// bracket of the next event.
  std::size_t token_start() {
    const char* at = last_end_;
    const char* stop = text_.data() + text_.size();
    while (at < stop && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r' || *at == ',' || *at == ':')) ++at;
    last_end_ = furthest_;
    return static_cast<std::size_t>(at - text_.data());
  }

 private:
  std::string_view text_;
  const char* furthest_;
  const char* last_end_;
};

struct Problem {
  std::size_t offset = 0;
  std::string problem, fix;
};

/// Text quoted from a file, safe to print: control characters and bytes past ASCII as \xHH, cut to a line.
std::string printable(std::string_view text, std::size_t max_bytes = kShownBytes) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    if (out.size() >= max_bytes) return out + "...";
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

/// Byte at which the number or word begins that a failed parse ends in: the lexer stops behind it, or in it. In a string
/// the place is where it stopped.
std::size_t fault_start(std::string_view text, std::size_t offset, std::string_view message) {
  const auto in_word = [&](std::size_t at) {
    const char c = text[at];
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' || c == '-' ||
           c == '.';
  };
  const auto says = [&](const char* words) { return message.find(words) != message.npos; };
  const bool ends_one = says("invalid number") || says("invalid literal");
  if (says("invalid string") || !(ends_one || (offset < text.size() && in_word(offset)))) return offset;
  while (offset > 0 && in_word(offset - 1)) --offset;
  return offset;
}

/// "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while parsing value - invalid
/// literal; last read: 'tru}'; expected ..." without what we say better, what was read last cut to its end: it may be a
/// whole string of the file. What was expected comes after it or, of a number, before it.
std::string own_words(const std::string& message) {
  std::string_view text = message;
  for (const std::string_view mark : {"] ", "parse error at "})
    if (const auto at = text.find(mark); at != text.npos) text.remove_prefix(at + mark.size());
  if (text.starts_with("line "))
    if (const auto at = text.find(": "); at != text.npos) text.remove_prefix(at + 2);
  static constexpr std::string_view kRead = "; last read: '", kExpected = "; expected ";
  std::string expected;
  const auto take_expected = [&] {
    const auto at = text.rfind(kExpected), read_at = text.find(kRead);
    // behind what was read, or where that is gone; anything else is the file's own words
    if (at == text.npos || (read_at != text.npos && (at < read_at || text[at - 1] != '\''))) return;
    expected = ", expected " + printable(text.substr(at + kExpected.size()));
    text = text.substr(0, at);
  };
  take_expected();
  std::string read;
  if (const auto at = text.find(kRead); at != text.npos) {
    std::string_view last = text.substr(at + kRead.size());
    if (last.ends_with('\'')) last.remove_suffix(1);
    const bool cut = last.size() > kShownBytes / 2;
    if (cut) last.remove_prefix(last.size() - kShownBytes / 2);
    read = " after '" + std::string(cut ? "..." : "") + printable(last) + "'";
    text = text.substr(0, at);
    if (expected.empty()) take_expected();
  }
  return "not valid JSON: " + printable(text, 4 * kShownBytes) + read + expected;
}

/// Builds the tree. nlohmann's own builder looks every key up in the object so far, which is quadratic in the keys of a
/// header; ours keeps a set of the names of each large open object.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  Builder(Cursor& cursor, const JsonLimits& limits, std::string_view text)
      : cursor_(cursor), limits_(limits), text_(text) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(std::size_t) override {
    if (!open(Json::object())) return false;
    names_.emplace_back();
    return true;
  }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override {
    names_.pop_back();
    return close();
  }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    const std::size_t start = cursor_.token_start();
    auto& object = stack_.back()->get_ref<Json::object_t&>();
    if (!is_new(object, name)) {
      problem_ = {start, "key '" + printable(name) + "' appears twice in one object", "keep one of them"};
      return false;
    }
    if (object.size() >= limits_.max_members) {
      problem_ = {start, "more than " + std::to_string(limits_.max_members) + " keys in one object",
                  "check that this is the right file"};
      return false;
    }
    object.emplace_back(name, nullptr);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) override {
    // `position` counts characters read, the offending one included.
    const std::size_t stop = std::min(position == 0 ? 0 : position - 1, text_.size());
    const std::size_t start = fault_start(text_, stop, error.what());
    problem_ = {start, own_words(error.what()), "fix the text or fetch the file again"};
    for (const std::string_view word : {"NaN", "Infinity", "-Infinity"})
      if (text_.substr(std::min(start, text_.size())).starts_with(word))
        problem_ = {
            start, "not valid JSON: " + std::string(word) + " stands there, which Python writes and JSON does not have",
            "write a number or null"};
    return false;
  }

  Json take() { return std::move(root_); }
  const Problem& problem() const { return problem_; }

 private:
  template <typename T>
  bool add(T&& value) {
    return place(std::forward<T>(value), cursor_.token_start()) != nullptr;
  }
  /// Small objects, by far the most, are searched as they stand; the set of a large one is made when it becomes large.
  bool is_new(const Json::object_t& object, const std::string& name) {
    auto& names = names_.back();
    if (object.size() < kSmallObject)
      return std::none_of(object.begin(), object.end(), [&](const auto& member) { return member.first == name; });
    if (names.empty())
      for (const auto& member : object) names.insert(member.first);
    return names.insert(name).second;
  }
  bool open(Json&& container) {
    const std::size_t start = cursor_.token_start();
    if (static_cast<int>(stack_.size()) >= limits_.max_depth) {
      problem_ = {start, "nested deeper than " + std::to_string(limits_.max_depth) + " levels",
                  "check that this is the right file"};
      return false;
    }
    Json* placed = place(std::move(container), start);
    if (placed == nullptr) return false;
    stack_.push_back(placed);
    return true;
  }
  bool close() {
    cursor_.token_start();
    stack_.pop_back();
    return true;
  }
  /// Pointers on the stack stay valid: only the innermost container grows.
  template <typename T>
  Json* place(T&& value, std::size_t start) {
    if (++values_ > limits_.max_values) {
      problem_ = {start, "more than " + std::to_string(limits_.max_values) + " values",
                  "check that this is the right file"};
      return nullptr;
    }
    if (stack_.empty()) {
      root_ = Json(std::forward<T>(value));
      return &root_;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) return &parent.get_ref<Json::array_t&>().emplace_back(std::forward<T>(value));
    Json& slot = parent.get_ref<Json::object_t&>().back().second;
    slot = Json(std::forward<T>(value));
    return &slot;
  }

  Cursor& cursor_;
  const JsonLimits& limits_;
  std::string_view text_;
  Json root_;
  std::vector<Json*> stack_;
  std::vector<std::unordered_set<std::string>> names_;
  std::uint64_t values_ = 0;
  Problem problem_;
};

/// Looks for one value and stops there.
class Finder final : public nlohmann::json_sax<Json> {
 public:
  Finder(Cursor& cursor, std::string pointer) : cursor_(cursor), wanted_(std::move(pointer)) {}
  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(std::int64_t) override { return value(); }
  bool number_unsigned(std::uint64_t) override { return value(); }
  bool number_float(double, const std::string&) override { return value(); }
  bool string(std::string&) override { return value(); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(false); }
  bool start_array(std::size_t) override { return open(true); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    cursor_.token_start();
    segment_ = pointer_segment(name);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

  std::optional<std::size_t> found;

 private:
  struct Level {
    std::size_t path_size;
    bool array;
    std::size_t index;
  };
  void enter() {  // path_ becomes the pointer of the value that starts here
    if (levels_.empty()) return;
    Level& level = levels_.back();
    path_.resize(level.path_size);
    path_ += "/" + (level.array ? std::to_string(level.index++) : segment_);
  }
  bool arrive() {
    const std::size_t start = cursor_.token_start();
    enter();
    if (path_ == wanted_) found = start;
    return !found;
  }
  bool value() { return arrive(); }
  bool open(bool array) {
    if (!arrive()) return false;
    levels_.push_back({path_.size(), array, 0});
    return true;
  }
  bool close() {
    cursor_.token_start();
    levels_.pop_back();
    return true;
  }

  Cursor& cursor_;
  std::string wanted_, path_, segment_;
  std::vector<Level> levels_;
};

TextPosition position_of(std::string_view text, std::size_t offset) {
  TextPosition position{1, 1};
  for (const char c : text.substr(0, offset)) {
    if (c == '\n') {
      ++position.line;
      position.column = 1;
    } else if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) {  // not inside a UTF-8 sequence
      ++position.column;
    }
  }
  return position;
}

/// Returns the tree, or what is wrong and where.
std::variant<Json, Problem> parse(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    return Problem{0,
                   "has " + std::to_string(text.size()) + " bytes of JSON, at most " +
                       std::to_string(limits.max_bytes) + " are accepted",
                   "check that this is the right file"};
  if (text.starts_with("\xef\xbb\xbf"))
    return Problem{0, "starts with a byte-order mark, which JSON forbids", "save it as UTF-8 without BOM"};
  // nlohmann takes NUL for the end of the text: what follows would go unseen.
  if (const auto at = text.find('\0'); at != text.npos)
    return Problem{at, "not valid JSON: a NUL byte", "fix the text or fetch the file again"};
  Cursor cursor(text);
  Builder builder(cursor, limits, text);
  if (!Json::sax_parse(cursor.begin(), cursor.end(), &builder, Json::input_format_t::json, true))
    return builder.problem();
  return builder.take();
}

}  // namespace

Json parse_json(const std::string& path, std::string_view text, const JsonLimits& limits) {
  auto result = parse(text, limits);
  if (const Problem* problem = std::get_if<Problem>(&result)) {
    const TextPosition at = position_of(text, problem->offset);
    throw Error(ErrorKind::bad_input, {.path = path, .line = at.line, .column = at.column}, problem->problem,
                problem->fix);
  }
  return std::get<Json>(std::move(result));
}

Json read_json(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_json(path.string(), read_text_file(path, limits.max_bytes), limits);
}

Json parse_embedded_json(const std::string& path, std::string_view text, std::uint64_t text_offset,
                         const JsonLimits& limits) {
  auto result = parse(text, limits);
  if (const Problem* problem = std::get_if<Problem>(&result))
    throw Error(ErrorKind::bad_input, {.path = path, .offset = text_offset + problem->offset}, problem->problem,
                problem->fix);
  return std::get<Json>(std::move(result));
}

std::optional<std::size_t> locate_offset(std::string_view text, const std::string& pointer) {
  Cursor cursor(text);
  Finder finder(cursor, pointer);
  Json::sax_parse(cursor.begin(), cursor.end(), &finder, Json::input_format_t::json, false);
  return finder.found;
}

std::size_t end_of_value(std::string_view text, std::size_t at) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = at; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;  // whatever it escapes
      if (c != '"') continue;
      quoted = false;
      if (depth == 0) return i + 1;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return i;  // a number, the last of its container
      if (--depth == 0) return i + 1;
    } else if (depth == 0 && (c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t')) {
      return i;
    }
  }
  return text.size();
}

TextPosition locate(std::string_view text, const std::string& pointer) {
  const auto offset = locate_offset(text, pointer);
  return offset ? position_of(text, *offset) : TextPosition{};
}

Error::Where json_place(const std::string& path, std::string_view text, const std::string& pointer) {
  Error::Where where{.path = path, .pointer = pointer};
  const TextPosition at = locate(text, pointer);
  if (at.line > 0) where.line = at.line, where.column = at.column;
  return where;
}

std::string pointer_segment(std::string_view key) {
  std::string out;
  for (const char c : key) {
    if (c == '~') out += "~0";
    else if (c == '/') out += "~1";
    else out += c;
  }
  return out;
}

}  // namespace ropewalk::formats
