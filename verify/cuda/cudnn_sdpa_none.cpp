// In place of cudnn_sdpa.cpp where cuDNN's headers are not there.
#include "verify/cuda/cudnn_sdpa.h"

namespace ropewalk::verify {

struct CudnnSdpa::Impl {
  Plan none;
};
std::string CudnnSdpa::why_no_library() { return "this build has no cuDNN (ROPEWALK_CUDNN)"; }
CudnnSdpa::CudnnSdpa(const std::optional<SdpaChip>&) : impl_(std::make_unique<Impl>()), why_not_(why_no_library()) {
  impl_->none.why = why_not_;
}
CudnnSdpa::~CudnnSdpa() = default;
const CudnnSdpa::Plan& CudnnSdpa::plan(const SdpaShape&) { return impl_->none; }
std::string CudnnSdpa::run(const SdpaShape&, const Pointers&, void*, CUstream_st*) { return why_not_; }

}  // namespace ropewalk::verify
