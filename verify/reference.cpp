#include "verify/reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

#include "lib/error.h"
#include "lib/number_text.h"
#include "lib/sha256.h"
#include "lib/split_mix.h"
#include "verify/forward.h"
#include "verify/judge.h"
#include "verify/layer_sweep.h"
#include "verify/scores.h"
#include "verify/spelled_vocabulary.h"
#include "verify/sweep_journal.h"

namespace ropewalk::verify {
namespace {

using formats::SavedReference;

/// Below it 1 less a sum of shares is rounding.
constexpr double kNoTail = 1e-12;

/// A window's rows that are sketched.
struct SketchedRow {
  std::size_t row, position;
};
std::vector<SketchedRow> sketched_rows(std::span<const Window> windows, int every) {
  std::vector<SketchedRow> out;
  std::size_t first = 0;
  const auto step = static_cast<std::size_t>(every);
  for (const Window& window : windows) {
    for (std::size_t t = step / 2; t < window.size(); t += step) out.push_back({first + t, t});
    first += window.size();
  }
  return out;
}

/// 2-norm of x, then `width` projections on random signs: in the mean over signs, the squared distance of two sketches is
/// that of what was sketched (Achlioptas 2003). The sign of channel c in projection j at position t is minus where bit
/// c % 64 of mixed(mixed(t, j), c / 64) is set. Sums in double, channels in order.
void sketch(std::span<const float> x, std::size_t position, std::span<float> out) {
  double squares = 0;
  for (const float value : x) squares += double(value) * double(value);
  out[0] = static_cast<float>(std::sqrt(squares));
  const double scale = 1 / std::sqrt(double(out.size() - 1));
  for (std::size_t j = 0; j + 1 < out.size(); ++j) {
    const std::uint64_t seed = mixed(position, j);
    double sum = 0;
    std::uint64_t bits = 0;
    for (std::size_t c = 0; c < x.size(); ++c, bits >>= 1) {
      if (c % 64 == 0) bits = mixed(seed, c / 64);
      sum += (bits & 1) != 0 ? -double(x[c]) : double(x[c]);
    }
    out[1 + j] = static_cast<float>(sum * scale);
  }
}

/// [sketched rows, 1 + width] of where `forward` is now.
std::vector<float> sketches(const Forward& forward, const std::vector<SketchedRow>& rows, int width,
                            const Workers& workers) {
  const auto numbers = std::size_t(1 + width);
  std::vector<float> out(rows.size() * numbers);
  workers.for_each(rows.size(), [&](std::size_t i, std::size_t) {
    sketch({forward.row(rows[i].row), std::size_t(forward.config().d_model)}, rows[i].position,
           std::span(out).subspan(i * numbers, numbers));
  });
  return out;
}

/// The `top` likeliest of a row of logits that comes in blocks, in column order.
class TopRow {
 public:
  void take(const float* x, std::size_t width, std::size_t first_column, std::size_t top) {
    for (std::size_t c = 0; c < width; ++c) {
      if (best_.size() == top && !(x[c] > best_.back().first)) continue;
      const auto at = std::ranges::upper_bound(best_, x[c], std::greater<>(), &std::pair<float, std::int32_t>::first);
      best_.insert(at, {x[c], static_cast<std::int32_t>(first_column + c)});
      if (best_.size() > top) best_.pop_back();
    }
  }
  const std::vector<std::pair<float, std::int32_t>>& best() const { return best_; }

