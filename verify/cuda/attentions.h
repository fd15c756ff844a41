#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "verify/cuda/attention.h"
#include "verify/cuda/cudnn_sdpa.h"
#include "verify/device.h"

namespace ropewalk::verify {

/// Attention on a device: cuDNN's where there is a library and it takes the shape, else our own kernels (attention.h).
/// Who computes a launch depends on its shape, the type and the window's length alone, never on what came before: two
/// runs give the same bits.
class Attentions {
 public:
  static constexpr std::uint64_t kFewestPositions = kFewestCudnnPositions;

  /// cuDNN is opened when it is first wanted, under AttentionBy::cudnn here: Error(device) if it does not start. Its
  /// workspace is taken here, so that plans of memory know of it. `memory` outlives it.
  Attentions(DeviceMemory& memory, AttentionBy by);

  /// attention() of attention.h. `positions`: of the whole window, all chunks. Under AttentionBy::cudnn,
  /// Error(unsupported) for what cuDNN does not take. Error(device) for what it takes and then fails to run: had our
  /// own kernel taken over, the bits would hang on a failure that may pass.
  template <class Element>
  void attend(const AttentionArgs<Element>& args, std::uint64_t windows, std::uint64_t positions, Stream& stream);

  /// What ran so far: "cuDNN 9.19.0", "own attention", "own attention (libcudnn.so.9: ...)", "cuDNN 9.19.0, and own
  /// attention where it refuses (...)".
  std::string name() const;

 private:
  bool try_library(const SdpaShape& shape, const CudnnSdpa::Pointers& at, Stream& stream, std::string& why);

  AttentionBy by_;
  DeviceBuffer workspace_;
  std::optional<CudnnSdpa> library_;
  bool ran_library_ = false, ran_own_ = false;
  std::string refused_;  // why the first shape was
};

}  // namespace ropewalk::verify
