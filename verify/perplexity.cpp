#include "verify/perplexity.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::verify {
namespace {

[[noreturn]] void too_short(std::size_t document, std::size_t documents, std::size_t tokens, std::size_t needed,
                            int context) {
  const std::string which =
      documents == 1 ? "the text" : "document " + std::to_string(document + 1) + " of " + std::to_string(documents);
  throw Error(ErrorKind::bad_input, {},
              which + " has " + plural(tokens, "token") + ", a context of " + std::to_string(context) + " needs " +
                  std::to_string(needed),
              "give a longer text or a smaller context");
}

/// One document of a plan in the making.
struct Text {
  int index, tokens;
  bool bos;
  std::size_t most_windows;  // of the whole plan
};
bool full(const WindowPlan& plan, const Text& text) { return plan.spans.size() >= text.most_windows; }

/// tokens, yarn: every window starts with BOS; it scores what lies past the end of the one before. Without BOS a window
/// of one id has nothing to score: it is left out.
void plan_sliding(WindowPlan& plan, const Text& text) {
  const int lead = text.bos ? 1 : 0, total = text.tokens, stride = plan.stride;
  for (int begin = 0, covered = 0; covered < total && begin < total && !full(plan, text); begin += stride) {
    const int end = begin + std::min(plan.context - lead, total - begin);
    // the first id of a window has nothing to be predicted from
    const int length = lead + end - begin, scored = std::min(end - covered, length - 1);
    if (scored > 0) plan.spans.push_back({text.index, text.bos, begin, end, length - scored, length});
    covered = end;
    if (stride >= total - begin) break;  // the next window would begin past the end; the sum may wrap
  }
}

/// transformers' guide: one stream that starts with BOS, cut anywhere.
void plan_hf(WindowPlan& plan, const Text& text) {
  const int lead = text.bos ? 1 : 0, total = text.tokens + lead, stride = plan.stride;
  for (int begin = 0, covered = 0; covered < total && !full(plan, text); begin += stride) {
    const int length = std::min(plan.context, total - begin), end = begin + length;
    const bool first = begin == 0;
    const int first_scored = std::max(1, length - (end - covered));
    if (first_scored < length)
      plan.spans.push_back({text.index, first && text.bos, first ? 0 : begin - lead, end - lead, first_scored, length});
    covered = end;
    if (stride >= total - begin) break;
  }
}

/// llama-perplexity of llama.cpp 0.5: chunks of the stream that starts with BOS; BOS takes the place of each chunk's
/// first token; the second half is scored.
void plan_llama_cpp(WindowPlan& plan, const Text& text) {
  const int lead = text.bos ? 1 : 0, context = plan.context, chunks = (text.tokens + lead) / context;
  for (int chunk = 0; chunk < chunks && !full(plan, text); ++chunk)
    plan.spans.push_back(
        {text.index, text.bos, chunk * context, (chunk + 1) * context - lead, context / 2 + 1, context});
}

/// transformers' guide weighs a window by its labels less one, though the shift costs a label only where the window's
/// first id is among them.
bool drops_a_label(const WindowPlan& plan, std::size_t window) {
  const bool first_id_is_label =
      plan.stride >= plan.context || window == 0 || plan.spans[window - 1].document != plan.spans[window].document;
  return plan.protocol == Protocol::hf && !first_id_is_label;
}

/// Losses of scored positions from `from` on, in blocks within their windows. weights: of a token, by window.
std::vector<Block> blocks_of(const WindowPlan& plan, const std::vector<std::vector<TokenScore>>& scores,
                             const std::vector<double>& weights, int from) {
  const auto first = [&](const WindowSpan& span) { return std::max(from, span.first_scored); };
  std::size_t positions = 0;
  for (const WindowSpan& span : plan.spans) positions += std::size_t(std::max(0, span.last_scored - first(span)));
  const int length = static_cast<int>(block_length(positions));
  std::vector<Block> blocks;
  for (std::size_t w = 0; w < plan.spans.size(); ++w)
    for (int begin = first(plan.spans[w]); begin < plan.spans[w].last_scored; begin += length) {
      Block& block = blocks.emplace_back();
      for (int t = begin; t < std::min(begin + length, plan.spans[w].last_scored); ++t)
        block.sum += weights[w] * scores[w][std::size_t(t) - 1].nll, block.n += weights[w];
    }
  return blocks;
}
Interval perplexity_interval(const std::vector<Block>& blocks) {
  const BlockMean mean = mean_of_blocks(blocks);
  return {std::exp(mean.value - mean.error), std::exp(mean.value + mean.error)};
}

}  // namespace

const char* protocol_name(Protocol protocol) {
  switch (protocol) {
    case Protocol::tokens: return "tokens";
    case Protocol::yarn: return "yarn";
    case Protocol::hf: return "hf";
    case Protocol::llama_cpp: return "llama.cpp";
  }
  return "";
}

std::optional<Protocol> protocol_from_name(std::string_view name) {
  for (const Protocol protocol : {Protocol::tokens, Protocol::yarn, Protocol::hf, Protocol::llama_cpp})
    if (name == protocol_name(protocol)) return protocol;
  if (name == "llama_cpp") return Protocol::llama_cpp;
  return std::nullopt;
}

int default_stride(Protocol protocol, int context, bool has_bos) {
  switch (protocol) {
    case Protocol::tokens: return std::max(1, context - (has_bos ? 1 : 0));
    case Protocol::yarn: return 256;
    case Protocol::hf: return std::max(1, context / 2);
    case Protocol::llama_cpp: return context;
  }
  return context;
}

