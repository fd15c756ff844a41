#include <array>
#include <cstring>

#include "formats/gguf.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

struct TypeRow {
  const char* name;
  std::uint64_t bytes;
};
constexpr std::array<TypeRow, 13> kTypes = {{{"u8", 1},
                                             {"i8", 1},
                                             {"u16", 2},
                                             {"i16", 2},
                                             {"u32", 4},
                                             {"i32", 4},
                                             {"f32", 4},
                                             {"bool", 1},
                                             {"string", 0},
                                             {"array", 0},
                                             {"u64", 8},
                                             {"i64", 8},
                                             {"f64", 8}}};

template <typename T>
GgufValue packed_array(GgufType element_type, const std::vector<T>& elements) {
  GgufArray array;
  array.element_type = element_type;
  array.packed.resize(elements.size() * sizeof(T));
  if (!elements.empty()) std::memcpy(array.packed.data(), elements.data(), array.packed.size());
  return {GgufType::array, std::move(array)};
}

template <typename T>
std::vector<T> unpacked(const GgufArray& array, GgufType type) {
  std::vector<T> elements;
  if (array.element_type != type) return elements;
  elements.resize(array.packed.size() / sizeof(T));
  if (!elements.empty()) std::memcpy(elements.data(), array.packed.data(), elements.size() * sizeof(T));
  return elements;
}

[[noreturn]] void wrong_type(const GgufFile& file, std::string_view key, const GgufValue& value, const char* expected) {
  throw Error(ErrorKind::bad_input, {.path = file.files.empty() ? "" : file.files.front()->path()},
              "key '" + std::string(key) + "' has type " + gguf_type_name(value.type) + ", expected " + expected,
              "write the file again with a current converter");
}

}  // namespace

std::uint64_t gguf_type_bytes(GgufType type) { return kTypes[static_cast<std::size_t>(type)].bytes; }
const char* gguf_type_name(GgufType type) { return kTypes[static_cast<std::size_t>(type)].name; }

std::uint64_t GgufArray::size() const noexcept {
  if (element_type == GgufType::string) return strings.size();
  const std::uint64_t bytes = gguf_type_bytes(element_type);
  return bytes == 0 ? 0 : packed.size() / bytes;
}

GgufValue gguf_u32(std::uint32_t v) { return {GgufType::u32, std::uint64_t{v}}; }
GgufValue gguf_u16(std::uint16_t v) { return {GgufType::u16, std::uint64_t{v}}; }
GgufValue gguf_i32(std::int32_t v) { return {GgufType::i32, std::int64_t{v}}; }
GgufValue gguf_f32(float v) { return {GgufType::f32, double{v}}; }
GgufValue gguf_bool(bool v) { return {GgufType::boolean, v}; }
GgufValue gguf_string(std::string v) { return {GgufType::string, std::move(v)}; }
GgufValue gguf_strings(std::vector<std::string> v) {
  GgufArray array;
  array.strings = std::move(v);
  return {GgufType::array, std::move(array)};
}
GgufValue gguf_i32s(const std::vector<std::int32_t>& v) { return packed_array(GgufType::i32, v); }
GgufValue gguf_u8s(std::string_view bytes) {
  return packed_array(GgufType::u8, std::vector<std::uint8_t>(bytes.begin(), bytes.end()));
}
GgufValue gguf_f32s(const std::vector<float>& v) { return packed_array(GgufType::f32, v); }

std::vector<std::int32_t> i32_elements(const GgufArray& array) { return unpacked<std::int32_t>(array, GgufType::i32); }
std::vector<float> f32_elements(const GgufArray& array) { return unpacked<float>(array, GgufType::f32); }

const GgufValue* GgufFile::find(std::string_view key) const {
  for (const GgufKey& candidate : keys)
    if (candidate.name == key) return &candidate.value;
  return nullptr;
}

std::optional<std::uint64_t> GgufFile::integer(std::string_view key) const {
  const GgufValue* found = find(key);
  if (!found) return std::nullopt;
  if (const auto* value = std::get_if<std::uint64_t>(&found->value)) return *value;
  const auto* value = std::get_if<std::int64_t>(&found->value);
  if (!value) wrong_type(*this, key, *found, "an integer");
  if (*value < 0)
    throw Error(ErrorKind::bad_input, {.path = files.empty() ? "" : files.front()->path()},
                "key '" + std::string(key) + "' is " + std::to_string(*value) + ", expected 0 or more",
                "write the file again with a current converter");
  return static_cast<std::uint64_t>(*value);
}

std::optional<double> GgufFile::number(std::string_view key) const {
  const GgufValue* found = find(key);
  if (!found) return std::nullopt;
  if (const auto* value = std::get_if<double>(&found->value)) return *value;
  if (const auto* value = std::get_if<std::uint64_t>(&found->value)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<std::int64_t>(&found->value)) return static_cast<double>(*value);
  wrong_type(*this, key, *found, "a number");
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const GgufValue* found = find(key);
  if (!found) return std::nullopt;
  if (const auto* value = std::get_if<bool>(&found->value)) return *value;
  wrong_type(*this, key, *found, "bool");
}

std::optional<std::string> GgufFile::string(std::string_view key) const {
  const GgufValue* found = find(key);
  if (!found) return std::nullopt;
  if (const auto* value = std::get_if<std::string>(&found->value)) return *value;
  wrong_type(*this, key, *found, "string");
}

const GgufArray* GgufFile::array(std::string_view key) const {
  const GgufValue* found = find(key);
  if (!found) return nullptr;
  if (const auto* value = std::get_if<GgufArray>(&found->value)) return value;
  wrong_type(*this, key, *found, "array");
}

}  // namespace ropewalk::formats
