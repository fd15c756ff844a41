#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/error.h"
#include "verify/head_statistics.h"
#include "verify/sweep.h"

// What host and device sweeps have in common: rows of statistics, window after window, and what results they amount to.
namespace ropewalk::verify {

/// The id that follows each row, -1 at the end of a window.
std::vector<std::int32_t> next_ids(std::span<const Window> windows);

/// -log p of the token that follows the row.
double nll_a(const HeadRow& row);
double nll_b(const HeadRow& row);
/// [window][t], t < size - 1, of the rows' model a.
std::vector<std::vector<TokenScore>> token_scores(std::span<const HeadRow> rows, std::span<const Window> windows);
/// [window][t], t < size; the last of a window has no NLL.
std::vector<std::vector<PairScore>> pair_scores(std::span<const HeadRow> rows, std::span<const Window> windows);

/// How many of a window's rows are not among its last `last` (0: all are).
std::size_t rows_before_last(std::size_t rows, int last);
/// Sums of each window's rows, in order.
std::vector<double> window_sums(std::span<const double> rows, std::span<const Window> windows);
/// Mean over rows from such sums, in order, so the same bits wherever the windows were computed; 0 of none.
double mean_of(std::span<const double> sums, std::span<const Window> windows);

/// Error(bad_input): what a journal has of a sweep is not as long as the sweep's windows make it.
Error foreign_results();

}  // namespace ropewalk::verify
