#include "verify/passkey.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>

#include "lib/error.h"

namespace ropewalk::verify {
namespace {

constexpr std::string_view kTask =
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you "
    "about "
    "the important information there.";
constexpr std::string_view kGrass =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
constexpr int kLargestKey = 50'000;

constexpr std::array<std::string_view, 3> kHaystacks = {"grass", "text", "keys"};

/// The first `count` characters of kGrass over and over, one space between.
std::string grass(std::size_t count) {
  std::string out;
  out.reserve(count + kGrass.size() + 1);
  while (out.size() < count) out.append(kGrass).push_back(' ');
  out.resize(count);
  return out;
}

std::string ordinal(std::size_t number) {
  const std::size_t tens = number % 100 / 10, ones = number % 10;
  const char* suffix = tens == 1 ? "th" : ones == 1 ? "st" : ones == 2 ? "nd" : ones == 3 ? "rd" : "th";
  return std::to_string(number) + suffix;
}

/// "The 2nd pass key is"; alone it has no number.
std::string subject(std::size_t index, bool alone) { return (alone ? "" : ordinal(index + 1) + " ") + "pass key"; }
std::string key_line(std::size_t index, int key, bool alone) {
  const std::string digits = std::to_string(key), name = subject(index, alone);
  return "The " + name + " is " + digits + ". Remember it. " + digits + " is the " + name + ".";
}
std::string question(std::size_t index, bool alone) {
  return "What is the " + subject(index, alone) + "? The " + subject(index, alone) + " is";
}

/// Standard distributions are not the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : bits_(seed) {}
  std::uint64_t below(std::uint64_t n) { return bits_() % n; }
  double share() { return static_cast<double>(bits_() >> 11) * 0x1p-53; }

 private:
  std::mt19937_64 bits_;
};

std::vector<int> draw_keys(Random& random, std::size_t count) {
  if (count > std::size_t{kLargestKey} / 2)
    throw Error(ErrorKind::bad_input, {},
                "a haystack of " + std::to_string(count) + " keys has no more of them to draw",
                "give a shorter context, or another --haystack");
  std::vector<bool> taken(kLargestKey + 1);
  std::vector<int> keys;
  while (keys.size() < count) {
    const auto key = static_cast<int>(1 + random.below(kLargestKey));
    if (taken[static_cast<std::size_t>(key)]) continue;
    taken[static_cast<std::size_t>(key)] = true;
    keys.push_back(key);
  }
  return keys;
}

/// Characters of `text` before the first word that begins at `at` or later.
std::size_t word_start(std::string_view text, std::size_t at) {
  if (at == 0 || at >= text.size()) return std::min(at, text.size());
  const std::size_t space = text.find_first_of(" \n", at - 1);
  return space == std::string_view::npos ? text.size() : space + 1;
}

std::size_t at_depth(double depth, std::size_t units) {
  return static_cast<std::size_t>(std::llround(depth * static_cast<double>(units)));
}

std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out.append(out.empty() ? "" : "\n").append(line);
  return out;
}

PasskeyPrompt among_keys(const PasskeyTask& task, std::size_t units) {
  Random random(task.seed);
  const std::size_t count = std::max<std::size_t>(1, units), asked = at_depth(task.depth, count - 1);
  const std::vector<int> keys = draw_keys(random, count);
  std::vector<std::string> lines = {std::string(kTask)};
  for (std::size_t i = 0; i < count; ++i) lines.push_back(key_line(i, keys[i], false));
  lines.push_back(question(asked, false));
  return {joined(lines), std::to_string(keys[asked])};
}

}  // namespace

const char* haystack_name(Haystack haystack) { return kHaystacks[static_cast<std::size_t>(haystack)].data(); }
std::optional<Haystack> haystack_from_name(std::string_view name) {
  const auto found = std::find(kHaystacks.begin(), kHaystacks.end(), name);
  if (found == kHaystacks.end()) return std::nullopt;
  return static_cast<Haystack>(found - kHaystacks.begin());
}

