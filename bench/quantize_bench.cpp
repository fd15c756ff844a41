// Encoders of ggml's block types beside ggml's own, one thread: million weights a second, whether the bytes agree, and
// how long the same bytes take to move.
//   quantize_bench [LIBGGML_BASE.so [TYPE...]]
// Timed is what the executor does with a block of rows that it has just read and widened to f32: encoding one block of its
// size (executor.h: 1 MiB of f32), again and again, the best turn of some milliseconds, for ggml just so. Neither reading
// the file nor memory beyond the caches is in it. Ours and theirs take turns, so that what else the machine does meets
// both; on a core whose other thread is busy, code that waits (ggml's) loses less than code that computes.
#include <dlfcn.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "lib/codecs/encode.h"
#include "lib/executor.h"
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

using Encode = std::function<void(std::span<std::byte>)>;
struct Rate {
  Encode encode;
  std::int64_t target;  // instruction set forced, 0 for the best
  std::vector<std::byte> bytes = {};
  double weights_per_second = 0;  // of the best turn so far
};

/// Turns of all, each as many passes as take it some milliseconds, until `enough` seconds and three turns are over.
void measure(std::span<Rate* const> rates, const Rows& rows, double enough) {
  const double begin = cpu_seconds();
  for (int turn = 0; turn < 3 || cpu_seconds() - begin < enough; ++turn)
    for (Rate* rate : rates) {
      hwy::SetSupportedTargetsForTest(rate->target);
      rate->encode(rate->bytes);  // and asks the CPU what it has, which takes a while on a virtual one
      const double start = cpu_seconds();
      double took = 0, weights = 0;
      for (; took < .005; took = cpu_seconds() - start, weights += static_cast<double>(rows.values.size()))
        rate->encode(rate->bytes);
      rate->weights_per_second = std::max(rate->weights_per_second, weights / took);
    }
}

Rate ours(DType dtype, const Rows& rows, std::int64_t target) {
  return {
      [=, &rows](std::span<std::byte> bytes) { encode_blocks(dtype, rows.values, kColumns, rows.importances, bytes); },
      target, std::vector<std::byte>(*byte_size(dtype, rows.values.size()))};
}

Rate theirs(QuantizeChunk quantize, DType dtype, const Rows& rows) {
  return {[=, &rows](std::span<std::byte> bytes) {
            quantize(static_cast<int>(info(dtype).ggml_type), rows.values.data(), bytes.data(), 0,
                     static_cast<std::int64_t>(rows.values.size() / kColumns), kColumns,
                     rows.importances.empty() ? nullptr : rows.importances.data());
          },
          0, std::vector<std::byte>(*byte_size(dtype, rows.values.size()))};
}

/// memcpy of half the bytes of floats and blocks: it reads and writes each.
Rate floor_of(DType dtype, const Rows& rows) {
  const std::size_t n = (rows.values.size() * sizeof(float) + *byte_size(dtype, rows.values.size())) / 2;
  return {[n, &rows](std::span<std::byte> bytes) { std::memcpy(bytes.data(), rows.values.data(), n); }, 0,
          std::vector<std::byte>(n)};
}

void print_row(DType dtype, const Rows& rows, QuantizeChunk quantize) {
  Rate best = ours(dtype, rows, 0), avx2 = ours(dtype, rows, HWY_AVX2), floor = floor_of(dtype, rows), peer = {};
  std::vector<Rate*> rates = {&best, &avx2, &floor};
  if (quantize) rates.push_back(&(peer = theirs(quantize, dtype, rows)));
  measure(rates, rows, 1);
  hwy::SetSupportedTargetsForTest(0);
  const double millions = 1e-6;
  std::printf("| %s%s | %.1f | %.1f |", std::string(info(dtype).name).c_str(),
              rows.importances.empty() ? "" : ", importances", best.weights_per_second * millions,
              avx2.weights_per_second * millions);
  if (quantize)
    std::printf(" %.2f | **%.1fx** | %.1fx | %s |", peer.weights_per_second * millions,
                best.weights_per_second / peer.weights_per_second, avx2.weights_per_second / peer.weights_per_second,
                best.bytes == peer.bytes && avx2.bytes == peer.bytes ? "yes" : "NO");
  else std::printf(" - | - | - | %s |", best.bytes == avx2.bytes ? "(both of ours)" : "NO");
  std::printf(" %.0f |\n", floor.weights_per_second * millions);
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
  std::printf("| type | ropewalk, M weights/s | AVX2 forced | ggml | ratio | AVX2's | same bytes | floor: memcpy |\n");
  std::printf("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
  const std::uint64_t n_rows = StreamOptions().block_bytes / sizeof(float) / kColumns;
  const Rows plain = normal_rows(n_rows, false), weighted = normal_rows(n_rows, true);
  for (const DTypeInfo& type : kDTypes) {
    if (!has_block_encoder(type.dtype)) continue;
    if (argc > 2 && std::find(argv + 2, argv + argc, type.name) == argv + argc) continue;
    const Importances importances = importances_of(type.dtype);
    if (importances != Importances::required) print_row(type.dtype, plain, quantize);
    if (importances != Importances::ignored) print_row(type.dtype, weighted, quantize);
  }
}
