#pragma once

#include <cstring>

#include "tests/tools/command.h"

namespace ropewalk::tools::test {

/// Sets every gain of the last norm of a copy of stories260K: its 64 floats end the file.
inline void set_last_norm(const fs::path& folder, float gain) {
  std::string bytes = slurp(folder / "model.safetensors");
  for (std::size_t at = bytes.size() - 64 * sizeof(gain); at < bytes.size(); at += sizeof(gain))
    std::memcpy(bytes.data() + at, &gain, sizeof(gain));
  spill(folder / "model.safetensors", bytes);
}

}  // namespace ropewalk::tools::test
