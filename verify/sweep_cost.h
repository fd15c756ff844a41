#pragma once

#include <cstddef>
#include <span>

#include "lib/checkpoint.h"

namespace ropewalk::verify {

/// Operations of a sweep, a multiplication and an addition counted as two.
struct SweepOperations {
  double linear = 0;     // every matrix of the layers, times every token
  double attention = 0;  // Q K and P V over the keys each query sees
  double head = 0;       // every token's logits
};
/// Of windows of these lengths. From the configuration and the tensors' shapes alone.
SweepOperations sweep_operations(const Checkpoint& model, std::span<const std::size_t> lengths);

/// What this machine does now with this model, from a fraction of its first layer: seconds, not minutes.
struct MeasuredRates {
  double linear = 0, attention = 0;  // operations per second, all threads together
  double read_seconds = 0;           // to read and unpack one layer's weights
};
MeasuredRates measure_rates(const Checkpoint& model, int threads);

/// Seconds of a sweep over windows of these lengths on the host.
double sweep_seconds(const Checkpoint& model, std::span<const std::size_t> lengths, const MeasuredRates& rates);

}  // namespace ropewalk::verify
