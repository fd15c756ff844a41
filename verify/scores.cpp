#include "verify/scores.h"

namespace ropewalk::verify {

double nll_a(const HeadRow& row) { return row.statistics.a.log_sum_exp() - row.next_a; }
double nll_b(const HeadRow& row) { return row.statistics.b.log_sum_exp() - row.next_b; }

std::vector<std::int32_t> next_ids(std::span<const Window> windows) {
  std::vector<std::int32_t> next;
  for (const Window& window : windows)
    for (std::size_t t = 0; t < window.size(); ++t) next.push_back(t + 1 < window.size() ? window[t + 1] : -1);
  return next;
}

std::vector<std::vector<TokenScore>> token_scores(std::span<const HeadRow> rows, std::span<const Window> windows) {
  std::vector<std::vector<TokenScore>> scores;
  for (const Window& window : windows) {
    auto& out = scores.emplace_back();
    for (std::size_t t = 0; t + 1 < window.size(); ++t)
      out.push_back({nll_a(rows[t]), rows[t].statistics.a.argmax, float(rows[t].statistics.a.entropy())});
    rows = rows.subspan(window.size());
  }
  return scores;
}

std::vector<std::vector<PairScore>> pair_scores(std::span<const HeadRow> rows, std::span<const Window> windows) {
  std::vector<std::vector<PairScore>> scores;
  for (const Window& window : windows) {
    auto& out = scores.emplace_back(window.size());
    for (std::size_t t = 0; t < window.size(); ++t) {
      if (t + 1 < window.size()) out[t].nll_a = nll_a(rows[t]), out[t].nll_b = nll_b(rows[t]);
      out[t].kl = rows[t].statistics.kl();
      out[t].same_top1 = rows[t].statistics.same_top1();
    }
    rows = rows.subspan(window.size());
  }
  return scores;
}

std::size_t rows_before_last(std::size_t rows, int last) {
  return last <= 0 || static_cast<std::size_t>(last) >= rows ? 0 : rows - static_cast<std::size_t>(last);
}

Error foreign_results() {
  return Error(ErrorKind::bad_input, {}, "the results kept of a finished sweep are not of its windows",
               "remove the file that unfinished sweeps are kept in");
}

std::vector<double> window_sums(std::span<const double> rows, std::span<const Window> windows) {
  std::vector<double> sums;
  for (const Window& window : windows) {
    double& sum = sums.emplace_back(0);
    for (const double value : rows.first(window.size())) sum += value;
    rows = rows.subspan(window.size());
  }
  return sums;
}

double mean_of(std::span<const double> sums, std::span<const Window> windows) {
  double sum = 0;
  std::size_t rows = 0;
  for (const double one : sums) sum += one;
  for (const Window& window : windows) rows += window.size();
  return rows == 0 ? 0 : sum / double(rows);
}

}  // namespace ropewalk::verify
