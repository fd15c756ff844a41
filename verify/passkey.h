#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizers/tokenizer.h"
#include "verify/sweep.h"

namespace ropewalk::verify {

/// What a key is hidden in.
enum class Haystack : std::uint8_t {
  grass,  // the landmark-attention text that the YaRN repository's eval/passkey.py (911591d) repeats, cut by characters
  text,   // running text, as its eval/passkey_hard.py does, cut between words
  keys,   // nothing but other keys, each with its number
};
const char* haystack_name(Haystack haystack);  // "grass", "text", "keys"
std::optional<Haystack> haystack_from_name(std::string_view name);

/// One question. The same task gives the same prompt on every machine.
struct PasskeyTask {
  int context = 0;   // tokens of prompt and answer at most
  double depth = 0;  // where the key stands in what it is hidden in: 0 its beginning, 1 its end
  std::uint64_t seed = 1;
  int n_keys = 1;  // of which one is asked for; Haystack::keys has as many as fit
  Haystack haystack = Haystack::grass;
  std::string_view text = {};  // for Haystack::text
};
struct PasskeyPrompt {
  std::string text;    // ends in "pass key is"
  std::string answer;  // what follows after one space, in digits
};
/// The prompt with `units` of haystack: characters, or lines for Haystack::keys, where one of them is asked for.
/// Keys are drawn from 1 to 50,000, no two alike. Those that are not asked for stand anywhere. With one key wording and
/// cuts are eval/passkey.py's, with several eval/passkey_hard.py's ("the 2nd pass key"; 3rd, 11th, 23rd as English has
/// them, where the repository's order() writes 11st). Fewer units than Haystack::text has are its first.
PasskeyPrompt passkey_prompt(const PasskeyTask& task, std::size_t units);

/// Prompt and answer as one window.
struct PasskeyWindow {
  Window ids;                    // with one id more, so that the choice after the answer is known too
  std::size_t first = 0, n = 0;  // the answer's ids
  std::size_t units = 0;         // of passkey_prompt()
  std::string answer;
};
/// A prompt whose tokens, `lead` (BOS) and the answer's included, are at most task.context, and no more than a few words
/// (or one line of keys) fewer.
/// Error(bad_input) if not even one without haystack fits, or there is too little text.
PasskeyWindow passkey_window(const PasskeyTask& task, const formats::Tokenizer& tokenizer,
                             std::span<const std::int32_t> lead);

/// What a model made of one question, teacher-forced: greedy decoding gives the answer iff every id of it is the first
/// choice where it is due.
struct PasskeyAnswer {
  bool judged = true;    // false: a loss or the next choice is no number, so the model has not answered at all
  bool correct = false;  // all are, and what would come next is no further digit
  std::size_t right = 0, n = 0;
  double nll = 0;  // summed over the answer's ids
};
/// scores: of the window, by score().
PasskeyAnswer passkey_answer(const PasskeyWindow& window, std::span<const TokenScore> scores,
                             const formats::Tokenizer& tokenizer);

}  // namespace ropewalk::verify
