#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace ropewalk::verify {

/// Columns of logits that exist at once. A constant: it decides where sums are cut, so it decides bits.
inline constexpr std::size_t kVocabBlock = 256;

/// What one row of logits x amounts to, accumulated block by block in column order; sums in double over 16 fixed lanes
/// and a fixed tree.
struct RowStatistics {
  double max = -std::numeric_limits<double>::infinity();
  double sum = 0;            // of e^(x - max)
  double weighted = 0;       // of e^(x - max) (x - max)
  std::int32_t argmax = -1;  // first of equals; -1 until a logit above -infinity was met: NaN never is

  double log_sum_exp() const;  // ln sum e^x
  double entropy() const;      // nats, of softmax(x)
};

/// Two models' logits a, b of one row: both statistics, and what KL(a || b) needs.
struct PairStatistics {
  RowStatistics a, b;
  double difference = 0;  // of e^(a - max a) (a - b)

  /// Both have a largest logit, and it is the same token's.
  bool same_top1() const { return a.argmax >= 0 && a.argmax == b.argmax; }

  /// KL(softmax a || softmax b), nats, never below 0; exactly 0 if the logits are the same bits. NaN stays NaN.
  double kl() const;
};

/// What a row of logits (of one model: a alone) amounts to.
struct HeadRow {
  PairStatistics statistics;
  double next_a = 0, next_b = 0;  // logits of the next token; 0 where there is none
};

/// Takes in columns [first_column, first_column + width) of one row, width <= kVocabBlock. x has kVocabBlock floats;
/// those past `width` are overwritten.
void accumulate(float* x, std::size_t first_column, std::size_t width, RowStatistics& row);
void accumulate(float* a, float* b, std::size_t first_column, std::size_t width, PairStatistics& row);

}  // namespace ropewalk::verify
