#include <algorithm>
#include <bit>
#include <limits>

#include "lib/codecs/grid_search.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/lane_grids.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "lib/codecs/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {

constexpr int kMost = GridCandidates::kMost, kMostLevels = 8;

/// One part of a group, its candidates in lanes.
struct Part {
  HWY_ALIGN std::int32_t codes[kMost];    // of levels
  HWY_ALIGN std::int32_t entries[kMost];  // codes of their entries
  std::uint32_t in_book;
};

HWY_INLINE void take_codes(const CodeBook& book, const GridGroup& group, const float* x,
                           const GridCandidates& candidates, std::int32_t* codes) {
  const Floats df;
  const Ints di;
  for (int c = 0; c < kMost; c += static_cast<int>(hn::Lanes(df))) {
    auto code = hn::Zero(di);
    for (int i = book.parts() - 1; i >= 0; --i) {
      const V at = hn::Mul(set(0.5f), hn::Sub(hn::Mul(load(candidates.inverses + c), set(x[i])), set(1)));
      code = hn::Or(hn::ShiftLeftSame(code, book.bits()), level_bits(at, 0, group.levels - 1));
    }
    hn::Store(code, di, codes + c);
  }
}

/// nearest_neighbour of `code` for all candidates of a vector. products: scale * (2 level + 1), [level][lane].
template <int parts>
HWY_INLINE hn::Vec<Ints> nearest_entries(const CodeBook& book, std::uint32_t code, const float* x, const float* roots,
                                         const float* products) {
  const Floats df;
  const Ints di;
  const int bits = book.bits();
  const std::uint32_t mask = (1u << bits) - 1;
  V xs[parts], ws[parts];
  for (int i = 0; i < parts; ++i) xs[i] = set(x[i]), ws[i] = set(roots[i]);
  const std::span neighbours = book.neighbours(code);
  V least = set(std::numeric_limits<float>::max());
  auto best = hn::Set(di, neighbours[0]);
  for (const std::uint16_t neighbour : neighbours) {
    std::uint32_t rest = neighbour;
    V distance = hn::Zero(df);
    for (int i = 0; i < parts; ++i, rest >>= bits) {
      const V off = hn::Sub(hn::Load(df, products + (rest & mask) * hn::Lanes(df)), xs[i]);
      distance = hn::Add(distance, hn::Mul(hn::Mul(ws[i], off), off));
    }
    const M better = hn::Lt(distance, least);
    least = hn::IfThenElse(better, distance, least);
    best = hn::IfThenElse(hn::RebindMask(di, better), hn::Set(di, neighbour), best);
  }
  return best;
}

/// Candidates whose levels are the same are looked up together: few codes differ.
template <int parts>
HWY_INLINE void look_up_all(const CodeBook& book, const float* x, const float* roots, const float* products, int n,
                            Part& part) {
  const Ints di;
  const int lanes = static_cast<int>(hn::Lanes(di));
  std::uint32_t left = n == kMost ? ~0u : (1u << n) - 1;
  part.in_book = 0;
  while (left != 0) {
    const std::int32_t code = part.codes[std::countr_zero(left)];
    const bool in_book = book.find(static_cast<std::uint32_t>(code)) >= 0;
    for (int c = 0; c < n; c += lanes) {
      const auto same = hn::Eq(hn::Load(di, part.codes + c), hn::Set(di, code));
      if (hn::AllFalse(di, same)) continue;
      hn::Vec<Ints> found;
      if (in_book) found = hn::Set(di, code);
      else found = nearest_entries<parts>(book, static_cast<std::uint32_t>(code), x, roots, products + c * kMostLevels);
      hn::Store(hn::IfThenElse(same, found, hn::Load(di, part.entries + c)), di, part.entries + c);
      const std::uint32_t bits = bits_of(hn::RebindMask(Floats(), same)) << c;
      left &= ~bits;
      if (in_book) part.in_book |= bits;
    }
  }
}

/// Adds a part's elements to the sums.
template <int parts>
HWY_INLINE void add_sums(int bits, const float* x, const float* weights, const Part& part, GridCandidates& candidates) {
  const Floats df;
  const Ints di;
  const auto mask = hn::Set(di, (1 << bits) - 1);
  for (int c = 0; c < candidates.n; c += static_cast<int>(hn::Lanes(df))) {
    V qx = load(candidates.qx + c), q2 = load(candidates.q2 + c);
    auto rest = hn::Load(di, part.entries + c);
    for (int i = 0; i < parts; ++i) {
      const auto level = hn::And(rest, mask);
      rest = hn::ShiftRightSame(rest, bits);
      const V q = hn::ConvertTo(df, hn::Add(hn::Add(level, level), hn::Set(di, 1))), w = set(weights[i]);
      qx = hn::Add(qx, hn::Mul(hn::Mul(w, set(x[i])), q));
      q2 = hn::Add(q2, hn::Mul(hn::Mul(w, q), q));
    }
    hn::StoreU(qx, df, candidates.qx + c);
    hn::StoreU(q2, df, candidates.q2 + c);
  }
}

template <int parts>
HWY_INLINE void measure(const CodeBook& book, const GridGroup& group, GridCandidates& candidates) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  HWY_ALIGN float products[kMost * kMostLevels];
  for (int c = 0; c < kMost; c += lanes)
    for (int level = 0; level < group.levels; ++level)
      hn::Store(hn::Mul(load(candidates.scales + c), set(real(2 * level + 1))), df,
                products + c * kMostLevels + level * lanes);
  std::fill_n(candidates.qx, kMost, 0.0f);
  std::fill_n(candidates.q2, kMost, 0.0f);
  for (int p = 0; p < group.n / parts; ++p) {
    const float *x = group.x + p * parts, *roots = group.roots + p * parts;
    Part part = {};
    take_codes(book, group, x, candidates, part.codes);
    look_up_all<parts>(book, x, roots, products, candidates.n, part);
    add_sums<parts>(book.bits(), x, group.weights + p * parts, part, candidates);
    for (int c = 0; c < candidates.n; ++c) candidates.entries[p][c] = static_cast<std::uint16_t>(part.entries[c]);
    candidates.in_book[p] = part.in_book;
  }
}

void Measure(const CodeBook& book, const GridGroup& group, GridCandidates& candidates) {
  if (book.parts() == 4) measure<4>(book, group, candidates);
  else measure<8>(book, group, candidates);
}

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {
HWY_EXPORT(Measure);

void measure_grid_lanes(const CodeBook& book, const GridGroup& group, GridCandidates& candidates) {
  // the lanes that are over do what the last candidate does
  for (int c = candidates.n; c < GridCandidates::kMost; ++c) {
    candidates.inverses[c] = candidates.inverses[candidates.n - 1];
    candidates.scales[c] = candidates.scales[candidates.n - 1];
  }
  HWY_DYNAMIC_DISPATCH(Measure)(book, group, candidates);
}

}  // namespace ropewalk::codecs
#endif
