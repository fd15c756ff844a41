#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "verify/block_mean.h"
#include "verify/sweep.h"

namespace ropewalk::verify {

/// How windows are cut and losses averaged; the name is part of every result (docs/protocols.md).
enum class Protocol {
  tokens,  // exp of mean NLL over scored tokens; stride defaults to the window; each token scored once
  yarn,    // YaRN repository: one BOS per window, exp of the mean of per-window means, stride 256
  // transformers' fixed-length guide: sliding windows over one stream, BOS only at the start, each window's mean
  // weighed by its labels less one
  hf,
  llama_cpp,  // llama-perplexity: BOS replaces the first token of each chunk, second half of each chunk scored
};
const char* protocol_name(Protocol protocol);                       // "tokens", "yarn", "hf", "llama.cpp"
std::optional<Protocol> protocol_from_name(std::string_view name);  // "llama_cpp" is accepted too
/// What a stride of 0 means: tokens: as many text tokens as a window holds, so that none is left out (without BOS: none
/// but the first of each window); yarn: 256; hf: half a window; llama.cpp: the window (no other is possible).
int default_stride(Protocol protocol, int context, bool has_bos);

struct WindowSpan {
  int document = 0;
  bool bos = false;        // BOS comes first
  int begin = 0, end = 0;  // text tokens [begin, end) of the document
  int first_scored = 0;    // index in the window of the first id whose NLL counts (>= 1)
  int last_scored = 0;     // one past the last

  int size() const { return end - begin + (bos ? 1 : 0); }
};
/// Windows as spans: the ids of all windows of a long text would take any amount.
struct WindowPlan {
  int context = 0, stride = 0;  // stride: what was asked for, or the default
  Protocol protocol = Protocol::tokens;
  std::optional<std::int32_t> bos;
  std::vector<WindowSpan> spans;
};
/// Documents are ids without BOS. Error(bad_input) if a document is too short for one window of `context` tokens
/// (llama.cpp: for two): nothing is shortened in silence.
/// Every window has 2 to `context` ids and scores at least one; which tokens no window scores: docs/protocols.md.
/// stride 0: default_stride. A stride past the documents' ends gives one window per document, the YaRN repository's
/// --truncate. Only the first `most_windows` are planned; documents are held against the context all the same.
WindowPlan plan_windows(const std::vector<std::vector<std::int32_t>>& documents, int context, int stride,
                        Protocol protocol, std::optional<std::int32_t> bos,
                        std::size_t most_windows = std::numeric_limits<std::size_t>::max());
/// The ids of the plan's windows [first, last), from the documents it was made of.
std::vector<Window> window_ids(const WindowPlan& plan, const std::vector<std::vector<std::int32_t>>& documents,
                               std::size_t first, std::size_t last);

struct PositionBucket {
  int from = 0, to = 0;  // window positions [from, to)
  double nll = 0;        // mean
  std::uint64_t tokens = 0;
};
struct PerplexityResult {
  int context = 0, stride = 0;
  Protocol protocol = Protocol::tokens;
  double perplexity = 0, nll = 0;
  std::uint64_t tokens = 0;  // scored (hf: the sum of the weights)
  int windows = 0;
  std::vector<double> window_nll;
  std::vector<PositionBucket> positions;
  std::optional<PositionBucket> last;  // of the positions asked for
  // of `perplexity`, and of exp of last's mean: from blocks of what is scored, each with its window's weight
  Interval interval, last_interval;
};
/// scores: of all windows of the plan, by score(). last: also what is scored at the last so many positions of the
/// context, at most context - 1; 0: nothing.
PerplexityResult summarise(const WindowPlan& plan, const std::vector<std::vector<TokenScore>>& scores, int last = 0);

/// Window positions in buckets that double: [1,64), [64,128), [128,256), ... up to `context`. Position 0 is never
/// scored.
std::vector<std::pair<int, int>> position_buckets(int context);

}  // namespace ropewalk::verify
