#pragma once

// The goldens of tests/golden/rope: 109 config.json files and what real engines compute from them.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "formats/json.h"
#include "formats/rope_config.h"

namespace ropewalk::formats::golden {

inline const Json& engines() {
  static const Json all = Json::parse(std::ifstream(ROPEWALK_GOLDEN_DIR "/rope/engines.json"));
  return all;
}

/// What an engine made of a case; null if it was not run. "=NAME" means identical to NAME's.
inline const Json& result_of(const Json& one, const std::string& engine) {
  static const Json none;
  const Json* result = one["results"].contains(engine) ? &one["results"][engine] : &none;
  while (result->is_string()) result = &one["results"][result->get<std::string>().substr(1)];
  return *result;
}

inline float from_hex(const std::string& hex) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(std::stoul(hex, nullptr, 16)));
}

/// A named vector: float32, eight big-endian hex digits each.
inline std::vector<float> vector_of(const std::string& name) {
  const std::string hex = engines()["vectors"][name].get<std::string>();
  std::vector<float> values;
  for (std::size_t at = 0; at < hex.size(); at += 8) values.push_back(from_hex(hex.substr(at, 8)));
  return values;
}

inline bool ours(const Json& one) {
  return one["config"]["model_type"] == "llama" || one["config"]["model_type"] == "mistral";
}

inline RopeGeometry geometry_of(const Json& config) {
  RopeGeometry geometry;
  const bool given = config.contains("head_dim") && !config["head_dim"].is_null();
  geometry.head_dim = given ? config["head_dim"].get<int>()
                            : config["hidden_size"].get<int>() / config["num_attention_heads"].get<int>();
  geometry.context = config["max_position_embeddings"].get<int>();
  return geometry;
}

inline RopeSpec read(const Json& config, std::vector<std::string>* warnings = nullptr) {
  std::vector<std::string> unused;
  return read_hf_rope("config.json", config.dump(2), config, geometry_of(config), warnings ? *warnings : unused);
}

/// Distance in units of the last place of float32; both zero or positive.
inline std::int64_t ulps(float a, float b) {
  return std::abs(std::int64_t(std::bit_cast<std::int32_t>(a)) - std::bit_cast<std::int32_t>(b));
}

/// How far an engine's float32 computation of a pair may be from ours in double, in units of the last place (a relative
/// error of 2^-24 is at most one).
/// Everywhere 3: pow, reciprocal, factor and sum (the goldens' README). Where a step amplifies the rounding before it,
/// more:
/// - a rotary dimension that is no power of two: the exponent e = 2i/d is rounded, relative 2^-24, and reaches theta^-e
/// through e ln(theta);
/// - a base that does not fit float32 (dynamic, alpha): it is rounded, by at most one more per exponent, and a dynamic
/// one is computed in float32, four roundings of which the
///   subtraction of s - 1 enlarges the first two by s T / (L alpha) and the power all by d/(d-2) (2 at most for d >=
///     4);
/// - YaRN between its bounds: y = f (m + (1 - m)/s), m off by at most 2^-24 (the ramp's quotient and 1 - ramp, each
/// half of 2^-24), so y by (1 - 1/s) / (m + (1 - m)/s);
/// - llama3 between its bands: y = f ((1 - k)/s + k), k = (x - low)/(high - low), x = L f / 2 pi after 4 roundings: 4 x
/// (1 - 1/s) / ((high - low) ((1 - k)/s + k)).
inline double tolerance_ulps(const RopeSpec& spec, int sequence_length, std::size_t pair) {
  double allowed = 3;
  const double e = 2.0 * double(pair) / spec.rotary_dim;
  if (!std::has_single_bit(unsigned(spec.rotary_dim))) allowed += e * std::log(spec.theta);
  if (std::holds_alternative<RopeNtk>(spec.scaling) || double(float(spec.theta)) != spec.theta) allowed += e;
  if (const auto* dynamic = std::get_if<RopeDynamic>(&spec.scaling);
      dynamic && sequence_length > dynamic->original_context) {
    const double grown = dynamic->factor * sequence_length / dynamic->original_context,
                 alpha = grown - (dynamic->factor - 1);
    allowed += 2 * e * (2 * grown / alpha + 3);
  }
  if (const auto* yarn = std::get_if<RopeYarn>(&spec.scaling)) {
    const auto bound = [&](double rotations) {
      return spec.rotary_dim * std::log(yarn->original_context / (rotations * 2 * M_PI)) / (2 * std::log(spec.theta));
    };
    double low = bound(yarn->beta_fast), high = bound(yarn->beta_slow);
    if (yarn->truncate) low = std::floor(low), high = std::ceil(high);
    const double m =
        1 - (double(pair) - std::max(low, 0.0)) / (std::min(high, spec.rotary_dim - 1.0) - std::max(low, 0.0));
    if (m > 0 && m < 1) allowed += std::abs(1 - 1 / yarn->factor) / (m + (1 - m) / yarn->factor);
  }
  if (const auto* llama3 = std::get_if<RopeLlama3>(&spec.scaling)) {
    const double x = llama3->original_context * std::pow(spec.theta, -e) / (2 * M_PI),
                 width = llama3->high_freq_factor - llama3->low_freq_factor;
    const double k = (x - llama3->low_freq_factor) / width, s = llama3->factor;
    if (k > 0 && k < 1) allowed += 4 * x * (1 - 1 / s) / (width * ((1 - k) / s + k));
  }
  return allowed;
}

/// Values that no reader may take for granted, for any place of a file.
inline const std::vector<Json>& hostile_values() {
  static const std::vector<Json> values = {nullptr,
                                           true,
                                           "4",
                                           "",
                                           -1,
                                           0,
                                           1,
                                           3,
                                           0.5,
                                           1e308,
                                           5e-324,
                                           -1e308,
                                           9223372036854775807,
                                           Json::array(),
                                           Json::array({1, "x"}),
                                           Json::object(),
                                           Json{{"a", 1}}};
  return values;
}

}  // namespace ropewalk::formats::golden
