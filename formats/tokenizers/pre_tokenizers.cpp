#include "formats/tokenizers/pre_tokenizers.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "formats/tokenizers/byte_level.h"
#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/regex.h"
#include "formats/tokenizers/splits.h"
#include "formats/tokenizers/token_limits.h"

namespace ropewalk::formats {
namespace {

namespace pre = pre_tokenizers;
using Apply = std::function<void(Words&)>;

constexpr const char* kWhat = "cutting into words";

constexpr const char* kGpt2Words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Every word cut by what `matches(text, take(begin, end))` finds in it.
template <class Matches>
void split_all(Words& words, pre::SplitBehavior behavior, bool invert, const Matches& matches) {
  std::vector<Words::Word> out;
  out.reserve(words.words.size());
  SplitWord split(behavior, invert);
  for (const Words::Word& word : words.words) {
    split.begin(word);
    matches(words.of(word), [&split](std::size_t begin, std::size_t end) { split.match(begin, end); });
    split.finish(out);
  }
  words.words = std::move(out);
}

void split_by_regex(Words& words, const Regex& regex, pre::SplitBehavior behavior, bool invert) {
  split_all(words, behavior, invert, [&regex](std::string_view text, const auto& take) {
    regex.for_each_match(text, [&take](Regex::Match match) { take(match.begin, match.end); });
  });
}

/// Each character of a class is a match.
template <class Is>
void split_by_character(Words& words, pre::SplitBehavior behavior, const Is& is) {
  split_all(words, behavior, false, [&is](std::string_view text, const auto& take) {
    for (std::size_t at = 0; at < text.size();) {
      const Character next = first_character(text.substr(at));
      if (is(next.code)) take(at, at + next.length);
      at += next.length;
    }
  });
}

/// The words' text written anew, word by word: `write(out, word's text, whether it is at the start)`.
template <class Write>
void rewrite_words(Words& words, const Write& write) {
  const std::size_t most = std::numeric_limits<std::uint32_t>::max();
  std::string out;
  out.reserve(words.text.size() + words.text.size() / 4);
  for (Words::Word& word : words.words) {
    const auto begin = static_cast<std::uint32_t>(out.size());
    write(out, words.of(word), word.at_start);
    word.begin = begin;
    check_growth(kWhat, out.size(), most);
    word.end = static_cast<std::uint32_t>(out.size());
  }
  words.text = std::move(out);
}

void byte_level(Words& words, const pre::ByteLevel& step, const Regex* regex, bool raw_bytes) {
  const auto lacks_space = [&](const Words::Word& word) { return words.text[word.begin] != ' '; };
  if (step.add_prefix_space && std::any_of(words.words.begin(), words.words.end(), lacks_space))
    rewrite_words(words, [](std::string& out, std::string_view text, bool) {
      if (!text.starts_with(' ')) out += ' ';
      out += text;
    });
  if (regex) split_by_regex(words, *regex, pre::SplitBehavior::isolated, false);
  if (!raw_bytes)
    rewrite_words(words, [](std::string& out, std::string_view text, bool) { append_byte_characters(out, text); });
}

void metaspace(Words& words, const pre::Metaspace& step) {
  rewrite_words(words, [&step](std::string& out, std::string_view text, bool at_start) {
    const bool has_one = text.starts_with(' ') || text.starts_with(step.replacement);
    if (!has_one &&
        (step.prepend == pre::PrependScheme::always || (step.prepend == pre::PrependScheme::first && at_start)))
      out += step.replacement;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t space = std::min(text.find(' ', at), text.size());
      out += text.substr(at, space - at);
      if (space < text.size()) out += step.replacement;
      at = space + 1;
    }
  });
  if (!step.split) return;
  const std::uint32_t mark = first_character(step.replacement).code;
  split_by_character(words, pre::SplitBehavior::merged_with_next, [mark](std::uint32_t code) { return code == mark; });
}

/// Runs of word characters, and runs of what is neither those nor white space.
void whitespace(Words& words) {
  const auto kind = [](std::uint32_t code) { return is_white_space(code) ? 0 : is_word_character(code) ? 1 : 2; };
  split_all(words, pre::SplitBehavior::removed, true, [&kind](std::string_view text, const auto& take) {
    std::size_t begin = 0;
    int current = 0;
    for (std::size_t at = 0; at < text.size();) {
      const Character next = first_character(text.substr(at));
      const int here = kind(next.code);
      if (here != current) {
        if (current != 0) take(begin, at);
        begin = at;
        current = here;
      }
      at += next.length;
    }
    if (current != 0) take(begin, text.size());
  });
}

void fixed_length(Words& words, std::uint64_t length) {
  split_all(words, pre::SplitBehavior::isolated, false, [length](std::string_view text, const auto& take) {
    std::size_t begin = 0;
    for (std::size_t at = 0, n = 0; at < text.size();) {
      at += first_character(text.substr(at)).length;
      if (++n == length || at == text.size()) {
        take(begin, at);
        begin = at;
        n = 0;
      }
    }
  });
}

struct Compile {
  bool raw_bytes;  // of this step

