#pragma once

#include <string>

namespace ropewalk::formats {

/// GPT-2's alphabet as a vocab.json, and more entries.
inline std::string alphabet(const std::string& more) {
  std::string out = "{";
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    unsigned code = byte;
    if (!printable) {
      code = 256;
      for (unsigned other = 0; other < byte; ++other)
        code += !((other > 0x20 && other < 0x7F) || (other > 0xA0 && other != 0xAD));
    }
    std::string key;
    if (code < 0x80) key = static_cast<char>(code);
    else key = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    if (key == "\"" || key == "\\") key = "\\" + key;
    out += "\"" + key + "\": " + std::to_string(byte) + ", ";
  }
  out.resize(out.size() - 2);
  return out + more + "}";
}

}  // namespace ropewalk::formats
