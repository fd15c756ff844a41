#include "verify/swiglu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "verify/swiglu.cpp"
#include "verify/simd_targets.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "verify/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::verify::HWY_NAMESPACE {

void swiglu_rows(const float* gate_up, std::size_t stride, std::size_t rows, std::size_t groups, float* y,
                 std::size_t y_stride) {
  const F32 d;
  for (std::size_t row = 0; row < rows; ++row, gate_up += stride, y += y_stride)
    for (std::size_t group = 0; group < groups; ++group)
      for (std::size_t i = 0; i < kGroup; i += kLanes32) {
        const auto gate = hn::LoadU(d, gate_up + 2 * kGroup * group + i),
                   up = hn::LoadU(d, gate_up + 2 * kGroup * group + kGroup + i);
        // e^88 is the last finite power: beyond it silu is 0 to within 1e-36.
        const auto minus = hn::IfThenElse(hn::Lt(gate, hn::Set(d, -88.0f)), hn::Set(d, 88.0f), hn::Neg(gate));
        const auto silu = hn::Div(gate, hn::Add(hn::Set(d, 1.0f), exp_f32(minus)));
        hn::StoreU(hn::Mul(silu, up), d, y + kGroup * group + i);
      }
}

}  // namespace ropewalk::verify::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::verify {
HWY_EXPORT(swiglu_rows);
void swiglu(const float* gate_up, std::size_t stride, std::size_t rows, std::size_t groups, float* y,
            std::size_t y_stride) {
  HWY_DYNAMIC_DISPATCH(swiglu_rows)(gate_up, stride, rows, groups, y, y_stride);
}
}  // namespace ropewalk::verify
#endif
