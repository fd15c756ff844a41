#include "formats/tokenizers/added_tokens.h"

#include <algorithm>
#include <limits>

#include "formats/tokenizers/characters.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  return (begin == 0 || !is_word_character(last_character(text.substr(0, begin)).code)) &&
         (end == text.size() || !is_word_character(first_character(text.substr(end)).code));
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
  for (std::size_t at = 0; at < tokens_.size(); ++at) matcher_.add(tokens_[at].text, static_cast<std::int32_t>(at));
}

void AddedTokenFinder::split(std::string_view text, bool special, const std::function<void(std::string_view)>& plain,
                             const std::function<void(const AddedToken&)>& found) const {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
    if (!matcher_.may_start(text[at])) {
      ++at;
      continue;
    }
    const auto match = matcher_.longest(text.substr(at), std::numeric_limits<int>::max());
    if (!match) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(match->value)].token;
    std::size_t begin = at, end = at + match->length;
    at = end;  // whatever becomes of it: matches do not overlap
    if (token.special && !special) continue;
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    // The white space that a token takes at its right can be the beginning of another match: the library looks on from
    // the match's own end, and so do we.
    if (token.lstrip)
      while (begin > done && is_white_space(last_character(text.substr(0, begin)).code))
        begin -= last_character(text.substr(0, begin)).length;
    if (token.rstrip)
      while (end < text.size() && is_white_space(first_character(text.substr(end)).code))
        end += first_character(text.substr(end)).length;
    // White space that the token before it took is not taken twice: a token of nothing else is not there.
    if (token.lstrip && done >= end) {
      if (done > end)
        throw Error(ErrorKind::unsupported, {},
                    "the added token '" + token.content +
                        "' stands within the white space that the one before it takes, "
                        "where the tokenizers library stops",
                    "change the text there");
      continue;
    }
    if (done < begin) plain(text.substr(done, begin - done));
    found(token);
    done = end;
  }
  if (done != text.size()) plain(text.substr(done));
}

}  // namespace ropewalk::formats
