#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/checkpoint.h"
#include "verify/gates.h"

namespace ropewalk::verify {

/// One thing two checkpoints were compared in, without reading a weight.
struct StructureItem {
  std::string name;          // "tensors", "vocabulary", "special tokens", "chat template", "ids", "rope", ...
  std::optional<bool> pass;  // nullopt: reported, does not decide
  std::string detail;        // what was found, one line
};
/// What the details call the two.
struct Sides {
  std::string source = "the source", candidate = "the candidate";
};
struct StructureReport {
  std::vector<StructureItem> items;
  // "tensors", "tokenizer", "chat_template", "context", "rope", "geometry": what fails an export whatever its logits say
  std::vector<Gate> gates;
  std::vector<std::string> problems;  // tensors missing, left over or of another shape; one line each
};

/// Tensors of the decoder by canonical name and shape (a tied head may be stored or not), vocabulary id by id (texts,
/// types, scores of normal pieces), special ids and whether BOS and EOS are added, ids of `documents` and of the control
/// tokens' own texts under each one's own rules, chat templates by name, the rope each consumer computes for `context` tokens, the context served. `documents` may be empty: then ids
/// are not compared.
StructureReport compare_structure(const Checkpoint& source, const Checkpoint& candidate,
                                  std::span<const std::string> documents, int context, const Sides& sides = {});

/// The same for a source of which only these are known: `source`'s configuration but its rope, its tensors' names and
/// shapes, its vocabulary as the candidate would show it (as_in_gguf); no text is compared.
StructureReport compare_structure(const Checkpoint& source, const RopeTable& rope, const std::string& rope_words,
                                  const Checkpoint& candidate, int context);

/// The candidate's tensor that stands for `name` of the source: itself, or the embedding for a head that the candidate
/// ties. nullptr if there is none.
TensorPtr counterpart(const Checkpoint& candidate, const std::string& name);

}  // namespace ropewalk::verify
