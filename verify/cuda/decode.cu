#include "verify/cuda/decode_tile.h"

#include "verify/cuda/device_block.h"
#include "verify/cuda/ops.h"

namespace ropewalk::verify {
namespace {

constexpr std::size_t kLargestGrid = 2147483647;  // blocks along x

template <class Type>
__global__ void __launch_bounds__(kRowThreads) decode_kernel(DecodeArgs args) {
  __shared__ DecodeShared<Type> shared;
  decode_block<Type>(DeviceBlock(), args, shared);
}
__global__ void __launch_bounds__(kRowThreads) decode_plain_kernel(DType dtype, DecodeArgs args) {
  decode_plain_block(DeviceBlock(), dtype, args);
}

void decode(const char* op, DType dtype, std::size_t rows, const DecodeArgs& args, Stream& stream) {
  if (!device_can_decode(dtype))
    throw Error(ErrorKind::unsupported, {}, std::string(info(dtype).name) + " cannot be decoded on the device",
                "use --device cpu");
  const std::size_t blocks = rows * decode_tiles(args.elements);
  if (blocks == 0) return;
  if (blocks > kLargestGrid)
    throw device_error({op, {}, {rows, args.elements}}, "cudaErrorInvalidConfiguration",
                       "more rows than a launch can have");
  const auto grid = static_cast<unsigned>(blocks);
  if (is_plain(dtype)) decode_plain_kernel<<<grid, kRowThreads, 0, stream.get()>>>(dtype, args);
  else
    codecs::with_block_type(
        dtype, [&]<class Type>(Type) { decode_kernel<Type><<<grid, kRowThreads, 0, stream.get()>>>(args); });
  stream.queued(op, {rows, args.elements});
}

template <class T>
constexpr DecodedAs kDecodedAs = std::is_same_v<T, float>  ? DecodedAs::f32
                                 : std::is_same_v<T, Bf16> ? DecodedAs::bf16
                                                           : DecodedAs::f16;

}  // namespace

bool device_can_decode(DType dtype) noexcept {
  return is_plain(dtype) || codecs::with_block_type(dtype, [](auto) {});
}

void gather(DType dtype, DeviceSpan<const std::byte> table, DeviceSpan<const std::int32_t> ids, DeviceRows<float> x,
            Stream& stream) {
  const auto row_bytes = byte_size(dtype, x.width);
  if (!row_bytes)
    throw Error(
        ErrorKind::unsupported, {},
        "rows of " + std::to_string(x.width) + " elements are no whole blocks of " + std::string(info(dtype).name),
        "use --device cpu");
  decode("gather", dtype, ids.size,
         {.bytes = table.data,
          .elements = x.width,
          .as = DecodedAs::f32,
          .y = x.data,
          .ids = ids.data,
          .row_bytes = *row_bytes,
          .row_stride = x.stride},
         stream);
}

template <class T>
void dequantize(DType dtype, DeviceSpan<const std::byte> bytes, DeviceSpan<T> values, Stream& stream) {
  decode("dequantize", dtype, 1, {.bytes = bytes.data, .elements = values.size, .as = kDecodedAs<T>, .y = values.data},
         stream);
}
template void dequantize(DType, DeviceSpan<const std::byte>, DeviceSpan<float>, Stream&);
template void dequantize(DType, DeviceSpan<const std::byte>, DeviceSpan<Bf16>, Stream&);
template void dequantize(DType, DeviceSpan<const std::byte>, DeviceSpan<Fp16>, Stream&);

void dequantize_terms(DType dtype, DeviceSpan<const std::byte> bytes, DeviceRows<Bf16> terms, Stream& stream) {
  decode("dequantize_terms", dtype, 1,
         {.bytes = bytes.data,
          .elements = terms.width,
          .as = DecodedAs::terms,
          .y = terms.data,
          .terms = int(terms.rows),
          .term_stride = terms.stride},
         stream);
}

}  // namespace ropewalk::verify
