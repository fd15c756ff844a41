#include "verify/multiple_choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "formats/python_text.h"
#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::verify {
namespace {

std::vector<std::int32_t> encoded(const formats::Tokenizer& tokenizer, std::string_view text, const Around& around) {
  std::vector<std::int32_t> ids = around.before;
  const std::vector<std::int32_t> own = tokenizer.encode(text, true);
  ids.insert(ids.end(), own.begin(), own.end());
  ids.insert(ids.end(), around.after.begin(), around.after.end());
  return ids;
}

}  // namespace

std::vector<ChoiceWindow> choice_windows(std::string_view prompt, const std::vector<std::string>& continuations,
                                         const formats::Tokenizer& tokenizer, const Around& around,
                                         std::size_t longest) {
  const std::size_t n_prompt = encoded(tokenizer, formats::python_rstrip(prompt), around).size();
  if (n_prompt == 0)
    throw Error(ErrorKind::bad_input, {}, "the tokenizer makes no token of a prompt", "check the model's tokenizer");
  std::vector<ChoiceWindow> windows;
  for (const std::string& continuation : continuations) {
    ChoiceWindow window{encoded(tokenizer, std::string(prompt) + continuation, around), n_prompt, 0};
    if (window.ids.size() <= n_prompt)
      throw Error(ErrorKind::bad_input, {}, "the choice '" + continuation + "' adds no token to its prompt",
                  "check the row: it cannot be judged by this tokenizer");
    if (window.ids.size() - n_prompt > longest)
      throw Error(ErrorKind::bad_input, {},
                  "a choice has " + plural(window.ids.size() - n_prompt, "token") + ", the longest window " +
                      std::to_string(longest),
                  "give a larger -c");
    if (window.ids.size() > longest + 1) {
      window.dropped = window.ids.size() - longest - 1;
      window.ids.erase(window.ids.begin(), window.ids.begin() + static_cast<std::ptrdiff_t>(window.dropped));
      window.first -= window.dropped;
    }
    windows.push_back(std::move(window));
  }
  return windows;
}

ChoiceContexts::Place ChoiceContexts::add(const ChoiceWindow& choice) {
  const auto [found, is_new] = index_.emplace(Window(choice.ids.begin(), choice.ids.end() - 1), windows_.size());
  if (is_new) windows_.push_back(&found->first), endings_.emplace_back();
  std::vector<std::int32_t>& endings = endings_[found->second];
  const auto ending = std::ranges::find(endings, choice.ids.back());
  const auto at = static_cast<std::size_t>(ending - endings.begin());
  if (ending == endings.end()) endings.push_back(choice.ids.back());
  return {found->second, at};
}

double log_likelihood(const ChoiceWindow& choice, const EndedScore& scores, std::size_t ending) {
  double sum = 0;
  for (std::size_t at = choice.first; at + 1 < choice.ids.size(); ++at) sum -= scores.within[at - 1];
  return sum - scores.endings[ending];
}

std::size_t first_largest(std::span<const double> values) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < values.size() && !std::isnan(values[best]); ++i)
    if (values[i] > values[best] || std::isnan(values[i])) best = i;
  return best;
}

std::size_t first_largest_by_length(std::span<const double> log_likelihoods, std::span<const std::size_t> characters) {
  std::vector<double> each;
  for (std::size_t i = 0; i < log_likelihoods.size(); ++i)
    each.push_back(log_likelihoods[i] / static_cast<double>(characters[i]));
  return first_largest(each);
}

double true_share(std::span<const double> log_likelihoods, const std::vector<bool>& is_true) {
  const double largest = *std::ranges::max_element(log_likelihoods);
  double all = 0, of_true = 0;
  for (std::size_t i = 0; i < log_likelihoods.size(); ++i) {
    const double weight = std::exp(log_likelihoods[i] - largest);
    all += weight, of_true += is_true[i] ? weight : 0;
  }
  return of_true / all;
}

MeanOf mean_of(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  MeanOf out{std::accumulate(values.begin(), values.end(), 0.0) / n, std::nullopt};
  if (values.size() < 2) return out;
  double squares = 0;
  for (const double value : values) squares += (value - out.mean) * (value - out.mean);
  out.standard_error = std::sqrt(squares / (n - 1)) / std::sqrt(n);
  return out;
}

std::optional<double> pooled_error(std::span<const double> standard_errors, std::span<const std::size_t> sizes) {
  double sum = 0, total = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const auto size = static_cast<double>(sizes[i]);
    sum += (size - 1) * standard_errors[i] * standard_errors[i] * size, total += size;
  }
  const double freedom = total - static_cast<double>(sizes.size());
  if (!(freedom > 0)) return std::nullopt;
  return std::sqrt(sum / freedom / total);
}

}  // namespace ropewalk::verify
