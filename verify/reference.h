#pragma once

#include <vector>

#include "formats/saved_reference.h"
#include "verify/structure.h"
#include "verify/sweep.h"

// A model's results on one text, kept so that an export can be judged where the model's weights are not
// (formats/saved_reference.h). On the host.
namespace ropewalk::verify {

/// Tokens kept of each position, hidden states sketched, and numbers of each sketch.
inline constexpr int kReferenceTop = 64, kSketchEvery = 8, kSketchWidth = 8;

/// What the saved file has of `model` and its results over `windows`, each of `context` tokens; `corpus_*` and
/// `unmerged` are the caller's. Error(bad_input) naming window and position where the model's logits are not finite, or
/// the token that came has no probability in double: no candidate could be judged by them.
formats::SavedReference make_reference(const Checkpoint& model, std::span<const Window> windows, int context,
                                       const SweepOptions& options);

/// KL from the likeliest tokens T of the source alone. With P = 1 - sum of p over T, Q = 1 - sum of q over T:
///
///   least     sum over T of p ln(p / q) + P ln(P / Q)      what KL is at least: all other tokens as one (log-sum
///                                                          inequality), exact if the candidate only rescales them
///   missing   P * KL(p || q, both given the other tokens)  the rest of it (chain rule), which T does not know;
///             taken to be P * KL(p || q, both given the less likely half of T), which lies next to it
///
/// kl = least + missing. Measured against the whole distributions: docs/protocols.md. Equal logits give 0. P of 1e-12
/// and less counts as none: 64 roundings of 1.1e-16 are all of it; that leaves out 3e-11 at most.
struct ReferenceResult {
  PairResult pair;      // kl: as above; layer_distance from sketches; same_top1, losses: exact
  double kl_least = 0;  // mean over all positions
  double outside = 0;   // mean of P
};
/// Error(bad_input) if the vocabulary has another size.
ReferenceResult compare_with_reference(const formats::SavedReference& reference, const Checkpoint& candidate,
                                       const SweepOptions& options);

/// The source as far as a reference has it: configuration, tensors that have a name and a shape and no values, and the
/// vocabulary as `candidate` would show it. Not to be computed with.
Checkpoint source_of(const formats::SavedReference& reference, const Checkpoint& candidate);
/// compare_structure(), the rope from the reference's table. `documents`: the text, whose ids under the candidate's own
/// rules must be those the reference was made of; empty where ids were given.
StructureReport compare_structure(const formats::SavedReference& reference, const Checkpoint& candidate,
                                  std::span<const std::string> documents);

/// sha256 of documents' ids, in lower-case hexadecimal.
std::string ids_sha256(std::span<const std::vector<std::int32_t>> documents);

}  // namespace ropewalk::verify
