#pragma once

#include <string>
#include <string_view>

namespace ropewalk::formats {

/// NFC, NFD, NFKC or NFKD of valid UTF-8 as the tokenizers library 0.23.3 has them, by Unicode 9.0: a character added
/// later stays where and as it is. Linear but for sorting runs of combining marks, which is n log n: a megabyte of marks
/// is no denial of service.
std::string unicode_form(std::string_view text, bool compose, bool compatible);

}  // namespace ropewalk::formats
