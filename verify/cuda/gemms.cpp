#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "verify/cuda/gemm.h"
#include "verify/cuda/shared_library.h"

namespace ropewalk::verify {
namespace {

#define ROPEWALK_STRING_OF(x) #x
#define ROPEWALK_STRING(x) ROPEWALK_STRING_OF(x)
constexpr const char* kName = "libcublasLt.so." ROPEWALK_STRING(CUBLAS_VER_MAJOR);

template <class T>
constexpr cudaDataType_t type_of = std::is_same_v<T, float>  ? CUDA_R_32F
                                   : std::is_same_v<T, Bf16> ? CUDA_R_16BF
                                                             : CUDA_R_16F;

/// Largest power of two up to 256 that both divide.
std::uint64_t alignment(std::uintptr_t address, std::uint64_t stride_bytes) {
  std::uint64_t power = 256;
  while ((address | stride_bytes) % power != 0) power /= 2;
  return power;
}

}  // namespace

struct Gemms::Library {
  SharedLibrary shared{kName};
  cublasLtHandle_t handle = nullptr;
  decltype(&::cublasLtCreate) create;
  decltype(&::cublasLtDestroy) destroy;
  decltype(&::cublasLtGetVersion) version;
  decltype(&::cublasLtMatmul) matmul;
  decltype(&::cublasLtMatmulDescCreate) desc_create;
  decltype(&::cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&::cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&::cublasLtMatrixLayoutCreate) layout_create;
  decltype(&::cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&::cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&::cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&::cublasLtMatmulAlgoConfigGetAttribute) algo_get;

  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() {
    if (handle) destroy(handle);
  }
  bool open() {
    return shared.find("cublasLtCreate", create) && shared.find("cublasLtDestroy", destroy) &&
           shared.find("cublasLtGetVersion", version) && shared.find("cublasLtMatmul", matmul) &&
           shared.find("cublasLtMatmulDescCreate", desc_create) &&
           shared.find("cublasLtMatmulDescDestroy", desc_destroy) &&
           shared.find("cublasLtMatmulDescSetAttribute", desc_set) &&
           shared.find("cublasLtMatrixLayoutCreate", layout_create) &&
           shared.find("cublasLtMatrixLayoutDestroy", layout_destroy) &&
           shared.find("cublasLtMatmulPreferenceCreate", preference_create) &&
           shared.find("cublasLtMatmulPreferenceDestroy", preference_destroy) &&
           shared.find("cublasLtMatmulPreferenceSetAttribute", preference_set) &&
           shared.find("cublasLtMatmulAlgoGetHeuristic", heuristic) &&
           shared.find("cublasLtMatmulAlgoConfigGetAttribute", algo_get) && create(&handle) == CUBLAS_STATUS_SUCCESS;
  }
};

/// What one matmul is described by, for the library's C structures. Row-major out = x w^T is, in the library's
/// column-major terms, out^T = (w^T)^T x^T.
struct Gemms::Algorithm {
  Library& library;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t w = nullptr;
  cublasLtMatmulAlgo_t algo{};
  std::uint64_t workspace_bytes = 0;

  explicit Algorithm(Library& l) : library(l) {}
  Algorithm(const Algorithm&) = delete;
  Algorithm& operator=(const Algorithm&) = delete;
  ~Algorithm() {
    if (w) library.layout_destroy(w);
    if (desc) library.desc_destroy(desc);
  }
};

namespace {

/// A layout of the library for as long as a call takes.
template <class Library>
class Layout {
 public:
  Layout(Library& library, int type, std::uint64_t rows, std::uint64_t columns, std::uint64_t stride)
      : library_(library) {
    good_ = library.layout_create(&layout_, static_cast<cudaDataType_t>(type), rows, columns,
                                  static_cast<std::int64_t>(stride)) == CUBLAS_STATUS_SUCCESS;
  }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  ~Layout() {
    if (good_) library_.layout_destroy(layout_);
  }
  bool good() const noexcept { return good_; }
  cublasLtMatrixLayout_t get() const noexcept { return layout_; }

