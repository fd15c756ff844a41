#include "verify/cuda/attention.h"

#include <cstdint>

#include "verify/cuda/attention_tiles.h"
#include "verify/cuda/device_block.h"

namespace ropewalk::verify {
namespace {

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads) attention_kernel(AttentionArgs<typename Tile::Element> args) {
  extern __shared__ __align__(128) unsigned char bytes[];
  attention_block<Tile>(DeviceBlock(), args, *reinterpret_cast<typename Tile::Shared*>(bytes));
}

template <class Tile>
void launch(const AttentionArgs<typename Tile::Element>& args, std::uint64_t windows, Stream& stream) {
  const DeviceOp op{"attention", {}, {windows, args.rows, args.n_heads, args.head_dim}};
  // More than 48 KiB of shared memory is asked for by name. Once for each kernel and device would do; the call costs a
  // microsecond.
  cuda_check(cudaFuncSetAttribute(attention_kernel<Tile>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  int(sizeof(typename Tile::Shared))),
             op);
  const std::uint64_t tiles = (args.rows + Tile::kQueries - 1) / Tile::kQueries;
  const dim3 grid(static_cast<unsigned>(tiles), args.n_heads, static_cast<unsigned>(windows));
  attention_kernel<Tile><<<grid, Tile::kThreads, sizeof(typename Tile::Shared), stream.get()>>>(args);
  stream.queued("attention", {windows, args.rows, args.n_heads, args.head_dim});
}

/// Whether rows and heads can be copied 16 bytes at a time.
template <class Element>
bool on_16_bytes(const AttentionArgs<Element>& args) {
  const auto multiple = [](std::uint64_t elements) { return elements * sizeof(Element) % 16 == 0; };
  const auto aligned = [](const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; };
  return aligned(args.q) && aligned(args.k) && aligned(args.v) && multiple(args.head_dim) && multiple(args.q_row) &&
         multiple(args.q_window) && multiple(args.kv_row) && multiple(args.kv_window);
}

}  // namespace

template <class Element>
void attention(const AttentionArgs<Element>& args, std::uint64_t windows, Stream& stream) {
  constexpr std::uint64_t kLargestGrid = 65535;  // along y and z
  if (args.head_dim > kMaxDeviceHeadDim || windows > kLargestGrid || args.n_heads > kLargestGrid ||
      args.rows > std::uint64_t{1} << 36)
    throw Error(ErrorKind::unsupported, {},
                "attention of " + std::to_string(args.n_heads) + " heads of " + std::to_string(args.head_dim) +
                    " channels over " + std::to_string(windows) + " windows of " + std::to_string(args.rows) +
                    " rows is more than a launch takes",
                "use --device cpu");
  AttentionArgs<Element> checked = args;
  checked.vectors = on_16_bytes(args) ? 1 : 0;
  with_attention_tile<Element>(args.head_dim,
                               [&](auto tile) { launch<typename decltype(tile)::type>(checked, windows, stream); });
}
template void attention(const AttentionArgs<float>&, std::uint64_t, Stream&);
template void attention(const AttentionArgs<Bf16>&, std::uint64_t, Stream&);
template void attention(const AttentionArgs<Fp16>&, std::uint64_t, Stream&);

}  // namespace ropewalk::verify
