#include "tools/verify_reference.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "lib/error.h"
#include "lib/plural.h"
#include "tools/units.h"
#include "tools/windows.h"
#include "verify/reference.h"

namespace ropewalk::tools {
namespace {

/// Mean probability outside the tokens that are kept.
double mean_outside(const formats::SavedReference& reference) {
  const auto top = std::size_t(reference.top);
  double sum = 0;
  for (std::size_t row = 0; row < reference.rows(); ++row) {
    double share = 0;
    for (std::size_t rank = 0; rank < top; ++rank)
      share += std::exp(double(reference.top_logits[row * top + rank]) - reference.log_sum_exp[row]);
    sum += std::max(0.0, 1 - share);
  }
  return sum / double(reference.rows());
}

}  // namespace

Output save_reference(const std::string& path, const ReferenceRun& run, SweepDevice& device,
                      const CommonOptions& common, const Io& io) {
  const Checkpoint& model = run.source.checkpoint;
  Progress progress(io, common.quiet, "layers", static_cast<std::uint64_t>(model.config.n_layers),
                    Progress::Unit::steps);
  formats::SavedReference saved =
      verify::make_reference(model, run.windows, run.context, sweep_options(common, device, progress, io));
  saved.corpus_path = run.corpus.path, saved.corpus_sha256 = run.corpus.sha256;
  saved.corpus_tokens = count_ids(run.documents), saved.ids_sha256 = verify::ids_sha256(run.documents);
  saved.unmerged = run.unmerged;
  formats::write_reference(path, saved, {.overwrite = common.overwrite});

  const std::uint64_t bytes = std::filesystem::file_size(path);
  const double each = double(bytes) / double(saved.rows()), outside = mean_outside(saved);
  Output output{.command = "verify", .source = model.label, .warnings = model.warnings};
  output.written = {path};
  output.body = {{"reference", path},
                 {"bytes", bytes},
                 {"context", saved.context},
                 {"windows", saved.windows.size()},
                 {"tokens", saved.rows()},
                 {"bytes_per_token", each},
                 {"top", saved.top},
                 {"outside", outside},
                 {"corpus", corpus_json(run.corpus, saved.corpus_tokens)},
                 {"unmerged", saved.unmerged}};
  output.text(aligned(
      {{"reference", path + ", " + bytes_text(bytes) + ", " + number_text(each, 3) + " bytes a token"},
       {"source",
        model.label + " (as " + model.read_as + " reads it)" + (saved.unmerged ? "; adapters not merged" : "")},
       {"windows", plural(saved.windows.size(), "window") + " of " + std::to_string(saved.context) +
                       " tokens; of each position the " + std::to_string(saved.top) +
                       " likeliest tokens, outside of which lies " + number_text(100 * outside, 3) +
                       " % of the probability"},
       {"text", run.corpus.path + ", " + plural(saved.corpus_tokens, "token") + ", sha256 " + run.corpus.sha256}}));
  output.text("judge an export by it, without the source: ropewalk verify EXPORT --reference " + path);
  return output;
}

formats::SavedReference open_reference(const std::string& path, const Corpus& corpus, std::optional<int> context) {
  formats::SavedReference reference = formats::read_reference(path);
  if (reference.corpus_sha256 != corpus.sha256)
    throw Error(ErrorKind::bad_input, {.path = path},
                "was made of the text '" + reference.corpus_path + "' (sha256 " + reference.corpus_sha256 +
                    "), and the text here is '" + corpus.path + "' (sha256 " + corpus.sha256 + ")",
                "give the same text with -f, or save the reference again");
  if (context && *context != reference.context)
    throw Error(ErrorKind::usage, {},
                "-c is " + std::to_string(*context) + ", and '" + path + "' holds windows of " +
                    std::to_string(reference.context),
                "leave -c out, or save the reference at that context");
  return reference;
}

void check_windows(const formats::SavedReference& reference, const std::string& path, const Corpus& corpus,
                   const Checkpoint& candidate) {
  if (!corpus.given_ids() && !candidate.vocabulary) return;
  const auto documents = corpus_ids(corpus, candidate);
  if (verify::ids_sha256(documents) != reference.ids_sha256) return;
  const auto refuse = [&](const std::string& problem) {
    throw Error(ErrorKind::bad_input, {.path = path}, problem, "save the reference again");
  };
  if (count_ids(documents) != reference.corpus_tokens)
    refuse("says that the text has " + std::to_string(reference.corpus_tokens) + " tokens, and it has " +
           std::to_string(count_ids(documents)));
  Checkpoint source;
  source.vocabulary = reference.vocabulary;
  const std::size_t held = reference.windows.size();
  const int wanted = static_cast<int>(std::min<std::size_t>(held, std::numeric_limits<int>::max()));
  const CutWindows cut = with_path(path, [&] {
    return cut_windows(documents, reference.context, wanted, leading_bos(source, corpus), Repeats::passed_over);
  });
  for (std::size_t window = 0; window < held; ++window)
    if (cut.windows[window] != reference.windows[window])
      refuse("window " + std::to_string(window) + " of " + std::to_string(held) +
             " is not the one that the text has there: one is missing, there twice or changed");
}

LogitsVerdict judge_by_reference(const formats::SavedReference& reference, const std::string& path,
                                 const Checkpoint& candidate, SweepDevice& device, const CommonOptions& common,
                                 const Io& io) {
  Progress progress(io, common.quiet, "layers", static_cast<std::uint64_t>(candidate.config.n_layers),
                    Progress::Unit::steps);
  const verify::ReferenceResult result =
      verify::compare_with_reference(reference, candidate, sweep_options(common, device, progress, io));
  LogitsVerdict out;
  out.windows = reference.windows.size();
  out.tokens = reference.corpus_tokens;
  out.evidence = verify::text_evidence(reference.windows, candidate.config.n_vocab);
  out.report = verify::summarise_pair(result.pair, reference.original_context, reference.context);
  out.reference = {path, reference.top, result.kl_least, result.outside};
  return out;
}

}  // namespace ropewalk::tools
