#pragma once

#include <vector>

#include "formats/gguf.h"
#include "formats/gguf_cursor.h"

namespace ropewalk::formats {

inline constexpr std::uint64_t kMaxGgufNameBytes = 65535;  // of a key: gguf.md

/// The key-value section: n_keys of  name, u32 type, value  (gguf.h), from where the cursor stands. Error(bad_input)
/// for names that stand twice or are not printable, unknown types, arrays of arrays, bools that are neither 0 nor 1,
/// sizes past the caps or the file, and a general.alignment that is no u32 power of two up to 2^20.
std::vector<GgufKey> read_gguf_keys(GgufCursor& in, std::uint64_t n_keys);
/// general.alignment of keys that read_gguf_keys let pass, 32 if it is not among them.
std::uint64_t gguf_alignment(const std::vector<GgufKey>& keys);

}  // namespace ropewalk::formats
