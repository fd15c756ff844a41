#include "formats/yaml_front_matter.h"

#include <charconv>
#include <vector>

namespace ropewalk::formats {
namespace {

struct NotUnderstood {};

constexpr int kMaxDepth = 32;

struct Line {
  int indent;
  std::string text;  // without indentation and trailing blanks
};

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

/// Cuts a comment: '#' at the start or after a blank, outside quotes.
std::string_view without_comment(std::string_view text) {
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if ((c == '"' || c == '\'') &&
               (i == 0 || text[i - 1] == ' ' || text[i - 1] == '[' || text[i - 1] == ',' || text[i - 1] == '{')) {
      quote = c;
    } else if (c == '#' && (i == 0 || text[i - 1] == ' ')) {
      return trimmed(text.substr(0, i));
    }
  }
  return trimmed(text);
}

Json plain_scalar(std::string_view text) {
  for (const char* word : {"", "~", "null", "Null", "NULL"})
    if (text == word) return nullptr;
  for (const char* word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
    if (text == word) return true;
  for (const char* word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
    if (text == word) return false;
  if (text.find_first_not_of("+-0123456789") == std::string_view::npos) {
    std::int64_t integer = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), integer);
    if (error == std::errc() && end == text.data() + text.size()) return integer;
  }
  if (text.find('.') != std::string_view::npos && text.find_first_not_of("+-.0123456789eE") == std::string_view::npos) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end == text.data() + text.size()) return number;
  }
  return std::string(text);
}

/// One value on one line: quoted, flow collection or plain.
class Inline {
 public:
  explicit Inline(std::string_view text) : text_(text) {}
  Json whole() {
    Json value = parse(0, "");
    skip();
    if (at_ != text_.size()) throw NotUnderstood{};
    return value;
  }

 private:
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool take(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  Json parse(int depth, std::string_view stops) {
    if (depth > kMaxDepth) throw NotUnderstood{};
    skip();
    if (at_ >= text_.size()) return nullptr;
    const char c = text_[at_];
    if (c == '"') return double_quoted();
    if (c == '\'') return single_quoted();
    if (c == '[') return flow_sequence(depth);
    if (c == '{') return flow_mapping(depth);
    if (std::string_view("&*!|>%@`").find(c) != std::string_view::npos) throw NotUnderstood{};
    const std::size_t end = stops.empty() ? text_.size() : std::min(text_.find_first_of(stops, at_), text_.size());
    const std::string_view word = trimmed(text_.substr(at_, end - at_));
    at_ = end;
    return plain_scalar(word);
  }

  Json flow_sequence(int depth) {
    Json out = Json::array();
    take('[');
    while (!take(']')) {
      out.push_back(parse(depth + 1, ",]"));
      if (!take(',') && (at_ >= text_.size() || text_[at_] != ']')) throw NotUnderstood{};
    }
    return out;
  }

  Json flow_mapping(int depth) {
    Json out = Json::object();
    take('{');
    while (!take('}')) {
      const Json key = parse(depth + 1, ":,}");
      if (!key.is_string() || !take(':')) throw NotUnderstood{};
      out[key.get<std::string>()] = parse(depth + 1, ",}");
      if (!take(',') && (at_ >= text_.size() || text_[at_] != '}')) throw NotUnderstood{};
    }
    return out;
  }

  Json single_quoted() {
    std::string out;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] != '\'') {
        out += text_[at_];
      } else if (at_ + 1 < text_.size() && text_[at_ + 1] == '\'') {
        out += text_[at_++];
      } else {
        ++at_;
        return out;
      }
    }
    throw NotUnderstood{};
  }

  Json double_quoted() {
    std::string out;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        return out;
      }
      if (text_[at_] != '\\') {
        out += text_[at_];
        continue;
      }
      if (++at_ >= text_.size()) break;
      switch (text_[at_]) {
        case 'n': out += '\n'; break;
        case 't': out += '\t'; break;
        case '"': out += '"'; break;
        case '\\': out += '\\'; break;
        case '/': out += '/'; break;
        default: throw NotUnderstood{};
      }
    }
    throw NotUnderstood{};
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

class Blocks {
 public:
  explicit Blocks(std::vector<Line> lines) : lines_(std::move(lines)) {}
  Json document() {
    skip_blank();
    if (done()) return Json::object();
    Json value = node(lines_[at_].indent, 0);
    skip_blank();
    if (!done()) throw NotUnderstood{};
    return value;
  }

 private:
  bool done() const { return at_ >= lines_.size(); }
  void skip_blank() {
    while (!done() && without_comment(lines_[at_].text).empty()) ++at_;
  }
  static bool is_item(std::string_view text) { return text == "-" || text.starts_with("- "); }

