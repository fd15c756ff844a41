#include <algorithm>
#include <array>
#include <cmath>

#include "lib/quantized/four_bit_quantize.h"

namespace ropewalk {
namespace {

// The positive half of the map: for each decade from 1e-6 to 1, the middles of 2^i equal parts of [0.1, 1].
constexpr std::array<float, 128> kPositive = {
    5.500000384017767e-07f,
    3.250000190746505e-06f,
    7.749999895168003e-06f,
    2.1249998098937795e-05f,
    4.374999844003469e-05f,
    6.625000241911039e-05f,
    8.874999912222847e-05f,
    0.00015625001105945557f,
    0.0002687500382307917f,
    0.0003812500217463821f,
    0.000493750034365803f,
    0.0006062500760890543f,
    0.0007187500596046448f,
    0.0008312499849125743f,
    0.0009437500848434865f,
    0.001281249918974936f,
    0.001843750011175871f,
    0.002406249986961484f,
    0.002968749962747097f,
    0.0035312497057020664f,
    0.004093749914318323f,
    0.0046562496572732925f,
    0.0052187503315508366f,
    0.005781250074505806f,
    0.006343749817460775f,
    0.006906250026077032f,
    0.0074687497690320015f,
    0.008031249977648258f,
    0.008593750186264515f,
    0.009156249463558197f,
    0.009718749672174454f,
    0.011406250298023224f,
    0.014218750409781933f,
    0.017031250521540642f,
    0.019843751564621925f,
    0.02265625074505806f,
    0.025468749925494194f,
    0.028281250968575478f,
    0.031093750149011612f,
    0.033906251192092896f,
    0.03671875223517418f,
    0.039531249552965164f,
    0.04234374687075615f,
    0.04515625163912773f,
    0.047968748956918716f,
    0.05078125f,
    0.053593751043081284f,
    0.05640624836087227f,
    0.05921875312924385f,
    0.062031250447034836f,
    0.06484375149011612f,
    0.0676562562584877f,
    0.07046874612569809f,
    0.07328125089406967f,
    0.07609374821186066f,
    0.07890625298023224f,
    0.08171875774860382f,
    0.08453124761581421f,
    0.08734375238418579f,
    0.09015624970197678f,
    0.09296875447034836f,
    0.09578125923871994f,
    0.09859374910593033f,
    0.10703125596046448f,
    0.12109375f,
    0.13515624403953552f,
    0.14921875298023224f,
    0.16328124701976776f,
    0.17734375596046448f,
    0.19140625f,
    0.20546874403953552f,
    0.21953125298023224f,
    0.23359374701976776f,
    0.24765624105930328f,
    0.26171875f,
    0.2757812738418579f,
    0.28984373807907104f,
    0.30390626192092896f,
    0.3179687261581421f,
    0.33203125f,
    0.3460937440395355f,
    0.36015623807907104f,
    0.37421876192092896f,
    0.3882812261581421f,
    0.40234375f,
    0.4164062440395355f,
    0.43046873807907104f,
    0.44453126192092896f,
    0.4585937261581421f,
    0.47265625f,
    0.48671871423721313f,
    0.500781238079071f,
    0.5148437023162842f,
    0.5289062261581421f,
    0.54296875f,
    0.5570312738418579f,
    0.5710937976837158f,
    0.585156261920929f,
    0.5992187261581421f,
    0.61328125f,
    0.6273437738418579f,
    0.6414062976837158f,
    0.655468761920929f,
    0.6695312261581421f,
    0.68359375f,
    0.6976562738418579f,
    0.7117187976837158f,
    0.725781261920929f,
    0.7398437261581421f,
    0.75390625f,
    0.7679687738418579f,
    0.782031238079071f,
    0.796093761920929f,
    0.8101562261581421f,
    0.82421875f,
    0.8382812738418579f,
    0.852343738079071f,
    0.866406261920929f,
    0.8804687261581421f,
    0.89453125f,
    0.9085937738418579f,
    0.922656238079071f,
    0.936718761920929f,
    0.9507812261581421f,
    0.96484375f,
    0.9789062738418579f,
    0.992968738079071f,
    1.0f,
};

constexpr std::array<float, 256> kLevels = [] {
  std::array<float, 256> all{};  // 127 is zero; there is no -1
  for (std::size_t i = 0; i < 128; ++i) all[128 + i] = kPositive[i];
  for (std::size_t i = 0; i < 127; ++i) all[126 - i] = -kPositive[i];
  return all;
}();

// torch 2.15's sum of contiguous floats on a CPU: 8 lanes x 4 rows of accumulators, each a cascade of 4 levels.
constexpr std::size_t kLanes = 8, kRows = 4, kLevelsOfSum = 4;

/// sums[row] of values[(i * kRows + row) * lanes + lane] over i, for each lane, lanes at a time.
template <std::size_t Lanes>
std::array<float, Lanes> row_sum(std::span<const float> values) {
  using Lane = std::array<float, Lanes>;
  const std::size_t vectors = values.size() / Lanes, size = vectors / kRows;
  std::size_t log2 = 0;
  while ((std::size_t{1} << log2) < size) ++log2;
  const std::size_t power = std::max<std::size_t>(4, log2 / kLevelsOfSum), step = std::size_t{1} << power;
  std::array<std::array<Lane, kRows>, kLevelsOfSum> sums{};
  const auto add = [&](std::size_t vector, Lane& to) {
    for (std::size_t lane = 0; lane < Lanes; ++lane) to[lane] += values[vector * Lanes + lane];
  };
  const auto carry = [&](std::size_t level) {
    for (std::size_t row = 0; row < kRows; ++row)
      for (std::size_t lane = 0; lane < Lanes; ++lane) sums[level][row][lane] += sums[level - 1][row][lane];
  };
  std::size_t i = 0;
  while (i + step <= size) {
    for (std::size_t j = 0; j < step; ++j, ++i)
      for (std::size_t row = 0; row < kRows; ++row) add(i * kRows + row, sums[0][row]);
    for (std::size_t level = 1; level < kLevelsOfSum; ++level) {
      carry(level);
      sums[level - 1] = {};
      if ((i & ((step - 1) << (level * power))) != 0) break;
    }
  }
  for (; i < size; ++i)
    for (std::size_t row = 0; row < kRows; ++row) add(i * kRows + row, sums[0][row]);
  for (std::size_t level = 1; level < kLevelsOfSum; ++level)
    for (std::size_t row = 0; row < kRows; ++row)
      for (std::size_t lane = 0; lane < Lanes; ++lane) sums[0][row][lane] += sums[level][row][lane];
  for (std::size_t vector = size * kRows; vector < vectors; ++vector) add(vector, sums[0][0]);
  for (std::size_t row = 1; row < kRows; ++row)
    for (std::size_t lane = 0; lane < Lanes; ++lane) sums[0][0][lane] += sums[0][row][lane];
  return sums[0][0];
}

float torch_mean(std::span<const float> values) {
  float sum = 0;
  if (values.size() < kLanes) {
    sum = row_sum<1>(values)[0];
  } else {
    for (const float value : values.subspan(values.size() / kLanes * kLanes)) sum += value;
    for (const float lane : row_sum<kLanes>(values)) sum += lane;
  }
  return sum / static_cast<float>(values.size());
}

/// The library looks levels up in a table of 65,536 places over [-1, 1]: the level nearest to a place's middle.
struct Places {
  std::array<std::uint8_t, 65536> level;
  Places() {
    std::size_t near = 0;
    for (std::size_t place = 0; place < level.size(); ++place) {
      const double middle = static_cast<double>(place) / 32767.5 - 1;
      while (near + 1 < kLevels.size() &&
             std::abs(middle - double(kLevels[near + 1])) < std::abs(middle - double(kLevels[near])))
        ++near;
      level[place] = static_cast<std::uint8_t>(near);
    }
  }
};

}  // namespace

std::span<const float, 256> nested_levels() noexcept { return kLevels; }

NestedScales quantize_scales(std::span<const float> scales) {
  static const Places places;
  NestedScales nested;
  nested.offset = scales.empty() ? 0 : torch_mean(scales);
  nested.codes.resize(scales.size());
  std::vector<float> rest(scales.size());
  for (std::size_t i = 0; i < scales.size(); ++i) rest[i] = scales[i] - nested.offset;
  for (std::size_t first = 0; first < rest.size(); first += NestedScales::kBlock) {
    const std::size_t end = std::min(rest.size(), first + NestedScales::kBlock);
    float absmax = 0;
    for (std::size_t i = first; i < end; ++i) absmax = std::max(absmax, std::abs(rest[i]));
    nested.absmax.push_back(absmax);
    if (absmax == 0) continue;  // the library's codes are 0 there
    const float inverse = 1.0f / absmax;
    for (std::size_t i = first; i < end; ++i) {
      const float place = std::floor((rest[i] * inverse + 1.0f) * 32767.5f + 0.5f);
      nested.codes[i] = places.level[static_cast<std::size_t>(std::clamp(place, 0.0f, 65535.0f))];
    }
  }
  return nested;
}

std::vector<float> dequantize_scales(const NestedScales& nested) {
  std::vector<float> scales(nested.codes.size());
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const float scaled = kLevels[nested.codes[i]] * nested.absmax[i / NestedScales::kBlock];
    scales[i] = scaled + nested.offset;
  }
  return scales;
}

}  // namespace ropewalk
