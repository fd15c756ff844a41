#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include "verify/cuda/attention_args.h"
#include "verify/cuda/element.h"
#include "verify/device.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace ropewalk::verify {

/// What cuDNN's plan of an attention depends on: AttentionArgs (attention_args.h) without pointers. Strides in elements.
/// The last query sees the last key, and each query before it one key less.
struct SdpaShape {
  bool is_f16 = false;    // else bf16
  bool with_lse = false;  // ln of the sum of e^score comes out, too
  std::uint64_t windows = 1, rows = 0, keys = 0;
  std::uint64_t sliding_window = 0;  // 0: all
  std::uint32_t n_heads = 0, n_kv_heads = 0, head_dim = 0;
  std::uint64_t q_row = 0, q_window = 0, out_row = 0, out_window = 0, kv_row = 0, kv_window = 0;
  float scale = 1;
  auto operator<=>(const SdpaShape&) const = default;
};

/// `positions`: of the whole window, all chunks; a sliding window that none of them feels is none.
/// The shape, or nullopt and `why` for what is not asked of cuDNN at all: float, sinks, heads of other widths than
/// multiples of 8 up to 256, rows or heads that do not start on 16 bytes (it would read past them), an output in the
/// queries' place, positions beyond 2^24 (it holds bounds of windows in float).
template <class Element>
std::optional<SdpaShape> sdpa_shape(const AttentionArgs<Element>& args, std::uint64_t windows, std::uint64_t positions,
                                    std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return std::nullopt;
  };
  if constexpr (std::is_same_v<Element, float>) return refuse("f32 is not computed on its tensor cores");
  if (args.sinks) return refuse("heads have sinks");
  if (args.head_dim % 8 != 0 || args.head_dim > 256) return refuse("heads are not 8, 16, .. 256 channels wide");
  if (args.q == args.out) return refuse("the output takes the queries' place");
  std::uint64_t on_16 = 0;
  for (const void* pointer : {static_cast<const void*>(args.q), static_cast<const void*>(args.k),
                              static_cast<const void*>(args.v), static_cast<const void*>(args.out)})
    on_16 |= reinterpret_cast<std::uintptr_t>(pointer) % 16;
  for (const std::uint64_t stride :
       {args.q_row, args.q_window, args.out_row, args.out_window, args.kv_row, args.kv_window})
    on_16 |= stride * sizeof(Element) % 16;
  if (on_16 != 0) return refuse("rows do not start on 16 bytes");
  const std::uint64_t keys = args.first_position + args.rows;
  if (keys > std::uint64_t{1} << 24) return refuse("there are more than 16,777,216 keys");
  SdpaShape out;
  out.is_f16 = std::is_same_v<Element, Fp16>;
  out.with_lse = args.lse != nullptr;
  out.windows = windows, out.rows = args.rows, out.keys = keys;
  out.sliding_window = args.window < std::max(keys, positions) ? args.window : 0;
  out.n_heads = args.n_heads, out.n_kv_heads = args.n_kv_heads, out.head_dim = args.head_dim;
  out.q_row = args.q_row, out.q_window = args.q_window, out.out_row = args.out_row, out.out_window = args.out_window;
  out.kv_row = args.kv_row, out.kv_window = args.kv_window;
  out.scale = args.scale;
  return out;
}

/// A chip that plans are built for without having it: the properties cuDNN 9 reads as JSON, and its compute capability
/// times ten (90: 9.0).
struct SdpaChip {
  std::string properties;
  int capability = 0;
};

/// Scaled dot-product attention of cuDNN, whose library (libcudnn.so.9) is loaded when the first of these is made, and
/// stays: the headers hold on to its functions. A plan is built once for a shape and kept. For a family (one type, head
/// count and width, one sliding window) one kernel is compiled, in half a second and more; a shape then takes that
/// kernel, and a millisecond. So a row's bits do not hang on its chunk. Only where that kernel's engine does not take a
/// shape (a single row, on some chips) is one compiled for it alone.
/// For one thread.
class CudnnSdpa {
 public:
  /// What plans may need on the device; one that wants more is refused. The largest seen is 256 bytes.
  static constexpr std::uint64_t kWorkspaceBytes = std::uint64_t{1} << 20;
  static constexpr std::uint64_t kOldest = kOldestCudnn;

  struct Plan {
    std::string engine;  // cuDNN's name of what will run: "eng2_k24=7"; empty: refused
    std::string why;     // refused: one line
    std::uint64_t workspace_bytes = 0;
    bool shares_kernel = false;  // with the other shapes of its family
    std::string why_alone;       // does not share it: one line
  };
  struct Pointers {
    const void *q, *k, *v;
    void* out;
    float* lse;  // [windows, n_heads, rows] where the shape has it
  };

  /// For the calling thread's current device; for `chip` where one is given, whose plans never run.
  explicit CudnnSdpa(const std::optional<SdpaChip>& chip = std::nullopt);
  ~CudnnSdpa();

  /// Why the library is not there, or empty; asks no device.
  static std::string why_no_library();
  /// Empty: it can be asked. Else why not: "this build has no cuDNN (ROPEWALK_CUDNN)", the loader's words.
  const std::string& why_not() const noexcept { return why_not_; }
  /// "cuDNN 9.19.0".
  const std::string& name() const noexcept { return name_; }

  /// The same for a shape whatever came before.
  const Plan& plan(const SdpaShape& shape);
  /// Queues a plan that is not refused. Empty, or what the library said: then a part of it may have been queued, and
  /// nobody else can take over. Nothing of it is remembered.
  std::string run(const SdpaShape& shape, const Pointers& at, void* workspace, CUstream_st* stream);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string name_, why_not_;
};

}  // namespace ropewalk::verify