 private:
  std::vector<std::pair<float, std::int32_t>> best_;
};

void refuse_device(const SweepOptions& options) {
  if (options.device)
    throw Error(ErrorKind::unsupported, {}, "references are saved and compared on the CPU, and --device names a GPU",
                "use --device cpu");
}

/// What the file has of the model itself.
SavedReference described(const Checkpoint& model, std::span<const Window> windows, int context) {
  SavedReference out;
  out.label = model.label, out.read_as = model.read_as;
  out.context = context, out.original_context = original_context(model.config).value_or(0);
  out.config = model.config;
  out.rope_words = describe(model.config.rope);
  out.rope = rope_table(model.config.rope, context);
  for (const TensorPtr& tensor : model.tensors) out.tensors.push_back({tensor->name(), tensor->info().shape});
  if (model.vocabulary) out.vocabulary = as_pieces(*model.vocabulary);
  if (model.vocabulary) out.gguf_vocabulary = as_in_gguf(*model.vocabulary, std::size_t(model.config.n_vocab));
  out.windows.assign(windows.begin(), windows.end());
  return out;
}

}  // namespace

SavedReference make_reference(const Checkpoint& model, std::span<const Window> windows, int context,
                              const SweepOptions& options) {
  refuse_device(options);
  SavedReference out = described(model, windows, context);
  out.top = std::min(kReferenceTop, model.config.n_vocab);
  out.sketch_every = kSketchEvery, out.sketch_width = kSketchWidth;
  const auto top = std::size_t(out.top);
  const Workers workers(options.threads);
  const std::vector<SketchedRow> sketched = sketched_rows(windows, out.sketch_every);
  if (options.journal) options.journal->begin({"make_reference", {&model}, windows});
  Forward forward(model, windows, workers);
  const std::vector<double> found =
      run_layers(std::array{&forward}, options, sketched.size() * std::size_t(1 + out.sketch_width),
                 [&](int, std::vector<double>& all) {
                   std::ranges::copy(sketches(forward, sketched, out.sketch_width, workers), std::back_inserter(all));
                 });
  out.sketches.assign(found.begin(), found.end());  // floats, as they were
  std::vector<TopRow> best(forward.rows());
  const auto keep = [&](std::size_t first, std::size_t count, std::size_t column, HeadRows& block) {
    for (std::size_t r = 0; r < count; ++r) best[first + r].take(block.logits(r), block.width(), column, top);
  };
  const auto rows = run_head(forward, read_head(model, workers), next_ids(windows), workers, keep);
  std::size_t row = 0;
  for (std::size_t window = 0; window < windows.size(); ++window)
    for (std::size_t t = 0; t < windows[window].size(); ++t, ++row) {
      const double sum = rows[row].statistics.a.log_sum_exp();
      if (!std::isfinite(sum) || !std::isfinite(rows[row].next_a) || best[row].best().size() < top ||
          !std::isfinite(best[row].best().back().first))
        throw Error(
            ErrorKind::bad_input, {.path = model.label},
            "the logits at position " + std::to_string(t) + " of window " + std::to_string(window) + " are not finite",
            "nothing can be judged by them: look at the weights with 'ropewalk inspect'");
      if (t + 1 < windows[window].size() && !(std::exp(rows[row].next_a - sum) > 0))
        throw Error(ErrorKind::bad_input, {.path = model.label},
                    "gives the token after position " + std::to_string(t) + " of window " + std::to_string(window) +
                        " no probability (a loss of " + number_text(sum - rows[row].next_a, 4) + ")",
                    "nothing can be judged by it: look at the weights with 'ropewalk inspect'");
      out.log_sum_exp.push_back(sum);
      out.next.push_back(static_cast<float>(rows[row].next_a));
      for (const auto& [logit, id] : best[row].best()) out.top_logits.push_back(logit), out.top_ids.push_back(id);
    }
  return out;
}

namespace {

/// Sums over some of the tokens kept.
struct Shares {
  double p = 0, q = 0, p_log_ratio = 0;  // sum of p, of q, of p ln(p / q)

