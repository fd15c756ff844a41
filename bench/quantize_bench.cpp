// Encoders of ggml's block types beside ggml's own, one thread: million weights a second, whether the bytes agree, and
// how long the same bytes take to move.
//   quantize_bench [LIBGGML_BASE.so [TYPE...]]
#include <dlfcn.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "lib/codecs/encode.h"
#include "lib/simd_targets.h"

#include <hwy/highway.h>

using namespace ropewalk;

namespace {

using QuantizeChunk = std::size_t (*)(int, const float*, void*, std::int64_t, std::int64_t, std::int64_t, const float*);
constexpr std::uint64_t kColumns = 4096;

/// Of this thread: other work on the machine is not in it.
double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Rows {
  std::vector<float> values;
  std::vector<float> importances;  ///< empty for none
};

struct Rate {
  double weights_per_second = 0;
  std::vector<std::byte> bytes;  ///< of the rows that were encoded
};

/// Doubles the rows until they take `enough` seconds or there are no more, then takes the best of three.
template <class Encode>
Rate rate_of(DType dtype, const Rows& rows, double enough, const Encode& encode) {
  Rate rate;
  for (std::uint64_t n = kColumns * 8;; n = std::min<std::uint64_t>(2 * n, rows.values.size())) {
    const std::span<const float> part = std::span(rows.values).first(n);
    rate.bytes.resize(*byte_size(dtype, n));
    const auto once = [&] {
      const double start = cpu_seconds();
      encode(part, rate.bytes);
      return cpu_seconds() - start;
    };
    double seconds = once();
    if (seconds < enough && n < rows.values.size()) continue;
    for (int i = 0; i < 2; ++i) seconds = std::min(seconds, once());
    rate.weights_per_second = static_cast<double>(n) / seconds;
    return rate;
  }
}

Rate ours(DType dtype, const Rows& rows) {
  return rate_of(dtype, rows, .1, [&](std::span<const float> values, std::span<std::byte> bytes) {
    encode_blocks(dtype, values, kColumns, rows.importances, bytes);
  });
}

Rate theirs(QuantizeChunk quantize, DType dtype, const Rows& rows) {
  return rate_of(dtype, rows, .2, [&](std::span<const float> values, std::span<std::byte> bytes) {
    quantize(static_cast<int>(info(dtype).ggml_type), values.data(), bytes.data(), 0,
             static_cast<std::int64_t>(values.size() / kColumns), kColumns,
             rows.importances.empty() ? nullptr : rows.importances.data());
  });
}

/// memcpy of half the bytes of floats and blocks: it reads and writes each.
Rate floor_of(DType dtype, const Rows& rows) {
  std::vector<std::byte> copy(rows.values.size() * sizeof(float));
  return rate_of(dtype, rows, .01, [&](std::span<const float> values, std::span<std::byte> bytes) {
    std::memcpy(copy.data(), values.data(), (values.size_bytes() + bytes.size()) / 2);
  });
}

bool same_start(const Rate& a, const Rate& b) {
  return std::equal(a.bytes.begin(),
                    a.bytes.begin() + static_cast<std::ptrdiff_t>(std::min(a.bytes.size(), b.bytes.size())),
                    b.bytes.begin());
}

void print_row(DType dtype, const Rows& rows, QuantizeChunk quantize) {
  const Rate best = ours(dtype, rows);
  hwy::SetSupportedTargetsForTest(HWY_AVX2);
  const Rate avx2 = ours(dtype, rows);
  hwy::SetSupportedTargetsForTest(0);
  const double millions = 1e-6, floor = floor_of(dtype, rows).weights_per_second;
  std::printf("| %s%s | %.1f | %.1f |", std::string(info(dtype).name).c_str(),
              rows.importances.empty() ? "" : ", importances", best.weights_per_second * millions,
              avx2.weights_per_second * millions);
  if (quantize) {
    const Rate peer = theirs(quantize, dtype, rows);
    std::printf(" %.2f | **%.1fx** | %s |", peer.weights_per_second * millions,
                best.weights_per_second / peer.weights_per_second,
                same_start(best, peer) && same_start(avx2, peer) ? "yes" : "NO");
  } else {
    std::printf(" - | - | %s |", same_start(best, avx2) ? "(both of ours)" : "NO");
  }
  std::printf(" %.0f |\n", floor * millions);
  std::fflush(stdout);
}

Rows normal_rows(std::uint64_t count, bool weighted) {
  Rows rows;
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  rows.values.resize(count * kColumns);
  for (float& v : rows.values) v = normal(random) * .02f;
  if (weighted) {
    rows.importances.resize(kColumns);
    for (float& v : rows.importances) v = std::abs(normal(random)) + 1e-3f;
  }
  return rows;
}

}  // namespace

int main(int argc, char** argv) {
  QuantizeChunk quantize = nullptr;
  if (argc > 1) {
    void* library = dlopen(argv[1], RTLD_NOW);
    quantize = library ? reinterpret_cast<QuantizeChunk>(dlsym(library, "ggml_quantize_chunk")) : nullptr;
    if (!quantize) {
      std::fprintf(stderr, "quantize_bench: %s\n", dlerror());
      return 2;
    }
  }
  std::printf("best target: %s\n\n", hwy::TargetName(hwy::SupportedTargets() & -hwy::SupportedTargets()));
  std::printf("| type | ropewalk, M weights/s | AVX2 forced | ggml | ratio | same bytes | floor: memcpy |\n");
  std::printf("| --- | --- | --- | --- | --- | --- | --- |\n");
  const Rows plain = normal_rows(1024, false), weighted = normal_rows(1024, true);
  for (const DTypeInfo& type : kDTypes) {
    if (!has_block_encoder(type.dtype)) continue;
    if (argc > 2 && std::find(argv + 2, argv + argc, type.name) == argv + argc) continue;
    const Importances importances = importances_of(type.dtype);
    if (importances != Importances::required) print_row(type.dtype, plain, quantize);
    if (importances != Importances::ignored) print_row(type.dtype, weighted, quantize);
  }
}
