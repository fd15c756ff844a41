#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ropewalk::formats {

/// Cursor over one message in protobuf's wire format: fields of  tag: varint (number * 8 + wire type), then
///   type 0: varint | 1: 8 bytes | 2: length: varint, that many bytes | 5: 4 bytes.
/// Groups (3, 4) are deprecated and refused. Bytes stay where they are; nothing is allocated for a length only the file
/// claims.
/// Every failure is Error(bad_input) naming the file and the byte.
class ProtobufReader {
 public:
  /// `offset`: where `bytes` starts in the file, for messages.
  ProtobufReader(const std::string& path, std::string_view bytes, std::uint64_t offset = 0)
      : path_(&path), bytes_(bytes), offset_(offset) {}

  struct Field {
    std::uint32_t number = 0;
    int wire_type = 0;
    std::uint64_t scalar = 0;  // types 0, 1, 5
    std::string_view bytes;    // type 2
    std::uint64_t offset = 0;  // of the tag, in the file
    std::uint64_t bytes_offset = 0;
  };
  /// False at the end of the message.
  bool next(Field& field);

  /// The field's value, after checking that it has the wire type its declaration asks for.
  std::uint64_t varint(const Field& field, const char* name) const;
  std::string_view string(const Field& field, const char* name) const;
  float number(const Field& field, const char* name) const;

  [[noreturn]] void fail(std::uint64_t offset, const std::string& problem) const;

 private:
  std::uint64_t take_varint(const char* what);
  std::uint64_t take_fixed(int n_bytes);
  void expect(const Field& field, int wire_type, const char* name) const;

  const std::string* path_;
  std::string_view bytes_;
  std::uint64_t offset_;
  std::size_t pos_ = 0;
};

}  // namespace ropewalk::formats
