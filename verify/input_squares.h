#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "verify/sweep.h"

namespace ropewalk::verify {

/// What reached one matrix: the sum of squares of each input channel over some rows.
struct InputSquares {
  std::vector<float> sums;  // [inputs]
  std::int64_t rows = 0;
};
/// By canonical name of the weight.
using InputTotals = std::map<std::string, InputSquares>;

/// One chunk of a text, and what of it counts.
struct CountedWindow {
  Window ids;
  struct Range {
    std::size_t from, to;  // positions [from, to)
  };
  std::vector<Range> left_out = {};  // computed, but not counted
};

struct CollectOptions {
  SweepOptions sweep = {};  // on the host, whatever its device says
  bool output = false;      // lm_head too, if it is not the embedding
  bool scores = false;      // losses of the same pass
};

/// Adds every window's sums to `totals`, window after window: within a window in double, rows in order, one rounding
/// to float as the window joins the total. So a total's bits depend on its windows and their order alone, not on how
/// many are given at once, nor on threads. [window][t] if scores were asked for.
/// Memory: a sweep's (docs/design.md, section 6) and the inputs of one layer for 1024 rows.
/// Error(bad_input) naming the weight whose inputs are not finite.
std::vector<std::vector<TokenScore>> collect_input_squares(const Checkpoint& model,
                                                           std::span<const CountedWindow> windows, InputTotals& totals,
                                                           const CollectOptions& options);

/// What llama-imatrix 0.5 leaves out. Windows of `context` positions go through the engine in batches of `batch` tokens,
/// batch / context windows beside one another or, of longer ones, a piece of one; a batch in pieces of `micro_batch`, as
/// many tokens of each of its windows; and a piece of fewer than 16 tokens is not looked at.
/// left_out of window `index` of `count`. Each argument at least 1.
struct EngineBatches {
  std::size_t context = 512, batch = 2048, micro_batch = 512;
};
std::vector<CountedWindow::Range> rows_left_out(const EngineBatches& batches, std::size_t index, std::size_t count);

}  // namespace ropewalk::verify
