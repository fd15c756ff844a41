#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "lib/error.h"

namespace ropewalk::formats {

/// Key order is kept: what we write back is in the order we read.
using Json = nlohmann::ordered_json;

/// Caps on what hostile text may make us allocate.
struct JsonLimits {
  std::uint64_t max_bytes = std::uint64_t{64} << 20;
  int max_depth = 64;
  std::uint64_t max_values = 4'000'000;                // the largest tokenizer.json in use has 2 million
  std::uint64_t max_members = std::uint64_t{1} << 20;  // of one object; the largest vocabularies have 262,144 pieces
};

/// Parses hostile text by RFC 8259: size, depth, number of values and members of an object are capped; duplicate keys,
/// trailing text, invalid UTF-8, NUL bytes and a byte-order mark are refused, each as Error(bad_input)
/// "<path>:<line>:<column>: ...". NaN, Infinity and -Infinity are refused too, though Python writes them. Numbers:
/// integers that fit in 64 bits stay integers, longer ones become doubles; a number past the largest double is refused,
/// one below the smallest becomes 0. Keys are looked up linearly in the result: index large objects before looking up
/// often.
Json parse_json(const std::string& path, std::string_view text, const JsonLimits& limits = {});
/// read_text_file + parse_json.
Json read_json(const std::filesystem::path& path, const JsonLimits& limits = {});
/// The same for text embedded in a binary file at `text_offset`: errors are "<path>: byte <offset>: ...".
Json parse_embedded_json(const std::string& path, std::string_view text, std::uint64_t text_offset,
                         const JsonLimits& limits);

/// Line and column (from 1, in characters) of the value that `pointer` (RFC 6901: "/rope_scaling/factor") names in
/// `text`; {0, 0} if it is not there.
struct TextPosition {
  int line = 0, column = 0;
};
TextPosition locate(std::string_view text, const std::string& pointer);
/// The same as bytes from the start of `text`.
std::optional<std::size_t> locate_offset(std::string_view text, const std::string& pointer);
/// Past the value of JSON that starts at `at`; `text` is known to be JSON.
std::size_t end_of_value(std::string_view text, std::size_t at);
/// The place of an Error about the value that `pointer` names: its line and column if it is there.
Error::Where json_place(const std::string& path, std::string_view text, const std::string& pointer);
/// A key as a segment of a pointer: '~' and '/' escaped.
std::string pointer_segment(std::string_view key);

}  // namespace ropewalk::formats
