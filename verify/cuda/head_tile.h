#pragma once

#include <cmath>
#include <cstdint>

#include "verify/cuda/block.h"
#include "verify/head_statistics.h"

// The statistics of a row of logits in one pass: every thread keeps those of the columns it strides over, rescaled when
// its maximum rises; then a fixed tree joins them, and what came of the vocabulary before.
namespace ropewalk::verify {

struct HeadArgs {
  const float *a, *b;  // [rows, width]; b null: one model
  std::uint64_t stride;
  std::uint64_t width;
  std::uint64_t first_column;  // of the vocabulary; 0 begins `rows`, others are joined to them
  const std::int32_t* next;    // [rows], negative: none
  HeadRow* rows;
};
struct HeadShared {
  PairStatistics partial[kRowThreads];
};

/// Moves what was summed to a larger maximum; returns the factor.
ROPEWALK_DEVICE double raise_max(RowStatistics& row, double max) {
  const double shift = row.max - max;  // -infinity at first, when there is nothing to move
  const double factor = row.sum > 0 ? std::exp(shift) : 0.0;
  row.weighted = row.sum > 0 ? (row.weighted + row.sum * shift) * factor : 0.0;
  row.sum *= factor;
  row.max = max;
  return factor;
}

/// One more logit. Returns the factor by which other sums over e^(x - max) shrink, and e^(x - max) in `weight`.
ROPEWALK_DEVICE double take(RowStatistics& row, double x, std::int32_t column, double& weight) {
  double factor = 1;
  if (x > row.max) {
    factor = raise_max(row, x);
    row.argmax = column;
  }
  const double centred = x - row.max;
  weight = std::exp(centred);  // NaN for a NaN: it reaches every sum
  row.sum += weight;
  row.weighted = std::fma(weight, centred, row.weighted);
  return factor;
}

/// The statistics of both sets of columns. Equal maxima: the first column.
ROPEWALK_DEVICE void join(RowStatistics& into, RowStatistics from, double& into_factor, double& from_factor) {
  into_factor = from_factor = 1;
  if (from.max > into.max || (from.max == into.max && from.argmax < into.argmax)) into.argmax = from.argmax;
  if (from.max > into.max) into_factor = raise_max(into, from.max);
  else if (from.max < into.max) from_factor = raise_max(from, into.max);
  into.sum += from.sum;
  into.weighted += from.weighted;
}

template <bool kPair>
ROPEWALK_DEVICE void join_both(PairStatistics& into, const PairStatistics& from) {
  double into_factor, from_factor, other;
  join(into.a, from.a, into_factor, from_factor);
  if constexpr (kPair) {
    into.difference = into.difference * into_factor + from.difference * from_factor;
    join(into.b, from.b, into_factor, other);
  }
}

template <bool kPair, class Block>
ROPEWALK_DEVICE void head_block(const Block& block, const HeadArgs& args, HeadShared& shared) {
  const float* a = args.a + block.x() * args.stride;
  const float* b = kPair ? args.b + block.x() * args.stride : nullptr;
  block.each([&](int thread) {
    PairStatistics mine;
    for (std::uint64_t column = std::uint64_t(thread); column < args.width; column += kRowThreads) {
      double weight, other;
      const auto name = std::int32_t(args.first_column + column);
      const double factor = take(mine.a, double(a[column]), name, weight);
      if constexpr (kPair) {
        mine.difference = std::fma(weight, double(a[column]) - double(b[column]), mine.difference * factor);
        take(mine.b, double(b[column]), name, other);
      }
    }
    shared.partial[thread] = mine;
  });
  tree(block, shared.partial, [](PairStatistics& into, const PairStatistics& from) { join_both<kPair>(into, from); });
  block.lanes([&](int thread) {
    if (thread != 0) return;
    HeadRow& out = args.rows[block.x()];
    if (args.first_column == 0) out = {shared.partial[0], 0, 0};
    else join_both<kPair>(out.statistics, shared.partial[0]);
    const std::int64_t next = std::int64_t(args.next[block.x()]) - std::int64_t(args.first_column);
    if (next < 0 || next >= std::int64_t(args.width)) return;
    out.next_a = double(a[next]);
    if constexpr (kPair) out.next_b = double(b[next]);
  });
}

}  // namespace ropewalk::verify
