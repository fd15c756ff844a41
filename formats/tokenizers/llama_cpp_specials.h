#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "formats/tokenizers/piece_merger.h"
#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// Its texts as llama.cpp has them: it names a token without one. Two of one text end it.
std::vector<Piece> llama_cpp_pieces(std::vector<Piece> pieces);

/// Whether it ends a text at such a token whatever the keys say: markers of an end of turn or text, known by how they are
/// spelled. A few families take some of them back.
bool llama_cpp_ends_text(std::string_view text);

/// Tokens that llama.cpp 0.5 cuts out of a text before it tokenizes the rest, and which tokens it shows. Types are those
/// of the file, but some texts make a token a control token or a plain one.
class LlamaCppSpecials {
 public:
  struct Attributes {
    bool control = false;  // hidden unless special tokens are wanted. A token can be both this and the next
    bool user_defined = false;
    bool lstrip = false, rstrip = false;
    bool normal = false;  // a plain piece, whatever its type
  };
  /// `pieces` must stay where they are; `index` finds them. Of `added` only lstrip and rstrip count.
  LlamaCppSpecials(std::span<const Piece> pieces, std::span<const AddedToken> added, const PieceIndex& index);

  const Attributes& of(std::int32_t id) const { return attributes_[static_cast<std::size_t>(id)]; }

  struct Fragment {
    std::string_view text;
    std::optional<std::int32_t> token;
  };
  /// The longest token first, over the whole text. Control and unknown tokens only if `parse_special`.
  std::vector<Fragment> partition(std::string_view text, bool parse_special) const;

 private:
  void override_by_text(const PieceIndex& index);
  void split(std::string_view text, std::int32_t id, std::vector<Fragment>& out) const;
  std::string_view text_of(std::int32_t id) const { return pieces_[static_cast<std::size_t>(id)].text; }

  std::span<const Piece> pieces_;
  std::vector<Attributes> attributes_;  // [pieces]
  std::vector<std::int32_t> special_;   // longest text first
};

}  // namespace ropewalk::formats
