#include "formats/tokenizers/decoders.h"

#include <memory>
#include <optional>

#include "formats/tokenizers/byte_level.h"
#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/regex.h"
#include "formats/tokenizers/token_limits.h"
#include "formats/utf8.h"

namespace ropewalk::formats {
namespace {

using Tokens = std::vector<std::string>;
using Apply = std::function<void(Tokens&, std::size_t most_bytes)>;

constexpr const char* kWhat = "decoding";

std::size_t n_bytes(const Tokens& tokens) {
  std::size_t bytes = 0;
  for (const std::string& token : tokens) bytes += token.size();
  return bytes;
}

std::string joined(const Tokens& tokens, std::string_view between) {
  std::string out;
  for (std::size_t at = 0; at < tokens.size(); ++at) {
    if (at > 0) out += between;
    out += tokens[at];
  }
  return out;
}

/// WordPiece's and CTC's tidying of English, in this order.
void clean_up(std::string& text) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

void byte_level(Tokens& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) bytes += spelled_bytes(token).value_or(token);
  tokens = {replace_invalid_utf8(bytes)};
}

/// "<0x0A>"; the library reads two hexadecimal digits, or a plus sign and one.
std::optional<char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
  };
  const int high = token[3] == '+' ? 0 : digit(token[3]), low = digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

/// A run of bytes that is no UTF-8 becomes as many U+FFFD.
void byte_fallback(Tokens& tokens) {
  Tokens out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (first_invalid_utf8(run) == run.size()) out.push_back(run);
    else out.insert(out.end(), run.size(), "\xEF\xBF\xBD");
    run.clear();
  };
  for (std::string& token : tokens) {
    if (const auto byte = byte_of_token(token)) {
      run += *byte;
      continue;
    }
    flush();
    out.push_back(std::move(token));
  }
  flush();
  tokens = std::move(out);
}

void strip(std::string& token, const decoders::Strip& step) {
  std::string_view rest = token;
  for (std::uint64_t n = 0; n < step.start && rest.starts_with(step.content); ++n)
    rest.remove_prefix(step.content.size());
  for (std::uint64_t n = 0; n < step.stop && rest.ends_with(step.content); ++n) rest.remove_suffix(step.content.size());
  token = std::string(rest);
}

void metaspace(Tokens& tokens, const decoders::Metaspace& step) {
  for (std::size_t at = 0; at < tokens.size(); ++at)
    replace_all(tokens[at], step.replacement, at == 0 && step.drop_first ? "" : " ");
}

void word_piece(Tokens& tokens, const decoders::WordPiece& step) {
  for (std::size_t at = 0; at < tokens.size(); ++at) {
    std::string& token = tokens[at];
    if (at > 0) {
      if (token.starts_with(step.prefix)) token.erase(0, step.prefix.size());
      else token.insert(0, " ");
    }
    if (step.cleanup) clean_up(token);
  }
}

void ctc(Tokens& tokens, const decoders::Ctc& step) {
  Tokens out;
  for (std::size_t at = 0; at < tokens.size(); ++at) {
    if (at > 0 && tokens[at] == tokens[at - 1]) continue;
    std::string token = tokens[at];
    replace_all(token, step.pad, "");
    if (step.cleanup) {
      clean_up(token);
      replace_all(token, step.word_delimiter, " ");
    }
    if (!token.empty()) out.push_back(std::move(token));
  }
  tokens = std::move(out);
}

void replace(Tokens& tokens, const Regex& regex, const std::string& content, std::size_t most) {
  std::size_t whole = 0;  // of the tokens before
  for (std::string& token : tokens) {
    std::string out;
    std::size_t from = 0;
    if (!token.empty())
      regex.for_each_match(token, [&](Regex::Match match) {
        out.append(token, from, match.begin - from);
        out += content;
        check_growth(kWhat, whole + out.size(), most);
        from = match.end;
      });
    out.append(token, from, std::string::npos);
    whole += out.size();
    token = std::move(out);
  }
}

struct Compile {
  Apply operator()(const decoders::ByteLevel&) const {
    return [](Tokens& tokens, std::size_t) { byte_level(tokens); };
  }
  Apply operator()(const decoders::ByteFallback&) const {
    return [](Tokens& tokens, std::size_t) { byte_fallback(tokens); };
  }
  Apply operator()(const decoders::Fuse&) const {
    return [](Tokens& tokens, std::size_t) { tokens = {joined(tokens, "")}; };
  }
  Apply operator()(const decoders::Strip& step) const {
    return [step](Tokens& tokens, std::size_t) {
      for (std::string& token : tokens) strip(token, step);
    };
  }
  Apply operator()(const decoders::Replace& step) const {
    if (!step.pattern.is_regex && !step.pattern.text.empty() && step.content.size() <= step.pattern.text.size())
      return [step](Tokens& tokens, std::size_t) {
        for (std::string& token : tokens) replace_all(token, step.pattern.text, step.content);
      };
    auto regex = std::make_shared<const Regex>(step.pattern);
    return
        [regex, content = step.content](Tokens& tokens, std::size_t most) { replace(tokens, *regex, content, most); };
  }
  Apply operator()(const decoders::Metaspace& step) const {
    return [step](Tokens& tokens, std::size_t) { metaspace(tokens, step); };
  }
  Apply operator()(const decoders::BpeSuffix& step) const {
    return [step](Tokens& tokens, std::size_t) {
      for (std::size_t at = 0; at < tokens.size(); ++at)
        replace_all(tokens[at], step.suffix, at + 1 < tokens.size() ? " " : "");
    };
  }
  Apply operator()(const decoders::WordPiece& step) const {
    return [step](Tokens& tokens, std::size_t) { word_piece(tokens, step); };
  }
  Apply operator()(const decoders::Ctc& step) const {
    return [step](Tokens& tokens, std::size_t) { ctc(tokens, step); };
  }
};

}  // namespace

Decoders::Decoders(const std::vector<decoders::Step>& steps, bool has_decoder) : has_decoder_(has_decoder) {
  for (const auto& step : steps) steps_.push_back(std::visit(Compile{}, step));
}

std::string Decoders::decode(std::vector<std::string> tokens) const {
  const std::size_t most = most_bytes_of(n_bytes(tokens));
  for (const auto& step : steps_) {
    step(tokens, most);
    check_growth(kWhat, n_bytes(tokens), most);
  }
  return joined(tokens, has_decoder_ ? "" : " ");
}

}  // namespace ropewalk::formats
