#include "verify/cuda/ops.h"

#include <cassert>

#include "verify/cuda/device_block.h"
#include "verify/cuda/row_tiles.h"

namespace ropewalk::verify {
namespace {

constexpr std::size_t kLargestGrid = 2147483647;  // blocks along x

template <class T>
__global__ void __launch_bounds__(kRowThreads) rms_norm_kernel(RmsNormArgs<T> args) {
  __shared__ RmsNormShared shared;
  rms_norm_block(DeviceBlock(), args, shared);
}
template <class T>
__global__ void __launch_bounds__(kRowThreads) rotate_kernel(RotateArgs<T> args) {
  rotate_block(DeviceBlock(), args);
}
template <class In, class Out>
__global__ void __launch_bounds__(kRowThreads) swiglu_kernel(SwigluArgs<In, Out> args) {
  swiglu_block(DeviceBlock(), args);
}
template <class T>
__global__ void __launch_bounds__(kRowThreads) add_kernel(AddArgs<T> args) {
  add_block(DeviceBlock(), args);
}
template <class T>
__global__ void __launch_bounds__(kRowThreads) split_kernel(SplitArgs<T> args) {
  split_block(DeviceBlock(), args);
}
__global__ void __launch_bounds__(kRowThreads) distance_kernel(DistanceArgs args) {
  __shared__ DistanceShared shared;
  distance_block(DeviceBlock(), args, shared);
}
template <bool kPair>
__global__ void __launch_bounds__(kRowThreads) head_kernel(HeadArgs args) {
  // Raw bytes: shared memory has no constructors.
  __shared__ alignas(HeadShared) unsigned char bytes[sizeof(HeadShared)];
  head_block<kPair>(DeviceBlock(), args, *reinterpret_cast<HeadShared*>(bytes));
}

__global__ void mark_kernel(volatile std::uint64_t* counter, std::uint64_t value) {
  *counter = value;
  __threadfence_system();
}

unsigned grid_of(std::size_t blocks, const char* op) {
  if (blocks > kLargestGrid)
    throw device_error({op, {}, {blocks}}, "cudaErrorInvalidConfiguration", "more rows than a launch can have");
  return static_cast<unsigned>(blocks);
}
std::size_t flat_blocks(std::size_t elements) { return (elements + kFlatElements - 1) / kFlatElements; }

}  // namespace

void mark_finished(std::uint64_t* counter, std::uint64_t value, cudaStream_t stream) {
  mark_kernel<<<1, 1, 0, stream>>>(counter, value);
}

template <class T>
void rms_norm(DeviceRows<const float> x, DeviceSpan<const float> gain, double eps, DeviceRows<T> y, Stream& stream) {
  if (x.rows == 0) return;
  rms_norm_kernel<T><<<grid_of(x.rows, "rms_norm"), kRowThreads, 0, stream.get()>>>(
      {x.data, x.stride, gain.data, x.width, eps, y.data, y.stride});
  stream.queued("rms_norm", {x.rows, x.width});
}
template void rms_norm(DeviceRows<const float>, DeviceSpan<const float>, double, DeviceRows<float>, Stream&);
template void rms_norm(DeviceRows<const float>, DeviceSpan<const float>, double, DeviceRows<Bf16>, Stream&);
template void rms_norm(DeviceRows<const float>, DeviceSpan<const float>, double, DeviceRows<Fp16>, Stream&);

template <class T>
void rotate(std::type_identity_t<DeviceRows<const T>> x, std::size_t head_dim, RotaryPairs layout,
            const DeviceRotary& table, std::size_t first_position, std::size_t window_rows, DeviceRows<T> y,
            Stream& stream) {
  if (x.rows == 0) return;
  assert(first_position + window_rows <= table.positions && x.width % head_dim == 0);
  rotate_kernel<T><<<grid_of(x.rows, "rotate"), kRowThreads, 0, stream.get()>>>(
      {x.data, x.stride, y.data, y.stride, x.width / head_dim, head_dim, table.pairs,
       layout == RotaryPairs::interleaved, table.cos.data, table.sin.data, first_position, window_rows});
  stream.queued("rotate", {x.rows, x.width / head_dim, head_dim});
}
template void rotate(DeviceRows<const float>, std::size_t, RotaryPairs, const DeviceRotary&, std::size_t, std::size_t,
                     DeviceRows<float>, Stream&);
template void rotate(DeviceRows<const Bf16>, std::size_t, RotaryPairs, const DeviceRotary&, std::size_t, std::size_t,
                     DeviceRows<Bf16>, Stream&);
template void rotate(DeviceRows<const Fp16>, std::size_t, RotaryPairs, const DeviceRotary&, std::size_t, std::size_t,
                     DeviceRows<Fp16>, Stream&);

template <class In, class Out>
void swiglu(DeviceRows<const In> gate_up, std::size_t group, DeviceRows<Out> y, Stream& stream) {
  if (y.rows == 0) return;
  swiglu_kernel<In, Out><<<grid_of(y.rows, "swiglu"), kRowThreads, 0, stream.get()>>>(
      {gate_up.data, gate_up.stride, y.width, group, y.data, y.stride});
  stream.queued("swiglu", {y.rows, y.width});
}
template void swiglu(DeviceRows<const float>, std::size_t, DeviceRows<float>, Stream&);
template void swiglu(DeviceRows<const float>, std::size_t, DeviceRows<Bf16>, Stream&);
template void swiglu(DeviceRows<const float>, std::size_t, DeviceRows<Fp16>, Stream&);
template void swiglu(DeviceRows<const Bf16>, std::size_t, DeviceRows<Bf16>, Stream&);
template void swiglu(DeviceRows<const Fp16>, std::size_t, DeviceRows<Fp16>, Stream&);

template <class T>
void add(DeviceRows<float> x, DeviceRows<const T> y, Stream& stream) {
  if (x.rows == 0) return;
  add_kernel<T>
      <<<grid_of(x.rows, "add"), kRowThreads, 0, stream.get()>>>({x.data, x.stride, y.data, y.stride, x.width});
  stream.queued("add", {x.rows, x.width});
}
template void add(DeviceRows<float>, DeviceRows<const float>, Stream&);
template void add(DeviceRows<float>, DeviceRows<const Bf16>, Stream&);
template void add(DeviceRows<float>, DeviceRows<const Fp16>, Stream&);

template <class T>
void split_bf16(std::type_identity_t<DeviceSpan<const T>> x, DeviceRows<Bf16> y, Stream& stream) {
  if (x.size == 0) return;
  assert(y.width == x.size);
  split_kernel<T><<<grid_of(flat_blocks(x.size), "split_bf16"), kRowThreads, 0, stream.get()>>>(
      {x.data, x.size, int(y.rows), y.data, y.stride});
  stream.queued("split_bf16", {x.size});
}
template void split_bf16<float>(DeviceSpan<const float>, DeviceRows<Bf16>, Stream&);
template void split_bf16<Bf16>(DeviceSpan<const Bf16>, DeviceRows<Bf16>, Stream&);
template void split_bf16<Fp16>(DeviceSpan<const Fp16>, DeviceRows<Bf16>, Stream&);

void head_statistics(DeviceRows<const float> a, DeviceRows<const float> b, std::size_t first_column,
                     DeviceSpan<const std::int32_t> next, DeviceSpan<HeadRow> out, Stream& stream) {
  if (a.rows == 0) return;
  const HeadArgs args{a.data, b.data, a.stride, a.width, first_column, next.data, out.data};
  assert(!b.data || b.stride == a.stride);
  if (b.data) head_kernel<true><<<grid_of(a.rows, "head_statistics"), kRowThreads, 0, stream.get()>>>(args);
  else head_kernel<false><<<grid_of(a.rows, "head_statistics"), kRowThreads, 0, stream.get()>>>(args);
  stream.queued("head_statistics", {a.rows, a.width});
}

void row_distance(DeviceRows<const float> a, DeviceRows<const float> b, DeviceSpan<double> out, Stream& stream) {
  if (a.rows == 0) return;
  assert(a.rows == b.rows && a.width == b.width && out.size >= a.rows);
  distance_kernel<<<grid_of(a.rows, "row_distance"), kRowThreads, 0, stream.get()>>>(
      {a.data, a.stride, b.data, b.stride, a.width, out.data});
  stream.queued("row_distance", {a.rows, a.width});
}

}  // namespace ropewalk::verify
