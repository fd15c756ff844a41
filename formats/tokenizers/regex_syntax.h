#pragma once

#include <string>
#include <string_view>

namespace ropewalk::formats {

/// A pattern of Oniguruma's syntax (6.9, UTF-8, as the tokenizers library compiles it) in PCRE2's, with the same
/// matches. What differs is rewritten: ^ and $ are of lines; \h is a hexadecimal digit; \s, \w and POSIX brackets are
/// Unicode's properties; {,n} counts from 0; {n,m}+ repeats, it is not possessive; classes nest and intersect (&&);
/// (?m) lets dots match newlines; a(?i)b|c is a(?i:b|c). Error(unsupported) without a place names what is not understood: calls, absent
/// expressions, conditionals, callouts, \K, \G, \X, \R and characters by octal or control codes.
/// With `newer_characters` properties and cases are the library's for characters that PCRE2 does not know
/// (newer_characters.h): the same matches in a text without them, if slower.
std::string oniguruma_to_pcre2(std::string_view pattern, bool newer_characters);

}  // namespace ropewalk::formats
