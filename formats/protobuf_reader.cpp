#include "formats/protobuf_reader.h"

#include <bit>

#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::formats {

void ProtobufReader::fail(std::uint64_t offset, const std::string& problem) const {
  throw Error(ErrorKind::bad_input, {.path = *path_, .offset = offset}, problem,
              "the file is cut short or corrupt: fetch it again");
}

std::uint64_t ProtobufReader::take_varint(const char* what) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (pos_ == bytes_.size()) fail(offset_ + pos_, std::string(what) + " ends in the middle of a number");
    const auto byte = static_cast<std::uint8_t>(bytes_[pos_++]);
    if (shift == 63 && byte > 1) break;  // the tenth byte holds bit 63 alone
    value |= std::uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return value;
  }
  fail(offset_ + pos_ - 1, std::string(what) + " does not fit in 64 bits");
}

std::uint64_t ProtobufReader::take_fixed(int n_bytes) {
  const std::size_t left = bytes_.size() - pos_;
  if (left < static_cast<std::size_t>(n_bytes))
    fail(offset_ + pos_, "a field needs " + plural(n_bytes, "byte") + ", " + are_left(left));
  std::uint64_t value = 0;
  for (int at = 0; at < n_bytes; ++at) value |= std::uint64_t{static_cast<std::uint8_t>(bytes_[pos_++])} << (8 * at);
  return value;
}

bool ProtobufReader::next(Field& field) {
  if (pos_ == bytes_.size()) return false;
  field = {};
  field.offset = offset_ + pos_;
  const std::uint64_t tag = take_varint("a field's tag");
  if (tag >> 3 == 0 || tag > 0xFFFFFFFFu)
    fail(field.offset, "field number " + std::to_string(tag >> 3) + " is out of range");
  field.number = static_cast<std::uint32_t>(tag >> 3);
  field.wire_type = static_cast<int>(tag & 7);
  switch (field.wire_type) {
    case 0: field.scalar = take_varint("a field"); break;
    case 1: field.scalar = take_fixed(8); break;
    case 5: field.scalar = take_fixed(4); break;
    case 2: {
      const std::uint64_t length = take_varint("a field's length");
      const std::size_t left = bytes_.size() - pos_;
      if (length > left)
        fail(field.offset,
             "field " + std::to_string(field.number) + " needs " + plural(length, "byte") + ", " + are_left(left));
      field.bytes_offset = offset_ + pos_;
      field.bytes = bytes_.substr(pos_, length);
      pos_ += length;
      break;
    }
    default:
      fail(field.offset, "field " + std::to_string(field.number) + " has wire type " + std::to_string(field.wire_type) +
                             ", expected 0, 1, 2 or 5");
  }
  return true;
}

void ProtobufReader::expect(const Field& field, int wire_type, const char* name) const {
  if (field.wire_type != wire_type)
    fail(field.offset, std::string(name) + " has wire type " + std::to_string(field.wire_type) + ", expected " +
                           std::to_string(wire_type));
}

std::uint64_t ProtobufReader::varint(const Field& field, const char* name) const {
  expect(field, 0, name);
  return field.scalar;
}

std::string_view ProtobufReader::string(const Field& field, const char* name) const {
  expect(field, 2, name);
  return field.bytes;
}

float ProtobufReader::number(const Field& field, const char* name) const {
  expect(field, 5, name);
  return std::bit_cast<float>(static_cast<std::uint32_t>(field.scalar));
}

}  // namespace ropewalk::formats
