// Merge of a rank-64 adapter on all linear layers of a 1.1 B Llama: f16 weights in memory, delta in double, one
// rounding to f16.
// usage: low_rank_delta_bench [RANK]
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "bench/stopwatch.h"
#include "lib/convert.h"
#include "lib/recipes.h"

using namespace ropewalk;

namespace {

TensorPtr random_tensor(std::uint64_t rows, std::uint64_t columns, DType dtype, std::mt19937& random) {
  TensorInfo info{"w", {rows, columns}, dtype};
  std::vector<float> values(info.elements());
  std::uniform_real_distribution<float> uniform(-0.05f, 0.05f);
  for (float& v : values) v = uniform(random);
  std::vector<std::byte> bytes(info.bytes());
  encode_f32(dtype, values, bytes);
  return memory_tensor(std::move(info), std::move(bytes));
}

void merge(const LazyTensor& tensor, std::vector<std::byte>& out, int threads) {
  tensor.prepare();
  const std::uint64_t rows = tensor.info().rows(), unit = tensor.row_unit(), row_bytes = tensor.info().row_bytes();
  const std::uint64_t step =
      std::max<std::uint64_t>((std::uint64_t{1} << 20) / tensor.info().columns() / unit, 1) * unit;
  std::atomic<std::uint64_t> next{0};
  std::vector<std::jthread> pool;
  for (int t = 0; t < threads; ++t)
    pool.emplace_back([&] {
      for (std::uint64_t begin; (begin = next.fetch_add(step)) < rows;) {
        const RowRange range{begin, std::min(begin + step, rows)};
        tensor.read_raw(range, std::span(out).subspan(range.begin * row_bytes, range.size() * row_bytes));
      }
    });
  pool.clear();
  tensor.release();
}

}  // namespace

int main(int argc, char** argv) {
  const auto rank = static_cast<std::uint64_t>(argc > 1 ? std::atoi(argv[1]) : 64);
  struct Shape {
    std::uint64_t out, in;
    int per_layer;
  };
  const Shape shapes[] = {{2048, 2048, 2}, {256, 2048, 2}, {5632, 2048, 2}, {2048, 5632, 1}};
  constexpr int kLayers = 22;
  std::mt19937 random(1);
  for (const int threads : {1, 2}) {
    double seconds = 0, flop = 0;
    for (const Shape& shape : shapes) {
      const TensorPtr weight = random_tensor(shape.out, shape.in, DType::f16, random);
      const LowRankTerm term{random_tensor(rank, shape.in, DType::f32, random),
                             random_tensor(shape.out, rank, DType::f32, random), 0.5};
      const TensorPtr merged = cast(with_low_rank_delta(weight, {term}), DType::f16);
      std::vector<std::byte> out(merged->info().bytes());
      const double once = best_seconds(5, [&] { merge(*merged, out, threads); });
      const double work = 2.0 * static_cast<double>(shape.out * shape.in * rank);
      std::printf("%d threads  %5llu x %5llu  %7.2f ms  %6.1f GFLOP/s\n", threads,
                  static_cast<unsigned long long>(shape.out), static_cast<unsigned long long>(shape.in), once * 1e3,
                  work / once * 1e-9);
      seconds += once * shape.per_layer * kLayers;
      flop += work * shape.per_layer * kLayers;
    }
    std::printf("%d threads  1.1 B Llama, all linear, rank %llu: %.2f s, %.1f GFLOP/s\n", threads,
                static_cast<unsigned long long>(rank), seconds, flop / seconds * 1e-9);
  }
}
