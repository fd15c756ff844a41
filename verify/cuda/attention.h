#pragma once

#include "verify/cuda/attention_args.h"
#include "verify/cuda/element.h"
#include "verify/cuda/runtime.h"

namespace ropewalk::verify {

/// attention.h for all heads and many rows at once: causal, grouped heads, sliding window, any number of rows at any
/// first position, against the keys of earlier chunks. Our own kernels:
/// 16-bit elements on tensor cores with f32 scores and sums and weights rounded to the element type, float with f32
/// multiply-adds and sums of weights in double (--precision f32).
/// A row's bits do not depend on the rows, heads or windows computed with it, and two runs give the same.
/// args.rows > 0. Error(unsupported) for wider heads or more windows or heads than a launch takes (65,535),
/// Error(device).
template <class Element>
void attention(const AttentionArgs<Element>& args, std::uint64_t windows, Stream& stream);

}  // namespace ropewalk::verify
