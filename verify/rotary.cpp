#include "verify/rotary.h"

#include <cmath>

namespace ropewalk::verify {

RotaryTable rotary_table(const RopeTable& frequencies, std::size_t positions) {
  RotaryTable table;
  table.pairs = frequencies.inv_freq.size();
  table.cos.resize(positions * table.pairs);
  table.sin.resize(positions * table.pairs);
  for (std::size_t position = 0; position < positions; ++position)
    for (std::size_t pair = 0; pair < table.pairs; ++pair) {
      const double angle = double(position) * double(float(frequencies.inv_freq[pair]));
      table.cos[position * table.pairs + pair] = float(std::cos(angle) * frequencies.attention_factor);
      table.sin[position * table.pairs + pair] = float(std::sin(angle) * frequencies.attention_factor);
    }
  return table;
}

void rotate(float* heads, std::size_t n_heads, std::size_t head_dim, RotaryPairs layout, const RotaryTable& table,
            std::size_t position) {
  const std::size_t pairs = table.pairs;
  const float* cos = table.cos.data() + position * pairs;
  const float* sin = table.sin.data() + position * pairs;
  const bool interleaved = layout == RotaryPairs::interleaved;
  const std::size_t step = interleaved ? 2 : 1, partner = interleaved ? 1 : pairs;
  for (std::size_t head = 0; head < n_heads; ++head) {
    float* x = heads + head * head_dim;
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      const float a = x[pair * step], b = x[pair * step + partner];
      x[pair * step] = a * cos[pair] - b * sin[pair];
      x[pair * step + partner] = b * cos[pair] + a * sin[pair];
    }
  }
}

}  // namespace ropewalk::verify