WindowPlan plan_windows(const std::vector<std::vector<std::int32_t>>& documents, int context, int stride,
                        Protocol protocol, std::optional<std::int32_t> bos, std::size_t most_windows) {
  if (context < 2)
    throw Error(ErrorKind::bad_input, {},
                "a context of " + std::to_string(context) + " has nothing to predict, at least 2 was expected",
                "give a larger context");
  if (stride < 0)
    throw Error(ErrorKind::bad_input, {}, "a stride of " + std::to_string(stride) + ", at least 1 was expected",
                "give a positive stride");
  if (stride == 0) stride = default_stride(protocol, context, bos.has_value());
  if (protocol == Protocol::llama_cpp && stride != context)
    throw Error(ErrorKind::bad_input, {},
                "a stride of " + std::to_string(stride) + " with the llama.cpp protocol, whose chunks do not overlap",
                "leave the stride out or take another protocol");
  if (protocol == Protocol::llama_cpp && context < 3)
    throw Error(ErrorKind::bad_input, {},
                "a context of 2 with the llama.cpp protocol, whose chunks then have nothing in their second half, at "
                "least 3 was expected",
                "give a larger context");
  if (documents.empty()) throw Error(ErrorKind::bad_input, {}, "no document to evaluate", "give a text");
  WindowPlan plan{context, stride, protocol, bos, {}};
  for (std::size_t index = 0; index < documents.size(); ++index) {
    const auto& document = documents[index];
    const std::size_t lead = bos ? 1 : 0, window = static_cast<std::size_t>(context),
                      needed = (protocol == Protocol::llama_cpp ? 2 * window : window) - lead;
    if (document.size() < needed) too_short(index, documents.size(), document.size(), needed, context);
    const Text text{static_cast<int>(index), static_cast<int>(document.size()), bos.has_value(), most_windows};
    switch (protocol) {
      case Protocol::tokens:
      case Protocol::yarn: plan_sliding(plan, text); break;
      case Protocol::hf: plan_hf(plan, text); break;
      case Protocol::llama_cpp: plan_llama_cpp(plan, text); break;
    }
  }
  return plan;
}

std::vector<Window> window_ids(const WindowPlan& plan, const std::vector<std::vector<std::int32_t>>& documents,
                               std::size_t first, std::size_t last) {
  std::vector<Window> windows;
  windows.reserve(last - first);
  for (std::size_t w = first; w < last; ++w) {
    const WindowSpan& span = plan.spans[w];
    const auto& document = documents[static_cast<std::size_t>(span.document)];
    Window& window = windows.emplace_back();
    window.reserve(static_cast<std::size_t>(span.size()));
    if (span.bos) window.push_back(plan.bos.value());
    window.insert(window.end(), document.begin() + span.begin, document.begin() + span.end);
  }
  return windows;
}

std::vector<std::pair<int, int>> position_buckets(int context) {
  std::vector<std::pair<int, int>> out;
  for (int from = 1, to = 64; from < context; from = to, to = (to > context / 2 ? context : 2 * to))
    out.emplace_back(from, std::min(to, context));
  return out;
}

PerplexityResult summarise(const WindowPlan& plan, const std::vector<std::vector<TokenScore>>& scores, int last) {
  PerplexityResult result;
  result.context = plan.context, result.stride = plan.stride, result.protocol = plan.protocol,
  result.windows = static_cast<int>(plan.spans.size());
  for (const auto& [from, to] : position_buckets(plan.context)) result.positions.push_back({from, to, 0, 0});
  PositionBucket at_end{plan.context - last, plan.context, 0, 0};
  double weighted = 0, weights = 0;
  std::vector<double> token_weights;
  for (std::size_t w = 0; w < plan.spans.size(); ++w) {
    const WindowSpan& span = plan.spans[w];
    double sum = 0;
    for (int position = span.first_scored; position < span.last_scored; ++position) {
      const double nll = scores[w][static_cast<std::size_t>(position) - 1].nll;
      sum += nll;
      if (position >= at_end.from) at_end.nll += nll, ++at_end.tokens;
      for (PositionBucket& bucket : result.positions)
        if (position >= bucket.from && position < bucket.to) bucket.nll += nll, ++bucket.tokens;
    }
    const int scored = span.last_scored - span.first_scored;
    const double mean = sum / scored;
    result.window_nll.push_back(mean);
    const int counted = scored - (drops_a_label(plan, w) ? 1 : 0);
    const double weight = plan.protocol == Protocol::yarn ? 1 : counted;
    weighted += mean * weight;
    weights += weight;
    token_weights.push_back(weight / scored);
    result.tokens += static_cast<std::uint64_t>(counted);
  }
  for (PositionBucket& bucket : result.positions)
    if (bucket.tokens > 0) bucket.nll /= double(bucket.tokens);
  std::erase_if(result.positions, [](const PositionBucket& bucket) { return bucket.tokens == 0; });
  if (last > 0) {
    if (at_end.tokens > 0) at_end.nll /= double(at_end.tokens);
    result.last = at_end;
    result.last_interval =
        perplexity_interval(blocks_of(plan, scores, std::vector<double>(plan.spans.size(), 1), at_end.from));
  }
  result.interval = perplexity_interval(blocks_of(plan, scores, token_weights, 0));
  result.nll = weighted / weights;
  result.perplexity = std::exp(result.nll);
  return result;
}

}  // namespace ropewalk::verify
