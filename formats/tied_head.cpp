#include "formats/tied_head.h"

#include <algorithm>
#include <cstring>

#include "lib/recipes.h"

namespace ropewalk::formats {

bool same_bytes(const LazyTensor& a, const LazyTensor& b) {
  if (a.info().shape != b.info().shape || a.dtype() != b.dtype() || !a.has_raw() || !b.has_raw()) return false;
  if (a.info().elements() == 0) return true;  // [2^60, 0] claims rows that hold nothing
  const std::uint64_t row_bytes = std::max<std::uint64_t>(a.info().row_bytes(), 1);
  const std::uint64_t step = std::max<std::uint64_t>(1, (std::uint64_t{1} << 20) / row_bytes);
  std::vector<std::byte> left, right;
  for (std::uint64_t row = 0; row < a.info().rows(); row += step) {
    const RowRange range{row, std::min(row + step, a.info().rows())};
    left.resize(range.size() * row_bytes);
    right.resize(left.size());
    a.read_raw(range, left);
    b.read_raw(range, right);
    if (std::memcmp(left.data(), right.data(), left.size()) != 0) return false;
  }
  return true;
}

void resolve_tied_head(HfFiles& files, ModelConfig& config, std::vector<std::string>& warnings) {
  if (!config.tied_head) return;
  const auto find = [&](const char* name) {
    return std::find_if(files.tensors.begin(), files.tensors.end(),
                        [&](const TensorPtr& t) { return t->name() == name; });
  };
  const auto head = find(kHeadWeight), embedding = find(kEmbeddingWeight);
  if (head == files.tensors.end()) return;
  if (embedding == files.tensors.end()) {
    *head = renamed(*head, kEmbeddingWeight);
  } else if (same_bytes(**head, **embedding)) {
    files.tensors.erase(head);
    warnings.push_back("lm_head.weight equals the embedding it is tied to: stored once");
  } else {
    config.tied_head = false;
    files.hf.config["tie_word_embeddings"] = false;
    warnings.push_back(
        "config.json ties the head, but lm_head.weight differs from the embedding: not tied, as transformers 5.23.0 "
        "does");
  }
}

}  // namespace ropewalk::formats
