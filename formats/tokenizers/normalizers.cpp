#include "formats/tokenizers/normalizers.h"

#include <utf8proc.h>

#include <memory>

#include "formats/tokenizers/byte_level.h"
#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/library_unicode.h"
#include "formats/tokenizers/precompiled_normalizer.h"
#include "formats/tokenizers/regex.h"
#include "formats/tokenizers/token_limits.h"
#include "formats/tokenizers/unicode_forms.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kWhat = "normalizing";

/// Rewrites character by character; `map` appends what becomes of one. A first character that goes takes the start with
/// it.
template <class Map>
void rewrite(NormalizedText& text, const Map& map) {
  std::string out;
  out.reserve(text.text.size());
  std::string_view rest = text.text;
  for (bool first = true; !rest.empty(); first = false) {
    const Character next = first_character(rest);
    map(out, next.code, rest.substr(0, next.length));
    if (first && out.empty()) text.at_start = false;
    rest.remove_prefix(next.length);
  }
  text.text = std::move(out);
}

template <class Keep>
void keep_only(NormalizedText& text, const Keep& keep) {
  rewrite(text, [&](std::string& out, std::uint32_t code, std::string_view bytes) {
    if (keep(code)) out += bytes;
  });
}

void lowercase(NormalizedText& text) {
  rewrite(text, [](std::string& out, std::uint32_t code, std::string_view bytes) {
    if (code == 0x130) out += "i\xCC\x87";  // the only character that becomes two
    else if (code < 0x80) out += static_cast<char>(code >= 'A' && code <= 'Z' ? code | 0x20 : code);
    else if (const auto lower =
                 newer_lowercase(static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
             lower != code)
      append_utf8(out, lower);
    else out += bytes;
  });
}

void strip(NormalizedText& text, const normalizers::Strip& step) {
  std::string_view rest = text.text;
  if (step.left)
    while (!rest.empty() && is_white_space(first_character(rest).code)) {
      rest.remove_prefix(first_character(rest).length);
      text.at_start = false;
    }
  if (step.right)
    while (!rest.empty() && is_white_space(last_character(rest).code)) rest.remove_suffix(last_character(rest).length);
  text.text = std::string(rest);
}

void replace(NormalizedText& text, const Regex& regex, const std::string& content) {
  std::string out;
  std::size_t from = 0;
  regex.for_each_match(text.text, [&](Regex::Match match) {
    if (match.begin == 0 && match.end > 0 && content.empty()) text.at_start = false;
    out.append(text.text, from, match.begin - from);
    out += content;
    check_growth(kWhat, out.size(), text.most_bytes);
    from = match.end;
  });
  out.append(text.text, from, std::string::npos);
  text.text = std::move(out);
}

bool is_nmt_control(std::uint32_t c) {
  return (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
}
bool is_nmt_space(std::uint32_t c) {
  return c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
}

bool is_chinese(std::uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void bert(NormalizedText& text, const normalizers::Bert& step) {
  const auto is_layout = [](std::uint32_t c) { return c == '\t' || c == '\n' || c == '\r'; };
  if (step.clean_text)
    rewrite(text, [&](std::string& out, std::uint32_t code, std::string_view bytes) {
      if (code == 0 || code == 0xFFFD || (!is_layout(code) && is_other(code))) return;
      if (is_layout(code) || is_white_space(code)) out += ' ';
      else out += bytes;
    });
  if (step.chinese_chars)
    rewrite(text, [](std::string& out, std::uint32_t code, std::string_view bytes) {
      if (is_chinese(code)) out.append(" ").append(bytes).append(" ");
      else out += bytes;
    });
  if (step.strip_accents) {
    text.text = unicode_form(text.text, false, false);
    keep_only(text, [](std::uint32_t code) { return !is_nonspacing_mark(code); });
  }
  if (step.lowercase) lowercase(text);
}

using Apply = std::function<void(NormalizedText&)>;

struct Compile {
  Apply operator()(const normalizers::UnicodeForm& step) const {
    return [step](NormalizedText& text) { text.text = unicode_form(text.text, step.compose, step.compatible); };
  }
  Apply operator()(const normalizers::Lowercase&) const { return lowercase; }
  Apply operator()(const normalizers::Strip& step) const {
    return [step](NormalizedText& text) { strip(text, step); };
  }
  Apply operator()(const normalizers::StripAccents&) const {
    return [](NormalizedText& text) { keep_only(text, [](std::uint32_t code) { return !is_mark(code); }); };
  }
  Apply operator()(const normalizers::Replace& step) const {
    auto regex = std::make_shared<const Regex>(step.pattern);  // shared: std::function wants copies
    return [regex, content = step.content](NormalizedText& text) { replace(text, *regex, content); };
  }
  Apply operator()(const normalizers::Prepend& step) const {
    return [step](NormalizedText& text) {
      if (!text.text.empty()) text.text.insert(0, step.text);
    };
  }
  Apply operator()(const normalizers::ByteLevel&) const {
    return [](NormalizedText& text) {
      std::string out;
      append_byte_characters(out, text.text);
      text.text = std::move(out);
    };
  }
  Apply operator()(const normalizers::Nmt&) const {
    return [](NormalizedText& text) {
      rewrite(text, [](std::string& out, std::uint32_t code, std::string_view bytes) {
        if (is_nmt_control(code)) return;
        if (is_nmt_space(code)) out += ' ';
        else out += bytes;
      });
    };
  }
  Apply operator()(const normalizers::Precompiled& step) const {
    auto rules = std::make_shared<const PrecompiledNormalizer>(step.charsmap);
    return [rules](NormalizedText& text) { text.text = rules->applied(text.text); };
  }
  Apply operator()(const normalizers::Bert& step) const {
    return [step](NormalizedText& text) { bert(text, step); };
  }
};

}  // namespace

Normalizers::Normalizers(const std::vector<normalizers::Step>& steps) {
  for (const auto& step : steps) steps_.push_back(std::visit(Compile{}, step));
}

void Normalizers::apply(NormalizedText& text) const {
  text.most_bytes = most_bytes_of(text.text.size());
  for (const auto& step : steps_) {
    step(text);
    check_growth(kWhat, text.text.size(), text.most_bytes);
  }
}

std::string Normalizers::applied(std::string text) const {
  NormalizedText normalized{std::move(text), true};
  apply(normalized);
  return std::move(normalized.text);
}

}  // namespace ropewalk::formats
