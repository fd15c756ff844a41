// Throughput of the conversions, one thread, buffers that stay in the second cache.
#include <cstdio>
#include <random>
#include <vector>

#include "bench/stopwatch.h"
#include "lib/convert.h"

using namespace ropewalk;

int main() {
  constexpr std::size_t kElements = 64 << 10;
  constexpr int kRounds = 200;
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> floats(kElements);
  for (float& v : floats) v = uniform(random);
  std::vector<double> doubles(floats.begin(), floats.end());
  std::vector<std::byte> bytes(kElements * 8);
  const auto report = [&](const char* what, DType dtype, const auto& action) {
    const double seconds = best_seconds(5, [&] {
      for (int i = 0; i < kRounds; ++i) action(std::span(bytes).first(*byte_size(dtype, kElements)));
    });
    std::printf("%-7s %-14s %6.2f G elements/s\n", std::string(info(dtype).name).c_str(), what,
                kElements * kRounds / seconds * 1e-9);
  };
  for (const DType dtype : {DType::f16, DType::bf16, DType::q8_0, DType::f8_e4m3, DType::f32}) {
    report("from f32", dtype, [&](auto out) { encode_f32(dtype, floats, out); });
    report("from f64", dtype, [&](auto out) { encode_f64(dtype, doubles, out); });
    report("to f32", dtype, [&](auto in) { decode_f32(dtype, in, floats); });
    report("to f64", dtype, [&](auto in) { decode_f64(dtype, in, doubles); });
  }
}
