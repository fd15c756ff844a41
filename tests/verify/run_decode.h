#pragma once

#include "lib/codecs/decode.h"
#include "tests/verify/host_block.h"
#include "verify/cuda/decode_tile.h"

namespace ropewalk::verify {

/// The launch of decode.cu on the host: `rows` rows.
inline void run_decode(DType dtype, const DecodeArgs& args, std::uint64_t rows = 1, bool backwards = false) {
  const std::uint64_t blocks = rows * decode_tiles(args.elements);
  if (is_plain(dtype))
    for_row_blocks(blocks, backwards, [&](const HostBlock& block) { decode_plain_block(block, dtype, args); });
  else
    codecs::with_block_type(dtype, [&]<class Type>(Type) {
      for_row_blocks(blocks, backwards, [&](const HostBlock& block) {
        decode_block<Type>(block, args, *fresh_shared<DecodeShared<Type>>());
      });
    });
}

}  // namespace ropewalk::verify
