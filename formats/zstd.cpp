#include "formats/zstd.h"

#include <zstd.h>

#include <memory>
#include <new>

#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr int kLevel = 9;  // of a saved reference 5 % more than 19 makes of it, in a tenth of the time

template <class Context, std::size_t (*release)(Context*)>
struct Release {
  void operator()(Context* context) const { release(context); }
};
using Compressor = std::unique_ptr<ZSTD_CCtx, Release<ZSTD_CCtx, ZSTD_freeCCtx>>;
using Decompressor = std::unique_ptr<ZSTD_DCtx, Release<ZSTD_DCtx, ZSTD_freeDCtx>>;

/// Sees what comes out of all frames, a block at a time, and says how much it was.
template <class See>
std::uint64_t decompress(std::span<const std::byte> file, std::uint64_t max_bytes, const std::string& path, See&& see) {
  const Decompressor context(ZSTD_createDCtx());
  if (!context) throw std::bad_alloc();
  std::vector<std::byte> block(ZSTD_DStreamOutSize());
  std::uint64_t total = 0;
  ZSTD_inBuffer in{file.data(), file.size(), 0};
  std::size_t left = 1;  // of the frame that is being read
  while (in.pos < in.size || left > 0) {
    const std::uint64_t before = in.pos;
    ZSTD_outBuffer piece{block.data(), block.size(), 0};
    left = ZSTD_decompressStream(context.get(), &piece, &in);
    if (ZSTD_isError(left))
      throw Error(ErrorKind::bad_input, {.path = path, .offset = before},
                  std::string("the compressed data is damaged: ") + ZSTD_getErrorName(left), "fetch the file again");
    if (piece.pos > max_bytes - total)
      throw Error(ErrorKind::bad_input, {.path = path},
                  "holds more than " + std::to_string(max_bytes) + " bytes once decompressed", "give a smaller file");
    total += piece.pos;
    see(std::span(block).first(piece.pos));
    if (left > 0 && in.pos == in.size && piece.pos < block.size())
      throw Error(ErrorKind::bad_input, {.path = path, .offset = file.size()},
                  "the compressed data ends within a frame", "the file is cut short: fetch it again");
  }
  return total;
}

}  // namespace

std::vector<std::byte> zstd_compressed(std::span<const std::byte> bytes) {
  const Compressor context(ZSTD_createCCtx());
  if (!context) throw std::bad_alloc();
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  std::vector<std::byte> out(ZSTD_compressBound(bytes.size()));
  const std::size_t size = ZSTD_compress2(context.get(), out.data(), out.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(size)) throw std::bad_alloc();  // the bound is enough room: nothing else can fail
  out.resize(size);
  return out;
}

std::vector<std::byte> zstd_decompressed(std::span<const std::byte> file, std::uint64_t max_bytes,
                                         const std::string& path) {
  const std::uint64_t bytes = decompress(file, max_bytes, path, [](std::span<const std::byte>) {});
  std::vector<std::byte> out;
  out.reserve(bytes);
  decompress(file, max_bytes, path,
             [&](std::span<const std::byte> block) { out.insert(out.end(), block.begin(), block.end()); });
  return out;
}

}  // namespace ropewalk::formats
