#include "formats/tokenizers/llama_cpp_plamo2.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/llama_cpp_words.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr std::int32_t kInvalid = -20'000'000, kUnknown = -10'000'000;  // of 1/10,000
constexpr const char* kEngineRefuses = "the tokenizer is corrupt: llama.cpp refuses it too";

std::int32_t rounded_score(float score) {
  const double scaled = std::round(double{score} * 1e4);
  return std::isfinite(score) && std::fabs(scaled) < 2147483648.0 ? static_cast<std::int32_t>(scaled) : kInvalid;
}

}  // namespace

std::optional<std::uint8_t> plamo2_byte(std::string_view text) {
  std::string upper(text);
  for (std::size_t at = 3; at < upper.size(); ++at)
    if (upper[at] >= 'a' && upper[at] <= 'f') upper[at] = static_cast<char>(upper[at] - 'a' + 'A');
  return byte_of_piece(upper);
}

LlamaCppPlamo2::LlamaCppPlamo2(std::span<const Piece> pieces) : nodes_(1), bytes_(256, 0) {
  nodes_[0].score = kUnknown;
  nodes_[0].length = 1;                  // a character that no token covers
  std::vector<std::uint32_t> firsts(1);  // the character that each node begins with
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    const Piece& piece = pieces[id];
    if (piece.type == PieceType::byte) {
      if (const auto byte = plamo2_byte(piece.text)) bytes_[*byte] = static_cast<std::int32_t>(id);
      continue;
    }
    if (first_invalid_utf8(piece.text) != piece.text.size())
      throw Error(ErrorKind::bad_input, {}, "token " + std::to_string(id) + " is not UTF-8",
                  "the tokenizer is corrupt: fetch it again");
    const std::vector<std::uint32_t> codes = llama_cpp_characters(piece.text);
    std::uint32_t node = 0;
    for (std::size_t at = codes.size(); at-- > 0;) {
      const auto next = static_cast<std::uint32_t>(nodes_.size());
      const auto [entry, is_new] = children_.try_emplace(std::uint64_t{node} << 32 | codes[at], next);
      if (is_new) {
        nodes_.push_back({.score = kInvalid, .length = static_cast<std::uint32_t>(codes.size() - at), .parent = node});
        firsts.push_back(codes[at]);
      }
      node = entry->second;
    }
    nodes_[node].score = rounded_score(piece.score);
    nodes_[node].id = static_cast<std::int32_t>(id);
  }
  for (std::size_t byte = 0; byte < 256; ++byte)
    if (bytes_[byte] == 0)
      throw Error(ErrorKind::bad_input, {},
                  "the vocabulary has no token for byte " + byte_piece(static_cast<std::uint8_t>(byte)),
                  kEngineRefuses);
  link(firsts);
}

std::uint32_t LlamaCppPlamo2::child(std::uint32_t node, std::uint32_t code) const {
  const auto found = children_.find(std::uint64_t{node} << 32 | code);
  return found == children_.end() ? 0 : found->second;
}

/// Shorter nodes before longer ones: `begins` of a node is made of its parent's.
void LlamaCppPlamo2::link(const std::vector<std::uint32_t>& firsts) {
  std::vector<std::uint32_t> order(nodes_.size() - 1);
  std::iota(order.begin(), order.end(), 1u);
  std::stable_sort(order.begin(), order.end(),
                   [this](std::uint32_t a, std::uint32_t b) { return nodes_[a].length < nodes_[b].length; });
  for (const std::uint32_t at : order) {
    Node& node = nodes_[at];
    for (std::uint32_t rest = node.parent; rest != 0 && node.begins == 0;) {
      rest = nodes_[rest].begins;
      node.begins = child(rest, firsts[at]);
    }
    node.next = nodes_[node.begins].score > kInvalid ? node.begins : nodes_[node.begins].next;
  }
}

/// The longest node that begins with `code` and goes on as `node` begins. The engine stops looking at a token whose score
/// is that of the unknown (padding of -1000 is), and begins anew.
std::uint32_t LlamaCppPlamo2::step(std::uint32_t node, std::uint32_t code) const {
  for (;; node = nodes_[node].begins) {
    if (const std::uint32_t found = child(node, code)) return found;
    if (nodes_[node].score == kUnknown) return 0;
  }
}

void LlamaCppPlamo2::encode(std::string_view text, std::vector<std::int32_t>& ids) const {
  std::vector<std::uint32_t> codes = llama_cpp_characters(text);
  if (!codes.empty() && codes.front() == 0xFEFF) codes.erase(codes.begin());
  struct Best {
    std::int64_t cost = std::numeric_limits<std::int64_t>::max();
    std::uint32_t length = 0;
    std::int32_t id = -1;
  };
  std::vector<Best> best(codes.size() + 1);
  best.back().cost = 0;
  std::uint32_t node = 0;
  for (std::size_t at = codes.size(); at-- > 0;) {
    node = step(node, codes[at]);
    for (std::uint32_t token = nodes_[node].score > kInvalid ? node : nodes_[node].next;; token = nodes_[token].next) {
      const Node& row = nodes_[token];
      const std::int64_t cost = best[at + row.length].cost - row.score;
      if (cost < best[at].cost) best[at] = {cost, row.length, row.id};
      if (row.score == kUnknown) break;
    }
  }
  for (std::size_t at = 0; at < codes.size(); at += best[at].length) {
    if (best[at].id >= 0) {
      ids.push_back(best[at].id);
      continue;
    }
    std::string bytes;
    append_utf8(bytes, codes[at]);
    for (char byte : bytes) ids.push_back(bytes_[static_cast<unsigned char>(byte)]);
  }
}

}  // namespace ropewalk::formats