 private:
  Library& library_;
  cublasLtMatrixLayout_t layout_ = nullptr;
  bool good_;
};

/// The first proposal that does not cut the sum over k.
template <class Library>
bool whole_sum(Library& library, const cublasLtMatmulAlgo_t& algo) {
  std::int32_t split = 0;
  std::uint32_t reduction = 0;
  std::size_t written = 0;
  return library.algo_get(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split, sizeof split, &written) ==
             CUBLAS_STATUS_SUCCESS &&
         split <= 1 &&
         library.algo_get(&algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &reduction, sizeof reduction, &written) ==
             CUBLAS_STATUS_SUCCESS &&
         reduction == CUBLASLT_REDUCTION_SCHEME_NONE;
}

}  // namespace

Gemms::Gemms(DeviceMemory& memory, bool use_library) {
  if (!use_library) {
    name_ = "own kernels";
    return;
  }
  library_ = std::make_unique<Library>();
  if (!library_->open()) {
    name_ = "own kernels (" +
            (library_->shared.why().empty() ? std::string(kName) + " does not start" : library_->shared.why()) + ")";
    library_.reset();
    return;
  }
  const std::size_t version = library_->version();
  name_ = "cuBLASLt " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
          std::to_string(version % 100);
  workspace_ = DeviceBuffer(memory, "cuBLASLt's workspace", kWorkspaceBytes);
}
Gemms::~Gemms() = default;

bool Gemms::try_library(const Key& key, const void* x, const void* w, bool accumulate, void* out, std::uint64_t rows,
                        Stream& stream) {
  const auto& [outputs, depth, x_stride, w_stride, out_stride, type, out_type, aligned] = key;
  Library& l = *library_;
  auto [found, is_new] = algorithms_.try_emplace(key);
  if (is_new) {
    auto fresh = std::make_unique<Algorithm>(l);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const Layout<Library> x_layout(l, type, depth, kRows, x_stride),
        out_layout(l, out_type, outputs, kRows, out_stride);
    cublasLtMatmulPreference_t preference = nullptr;
    const std::uint32_t no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
    const auto aligned_to = static_cast<std::uint32_t>(aligned);
    bool good =
        l.desc_create(&fresh->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
        l.desc_set(fresh->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) == CUBLAS_STATUS_SUCCESS &&
        l.layout_create(&fresh->w, static_cast<cudaDataType_t>(type), depth, outputs,
                        static_cast<std::int64_t>(w_stride)) == CUBLAS_STATUS_SUCCESS &&
        x_layout.good() && out_layout.good() && l.preference_create(&preference) == CUBLAS_STATUS_SUCCESS &&
        l.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes,
                         sizeof kWorkspaceBytes) == CUBLAS_STATUS_SUCCESS &&
        l.preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_reduction, sizeof no_reduction) ==
            CUBLAS_STATUS_SUCCESS;
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      good = good && l.preference_set(preference, attribute, &aligned_to, sizeof aligned_to) == CUBLAS_STATUS_SUCCESS;
    std::array<cublasLtMatmulHeuristicResult_t, 16> proposals{};
    int count = 0;
    good = good && l.heuristic(l.handle, fresh->desc, fresh->w, x_layout.get(), out_layout.get(), out_layout.get(),
                               preference, int(proposals.size()), proposals.data(), &count) == CUBLAS_STATUS_SUCCESS;
    if (preference) l.preference_destroy(preference);
    for (int i = 0; good && i < count && !found->second; ++i) {
      const auto& proposal = proposals[static_cast<std::size_t>(i)];
      if (proposal.state != CUBLAS_STATUS_SUCCESS || !whole_sum(l, proposal.algo)) continue;
      fresh->algo = proposal.algo, fresh->workspace_bytes = proposal.workspaceSize;
      found->second = std::move(fresh);
    }
  }
  if (!found->second) return false;
  const Algorithm& a = *found->second;
  const Layout<Library> x_layout(l, type, depth, rows, x_stride), out_layout(l, out_type, outputs, rows, out_stride);
  const auto failed = [&](cublasStatus_t status) {
    return device_error({"gemm", {}, {rows, outputs, depth}}, "cublasStatus_t " + std::to_string(status),
                        "cuBLASLt does not run what it has planned");
  };
  if (!x_layout.good() || !out_layout.good()) throw failed(CUBLAS_STATUS_ALLOC_FAILED);
  const float one = 1, beta = accumulate ? 1 : 0;
  const cublasStatus_t status =
      l.matmul(l.handle, a.desc, &one, w, a.w, x, x_layout.get(), &beta, out, out_layout.get(), out, out_layout.get(),
               &a.algo, workspace_.as<std::byte>().data, a.workspace_bytes, stream.get());
  if (status != CUBLAS_STATUS_SUCCESS) throw failed(status);  // not ours instead: bits must not hang on it
  stream.queued("gemm (cuBLASLt)", {rows, outputs, depth});
  return true;
}

template <class Element, class Out>
void Gemms::multiply(std::type_identity_t<DeviceRows<const Element>> x,
                     std::type_identity_t<DeviceRows<const Element>> w, bool accumulate, DeviceRows<Out> out,
                     Stream& stream) {
  if (x.rows == 0 || w.rows == 0) return;
  if (library_) {
    const std::uint64_t aligned =
        std::min({alignment(reinterpret_cast<std::uintptr_t>(x.data), x.stride * 2),
                  alignment(reinterpret_cast<std::uintptr_t>(w.data), w.stride * 2),
                  alignment(reinterpret_cast<std::uintptr_t>(out.data), out.stride * sizeof(Out))});
    const Key key{w.rows, x.width, x.stride, w.stride, out.stride, int(type_of<Element>), int(type_of<Out>), aligned};
    if (try_library(key, x.data, w.data, accumulate, out.data, x.rows, stream)) return;
  }
  gemm<Element, Out>(x, w, accumulate, out, stream);
}
template void Gemms::multiply<Bf16, float>(DeviceRows<const Bf16>, DeviceRows<const Bf16>, bool, DeviceRows<float>,
                                           Stream&);
template void Gemms::multiply<Bf16, Bf16>(DeviceRows<const Bf16>, DeviceRows<const Bf16>, bool, DeviceRows<Bf16>,
                                          Stream&);
template void Gemms::multiply<Fp16, float>(DeviceRows<const Fp16>, DeviceRows<const Fp16>, bool, DeviceRows<float>,
                                           Stream&);
template void Gemms::multiply<Fp16, Fp16>(DeviceRows<const Fp16>, DeviceRows<const Fp16>, bool, DeviceRows<Fp16>,
                                          Stream&);

}  // namespace ropewalk::verify
