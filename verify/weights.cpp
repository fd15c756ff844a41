#include "verify/weights.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <mutex>

#include "lib/number_text.h"
#include "lib/recipes.h"
#include "lib/unmerged.h"
#include "verify/structure.h"
#include "verify/workers.h"

namespace ropewalk::verify {
namespace {

/// Candidate rows in the order of the source's.
TensorPtr in_order_of(TensorPtr tensor, RotaryPairs pairs, const ModelConfig& config) {
  if (pairs == RotaryPairs::none || tensor->info().pairs == pairs || tensor->info().pairs == RotaryPairs::none)
    return tensor;
  return with_rotary_pairs(tensor, pairs, config);
}

/// Least and greatest of the values that are numbers.
struct Range {
  double least = INFINITY, greatest = -INFINITY;
  std::uint64_t not_finite = 0;

  void add(double value) {
    if (!std::isfinite(value)) ++not_finite;
    else least = std::min(least, value), greatest = std::max(greatest, value);
  }
};
std::string text_of(const Range& range) {
  return range.least <= range.greatest ? number_text(range.least, 3) + " to " + number_text(range.greatest, 3)
                                       : "no number";
}

struct Sums {
  double max_error = 0, errors = 0, error_squares = 0, squares = 0, worst = 0;
  bool pass = true;
  Range wanted, found;  // of a vector
  struct Row {
    double error_squares = 0, squares = 0;
  };
  std::vector<Row> rows;  // of a matrix
};

bool same(double wanted, double found) { return same_value(wanted, found); }
bool same(std::int64_t wanted, std::int64_t found) { return wanted == found; }
double distance(double wanted, double found) { return std::abs(found - wanted); }
/// Exact to the last bit of a double: large integers that differ by one are not the same.
double distance(std::int64_t wanted, std::int64_t found) {
  const auto a = static_cast<std::uint64_t>(wanted), b = static_cast<std::uint64_t>(found);
  return static_cast<double>(wanted < found ? b - a : a - b);
}

/// One row, in blocks of the encoding: blocks lie within a row. T: float, double or std::int64_t.
template <class T>
void add_row(DType type, std::span<const T> wanted, std::span<const T> found, Sums& sums) {
  Sums::Row& row = sums.rows.emplace_back();
  const auto block = static_cast<std::size_t>(info(type).block_elements);
  for (std::size_t begin = 0; begin < wanted.size(); begin += block) {
    const std::size_t end = std::min(begin + block, wanted.size());
    double block_max = 0;
    for (std::size_t c = begin; c < end; ++c)
      if (std::isfinite(wanted[c])) block_max = std::max(block_max, std::abs(static_cast<double>(wanted[c])));
    for (std::size_t c = begin; c < end; ++c) {
      const double value = wanted[c];
      if (std::isfinite(wanted[c])) sums.squares += value * value, row.squares += value * value;
      if (same(wanted[c], found[c])) continue;
      const double error = distance(wanted[c], found[c]), bound = encoding_bound(type, value, block_max);
      sums.max_error = max_or_nan(sums.max_error, error);
      sums.errors += error;
      sums.error_squares += error * error;
      row.error_squares += error * error;
      const bool within = std::isfinite(error) && error <= bound;  // the bound of an infinity is one too
      if (!within) sums.pass = false;
      sums.worst = std::max(sums.worst, std::isfinite(error) && bound > 0 ? error / bound : INFINITY);
    }
  }
}

void read(const LazyTensor& tensor, RowRange range, std::span<float> values) { tensor.read_f32(range, values); }
void read(const LazyTensor& tensor, RowRange range, std::span<double> values) { tensor.read_f64(range, values); }
void read(const LazyTensor& tensor, RowRange range, std::span<std::int64_t> values) {
  tensor.read_raw(range, std::as_writable_bytes(values));
}

template <class T>
Sums compare_values(const LazyTensor& wanted, const LazyTensor& found, DType type) {
  Sums sums;
  const std::size_t columns = wanted.info().columns();
  const std::uint64_t unit = std::max(wanted.row_unit(), found.row_unit());
  const std::uint64_t block =
      std::max<std::uint64_t>(1, (std::uint64_t{1} << 20) / std::max<std::size_t>(columns, 1) / unit) * unit;
  std::vector<T> a, b;
  for (std::uint64_t begin = 0; begin < wanted.info().rows(); begin += block) {
    const RowRange range{begin, std::min(begin + block, wanted.info().rows())};
    a.resize(range.size() * columns);
    b.resize(a.size());
    read(wanted, range, std::span<T>(a));
    read(found, range, std::span<T>(b));
    if (wanted.info().shape.size() == 1) {
      for (const T value : a) sums.wanted.add(static_cast<double>(value));
      for (const T value : b) sums.found.add(static_cast<double>(value));
    }
    for (std::uint64_t row = 0; row < range.size(); ++row)
      add_row<T>(type, std::span(a).subspan(row * columns, columns), std::span(b).subspan(row * columns, columns),
                 sums);
  }
  return sums;
}

bool is_gain(const TensorInfo& info) { return info.shape.size() == 1 && info.name.ends_with("norm.weight"); }

/// What is wrong with the gains as a whole, whose errors alone would say less. Those that are no numbers are said where the
/// source's are none either, which is no difference and yet nothing to compute with.
void judge_gains(const Sums& sums, WeightDifference& difference) {
  if (sums.found.not_finite > 0)
    difference.flag = "gains that are no numbers, " + std::to_string(sums.found.not_finite) + " of them" +
                      (difference.pass ? ", as in the source" : "");
  else if (!difference.pass && (sums.found.least < sums.wanted.least || sums.found.greatest > sums.wanted.greatest))
    difference.flag = "gains from " + text_of(sums.found) + ", out of the source's range of " + text_of(sums.wanted);
}

/// The row that errs most, by its error over its RMS; of one that is next to nothing in its tensor, over kTinyRow of the
/// tensor's RMS.
std::optional<WorstRow> worst_row(const Sums& sums, std::size_t columns) {
  if (sums.rows.size() < 2 || columns == 0) return std::nullopt;
  const double least = kTinyRow * kTinyRow * sums.squares / static_cast<double>(sums.rows.size());
  WorstRow worst;
  for (std::size_t row = 0; row < sums.rows.size(); ++row) {
    const auto [errors, squares] = sums.rows[row];
    const double relative = errors == 0 ? 0 : std::sqrt(errors / std::max(squares, least));
    if (!(relative <= worst.error)) worst = {row, relative};
    if (std::isnan(worst.error)) break;
  }
  return worst;
}

WeightDifference compare_tensor(const LazyTensor& wanted, const LazyTensor& found, DType type) {
  wanted.prepare();
  found.prepare();
  // a float would hide what two f64 differ in; where one side is f32, what it stores is the other rounded
  const bool wide = wanted.is_wide() && found.is_wide();
  const bool integers = wanted.dtype() == DType::i64 && found.dtype() == DType::i64 && wanted.has_raw() &&
                        found.has_raw();  // 53 bits of a double do not hold them
  const Sums sums = integers ? compare_values<std::int64_t>(wanted, found, type)
                    : wide   ? compare_values<double>(wanted, found, type)
                             : compare_values<float>(wanted, found, type);
  wanted.release();
  found.release();
  const auto n = static_cast<double>(std::max<std::uint64_t>(1, wanted.info().elements()));
  WeightDifference out{wanted.name(),
                       type,
                       sums.max_error,
                       sums.errors / n,
                       std::sqrt(sums.error_squares / n),
                       std::sqrt(sums.squares / n),
                       sums.worst,
                       sums.pass,
                       {},
                       wanted.info().shape.size() > 1 ? worst_row(sums, wanted.info().columns()) : std::nullopt};
  if (is_gain(wanted.info())) judge_gains(sums, out);
  return out;
}

bool in_blocks(DType type) { return info(type).block_elements > 1; }
double relative_error(const WeightDifference& d) { return d.rms > 0 ? d.rmse / d.rms : 0; }

/// What a bound for each element cannot say.
void judge_whole(const TensorInfo& shape, WeightDifference& difference) {
  const std::string type(info(difference.type).name);
  if (!difference.flag.empty()) return;
  if (shape.shape.size() == 1 && in_blocks(difference.type)) {
    difference.pass = false;
    difference.flag = "a vector in " + type + ", which every consumer keeps in float";
  } else if (relative_error(difference) >= kNothingLeft) {
    difference.pass = false;
    difference.flag =
        "errors are " + number_text(100 * relative_error(difference), 3) + " % of its values: nothing is left of them";
  } else if (const auto& row = difference.worst_row; row && !(row->error <= row_limit(difference.type))) {
    difference.pass = false;
    difference.flag = "errors in row " + std::to_string(row->row) + " are " + number_text(100 * row->error, 3) +
                      " % of its values, at most " + number_text(100 * row_limit(difference.type), 3) +
                      " % are expected of " + type;
  }
}

/// Those that lost far more than others of their type.
void flag_outliers(std::vector<WeightDifference>& all) {
  std::map<DType, std::vector<double>> by_type;
  for (const WeightDifference& one : all)
    if (std::isfinite(relative_error(one))) by_type[one.type].push_back(relative_error(one));
  for (WeightDifference& one : all) {
    std::vector<double>& others = by_type[one.type];
    if (others.size() < 4 || !one.flag.empty()) continue;  // of three one is no outlier
    const auto middle = others.begin() + std::ptrdiff_t(others.size() / 2);
    std::nth_element(others.begin(), middle, others.end());
    if (!(*middle > 0) || !(relative_error(one) > kOutlier * *middle)) continue;
    one.flag = "errors are " + number_text(100 * relative_error(one), 3) + " % of its values, " +
               number_text(relative_error(one) / *middle, 3) + " times the median of " +
               std::string(info(one.type).name) + " tensors";
  }
}

}  // namespace

double encoding_bound(DType type, double value, double block_max) {
  const double w = std::abs(value);
  switch (type) {
    case DType::f64:
    case DType::f32:
    case DType::i64:
    case DType::i32: return 0;
    case DType::f16: return std::ldexp(w, -11) + std::ldexp(1.0, -25);
    case DType::bf16: return std::ldexp(w, -8) + std::ldexp(1.0, -134);
    case DType::q8_0:
      return (block_max * (1.0 / 254 + std::ldexp(1.0, -11)) + 127 * std::ldexp(1.0, -25)) * (1 + std::ldexp(1.0, -20));
    default: return INFINITY;  // decoded, but nothing is promised
  }
}

double row_limit(DType type) {
  switch (type) {
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k:
    case DType::iq4_nl:
    case DType::iq4_xs:
    case DType::mxfp4: return 0.5;
    case DType::q3_k:
    case DType::iq3_xxs:
    case DType::iq3_s: return 0.6;
    case DType::q2_k:
    case DType::iq2_xs:
    case DType::iq2_s: return 0.8;
    default: return INFINITY;  // bounded element by element, or good rows err by nearly all they hold
  }
}

namespace {
/// Rounds more: by the bound; of types without one, the one of fewer bits.
bool coarser(DType a, DType b) {
  const double x = encoding_bound(a, 1, 1), y = encoding_bound(b, 1, 1);
  const auto bits = [](DType type) { return static_cast<double>(info(type).block_bytes) / info(type).block_elements; };
  return x > y || (std::isinf(x) && std::isinf(y) && bits(a) < bits(b));
}
}  // namespace

DType coarsest_encoding(const std::vector<TensorPtr>& tensors) {
  DType coarsest = DType::f32;
  for (const TensorPtr& tensor : tensors)
    if (tensor->info().shape.size() == 2 && coarser(tensor->dtype(), coarsest)) coarsest = tensor->dtype();
  return coarsest;
}

Gate weight_gate(std::span<const WeightDifference> differences) {
  const auto failed = std::ranges::count(differences, false, &WeightDifference::pass);
  const double value = differences.empty() ? std::nan("") : static_cast<double>(failed);
  return gate_on("weights", value, Bound::max, 0);
}

std::vector<WeightDifference> compare_weights(const Checkpoint& source, const Checkpoint& candidate, int threads,
                                              const std::function<void(std::uint64_t bytes)>& progress) {
  std::vector<std::pair<TensorPtr, TensorPtr>> pairs;
  for (const TensorPtr& tensor : source.tensors) {
    const TensorPtr other = counterpart(candidate, tensor->name());
    if (other && other->info().shape == tensor->info().shape) pairs.emplace_back(tensor, other);
  }
  if (const TensorPtr head = candidate.find("lm_head.weight");
      head && source.config.tied_head && !source.find("lm_head.weight"))
    if (const TensorPtr embedding = source.find("model.embed_tokens.weight");
        embedding && embedding->info().shape == head->info().shape)
      pairs.emplace_back(renamed(embedding, head->name()), head);
  std::vector<WeightDifference> out(pairs.size());
  std::mutex reporting;
  const Workers workers(threads);
  workers.for_each(pairs.size(), [&](std::size_t i, std::size_t) {
    const auto& [wanted, stored] = pairs[i];
    const TensorPtr found = in_order_of(stored, wanted->info().pairs, candidate.config);
    // A type that can hold what the source stores must hold it exactly: f32's bound is 0. With adapters unmerged a
    // source stores no sum: it is what the candidate rounded.
    const bool held = stored->dtype() == wanted->dtype() && !taken_apart(*wanted);
    out[i] = compare_tensor(*wanted, *found, held ? DType::f32 : stored->dtype());
    out[i].type = stored->dtype();
    judge_whole(wanted->info(), out[i]);
    if (!progress) return;
    const std::lock_guard lock(reporting);
    progress(wanted->info().bytes());
  });
  flag_outliers(out);
  return out;
}

}  // namespace ropewalk::verify
