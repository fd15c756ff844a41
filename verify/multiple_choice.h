#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizers/tokenizer.h"
#include "verify/endings.h"
#include "verify/sweep.h"

namespace ropewalk::verify {

// Multiple choice by log-likelihood, as lm-evaluation-harness 0.4.13's HFLM computes and ConfigurableTask judges it.

/// A choice behind its prompt, teacher-forced.
struct ChoiceWindow {
  Window ids;
  std::size_t first = 0;    // the choice's ids are [first, ids.size())
  std::size_t dropped = 0;  // ids of the prompt's beginning that the longest window has no room for
};
/// What a tokenizer puts around a text.
struct Around {
  std::vector<std::int32_t> before, after;
};
/// One window for each of `continuations`. The prompt's ids are those of the prompt alone, without whitespace at its end,
/// and the choice's are what the ids of both together have beyond that many. At most longest + 1 ids: the model sees all
/// but the last; what is left out is the beginning. Error(bad_input), without a place, if a choice adds no id or has more
/// than `longest`.
std::vector<ChoiceWindow> choice_windows(std::string_view prompt, const std::vector<std::string>& continuations,
                                         const formats::Tokenizer& tokenizer, const Around& around,
                                         std::size_t longest);

/// What is to be swept for choices: of those that differ in no more than their last id, the ids before it once. Letters
/// of one question are such choices, and what two tasks ask alike.
class ChoiceContexts {
 public:
  /// A window of windows(), and which of its endings.
  struct Place {
    std::size_t window = 0, ending = 0;
  };
  Place add(const ChoiceWindow& choice);

  std::size_t size() const noexcept { return windows_.size(); }
  const Window& window(std::size_t index) const { return *windows_[index]; }
  /// [window]: the ids that come behind it, each once.
  const std::vector<std::vector<std::int32_t>>& endings() const noexcept { return endings_; }

 private:
  std::map<Window, std::size_t> index_;
  std::vector<const Window*> windows_;  // keys of index_
  std::vector<std::vector<std::int32_t>> endings_;
};

/// Of a choice: log p(choice | prompt), summed over its ids. scores: of its context, by score_endings().
double log_likelihood(const ChoiceWindow& choice, const EndedScore& scores, std::size_t ending);

/// The first of the largest, or of those that are no number.
std::size_t first_largest(std::span<const double> values);
/// The choice whose log-likelihood is largest for each of its characters.
std::size_t first_largest_by_length(std::span<const double> log_likelihoods, std::span<const std::size_t> characters);
/// Probability that the choices which are true have among all of them (mc2 of TruthfulQA).
double true_share(std::span<const double> log_likelihoods, const std::vector<bool>& is_true);

/// Mean and its standard error, the deviation of a sample over the root of its size: nullopt of a single value.
struct MeanOf {
  double mean = 0;
  std::optional<double> standard_error;
};
MeanOf mean_of(std::span<const double> values);
/// Of groups together, each with its own error: as the harness pools the subjects of mmlu. nullopt where every group is a
/// single value.
std::optional<double> pooled_error(std::span<const double> standard_errors, std::span<const std::size_t> sizes);

}  // namespace ropewalk::verify
