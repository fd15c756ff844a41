#include "formats/tokenizers/tokenizer.h"
#include "lib/plural.h"
#include "verify/reference.h"

namespace ropewalk::verify {
namespace {

/// A name and a shape. Whoever reads it has taken a reference for a model.
class Unread final : public LazyTensor {
 public:
  using LazyTensor::LazyTensor;
  void read_f32(RowRange, std::span<float>) const override {
    throw Error(ErrorKind::unsupported, {}, "a reference has no value of '" + name() + "'", "name the model itself");
  }
};

}  // namespace

Checkpoint source_of(const formats::SavedReference& reference, const Checkpoint& candidate) {
  Checkpoint out;
  out.label = reference.label, out.read_as = reference.read_as;
  out.config = reference.config;
  for (const formats::SavedTensor& tensor : reference.tensors)
    out.tensors.push_back(std::make_shared<Unread>(TensorInfo{tensor.name, tensor.shape, DType::f32}));
  const bool in_gguf = candidate.vocabulary && candidate.vocabulary->rules == TokenizerRules::llama_cpp;
  out.vocabulary = in_gguf && reference.gguf_vocabulary ? reference.gguf_vocabulary : reference.vocabulary;
  return out;
}

StructureReport compare_structure(const formats::SavedReference& reference, const Checkpoint& candidate,
                                  std::span<const std::string> documents) {
  StructureReport report = compare_structure(source_of(reference, candidate), reference.rope, reference.rope_words,
                                             candidate, reference.context);
  if (documents.empty() || !reference.vocabulary || !candidate.vocabulary) return report;
  const auto tokenizer = formats::Tokenizer::create(*candidate.vocabulary);
  std::vector<std::vector<std::int32_t>> ids;
  std::uint64_t n = 0;
  for (const std::string& document : documents) n += ids.emplace_back(tokenizer->encode(document)).size();
  const bool same = ids_sha256(ids) == reference.ids_sha256;
  report.items.push_back({"ids", same,
                          same ? plural(n, "id") + " of the text, all equal under each one's own rules"
                               : "the text gives other ids: " + std::to_string(n) + " by the candidate, " +
                                     std::to_string(reference.corpus_tokens) + " by the source"});
  for (Gate& gate : report.gates)
    if (gate.name == "tokenizer" && !same) gate = gate_on(gate.name, gate.value + 1, Bound::max, 0);
  return report;
}

}  // namespace ropewalk::verify
