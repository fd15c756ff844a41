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

int NearestEntry(const CodeBook& book, const NeighbourQuery& query) {
  const Floats df;
  const Ints di;
  const hn::Rebind<std::uint8_t, Floats> d8;
  const int lanes = static_cast<int>(hn::Lanes(df)), parts = book.parts();
  const std::span neighbours = book.neighbours(query.code);
  const std::uint8_t* levels = book.neighbour_levels(query.code);
  const V factor = set(query.factor), offset = set(query.offset), scale = set(query.scale);
  V least = set(std::numeric_limits<float>::max());
  auto place = hn::Zero(di);
  const int n = static_cast<int>(neighbours.size());
  for (int j = 0; j < n; j += lanes) {
    const std::uint8_t* from = levels + j / kNeighbourLanes * kNeighbourLanes * parts + j % kNeighbourLanes;
    V distance = hn::Zero(df);
    for (int i = 0; i < parts; ++i) {
      const V level = hn::ConvertTo(df, hn::PromoteTo(di, hn::LoadU(d8, from + i * kNeighbourLanes)));
      const V off = hn::Sub(hn::Mul(scale, hn::Add(hn::Mul(factor, level), offset)), set(query.x[i]));
      distance = hn::Add(distance, hn::Mul(hn::Mul(set(query.weights[i]), off), off));
    }
    const M better = hn::Lt(distance, least);
    least = hn::IfThenElse(better, distance, least);
    place = hn::IfThenElse(hn::RebindMask(di, better), hn::Add(hn::Iota(di, 0), hn::Set(di, j)), place);
  }
  // the first place of the least distance; 0 where there is none
  const V smallest = hn::MinOfLanes(df, least);
  const auto candidates = hn::IfThenElse(hn::RebindMask(di, hn::Eq(least, smallest)), place, hn::Set(di, n));
  const int first = hn::GetLane(hn::MinOfLanes(di, candidates));
  return neighbours[static_cast<std::size_t>(std::min(first, n - 1))];
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
