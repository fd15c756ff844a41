#include <limits>

#include "lib/codecs/code_book.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/lane_neighbours.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "lib/codecs/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {

constexpr int kMostLevels = 8;

int NearestEntry(const CodeBook& book, const NeighbourQuery& query) {
  const Floats df;
  const Ints di;
  const hn::Rebind<std::uint16_t, Floats> d16;
  const int lanes = static_cast<int>(hn::Lanes(df)), parts = book.parts(), bits = book.bits();
  const std::span neighbours = book.neighbours(query.code);
  const V factor = set(query.factor), offset = set(query.offset), scale = set(query.scale);
  const auto mask = hn::Set(di, (1 << bits) - 1);
  // What an element of each level adds to the distance: where they fit, lanes are levels, and it is looked up.
  const V worth = hn::Mul(scale, hn::Add(hn::Mul(factor, hn::Iota(df, 0)), offset));
  const bool looks_up = lanes >= kMostLevels;
  V terms[8] = {};
  for (int i = 0; i < parts && looks_up; ++i) {
    const V off = hn::Sub(worth, set(query.x[i]));
    terms[i] = hn::Mul(hn::Mul(set(query.weights[i]), off), off);
  }
  V least = set(std::numeric_limits<float>::max());
  auto place = hn::Zero(di);
  const int n = static_cast<int>(neighbours.size());
  for (int j = 0; j < n; j += lanes) {
    auto rest = hn::PromoteTo(di, hn::LoadU(d16, neighbours.data() + j));
    V distance = hn::Zero(df);
    for (int i = 0; i < parts; ++i) {
      const auto level = hn::And(rest, mask);
      rest = hn::ShiftRightSame(rest, bits);
      if (looks_up) {
        distance = hn::Add(distance, hn::TableLookupLanes(terms[i], hn::IndicesFromVec(df, level)));
        continue;
      }
      const V off =
          hn::Sub(hn::Mul(scale, hn::Add(hn::Mul(factor, hn::ConvertTo(df, level)), offset)), set(query.x[i]));
      distance = hn::Add(distance, hn::Mul(hn::Mul(set(query.weights[i]), off), off));
    }
    const auto here = hn::Add(hn::Iota(di, 0), hn::Set(di, j));
    const M better = hn::And(hn::Lt(distance, least), hn::RebindMask(df, hn::Lt(here, hn::Set(di, n))));
    least = hn::IfThenElse(better, distance, least);
    place = hn::IfThenElse(hn::RebindMask(di, better), here, place);
  }
  // the first place of the least distance; 0 where there is none
  const V smallest = hn::MinOfLanes(df, least);
  const auto candidates = hn::IfThenElse(hn::RebindMask(di, hn::Eq(least, smallest)), place, hn::Set(di, n));
  const int first = hn::GetLane(hn::MinOfLanes(di, candidates));
  return book.find(neighbours[static_cast<std::size_t>(std::min(first, n - 1))]);
}

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {
HWY_EXPORT(NearestEntry);

int nearest_neighbour_lanes(const CodeBook& book, const NeighbourQuery& query) {
  return HWY_DYNAMIC_DISPATCH(NearestEntry)(book, query);
}

}  // namespace ropewalk::codecs
#endif