PasskeyPrompt passkey_prompt(const PasskeyTask& task, std::size_t units) {
  if (task.haystack == Haystack::keys) return among_keys(task, units);
  Random random(task.seed);
  const auto n_keys = static_cast<std::size_t>(std::max(1, task.n_keys));
  const bool alone = n_keys == 1;
  const std::vector<int> keys = draw_keys(random, n_keys);

  struct Place {
    std::size_t at, key;  // key 0 is asked for
  };
  std::vector<Place> places = {{at_depth(task.depth, units), 0}};
  for (std::size_t key = 1; key < n_keys; ++key) places.push_back({at_depth(random.share(), units), key});
  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.at < b.at; });

  const std::string_view text = task.text.substr(0, word_start(task.text, units));
  std::vector<std::string> lines = {std::string(kTask)};
  std::size_t from = 0, asked = 0;
  const auto hay = [&](std::size_t to) {
    if (task.haystack == Haystack::grass) {
      lines.push_back(grass(to - from));  // from its beginning again, as both scripts' grass is
      from = to;
    } else {
      const std::size_t end = to == units ? text.size() : word_start(text, to);
      lines.emplace_back(text.substr(std::min(from, end), end - std::min(from, end)));
      from = end;
    }
  };
  for (std::size_t i = 0; i < places.size(); ++i) {
    hay(places[i].at);
    lines.push_back(key_line(i, keys[places[i].key], alone));
    if (places[i].key == 0) asked = i;
  }
  hay(units);
  lines.push_back(question(asked, alone));
  return {joined(lines), std::to_string(keys[0])};
}

PasskeyWindow passkey_window(const PasskeyTask& task, const formats::Tokenizer& tokenizer,
                             std::span<const std::int32_t> lead) {
  const auto context = static_cast<std::size_t>(task.context);
  const auto with_units = [&](std::size_t units) {
    const PasskeyPrompt prompt = passkey_prompt(task, units);
    const std::vector<std::int32_t> before = tokenizer.encode(prompt.text),
                                    all = tokenizer.encode(prompt.text + " " + prompt.answer);
    PasskeyWindow out{{lead.begin(), lead.end()}, 0, 0, units, prompt.answer};
    const auto parted = std::mismatch(before.begin(), before.end(), all.begin(), all.end());
    out.first = lead.size() + static_cast<std::size_t>(parted.second - all.begin());
    out.ids.insert(out.ids.end(), all.begin(), all.end());
    out.n = out.ids.size() - out.first;
    return out;
  };

  // [fits, too_many): units by interpolation, since a window of 128k tokens takes time to cut.
  const std::size_t most = task.haystack == Haystack::text   ? task.text.size()
                           : task.haystack == Haystack::keys ? std::size_t{kLargestKey} / 2
                                                             : context * 64;
  std::size_t fits = task.haystack == Haystack::keys ? 1 : 0, too_many = most + 1;
  PasskeyWindow best = with_units(fits);
  if (best.ids.size() > context)
    throw Error(ErrorKind::bad_input, {},
                "a passkey prompt without anything around the key has " + std::to_string(best.ids.size()) +
                    " tokens, and " + std::to_string(context) + " are asked for",
                "give a longer context");
  double per_token = task.haystack == Haystack::keys ? 0.03 : 3;
  constexpr std::size_t kNear = 2;  // tokens short of the context that are not worth another cut
  while (too_many - fits > 1 && best.ids.size() + kNear < context) {
    const double left = static_cast<double>(context - best.ids.size()) * per_token;
    const std::size_t guess = std::clamp(fits + static_cast<std::size_t>(left), fits + 1, too_many - 1);
    PasskeyWindow window = with_units(guess);
    const std::size_t before = best.ids.size();
    if (window.ids.size() > before)
      per_token = static_cast<double>(guess - fits) / static_cast<double>(window.ids.size() - before);
    if (window.ids.size() > context) {
      too_many = guess;
      per_token *= 0.5;  // no guess at the same place again where tokens come in steps
    } else {
      fits = guess, best = std::move(window);
    }
  }
  if (fits == most && best.ids.size() + kNear < context && task.haystack == Haystack::text)
    throw Error(ErrorKind::bad_input, {},
                "the text gives a passkey prompt of " + std::to_string(best.ids.size()) + " tokens, and " +
                    std::to_string(context) + " are asked for",
                "give a longer text with -f, or another --haystack");
  best.ids.push_back(best.ids.back());
  return best;
}

PasskeyAnswer passkey_answer(const PasskeyWindow& window, std::span<const TokenScore> scores,
                             const formats::Tokenizer& tokenizer) {
  PasskeyAnswer out{.n = window.n};
  for (std::size_t at = window.first; at < window.first + window.n; ++at) {
    const TokenScore& score = scores[at - 1];
    out.right += score.argmax == window.ids[at] ? 1 : 0;
    out.nll += score.nll;
  }
  const std::int32_t next = scores[window.first + window.n - 1].argmax;
  const std::string piece = next >= 0 && next < tokenizer.size() ? tokenizer.piece(next) : "";
  const auto byte = formats::byte_of_piece(piece);
  const char letter = byte ? static_cast<char>(*byte) : piece.empty() ? ' ' : piece.front();
  out.judged = std::isfinite(out.nll) && next >= 0;
  out.correct = out.judged && out.right == out.n && !(letter >= '0' && letter <= '9');
  return out;
}

}  // namespace ropewalk::verify
