#pragma once

#include <algorithm>
#include <chrono>

/// The shortest of `repeats` runs of `action`, in seconds: what the machine can do when nothing else disturbs it.
template <class Action>
double best_seconds(int repeats, const Action& action) {
  double best = 1e300;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    action();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}
