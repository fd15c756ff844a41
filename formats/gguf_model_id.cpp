#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#ifdef __GNUC__  // GCC 12 with -fsanitize=address takes a union inside std::regex for uninitialized (gcc.gnu.org PR 105562)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <regex>

#include "lib/ascii_case.h"

#include "formats/gguf_metadata.h"

namespace ropewalk::formats {
namespace {

// Case and classes are ASCII's: other letters count as neither upper nor lower.
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// std::regex recurses once per character: longer parts are names, not labels.
bool matches(const std::string& text, const char* pattern, bool ignore_case = true) {
  if (text.size() > 64) return false;
  return std::regex_match(
      text, std::regex(pattern, ignore_case ? std::regex::ECMAScript | std::regex::icase : std::regex::ECMAScript));
}

struct Part {
  std::string text;
  bool basename = false, size_label = false, finetune = false, version = false, type = false;
  bool annotated() const { return basename || size_label || finetune || version || type; }
  int annotations() const { return basename + size_label + finetune + version + type; }
};

/// "7b1" -> "7.1B", "1_5b" -> "1.5B".
std::string normalized_size(std::string part) {
  std::replace(part.begin(), part.end(), '_', '.');
  if (is_digit(part.back())) part = part.substr(0, part.size() - 2) + "." + part.back() + part[part.size() - 2];
  if (part.size() > 1 && is_digit(part[part.size() - 2]) &&
      std::string_view("kmbt").find(part.back()) != std::string_view::npos)
    part.back() = upper_case(part.back());
  return part;
}

/// Parameters a label such as "1.5B" stands for; nullopt for "8x7B", "small".
std::optional<double> label_parameters(const std::string& part) {
  const std::string number = part.substr(0, part.size() - 1);
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size()) return std::nullopt;
  const std::size_t power = std::string_view(" KMBT").find(part.back());
  return value * std::pow(1000.0, static_cast<double>(power == std::string_view::npos ? 0 : power));
}

void annotate(Part& part, bool first, std::int64_t total_parameters) {
  if (matches(part.text, R"((v|iter)?\d+([.]\d+)*)")) {
    part.version = true;
  } else if (matches(part.text, R"(i?q\d(_\w)*|b?fp?(16|32))")) {
    part.type = true;
    part.text = upper_case(part.text);
  } else if (!first && matches(part.text, R"((([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?|small|mini|medium|large|x?xl))")) {
    part.text = normalized_size(part.text);
    const std::optional<double> label = total_parameters != 0 ? label_parameters(part.text) : std::nullopt;
    // far from the model's size, far below what an adapter changes of it: likely a context length
    const std::int64_t size = std::abs(total_parameters);
    if (label &&
        (total_parameters < 0 ? *label < static_cast<double>(size / 8)
                              : std::abs(*label - static_cast<double>(size)) > static_cast<double>(7 * size / 8))) {
      part.finetune = true;
      part.text.back() = lower_case(part.text.back());
    } else {
      part.size_label = true;
    }
  } else if (!first && matches(part.text, "chat|instruct|vision|lora")) {
    // of an adapter, that it is one says nothing
    (total_parameters < 0 && matches(part.text, "lora") ? part.type : part.finetune) = true;
  }
}

void choose_basename(std::vector<Part>& parts) {
  bool at_start = true;
  for (Part& part : parts) {
    if (at_start && ((!part.annotated() && is_alpha(part.text[0])) || part.version)) {
      part.basename = true;
    } else {
      at_start = false;
      if (!part.annotated()) part.finetune = true;
    }
  }
  for (auto part = parts.rbegin(); part != parts.rend() && part->basename && part->annotations() > 1; ++part)
    part->basename = false;
}

template <typename Chosen>
std::optional<std::string> joined(const std::vector<Part>& parts, Chosen chosen) {
  std::string out;
  for (const Part& part : parts)
    if (chosen(part)) out += (out.empty() ? "" : "-") + part.text;
  return out.empty() ? std::nullopt : std::optional(out);
}

}  // namespace

std::string title_of(std::string_view id) {
  std::string out, word;
  const auto flush = [&] {
    if (word.empty()) return;
    const bool has_upper = std::any_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    const bool has_lower = std::any_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; });
    if (has_lower && !has_upper && !is_digit(word[0]) && !matches(word, R"(v\d+(?:\.\d+)*)", false)) {
      bool inside = false;  // a letter that follows no letter becomes upper case
      for (char& c : word) {
        if (!inside) c = upper_case(c);
        inside = is_alpha(c);
      }
    }
    out += (out.empty() ? "" : " ") + word;
    word.clear();
  };
  for (char c : id) {
    if (c == '-' || std::isspace(static_cast<unsigned char>(c))) flush();
    else word += c;
  }
  flush();
  return out;
}

ModelIdParts model_id_parts(std::string_view model_id, std::int64_t total_parameters) {
  ModelIdParts out;
  if (model_id.find(' ') != std::string_view::npos) {  // a human's sentence, not an id
    out.full_name = std::string(model_id);
    return out;
  }
  std::string_view name = model_id;
  if (const std::size_t slash = model_id.find('/'); slash != std::string_view::npos) {
    if (slash == 0 || model_id[0] != '.') out.organization = std::string(model_id.substr(0, slash));
    name = model_id.substr(slash + 1);
  }
  out.full_name = std::string(name);

  std::vector<Part> parts;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('-', at), name.size());
    if (end > at) parts.push_back({.text = std::string(name.substr(at, end - at))});
    at = end + 1;
  }
  for (std::size_t i = 0; i < parts.size(); ++i) annotate(parts[i], i == 0, total_parameters);
  const bool number_label = std::any_of(parts.begin(), parts.end(), [](const Part& p) {
    return p.size_label && std::any_of(p.text.begin(), p.text.end(), is_digit);
  });
  if (number_label)
    for (Part& part : parts)
      if (part.size_label && std::all_of(part.text.begin(), part.text.end(), is_alpha)) part.size_label = false;
  choose_basename(parts);

  out.basename = joined(parts, [](const Part& p) { return p.basename; });
  out.finetune = joined(parts, [](const Part& p) { return p.finetune; });
  out.version = joined(parts, [](const Part& p) { return p.version && !p.basename; });
  std::vector<Part> labels;  // without repetitions
  for (const Part& part : parts)
    if (part.size_label &&
        std::none_of(labels.begin(), labels.end(), [&](const Part& p) { return p.text == part.text; }))
      labels.push_back(part);
  out.size_label = joined(labels, [](const Part&) { return true; });
  if (!out.size_label && !out.finetune && !out.version) out.basename = std::nullopt;  // too ambiguous
  return out;
}

std::string size_label(std::uint64_t parameters) {
  struct Scale {
    double above, factor;
    char suffix;
  };
  constexpr std::array<Scale, 4> kScales = {{{1e12, 1e-12, 'T'}, {1e9, 1e-9, 'B'}, {1e6, 1e-6, 'M'}, {-1, 1e-3, 'K'}}};
  const auto count = static_cast<double>(parameters);
  const Scale& scale = *std::find_if(kScales.begin(), kScales.end(), [&](const Scale& s) { return count > s.above; });
  const double scaled = count * scale.factor;
  std::string digits = std::to_string(static_cast<long long>(std::nearbyint(scaled)));  // Python's round: ties to even
  if (digits == "0") digits.clear();
  const int decimals = std::max(2 - static_cast<int>(digits.size()), 0);
  char text[64];
  std::snprintf(text, sizeof text, "%.*f%c", decimals, scaled, scale.suffix);
  return text;
}

}  // namespace ropewalk::formats
