#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ropewalk::formats {

/// Key order is kept: what we write back is in the order we read.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  std::uint64_t max_bytes = std::uint64_t{64} << 20;
  int max_depth = 64;
};

/// Parses hostile text: size and depth are capped, duplicate keys, trailing text, invalid UTF-8 and a byte-order mark are refused, each as
/// Error(bad_input) "<path>:<line>:<column>: ...". NaN, Infinity and -Infinity are refused too, though Python writes them.
Json parse_json(const std::string& path, std::string_view text, const JsonLimits& limits = {});
/// read_text_file + parse_json.
Json read_json(const std::filesystem::path& path, const JsonLimits& limits = {});

/// Line and column (from 1) of the value that `pointer` ("/rope_scaling/factor") names in `text`; {0, 0} if it is not there.
struct TextPosition {
  int line = 0, column = 0;
};
TextPosition locate(std::string_view text, const std::string& pointer);

}  // namespace ropewalk::formats
