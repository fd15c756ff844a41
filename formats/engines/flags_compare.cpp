#include <cmath>
#include <limits>

#include "formats/engines/flags.h"
#include "formats/engines/flags_private.h"
#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

// 3 units in the last place of a float32, the bound within which the engines themselves agree on a formula. Of the
// formulas in double: rope_emit.cpp asks the same of the engine's float32, lint (linter.h) only for a file's six digits.
constexpr double kTolerance = 3.0 / (1 << 23);

bool close(double a, double b) { return std::abs(a - b) <= kTolerance * std::abs(b); }

void add(RopeDifference& total, const RopeDifference& one) {
  if (total.first_pair < 0 || (one.first_pair >= 0 && one.first_pair < total.first_pair))
    total.first_pair = one.first_pair;
  total.pairs += one.pairs;
  total.worst_ratio = std::max(total.worst_ratio, one.worst_ratio);
  total.shape = total.shape || one.shape;
  total.attention = total.attention || one.attention;
}

/// The rope of a reading for a kind of layer; a single one is for all.
const EngineRope* rope_for(const EngineReading& reading, const std::string& layer_type) {
  for (const EngineRope& rope : reading.ropes)
    if (rope.layer_type == layer_type) return &rope;
  return reading.ropes.size() == 1 && reading.ropes[0].layer_type.empty() ? &reading.ropes[0] : nullptr;
}

std::string rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

}  // namespace

WantedRope wanted_rope(const RopeSpec& spec, int context) { return {{{"", spec}}, context}; }

WantedRope wanted_rope(const EngineReading& reading, int context) {
  WantedRope wanted;
  for (const EngineRope& rope : reading.ropes) wanted.layers.push_back({rope.layer_type, rope.spec});
  wanted.context = context;
  return wanted;
}

RopeDifference compare_rope(const RopeSpec& a, const RopeSpec& b, int sequence_length) {
  const RopeTable x = rope_table(a, sequence_length), y = rope_table(b, sequence_length);
  RopeDifference difference;
  difference.attention = !close(y.attention_factor, x.attention_factor);
  difference.shape = x.inv_freq.size() != y.inv_freq.size() || a.rotary_dim != b.rotary_dim;
  if (difference.shape) return difference;
  for (std::size_t pair = 0; pair < x.inv_freq.size(); ++pair) {
    if (close(y.inv_freq[pair], x.inv_freq[pair])) continue;
    if (difference.pairs++ == 0) difference.first_pair = int(pair);
    const double ratio = x.inv_freq[pair] / y.inv_freq[pair];
    difference.worst_ratio = std::max(difference.worst_ratio,
                                      ratio > 0 ? std::max(ratio, 1 / ratio) : std::numeric_limits<double>::infinity());
  }
  return difference;
}

RopeDifference compare_rope(const WantedRope& wanted, const EngineReading& reading, int sequence_length) {
  RopeDifference total;
  total.context = !reading.starts() || reading.context != wanted.context;
  total.shape = reading.error.has_value() || reading.ropes.empty();
  if (total.shape) return total;
  if (wanted.layers.size() == 1 && wanted.layers[0].layer_type.empty()) {
    for (const EngineRope& rope : reading.ropes)
      add(total, compare_rope(wanted.layers[0].spec, rope.spec, sequence_length));
    return total;
  }
  for (const WantedLayer& layer : wanted.layers) {
    const EngineRope* rope = rope_for(reading, layer.layer_type);
    if (rope) add(total, compare_rope(layer.spec, rope->spec, sequence_length));
    else total.shape = true;
  }
  return total;
}

std::string describe_difference(const WantedRope& wanted, const EngineReading& reading, int sequence_length) {
  if (reading.error) return reading.error->kind + ": " + reading.error->text.substr(0, 200);
  const RopeDifference difference = compare_rope(wanted, reading, sequence_length);
  std::string out;
  const auto say = [&](const std::string& text) { out += (out.empty() ? "" : "; ") + text; };
  if (difference.shape) say("another number of rotating pairs, or other kinds of layers");
  if (difference.pairs > 0) {
    std::size_t all = 0;
    for (const EngineRope& rope : reading.ropes) all += rope_table(rope.spec, sequence_length).inv_freq.size();
    char ratio[32];
    std::snprintf(ratio, sizeof ratio, "%.2f", difference.worst_ratio);
    say(std::to_string(difference.pairs) + " of " + plural(all, "pair") + " differ, the first is pair " +
        std::to_string(difference.first_pair) + ", by up to " + ratio + "x");
  }
  if (difference.attention && !reading.ropes.empty())
    say("attention factor " + rounded(rope_table(reading.ropes[0].spec, sequence_length).attention_factor) +
        " instead of " + rounded(rope_table(wanted.layers.at(0).spec, sequence_length).attention_factor));
  if (reading.context_error) say(reading.context_error->kind + ": " + reading.context_error->text.substr(0, 200));
  else if (difference.context && reading.context)
    say("serves " + plural(std::size_t(*reading.context), "token") + " instead of " + std::to_string(wanted.context));
  return out;
}

}  // namespace ropewalk::formats