  /// Position of the colon that ends a mapping key, or npos.
  static std::size_t key_end(std::string_view text) {
    if (!text.empty() && (text[0] == '"' || text[0] == '\'')) {
      const std::size_t close = text.find(text[0], 1);
      if (close == std::string_view::npos) return close;
      return close + 1 < text.size() && text[close + 1] == ':' ? close + 1 : std::string_view::npos;
    }
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == ':' && (i + 1 == text.size() || text[i + 1] == ' ')) return i;
      if (i == 0 && (text[i] == '[' || text[i] == '{')) return std::string_view::npos;
    }
    return std::string_view::npos;
  }

  Json node(int indent, int depth) {
    if (depth > kMaxDepth) throw NotUnderstood{};
    if (is_item(lines_[at_].text)) return sequence(indent, depth);
    if (key_end(lines_[at_].text) != std::string_view::npos) return mapping(indent, depth);
    return scalar(std::string(without_comment(lines_[at_++].text)), indent - 1);
  }

  Json sequence(int indent, int depth) {
    Json out = Json::array();
    for (skip_blank(); !done() && lines_[at_].indent == indent && is_item(lines_[at_].text); skip_blank()) {
      Line& line = lines_[at_];
      const std::string rest(trimmed(std::string_view(line.text).substr(1)));
      if (without_comment(rest).empty()) {
        ++at_;
        skip_blank();
        out.push_back(!done() && lines_[at_].indent > indent ? node(lines_[at_].indent, depth + 1) : Json(nullptr));
      } else if (is_item(rest) || key_end(rest) != std::string_view::npos) {
        // the item's content starts a block of its own
        line.indent = indent + static_cast<int>(line.text.size() - rest.size());
        line.text = rest;
        out.push_back(node(line.indent, depth + 1));
      } else {
        ++at_;
        out.push_back(scalar(rest, indent));
      }
    }
    return out;
  }

  Json mapping(int indent, int depth) {
    Json out = Json::object();
    for (skip_blank(); !done() && lines_[at_].indent == indent && !is_item(lines_[at_].text); skip_blank()) {
      const std::string text = lines_[at_].text;
      const std::size_t colon = key_end(text);
      if (colon == std::string::npos) throw NotUnderstood{};
      std::string key(trimmed(std::string_view(text).substr(0, colon)));
      if (key.size() >= 2 && (key[0] == '"' || key[0] == '\'')) key = key.substr(1, key.size() - 2);
      const std::string rest(trimmed(std::string_view(text).substr(colon + 1)));
      ++at_;
      if (!without_comment(rest).empty()) {
        out[key] = scalar(rest, indent);
        continue;
      }
      skip_blank();
      const bool nested =
          !done() && (lines_[at_].indent > indent || (lines_[at_].indent == indent && is_item(lines_[at_].text)));
      out[key] = nested ? node(lines_[at_].indent, depth + 1) : Json(nullptr);
    }
    if (!done() && lines_[at_].indent > indent) throw NotUnderstood{};
    return out;
  }

  /// `first` and the lines indented deeper than `indent` after it.
  Json scalar(const std::string& first, int indent) {
    if (first[0] == '|' || first[0] == '>') return block_scalar(first, indent);
    std::string text(without_comment(first));
    const bool quoted = text[0] == '"' || text[0] == '\'';
    for (; !done() && lines_[at_].indent > indent && !lines_[at_].text.empty(); ++at_) {
      // "mapping values are not allowed here"
      if (!quoted && key_end(lines_[at_].text) != std::string_view::npos) throw NotUnderstood{};
      text += " " + std::string(without_comment(lines_[at_].text));
    }
    return Inline(text).whole();
  }

  Json block_scalar(const std::string& first, int indent) {
    const bool keep_lines = first[0] == '|';
    std::string out;
    const int body = done() ? 0 : lines_[at_].indent;
    while (!done() && (lines_[at_].indent > indent || lines_[at_].text.empty())) {
      const Line& line = lines_[at_++];
      const std::string lead = line.text.empty() || line.indent <= body
                                   ? ""
                                   : std::string(static_cast<std::size_t>(line.indent - body), ' ');
      if (!out.empty() && !keep_lines && out.back() != '\n' && !line.text.empty()) out += ' ';
      out += lead + line.text;
      if (keep_lines || line.text.empty()) out += '\n';
    }
    while (!out.empty() && out.back() == '\n') out.pop_back();
    if (first.size() < 2 || first[1] != '-') out += '\n';
    return out;
  }

  std::vector<Line> lines_;
  std::size_t at_ = 0;
};

}  // namespace

std::optional<Json> parse_front_matter(std::string_view card) {
  std::vector<Line> lines;
  bool inside = false, closed = false;
  while (!card.empty() && !closed) {
    const std::size_t end = std::min(card.find('\n'), card.size());
    std::string line(card.substr(0, end));
    card.remove_prefix(std::min(end + 1, card.size()));
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!inside) {
      if (line != "---") return Json::object();
      inside = true;
      continue;
    }
    closed = line == "---";
    if (closed) break;
    for (std::size_t tab = line.find('\t'); tab != std::string::npos; tab = line.find('\t')) line.replace(tab, 1, "  ");
    if (line == "- no") line = "- \"no\"";  // the language, not the word
    const std::size_t indent = std::min(line.find_first_not_of(' '), line.size());
    lines.push_back({static_cast<int>(std::min<std::size_t>(indent, 10000)), std::string(trimmed(line))});
  }
  try {
    Json value = Blocks(std::move(lines)).document();
    return value.is_object() ? value : Json::object();
  } catch (const NotUnderstood&) {
    return std::nullopt;
  }
}

}  // namespace ropewalk::formats
