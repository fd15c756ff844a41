#include "formats/gguf_read_keys.h"

#include <unordered_set>

namespace ropewalk::formats {
namespace {

// What a header may claim. llama.cpp 0.5 allows 2^30 for strings and arrays; nothing published comes near these.
// A large vocabulary with its merges is 800,000 strings in 15 MB.
constexpr std::uint64_t kMaxStrings = std::uint64_t{1} << 22;  // elements of all string arrays
// of one string, of one array of numbers
constexpr std::uint64_t kMaxStringBytes = std::uint64_t{1} << 26, kMaxArrayBytes = std::uint64_t{1} << 26;
constexpr std::uint64_t kMaxSectionBytes = std::uint64_t{1} << 28;
constexpr std::uint64_t kMaxAlignment = std::uint64_t{1} << 20;
constexpr const char* kAlignmentKey = "general.alignment";

GgufType read_type(GgufCursor& in, const char* field, const std::string& key) {
  const auto raw = in.number<std::uint32_t>(field);
  if (raw > static_cast<std::uint32_t>(GgufType::f64))
    in.fail("key " + in_quotes(key) + " has value type " + std::to_string(raw) + ", expected 0 to 12", kGgufWriteAgain);
  return static_cast<GgufType>(raw);
}

bool read_bool(GgufCursor& in, const std::string& key) {
  const auto raw = in.number<std::uint8_t>("the value");
  if (raw > 1)
    in.fail("key " + in_quotes(key) + " is a bool of value " + std::to_string(raw) + ", expected 0 or 1",
            kGgufWriteAgain);
  return raw == 1;
}

GgufArray read_array(GgufCursor& in, const std::string& key, std::uint64_t& strings_left) {
  GgufArray array;
  array.element_type = read_type(in, "the element type", key);
  if (array.element_type == GgufType::array)
    in.fail("key " + in_quotes(key) + " is an array of arrays, which llama.cpp does not read", kGgufWriteAgain);
  const auto n = in.number<std::uint64_t>("the length");
  if (array.element_type == GgufType::string) {
    in.check_count(n, 8, strings_left, "the length");
    strings_left -= n;
    array.strings.reserve(static_cast<std::size_t>(n));
    for (std::uint64_t item = 0; item < n; ++item) array.strings.push_back(in.text("a string", kMaxStringBytes));
    return array;
  }
  const std::uint64_t each = gguf_type_bytes(array.element_type);
  in.check_count(n, each, kMaxArrayBytes / each, "the length");
  array.packed.resize(static_cast<std::size_t>(n * each));
  in.read(array.packed, "the elements");
  if (array.element_type == GgufType::boolean)
    for (std::size_t at = 0; at < array.packed.size(); ++at)
      if (array.packed[at] > std::byte{1})
        in.fail_at(in.field() + at,
                   "key " + in_quotes(key) + " has a bool of value " +
                       std::to_string(static_cast<int>(array.packed[at])) + ", expected 0 or 1",
                   kGgufWriteAgain);
  return array;
}

GgufValue read_value(GgufCursor& in, const std::string& key, std::uint64_t& strings_left) {
  const GgufType type = read_type(in, "the value type", key);
  switch (type) {
    case GgufType::u8: return {type, std::uint64_t{in.number<std::uint8_t>("the value")}};
    case GgufType::i8: return {type, std::int64_t{in.number<std::int8_t>("the value")}};
    case GgufType::u16: return {type, std::uint64_t{in.number<std::uint16_t>("the value")}};
    case GgufType::i16: return {type, std::int64_t{in.number<std::int16_t>("the value")}};
    case GgufType::u32: return {type, std::uint64_t{in.number<std::uint32_t>("the value")}};
    case GgufType::i32: return {type, std::int64_t{in.number<std::int32_t>("the value")}};
    case GgufType::f32: return {type, double{in.number<float>("the value")}};
    case GgufType::boolean: return {type, read_bool(in, key)};
    case GgufType::string: return {type, in.text("the string", kMaxStringBytes)};
    case GgufType::array: return {type, read_array(in, key, strings_left)};
    case GgufType::u64: return {type, in.number<std::uint64_t>("the value")};
    case GgufType::i64: return {type, in.number<std::int64_t>("the value")};
    case GgufType::f64: return {type, in.number<double>("the value")};
  }
  in.fail("key " + in_quotes(key) + " has an unknown type", kGgufWriteAgain);
}

/// `type_place`: of the value's type; the value is the field read last.
void check_alignment(const GgufCursor& in, const GgufValue& value, std::uint64_t type_place) {
  if (value.type != GgufType::u32)
    in.fail_at(type_place, std::string("general.alignment has type ") + gguf_type_name(value.type) + ", expected u32",
               kGgufWriteAgain);
  const std::uint64_t alignment = std::get<std::uint64_t>(value.value);
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > kMaxAlignment)
    in.fail("general.alignment is " + std::to_string(alignment) + ", expected a power of two up to " +
                std::to_string(kMaxAlignment),
            kGgufWriteAgain);
}

}  // namespace

std::vector<GgufKey> read_gguf_keys(GgufCursor& in, std::uint64_t n_keys) {
  std::vector<GgufKey> keys;
  std::unordered_set<std::string> seen;
  const std::uint64_t begin = in.position();
  std::uint64_t strings_left = kMaxStrings;
  for (std::uint64_t i = 0; i < n_keys; ++i) {
    in.set_subject(" of key number " + std::to_string(i));
    GgufKey key;
    key.name = in.text("the name", kMaxGgufNameBytes);
    if (key.name.empty()) in.fail("key number " + std::to_string(i) + " has no name", kGgufWriteAgain);
    if (!is_printable_utf8(key.name))
      in.fail("the name of key number " + std::to_string(i) + " is not printable UTF-8", kGgufWriteAgain);
    if (!seen.insert(key.name).second) in.fail("key " + in_quotes(key.name) + " stands twice", kGgufWriteAgain);
    in.set_subject(" of key " + in_quotes(key.name));
    const std::uint64_t type_place = in.position();
    key.value = read_value(in, key.name, strings_left);
    if (key.name == kAlignmentKey) check_alignment(in, key.value, type_place);
    if (in.position() - begin > kMaxSectionBytes)
      in.fail("the keys take more than " + std::to_string(kMaxSectionBytes) + " bytes", kGgufWriteAgain);
    keys.push_back(std::move(key));
  }
  in.set_subject("");
  return keys;
}

std::uint64_t gguf_alignment(const std::vector<GgufKey>& keys) {
  for (const GgufKey& key : keys)
    if (key.name == kAlignmentKey) return std::get<std::uint64_t>(key.value.value);
  return 32;
}

}  // namespace ropewalk::formats
