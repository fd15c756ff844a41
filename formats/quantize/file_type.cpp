#include "formats/quantize/file_type.h"

#include <algorithm>
#include <charconv>

#include "lib/ascii_case.h"

namespace ropewalk::formats {
namespace {

bool same_letters(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower_case(x) == lower_case(y); });
}

}  // namespace

const FileTypeInfo& info(FileType type) {
  const FileTypeInfo* found = nullptr;
  for (const FileTypeInfo& row : kFileTypes)
    if (row.type == type) found = &row;  // the last one: aliases stand before it
  return *found;
}

const FileTypeInfo* find_file_type(std::string_view word) {
  for (const FileTypeInfo& row : kFileTypes)
    if (same_letters(row.name, word)) return &row;
  int id = -1;
  const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), id);
  if (code != std::errc() || end != word.data() + word.size()) return nullptr;
  for (const FileTypeInfo& row : kFileTypes)
    if (static_cast<int>(row.type) == id) return &row;
  return nullptr;
}

std::optional<FileType> file_type_from_name(std::string_view name) {
  const FileTypeInfo* row = find_file_type(name);
  return row ? std::optional(row->type) : std::nullopt;
}

}  // namespace ropewalk::formats
