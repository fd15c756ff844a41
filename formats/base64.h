#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ropewalk::formats {

/// Bytes of RFC 4648's base64, padded to a multiple of four characters; nullopt for any other text, stray bits behind
/// the last byte included.
std::optional<std::string> base64_bytes(std::string_view text);

}  // namespace ropewalk::formats
