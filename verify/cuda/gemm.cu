#include "verify/cuda/gemm_tile.h"

#include "verify/cuda/device_block.h"
#include "verify/cuda/gemm.h"

namespace ropewalk::verify {
namespace {

template <class Element, class Out>
__global__ void __launch_bounds__(GemmTile::kThreads) gemm_kernel(GemmArgs<Element, Out> args) {
  extern __shared__ __align__(128) unsigned char bytes[];
  gemm_block(DeviceBlock(), args, *reinterpret_cast<GemmTile::Shared<Element>*>(bytes));
}

}  // namespace

template <class Element, class Out>
void gemm(DeviceRows<const Element> x, DeviceRows<const Element> w, bool accumulate, DeviceRows<Out> out,
          Stream& stream) {
  if (x.rows == 0 || w.rows == 0) return;
  const std::uint64_t row_tiles = (x.rows + GemmTile::kRows - 1) / GemmTile::kRows,
                      column_tiles = (w.rows + GemmTile::kColumns - 1) / GemmTile::kColumns;
  const DeviceOp op{"gemm", {}, {x.rows, w.rows, x.width}};
  if (row_tiles > 2147483647 || column_tiles > 65535)
    throw device_error(op, "cudaErrorInvalidConfiguration", "more tiles than a launch can have");
  const auto aligned = [](const auto& rows) {
    return reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0 && rows.stride % 8 == 0;
  };
  constexpr int kShared = int(sizeof(GemmTile::Shared<Element>));
  cuda_check(cudaFuncSetAttribute(gemm_kernel<Element, Out>, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), op);
  gemm_kernel<Element, Out>
      <<<dim3(static_cast<unsigned>(row_tiles), static_cast<unsigned>(column_tiles)), GemmTile::kThreads, kShared,
         stream.get()>>>({x.data, x.stride, w.data, w.stride, out.data, out.stride, x.rows, w.rows, x.width, accumulate,
                          aligned(x) && aligned(w) && x.width % 8 == 0});
  stream.queued("gemm", {x.rows, w.rows, x.width});
}
template void gemm(DeviceRows<const Bf16>, DeviceRows<const Bf16>, bool, DeviceRows<float>, Stream&);
template void gemm(DeviceRows<const Bf16>, DeviceRows<const Bf16>, bool, DeviceRows<Bf16>, Stream&);
template void gemm(DeviceRows<const Fp16>, DeviceRows<const Fp16>, bool, DeviceRows<float>, Stream&);
template void gemm(DeviceRows<const Fp16>, DeviceRows<const Fp16>, bool, DeviceRows<Fp16>, Stream&);

}  // namespace ropewalk::verify