  Apply operator()(const pre::ByteLevel& step) const {
    auto regex = step.use_regex ? std::make_shared<const Regex>(TextPattern{kGpt2Words, true}) : nullptr;
    return [step, regex, raw = raw_bytes](Words& words) { byte_level(words, step, regex.get(), raw); };
  }
  Apply operator()(const pre::Split& step) const {
    auto regex = std::make_shared<const Regex>(step.pattern);
    return [regex, behavior = step.behavior, invert = step.invert](Words& words) {
      split_by_regex(words, *regex, behavior, invert);
    };
  }
  Apply operator()(const pre::Digits& step) const {
    const auto behavior = step.individual ? pre::SplitBehavior::isolated : pre::SplitBehavior::contiguous;
    return [behavior](Words& words) { split_by_character(words, behavior, is_numeric); };
  }
  Apply operator()(const pre::Metaspace& step) const {
    return [step](Words& words) { metaspace(words, step); };
  }
  Apply operator()(const pre::Whitespace&) const { return whitespace; }
  Apply operator()(const pre::WhitespaceSplit&) const {
    return [](Words& words) { split_by_character(words, pre::SplitBehavior::removed, is_white_space); };
  }
  Apply operator()(const pre::Punctuation& step) const {
    return [step](Words& words) { split_by_character(words, step.behavior, is_punctuation); };
  }
  Apply operator()(const pre::Bert&) const {
    return [](Words& words) {
      split_by_character(words, pre::SplitBehavior::removed, is_white_space);
      split_by_character(words, pre::SplitBehavior::isolated, is_punctuation);
    };
  }
  Apply operator()(const pre::CharDelimiterSplit& step) const {
    const std::uint32_t delimiter = first_character(step.delimiter).code;
    return [delimiter](Words& words) {
      split_by_character(words, pre::SplitBehavior::removed,
                         [delimiter](std::uint32_t code) { return code == delimiter; });
    };
  }
  Apply operator()(const pre::FixedLength& step) const {
    return [length = step.length](Words& words) { fixed_length(words, length); };
  }
};

}  // namespace

PreTokenizers::PreTokenizers(const std::vector<pre::Step>& steps, bool raw_bytes) {
  for (const auto& step : steps) steps_.push_back(std::visit(Compile{raw_bytes && &step == &steps.back()}, step));
}

void PreTokenizers::apply(Words& words) const {
  // a text of its own limit: what is normalized may have grown already
  const std::size_t most = std::max(most_bytes_of(words.text.size()), words.text.size() * 4);
  for (const auto& step : steps_) {
    step(words);
    check_growth(kWhat, words.text.size(), most);
  }
}

}  // namespace ropewalk::formats
