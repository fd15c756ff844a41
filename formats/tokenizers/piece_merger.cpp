#include "formats/tokenizers/piece_merger.h"

#include <algorithm>
#include <bit>

#include "formats/tokenizers/characters.h"

namespace ropewalk::formats {
namespace {

std::size_t hash_of(std::string_view text) noexcept {  // FNV-1a, finished so that low bits depend on all
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return static_cast<std::size_t>(hash ^ hash >> 29);
}

/// Integers in the order of the floats, -0 below +0.
std::uint32_t ordered_bits(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

bool space_inside(std::string_view text) {
  while (text.starts_with(kSpaceMark)) text.remove_prefix(kSpaceMark.size());
  return text.find(kSpaceMark) != std::string_view::npos;
}

}  // namespace

PieceIndex::PieceIndex(std::span<const Piece> pieces)
    : pieces_(pieces), slots_(std::bit_ceil(pieces.size() * 2 + 2), -1) {}

std::size_t PieceIndex::slot(std::string_view text) const noexcept {
  std::size_t at = hash_of(text) & (slots_.size() - 1);
  while (slots_[at] >= 0 && pieces_[static_cast<std::size_t>(slots_[at])].text != text)
    at = (at + 1) & (slots_.size() - 1);
  return at;
}

bool PieceIndex::add(std::int32_t id) {
  std::int32_t& place = slots_[slot(pieces_[static_cast<std::size_t>(id)].text)];
  if (place >= 0) return false;
  place = id;
  return true;
}

std::int32_t PieceIndex::find(std::string_view text) const noexcept { return slots_[slot(text)]; }

PieceMerger::PieceMerger(const PieceIndex& index, std::span<const Piece> pieces,
                         const std::function<bool(const Piece&)>& mergeable, bool zeros_equal)
    : index_(&index), pieces_(pieces) {
  for (const Piece& piece : pieces) {
    mergeable_.push_back(mergeable(piece));
    order_.push_back(ordered_bits(zeros_equal && piece.score == 0 ? 0.0f : piece.score));
    if (mergeable_.back() && space_inside(piece.text)) words_are_independent_ = false;
  }
}

void PieceMerger::consider(std::string_view text, const std::vector<MergeSymbol>& symbols, std::int32_t left,
                           std::int32_t right, std::vector<Candidate>& queue, MergeHistory* history) const {
  if (left < 0 || right < 0) return;
  const MergeSymbol& a = symbols[static_cast<std::size_t>(left)];
  const MergeSymbol& b = symbols[static_cast<std::size_t>(right)];
  if (a.frozen || b.frozen) return;
  const std::int32_t id = index_->find(text.substr(a.begin, a.size + b.size));
  if (id < 0 || !mergeable_[static_cast<std::size_t>(id)]) return;
  queue.push_back({.order = order_[static_cast<std::size_t>(id)],
                   .left = static_cast<std::uint32_t>(left),
                   .right = static_cast<std::uint32_t>(right),
                   .size = a.size + b.size,
                   .id = id});
  if (history && pieces_[static_cast<std::size_t>(id)].type == PieceType::unused)
    (*history)[id] = {text.substr(a.begin, a.size), text.substr(b.begin, b.size)};
}

void PieceMerger::merge(std::string_view text, std::vector<MergeSymbol>& symbols, MergeHistory* history) const {
  const auto count = static_cast<std::int32_t>(symbols.size());
  for (std::int32_t at = 0; at < count; ++at) {
    symbols[static_cast<std::size_t>(at)].previous = at - 1;
    symbols[static_cast<std::size_t>(at)].next = at + 1 < count ? at + 1 : -1;
  }
  std::vector<Candidate> queue;
  for (std::int32_t right = 1; right < count; ++right) consider(text, symbols, right - 1, right, queue, history);
  std::make_heap(queue.begin(), queue.end());
  const auto push = [&](std::int32_t left, std::int32_t right) {
    const std::size_t before = queue.size();
    consider(text, symbols, left, right, queue, history);
    if (queue.size() != before) std::push_heap(queue.begin(), queue.end());
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end());
    const Candidate best = queue.back();
    queue.pop_back();
    MergeSymbol& left = symbols[best.left];
    MergeSymbol& right = symbols[best.right];
    // Either side merged since, which shows in the sizes: they only grow or become 0.
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
    left.size = best.size;
    left.id = best.id;
    left.next = right.next;
    if (right.next >= 0) symbols[static_cast<std::size_t>(right.next)].previous = static_cast<std::int32_t>(best.left);
    right.size = 0;
    push(left.previous, static_cast<std::int32_t>(best.left));
    push(static_cast<std::int32_t>(best.left), left.next);
  }
}

}  // namespace ropewalk::formats