  void add(double log_p, double log_q) {
    const double share = std::exp(log_p);
    p += share, q += std::exp(log_q), p_log_ratio += share * (log_p - log_q);
  }
  /// KL of the two, given these tokens.
  double conditional() const { return p > kNoTail ? std::max(0.0, p_log_ratio / p - std::log(p / q)) : 0; }
};

struct RowKl {
  double least = 0, outside = 0, kl = 0;
};
RowKl row_kl(std::span<const float> a, double sum_a, std::span<const float> b, double sum_b) {
  Shares likely, rest;
  for (std::size_t rank = 0; rank < a.size(); ++rank)
    (2 * rank < a.size() ? likely : rest).add(double(a[rank]) - sum_a, double(b[rank]) - sum_b);
  RowKl out;
  out.least = likely.p_log_ratio + rest.p_log_ratio;
  const double p = 1 - likely.p - rest.p, q = 1 - likely.q - rest.q;
  if (p > kNoTail) {
    out.outside = p;
    out.least += p * std::log(p / std::max(q, kNoTail));
  }
  if (out.least < 0) out.least = 0;  // a NaN stays one
  out.kl = out.least + out.outside * rest.conditional();
  return out;
}

/// Mean over sketched rows of |a - b| / |a|. The square root of a sum of few squares is too small in the mean; by how much
/// is known where projections are normal, and sums of many random signs are nearly so.
double sketch_distance(std::span<const float> a, std::span<const float> b, std::size_t numbers) {
  const double width = double(numbers - 1),
               mean_root = std::sqrt(2 / width) * std::exp(std::lgamma((width + 1) / 2) - std::lgamma(width / 2));
  double sum = 0;
  const std::size_t rows = a.size() / numbers;
  for (std::size_t row = 0; row < rows; ++row) {
    double squares = 0;
    for (std::size_t j = 1; j < numbers; ++j) {
      const double difference = double(a[row * numbers + j]) - double(b[row * numbers + j]);
      squares += difference * difference;
    }
    sum += squares == 0 ? 0 : std::sqrt(squares) / double(a[row * numbers]);
  }
  return rows > 0 ? sum / double(rows) / mean_root : 0;
}

/// What of a reference layers are held against.
std::string sketches_sha256(const SavedReference& reference) {
  Sha256 hash;
  const std::array<int, 4> shape = {reference.config.n_layers, reference.config.d_model, reference.sketch_every,
                                    reference.sketch_width};
  hash.update(std::as_bytes(std::span(shape)));
  hash.update(std::as_bytes(std::span(reference.sketches)));
  return hash.finish();
}

}  // namespace

ReferenceResult compare_with_reference(const SavedReference& reference, const Checkpoint& candidate,
                                       const SweepOptions& options) {
  refuse_device(options);
  if (reference.config.n_vocab != candidate.config.n_vocab)
    throw Error(ErrorKind::bad_input, {.path = candidate.label},
                "vocabulary of " + std::to_string(candidate.config.n_vocab) + ", " +
                    std::to_string(reference.config.n_vocab) + " in the reference",
                "compare models with the same vocabulary");
  const Workers workers(options.threads);
  const std::span<const Window> windows(reference.windows);
  const std::vector<SketchedRow> sketched = sketched_rows(windows, reference.sketch_every);
  const ModelConfig &source = reference.config, &config = candidate.config;
  const bool same_shape =
      source.n_layers == config.n_layers && source.d_model == config.d_model && reference.sketch_width > 0;
  const auto numbers = std::size_t(1 + reference.sketch_width);
  ReferenceResult out;
  if (options.journal)
    options.journal->begin({"compare_with_reference", {&candidate}, windows, sketches_sha256(reference)});
  Forward forward(candidate, windows, workers);
  out.pair.layer_distance =
      run_layers(std::array{&forward}, options, same_shape ? 1 : 0, [&](int layer, std::vector<double>& found) {
        const std::size_t each = sketched.size() * numbers;
        found.push_back(sketch_distance(std::span(reference.sketches).subspan(std::size_t(layer) * each, each),
                                        sketches(forward, sketched, reference.sketch_width, workers), numbers));
      });

  const auto top = std::size_t(reference.top);
  std::vector<float> logits(reference.top_ids.size());  // the candidate's, of the tokens that the reference names
  const auto keep = [&](std::size_t first, std::size_t count, std::size_t column, HeadRows& block) {
    for (std::size_t at = first * top; at < (first + count) * top; ++at)
      if (const std::size_t within = std::size_t(reference.top_ids[at]) - column; within < block.width())
        logits[at] = block.logits(at / top - first)[within];
  };
  const auto rows = run_head(forward, read_head(candidate, workers), next_ids(windows), workers, keep);
  std::size_t row = 0;
  for (const Window& window : windows) {
    auto& scores = out.pair.scores.emplace_back(window.size());
    for (std::size_t t = 0; t < window.size(); ++t, ++row) {
      const double sum_a = reference.log_sum_exp[row], sum_b = rows[row].statistics.a.log_sum_exp();
      const RowKl kl = row_kl(std::span(reference.top_logits).subspan(row * top, top), sum_a,
                              std::span<const float>(logits).subspan(row * top, top), sum_b);
      PairScore& score = scores[t];
      score.kl = kl.kl;
      score.same_top1 = rows[row].statistics.a.argmax == reference.top_ids[row * top];
      if (t + 1 < window.size())
        score.nll_a = sum_a - double(reference.next[row]), score.nll_b = sum_b - rows[row].next_a;
      out.kl_least += kl.least, out.outside += kl.outside;
    }
  }
  out.kl_least /= double(row), out.outside /= double(row);
  return out;
}

std::string ids_sha256(std::span<const std::vector<std::int32_t>> documents) {
  Sha256 hash;
  for (const auto& ids : documents) {
    const std::uint64_t size = ids.size();  // where one ends is part of it
    hash.update(std::as_bytes(std::span(&size, 1)));
    hash.update(std::as_bytes(std::span(ids)));
  }
  return hash.finish();
}

}  // namespace ropewalk::verify
