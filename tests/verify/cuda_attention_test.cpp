// The device's attention kernels, run on the host: the same text that nvcc compiles, with tensor cores, shuffles and
// ldmatrix played from the PTX manual (host_block.h).
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "tests/verify/attention_problem.h"
#include "tests/verify/host_block.h"
#include "verify/attention.h"
#include "verify/cuda/attention_tiles.h"

namespace ropewalk::verify {
namespace {

/// The blocks of a launch that `wanted` chooses: f(block x, heads, windows).
template <class Element>
void run(AttentionArgs<Element> args, std::uint64_t windows, bool backwards,
         std::optional<std::uint64_t> only_tile = {}, std::optional<std::uint64_t> only_head = {}) {
  const auto on_16 = [](std::uint64_t n) { return n * sizeof(Element) % 16 == 0; };
  args.vectors =
      on_16(args.head_dim) && on_16(args.q_row) && on_16(args.kv_row) && on_16(args.q_window) && on_16(args.kv_window)
          ? 1
          : 0;
  with_attention_tile<Element>(args.head_dim, [&](auto type) {
    using Tile = typename decltype(type)::type;
    const std::uint64_t tiles = (args.rows + Tile::kQueries - 1) / Tile::kQueries;
    for (std::uint64_t z = 0; z < windows; ++z)
      for (std::uint64_t y = only_head.value_or(0); y < (only_head ? *only_head + 1 : args.n_heads); ++y)
        for (std::uint64_t x = only_tile.value_or(0); x < (only_tile ? *only_tile + 1 : tiles); ++x)
          attention_block<Tile>(HostBlock(Tile::kThreads, {.x = x, .y = y, .z = z, .grid_x = tiles}, backwards), args,
                                *fresh_shared<typename Tile::Shared>());
  });
}

template <class Element>
std::vector<Element> outputs(const AttentionProblem<Element>& problem, std::vector<float>* lse, bool backwards) {
  std::vector<Element> out(problem.q.size());
  std::memset(static_cast<void*>(out.data()), 0x5a, out.size() * sizeof(Element));
  if (lse) lse->assign(problem.lse_size(), -1);
  run(problem.args(out.data(), lse ? lse->data() : nullptr), problem.shape.windows, backwards);
  return out;
}

template <class Element>
void check(const AttentionShape& shape) {
  const AttentionProblem<Element> problem(shape);
  std::vector<float> lse;
  const std::vector<Element> out = outputs(problem, &lse, shape.rows % 2 == 0);
  const double worst = worst_error(problem, out, lse);
  EXPECT_TRUE(worst <= 1) << worst << " of what is allowed: heads of " << shape.head_dim << ", rows " << shape.rows
                          << " from " << shape.first_position << ", window " << shape.window;
  for (std::uint64_t row = 0; row < shape.rows * shape.windows; ++row)
    for (std::uint64_t c = problem.q_row - shape.gap; c < problem.q_row; ++c) {
      Element untouched;
      std::memset(static_cast<void*>(&untouched), 0x5a, sizeof untouched);
      ASSERT_EQ(std::memcmp(&out[row * problem.q_row + c], &untouched, sizeof untouched), 0)
          << "row " << row << " writes past its heads";
    }
}

template <class Element>
class CudaAttention : public testing::Test {};
using Elements = testing::Types<float, Bf16, Fp16>;
TYPED_TEST_SUITE(CudaAttention, Elements);

TYPED_TEST(CudaAttention, AgreesWithTheDefinition) {
  for (const AttentionShape& shape :
       {AttentionShape{.head_dim = 64, .rows = 1},
        {.head_dim = 64, .n_heads = 4, .n_kv_heads = 2, .rows = 31, .windows = 2, .gap = 8},
        {.head_dim = 64, .rows = 257},
        // the last chunk of 257 positions
        {.head_dim = 64, .rows = 31, .first_position = 226},
        {.head_dim = 64, .rows = 129, .first_position = 128, .window = 70},
        {.head_dim = 64, .rows = 31, .window = 1},
        {.head_dim = 64, .rows = 65, .sinks = true},
        {.head_dim = 80, .rows = 31, .first_position = 100, .window = 64},
        {.head_dim = 128, .rows = 130, .first_position = 3},
        {.head_dim = 24, .rows = 31, .gap = 3},  // rows off 16 bytes
        {.head_dim = 37, .rows = 31},            // heads off 16 bytes
        {.head_dim = 256, .n_heads = 1, .rows = 65, .first_position = 64, .window = 100},
        {.head_dim = 192, .n_heads = 1, .rows = 31}})
    check<TypeParam>(shape);
}

// A row's bits: the same alone, in a chunk, in the whole; whatever the order of threads; in place.
TYPED_TEST(CudaAttention, BitsDoNotDependOnCompany) {
  for (const std::uint64_t window : {0, 90}) {
    const AttentionShape whole{.head_dim = 64, .rows = 200, .window = window};
    const AttentionProblem<TypeParam> problem(whole);
    const std::vector<TypeParam> all = outputs(problem, nullptr, false);
    const std::vector<TypeParam> backwards = outputs(problem, nullptr, true);
    EXPECT_EQ(std::memcmp(all.data(), backwards.data(), all.size() * sizeof(TypeParam)), 0);
    for (const auto& [first, rows] : {std::pair<std::uint64_t, std::uint64_t>{0, 1}, {63, 2}, {150, 50}, {199, 1}}) {
      AttentionProblem<TypeParam> chunk = problem;
      chunk.shape.first_position = first, chunk.shape.rows = rows;
      chunk.q.assign(problem.q.begin() + std::ptrdiff_t(first * problem.q_row),
                     problem.q.begin() + std::ptrdiff_t((first + rows) * problem.q_row));
      AttentionArgs<TypeParam> args = chunk.args(chunk.q.data(), nullptr);  // in place
      run(args, 1, false);
      EXPECT_EQ(
          std::memcmp(chunk.q.data(), all.data() + first * problem.q_row, rows * problem.q_row * sizeof(TypeParam)), 0)
          << "rows " << rows << " from " << first;
    }
  }
}

TYPED_TEST(CudaAttention, ComparatorSeesAKeyTooManyOrAWrongSink) {
  const AttentionShape shape{.head_dim = 64, .rows = 70, .window = 16, .sinks = true};
  AttentionProblem<TypeParam> problem(shape);
  std::vector<float> lse;
  const std::vector<TypeParam> out = outputs(problem, &lse, false);
  EXPECT_TRUE(worst_error(problem, out, lse) <= 1);
  for (const std::uint64_t window : {15, 17}) {
    problem.shape.window = window;
    EXPECT_FALSE(worst_error(problem, out, {}) <= 1);
  }
  problem.shape.window = 16;
  problem.sinks[1] += 0.1f;
  EXPECT_FALSE(worst_error(problem, out, {}) <= 1);
}

TYPED_TEST(CudaAttention, NanReachesTheRowsThatSeeIt) {
  const AttentionShape shape{.head_dim = 64, .n_heads = 1, .rows = 70};
  AttentionProblem<TypeParam> problem(shape);
  store(NAN, problem.k[66 * problem.kv_row + 5]);
  const std::vector<TypeParam> out = outputs(problem, nullptr, false);
  for (std::uint64_t row = 0; row < 70; ++row)
    EXPECT_EQ(std::isnan(value_of(out[row * problem.q_row])), row >= 66) << row;
}

// The f32 kernel and the host's attention: the same scores, so only exponentials and the order of sums differ.
TEST(CudaAttentionF32, AgreesWithTheHostsBody) {
  const AttentionShape shape{.head_dim = 128, .n_heads = 1, .rows = 257, .window = 200};
  const AttentionProblem<float> problem(shape);
  const std::vector<float> out = outputs(problem, nullptr, false);
  KvCache cache;
  cache.reserve(1, 128, 257);
  for (std::size_t position = 0; position < 257; ++position)
    cache.store(0, position, problem.k.data() + position * 128, problem.v.data() + position * 128);
  std::vector<float> want(out.size());
  for (std::size_t row = 0; row < 257; row += kQueryTile)
    attention(cache, {.q = problem.q.data() + row * 128,
                      .out = want.data() + row * 128,
                      .stride = 128,
                      .rows = std::min(kQueryTile, 257 - row),
                      .first_position = row,
                      .kv_head = 0,
                      .scale = float(1 / std::sqrt(128.0)),
                      .sliding_window = 200});
  for (std::size_t i = 0; i < out.size(); ++i)
    ASSERT_TRUE(std::abs(double(out[i]) - double(want[i])) <= 2 * problem.tolerance(double(want[i]))) << i;
}

/// Zeros that exist in name only: pages appear as they are touched.
template <class T>
class Sparse {
 public:
  explicit Sparse(std::uint64_t elements)
      : bytes_(elements * sizeof(T)),
        data_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (data_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~Sparse() { munmap(data_, bytes_); }
  Sparse(const Sparse&) = delete;
  Sparse& operator=(const Sparse&) = delete;
  T* data() const { return static_cast<T*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

// 131,072 tokens x 64 heads: the last rows and the last head lie past 2^31 and 2^32 elements and bytes. The blocks that
// own them run, on address space of which a few pages are touched.
template <class Element>
void check_far(std::uint32_t head_dim) {
  // the window keeps the number of keys small
  constexpr std::uint64_t kTokens = 131072, kHeads = 64, kSeen = 100, kRows = 128;
  const std::uint64_t row = kHeads * head_dim, elements = kTokens * row;
  ASSERT_GE(elements * sizeof(Element), std::uint64_t{1} << 31);
  const AttentionShape near{
      .head_dim = head_dim, .n_heads = 1, .n_kv_heads = 1, .rows = kRows, .first_position = kSeen, .window = kSeen};
  const AttentionProblem<Element> problem(near);
  const Sparse<Element> q(elements), k(elements), v(elements), out(elements);
  const Sparse<float> lse(kTokens * kHeads);
  const auto at = [&](std::uint64_t position) { return position * row + (kHeads - 1) * head_dim; };
  for (std::uint64_t i = 0; i < problem.positions; ++i) {  // the near problem's keys at the end of the far one
    const std::uint64_t position = kTokens - problem.positions + i;
    std::memcpy(static_cast<void*>(k.data() + at(position)), problem.k.data() + i * head_dim,
                head_dim * sizeof(Element));
    std::memcpy(static_cast<void*>(v.data() + at(position)), problem.v.data() + i * head_dim,
                head_dim * sizeof(Element));
    if (i >= kSeen)
      std::memcpy(static_cast<void*>(q.data() + at(position)), problem.q.data() + (i - kSeen) * head_dim,
                  head_dim * sizeof(Element));
  }
  AttentionArgs<Element> args{};
  args.q = q.data(), args.out = out.data(), args.k = k.data(), args.v = v.data(), args.lse = lse.data();
  args.q_row = args.out_row = args.kv_row = row;
  args.rows = kTokens, args.window = kSeen;
  args.n_heads = args.n_kv_heads = kHeads, args.head_dim = head_dim;
  args.scale = float(1 / std::sqrt(double(head_dim)));
  // block 0 is the last tile
  for (std::uint64_t tile = 0; tile < (head_dim > 128 ? kRows / 32 : 2); ++tile) run(args, 1, false, tile, kHeads - 1);

  std::vector<Element> got(problem.q.size());
  std::vector<float> got_lse;
  for (std::uint64_t i = 0; i < kRows; ++i) {
    std::memcpy(static_cast<void*>(got.data() + i * head_dim), out.data() + at(kTokens - kRows + i),
                head_dim * sizeof(Element));
    got_lse.push_back(lse.data()[(kHeads - 1) * kTokens + kTokens - kRows + i]);
  }
  EXPECT_TRUE(worst_error(problem, got, got_lse) <= 1);
}
TEST(CudaAttentionOffsets, FarEndOf131072TokensOf64Heads) {
  check_far<Bf16>(128);   // 2^30 elements, 2^31 bytes
  check_far<Bf16>(256);   // 2^31 elements, 2^32 bytes
  check_far<float>(256);  // 2^33 bytes
}

TEST(CudaAttentionOffsets, TheRangeOfATile) {
  AttentionArgs<Bf16> args{};
  args.rows = 1000, args.first_position = (std::uint64_t{1} << 33) + 5, args.window = 4096;
  const AttentionRange range = attention_range(args, 7, 128, 64);
  EXPECT_EQ(range.row, 896u);
  EXPECT_EQ(range.rows, 104u);
  EXPECT_EQ(range.position, (std::uint64_t{1} << 33) + 901);
  EXPECT_EQ(range.keys_total, (std::uint64_t{1} << 33) + 1005);
  EXPECT_EQ(range.begin, ((std::uint64_t{1} << 33) + 902 - 4096) / 64);
  EXPECT_EQ(range.end, ((std::uint64_t{1} << 33) + 1005 + 63) / 64);
}

// Columns against the definition, for every row of every tile of small problems.
TEST(CudaAttentionOffsets, SeenColumns) {
  for (const std::uint64_t first_position :
       {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{64}, std::uint64_t{200}, std::uint64_t{1} << 34})
    for (const std::uint64_t window : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{63}, std::uint64_t{64},
                                       std::uint64_t{130}, std::uint64_t{1} << 40}) {
      AttentionArgs<Bf16> args{};
      args.rows = 150, args.first_position = first_position, args.window = window;
      for (std::uint64_t tile = 0; tile < 2; ++tile) {
        const AttentionRange range = attention_range(args, tile, 128, 64);
        for (std::uint64_t key_tile = std::max(range.begin, range.end - std::min<std::uint64_t>(range.end, 6));
             key_tile < range.end; ++key_tile) {
          const SeenColumns seen = seen_columns(range, key_tile * 64, 64, window);
          bool all = true;
          for (std::uint64_t row = 0; row < range.rows; ++row)
            for (int column = 0; column < 64; ++column) {
              const std::uint64_t key = key_tile * 64 + std::uint64_t(column), position = range.position + row;
              const bool want = key <= position && (window == 0 || key + window > position);
              all = all && want;
              ASSERT_EQ(column <= seen.to + int(row) && column >= seen.from + int(row), want)
                  << first_position << " " << window << " tile " << key_tile << " row " << row << " column " << column;
            }
          ASSERT_EQ(seen.all, all) << first_position << " " << window << " tile " << key_tile;
        }
      }
    }
}

}  // namespace
}  // namespace ropewalk::verify
