#include <algorithm>
#include <limits>
#include <span>

#include "formats/tokenizers/piece_trie.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/unigram_lattice.h"
#include "formats/tokenizers/word_model.h"
#include "formats/utf8.h"
#include "lib/error.h"
#include "lib/tokenizer_pipeline.h"

namespace ropewalk::formats {
namespace {

constexpr double kUnknownPenalty = 10.0;  // below the smallest score, as in sentencepiece

/// The path through the word with the largest sum of scores, the first found of equals; runs of unknown characters are
/// one token.
class Unigram final : public WordModel {
 public:
  Unigram(const Vocabulary& vocabulary, const PieceIndex& index)
      : index_(index), model_(std::get<UnigramModel>(vocabulary.pipeline->model)), trie_(vocabulary.pieces) {
    double smallest = std::numeric_limits<double>::infinity();
    for (double score : model_.scores) smallest = std::min(smallest, score);
    unknown_score_ = smallest - kUnknownPenalty;
  }

  void encode(std::string_view word, std::vector<std::int32_t>& ids, WordScratch&) const override {
    const UnigramLattice<double> lattice = best_paths(word);
    std::vector<std::size_t> ends;  // of the tokens, last first
    for (std::size_t end = word.size(); end > 0;) {
      ends.push_back(end);
      const bool unknown = is_unknown(lattice.id_of(end));
      end = lattice.begin_of(end);
      while (unknown && end > 0 && is_unknown(lattice.id_of(end))) end = lattice.begin_of(end);
    }
    std::size_t begin = 0;
    for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
      add(word.substr(begin, *end - begin), ids);
      begin = *end;
    }
  }

 private:
  bool is_unknown(std::int32_t id) const { return id == model_.unk_id; }

  UnigramLattice<double> best_paths(std::string_view word) const {
    UnigramLattice<double> lattice(word.size());
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t length = utf8_length(word[at]);
      bool has_single = false;
      trie_.for_each_prefix(word.substr(at), [&](std::size_t size, std::int32_t id) {
        lattice.offer(at, at + size, model_.scores[static_cast<std::size_t>(id)], id);
        has_single = has_single || size == length;
      });
      if (!has_single) lattice.offer(at, at + length, unknown_score_, model_.unk_id.value_or(-1));
      if (!has_single && !model_.unk_id && lattice.id_of(at + length) < 0) no_unknown_token("");
      at += length;
    }
    return lattice;
  }

  void add(std::string_view text, std::vector<std::int32_t>& ids) const {
    if (const std::int32_t id = index_.find(text); id >= 0) return ids.push_back(id);
    if (model_.byte_fallback) {
      const std::size_t before = ids.size();
      for (char byte : text) ids.push_back(index_.find(byte_piece(static_cast<std::uint8_t>(byte))));
      if (std::find(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end(), -1) == ids.end()) return;
      ids.resize(before);
    }
    if (!model_.unk_id) no_unknown_token("");
    ids.push_back(*model_.unk_id);
  }

  const PieceIndex& index_;
  const UnigramModel& model_;
  PieceTrie trie_;
  double unknown_score_ = 0;
};

}  // namespace

std::unique_ptr<WordModel> make_unigram_model(const Vocabulary& vocabulary, const PieceIndex& index) {
  return std::make_unique<Unigram>(vocabulary, index);
}

}  // namespace ropewalk::formats
