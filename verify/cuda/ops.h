#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "lib/dtype.h"
#include "lib/lazy_tensor.h"
#include "verify/cuda/element.h"
#include "verify/cuda/head_tile.h"
#include "verify/cuda/runtime.h"
#include "verify/accelerator.h"

// The device bodies of the forward pass's operations: contracts and argument order of the host headers named, on device
// memory, queued on `stream`. Sums are in a fixed order: two runs give the same bits. Matrices are row-major, any
// width; offsets are 64 bits wide. No rows: nothing is queued. Error(device) if a launch is refused.
namespace ropewalk::verify {

/// Rows of a matrix on the device; row r starts at data + r * stride.
template <class T>
struct DeviceRows {
  T* data = nullptr;
  std::size_t rows = 0, width = 0, stride = 0;  // elements

  /// To a view that may only be read.
  template <class U>
  requires(!std::is_same_v<U, T> && std::is_same_v<U, const T>) operator DeviceRows<U>() const noexcept {
    return {data, rows, width, stride};
  }
};

/// rms_norm.h. T: float, Bf16, Fp16. y may be x where T is float. The sum has another order than the host's: its double
/// may differ in the last places.
template <class T>
void rms_norm(DeviceRows<const float> x, DeviceSpan<const float> gain, double eps, DeviceRows<T> y, Stream& stream);

/// rotary.h, over all rows (a table without pairs: a copy): row r has position first_position + r % window_rows. y may
/// be x (in place), or another place: keys on their way into the cache. x.width = n_heads * head_dim. T: float (the
/// host's bits), Bf16, Fp16.
template <class T>
void rotate(std::type_identity_t<DeviceRows<const T>> x, std::size_t head_dim, RotaryPairs layout,
            const DeviceRotary& table, std::size_t first_position, std::size_t window_rows, DeviceRows<T> y,
            Stream& stream);

/// swiglu.h with any group: 16 is the host's interleaving, y.width is gate and up one after the other. In and Out:
/// float, or both of one 16-bit type, or float and a 16-bit type.
template <class In, class Out>
void swiglu(DeviceRows<const In> gate_up, std::size_t group, DeviceRows<Out> y, Stream& stream);

/// x += y. y.stride 0: one row (a bias) to all. T: float, Bf16, Fp16.
template <class T>
void add(DeviceRows<float> x, DeviceRows<const T> y, Stream& stream);

/// Encodings the device can read: f32, bf16, f16 and every block type that has a decoder (lib/codecs/decode.h).
bool device_can_decode(DType dtype) noexcept;

/// read_embeddings (model_weights.h) from a table in memory: x[r, :] = table[ids[r], :], table [any, x.width] encoded
/// as `dtype`. The caller has checked the ids.
void gather(DType dtype, DeviceSpan<const std::byte> table, DeviceSpan<const std::int32_t> ids, DeviceRows<float> x,
            Stream& stream);

/// decode_f32 (lib/convert.h), bit for bit where it gives numbers, then one rounding to T. T: float, Bf16, Fp16. Whole
/// blocks; fastest where bytes and values start on 16 bytes.
template <class T>
void dequantize(DType dtype, DeviceSpan<const std::byte> bytes, DeviceSpan<T> values, Stream& stream);
/// decode_f32, then split_bf16: terms [terms, elements].
void dequantize_terms(DType dtype, DeviceSpan<const std::byte> bytes, DeviceRows<Bf16> terms, Stream& stream);

/// y[term, i], term 0 the largest: x[i] = their sum, exact in 3 terms for x = 0 or 2^-110 <= |x| < infinity (below,
/// what lies under 2^-133 is lost: bf16 has no such bits), for every f16 in 2.
/// y: [terms, x.size]. T: float, Bf16, Fp16.
template <class T>
void split_bf16(std::type_identity_t<DeviceSpan<const T>> x, DeviceRows<Bf16> y, Stream& stream);

/// head_statistics.h over columns [first_column, first_column + a.width) of rows of logits. The first columns begin
/// `out` [rows], others are joined to it, in ascending order: where the vocabulary is cut decides bits. b.data null:
/// one model. next[r]: the id whose logit is wanted, negative for none.
void head_statistics(DeviceRows<const float> a, DeviceRows<const float> b, std::size_t first_column,
                     DeviceSpan<const std::int32_t> next, DeviceSpan<HeadRow> out, Stream& stream);

/// out[row] = |a - b| / |a|, 2-norms in double; 0 where both rows are the same.
void row_distance(DeviceRows<const float> a, DeviceRows<const float> b, DeviceSpan<double> out, Stream& stream);

}  // namespace ropewalk::verify
