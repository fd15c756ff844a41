#pragma once

#include <string>
#include <string_view>

namespace ropewalk::formats {

/// NFC, NFD, NFKC or NFKD of valid UTF-8 (Unicode 15, by utf8proc's tables). Linear but for sorting runs of combining
/// marks, which is n log n: a megabyte of marks is no denial of service.
std::string unicode_form(std::string_view text, bool compose, bool compatible);

}  // namespace ropewalk::formats
