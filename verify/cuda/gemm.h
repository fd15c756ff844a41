#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "verify/cuda/element.h"
#include "verify/cuda/ops.h"
#include "verify/cuda/runtime.h"

namespace ropewalk::verify {

/// out[row, o] = sum over k of x[row, k] w[o, k], added to what `out` holds if `accumulate`: f32 products and sums of
/// 16-bit operands, one rounding to Out at the end.
/// x [rows, depth], w [outputs, depth] as checkpoints store it, out [rows, outputs]; out may be longer than its width
/// between rows. Our own kernel: any sizes, slower than cuBLASLt.
/// Element: Bf16, Fp16; Out: float or Element.
template <class Element, class Out>
void gemm(DeviceRows<const Element> x, DeviceRows<const Element> w, bool accumulate, DeviceRows<Out> out,
          Stream& stream);

/// The same by cuBLASLt, loaded when the program runs (libcublasLt.so of the CUDA version built with) so that it starts
/// without; our own kernel where there is none, and for shapes that it has no algorithm for. What it has one for and then
/// does not run is an Error(device).
/// The algorithm of a shape is chosen once, for kRows rows, and used for any number of them; algorithms that split the
/// sum over k are not taken: a row's bits should not depend on its chunk, and two runs give the same.
class Gemms {
 public:
  static constexpr std::uint64_t kRows = 4096, kWorkspaceBytes = std::uint64_t{32} << 20;

  /// use_library false: our own kernel alone. `memory` outlives it.
  explicit Gemms(DeviceMemory& memory, bool use_library = true);
  ~Gemms();

  /// "cuBLASLt 13.0.2", or "own kernels (libcublasLt.so.13: cannot open shared object file ...)".
  const std::string& name() const noexcept { return name_; }

  template <class Element, class Out>
  void multiply(std::type_identity_t<DeviceRows<const Element>> x, std::type_identity_t<DeviceRows<const Element>> w,
                bool accumulate, DeviceRows<Out> out, Stream& stream);

 private:
  struct Library;
  struct Algorithm;
  /// Outputs, depth, the three strides, types, what the pointers are aligned to.
  using Key =
      std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t, int, int, std::uint64_t>;

  bool try_library(const Key& key, const void* x, const void* w, bool accumulate, void* out, std::uint64_t rows,
                   Stream& stream);

  std::unique_ptr<Library> library_;  // null: our own kernels
  DeviceBuffer workspace_;
  std::map<Key, std::unique_ptr<Algorithm>> algorithms_;  // null: the library has none
  std::string name_;
};

}  // namespace ropewalk::verify
