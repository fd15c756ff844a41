#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

#include "lib/adapters/adapter_recipes.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/recipes.h"
#include "lib/sha256.h"
#include "tests/lib/any_partition.h"
#include "tests/lib/each_simd_target.h"

using namespace ropewalk;

namespace {

TensorPtr tensor_of(const std::string& name, std::uint64_t rows, std::uint64_t columns, DType dtype,
                    const std::vector<double>& values) {
  TensorInfo info{name, {rows, columns}, dtype};
  std::vector<std::byte> bytes(info.bytes());
  encode_f64(dtype, values, bytes);
  return memory_tensor(std::move(info), std::move(bytes));
}

TensorPtr random_tensor(const std::string& name, std::uint64_t rows, std::uint64_t columns, DType dtype,
                        unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, 0.03);
  std::vector<double> values(rows * columns);
  for (double& v : values) v = normal(random);
  return tensor_of(name, rows, columns, dtype, values);
}

/// docs/numerics.md word by word: the definition of a merge, element by element.
std::vector<double> by_definition(const LazyTensor& weight, const std::vector<LowRankTerm>& terms) {
  std::vector<double> values = read_all<double>(weight);
  const std::uint64_t columns = weight.info().columns();
  for (const LowRankTerm& term : terms) {
    const std::vector<double> a = read_all<double>(*term.a), b = read_all<double>(*term.b);
    const std::uint64_t rank = term.a->info().rows();
    for (std::uint64_t row = 0; row < weight.info().rows(); ++row)
      for (std::uint64_t column = 0; column < columns; ++column) {
        double sum = 0;
        for (std::uint64_t k = 0; k < rank; ++k) sum = std::fma(b[row * rank + k], a[k * columns + column], sum);
        const double delta = sum * term.scale;
        values[row * columns + column] = values[row * columns + column] + delta;
      }
  }
  return values;
}

bool same_bits(const std::vector<double>& x, const std::vector<double>& y) {
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(double)) == 0;
}

struct Shape {
  std::uint64_t rows, columns, rank;
};
// around the tile's rows (4, 8), its columns (3 vectors) and the panel's 24, the row block's 32
const Shape kShapes[] = {{1, 1, 1},  {3, 5, 2},    {4, 24, 8},    {8, 24, 16},
                         {9, 25, 3}, {33, 47, 16}, {40, 100, 64}, {70, 72, 5}};

// An infinity or NaN that the base has passes; one that a term makes of a finite value is refused by place, in whatever
// block it is read.
TEST(LowRankDelta, MakesNoInfinities) {
  const double inf = std::numeric_limits<double>::infinity();
  const auto merged = [&](double there, double scale, double factor) {
    std::vector<double> weight(3 * 2, 1.0);
    weight[3] = there;  // row 1, column 1
    return with_low_rank_delta(
        tensor_of("w", 3, 2, DType::f32, weight),
        {{tensor_of("a", 1, 2, DType::f32, {0, factor}), tensor_of("b", 3, 1, DType::f32, {0, factor, 0}), scale}});
  };
  const auto message = [](const TensorPtr& tensor) -> std::string {
    try {
      (void)read_all<double>(*tensor);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message(merged(1, 1e300, 1e9)),
            "tensor 'w': row 1, column 1: the merge makes an infinity of a finite value; the adapter's scale is too "
            "large or its weights are damaged: give a smaller scale or another checkpoint of it");
  EXPECT_EQ(message(merged(1, 1e200, 1e9)), "no error");
  EXPECT_EQ(message(merged(inf, 1, 1)), "no error");
  EXPECT_EQ(message(merged(inf, -1e300, 1e9)), "no error") << "inf - inf: the base was no number before";
  const TensorPtr again = merged(1, 1e300, 1e9);
  std::vector<double> row(2);
  EXPECT_THROW(again->read_f64({1, 2}, row), Error);
  again->read_f64({2, 3}, row);
  EXPECT_EQ(row, (std::vector<double>{1, 1}));
}

TEST(LowRankDelta, EqualsItsDefinitionBitForBit) {
  for_each_simd_target([] {
    for (const Shape& s : kShapes)
      for (const DType factors : {DType::f32, DType::bf16, DType::f64})
        for (const DType dtype : {DType::f16, DType::f32, DType::f64}) {
          const TensorPtr weight = random_tensor("w", s.rows, s.columns, dtype, 1);
          const LowRankTerm term{random_tensor("a", s.rank, s.columns, factors, 2),
                                 random_tensor("b", s.rows, s.rank, factors, 3), 1.7};
          const TensorPtr merged = with_low_rank_delta(weight, {term});
          ASSERT_TRUE(same_bits(read_all<double>(*merged), by_definition(*weight, {term})))
              << s.rows << " x " << s.columns << " rank " << s.rank << " factors " << info(factors).name;
        }
  });
}

// LoHa: the product of two sums of different rank, one of them of wide factors; product, scale and sum rounded in turn.
TEST(LowRankDelta, HadamardEqualsItsDefinitionBitForBit) {
  for_each_simd_target([] {
    for (const Shape& s : kShapes)
      for (const DType factors : {DType::f32, DType::f64}) {
        const std::uint64_t other = s.rank / 2 + 1;
        const TensorPtr weight = random_tensor("w", s.rows, s.columns, DType::f32, 1);
        const HadamardFactors two{random_tensor("w1_a", s.rows, s.rank, DType::f32, 2),
                                  random_tensor("w1_b", s.rank, s.columns, factors, 3),
                                  random_tensor("w2_a", s.rows, other, DType::bf16, 4),
                                  random_tensor("w2_b", other, s.columns, DType::f32, 5)};
        const TensorPtr zeros =
            tensor_of("zero", s.rows, s.columns, DType::f32, std::vector<double>(s.rows * s.columns));
        const std::vector<double> first = by_definition(*zeros, {{two.b1, two.a1, 1.0}}),
                                  second = by_definition(*zeros, {{two.b2, two.a2, 1.0}});
        std::vector<double> expected = read_all<double>(*weight), scaled_first = expected;
        for (std::size_t i = 0; i < expected.size(); ++i) {
          expected[i] += first[i] * second[i] * 170.3;
          scaled_first[i] += first[i] * 170.3 * second[i];
        }
        const std::vector<double> got = read_all<double>(*with_hadamard_delta(weight, two, 170.3));
        ASSERT_TRUE(same_bits(got, expected)) << s.rows << " x " << s.columns << " rank " << s.rank;
        if (expected.size() > 1000) {
          EXPECT_FALSE(same_bits(got, scaled_first)) << "the order of roundings must tell";
        }
      }
  });
}

// Negative control: with factors of 53 bits a product that is rounded before it is added gives other bits, so the test
// above would notice one.
TEST(LowRankDelta, SeparateRoundingsOfDoublesWouldDiffer) {
  const TensorPtr a = random_tensor("a", 64, 100, DType::f64, 2), b = random_tensor("b", 40, 64, DType::f64, 3);
  const std::vector<double> av = read_all<double>(*a), bv = read_all<double>(*b);
  std::size_t differ = 0;
  for (std::size_t row = 0; row < 40; ++row)
    for (std::size_t column = 0; column < 100; ++column) {
      double fused = 0, plain = 0;
      for (std::size_t k = 0; k < 64; ++k) {
        fused = std::fma(bv[row * 64 + k], av[k * 100 + column], fused);
        const double product = bv[row * 64 + k] * av[k * 100 + column];
        plain = plain + product;
      }
      differ += fused != plain;
    }
  EXPECT_GT(differ, 1000u);
}

TEST(LowRankDelta, SeveralAdaptersAreAddedInOrder) {
  const TensorPtr weight = random_tensor("w", 20, 50, DType::bf16, 1);
  std::vector<LowRankTerm> terms;
  for (unsigned i = 0; i < 3; ++i)
    terms.push_back({random_tensor("a", 4 + i, 50, DType::f32, 10 + i),
                     random_tensor("b", 20, 4 + i, DType::f32, 20 + i), 0.5 + i});
  const TensorPtr merged = with_low_rank_delta(weight, terms);
  for_each_simd_target([&] { EXPECT_TRUE(same_bits(read_all<double>(*merged), by_definition(*weight, terms))); });
  expect_any_partition_agrees(*merged);
  expect_any_partition_agrees(*cast(merged, DType::bf16));
}

// The distance to the true value: K products exact, K - 1 sums, one scaling, one sum, each within 2^-53 of its result,
// so
// |got - exact| <= 2^-53 * ((K - 1) * scale * sum |b a| + scale * |sum| + |y|) (1 + small); long double's own error is
// 2^-11 of that.
TEST(LowRankDelta, StaysWithinTheBoundOfDoubleSums) {
  const Shape s{30, 60, 64};
  const TensorPtr weight = random_tensor("w", s.rows, s.columns, DType::f16, 1);
  const LowRankTerm term{random_tensor("a", s.rank, s.columns, DType::f32, 2),
                         random_tensor("b", s.rows, s.rank, DType::f32, 3), 2.0};
  const std::vector<double> got = read_all<double>(*with_low_rank_delta(weight, {term}));
  const std::vector<double> w = read_all<double>(*weight), a = read_all<double>(*term.a), b = read_all<double>(*term.b);
  for (std::size_t row = 0; row < s.rows; ++row)
    for (std::size_t column = 0; column < s.columns; ++column) {
      long double sum = 0, absolute = 0;
      for (std::size_t k = 0; k < s.rank; ++k) {
        const long double product = static_cast<long double>(b[row * s.rank + k]) * a[k * s.columns + column];
        sum += product;
        absolute += std::fabs(product);
      }
      const long double want = w[row * s.columns + column] + 2.0L * sum;
      const long double bound = 0x1.01p-53L * (63 * 2 * absolute + 2 * std::fabs(sum) + std::fabs(want));
      ASSERT_TRUE(std::fabs(got[row * s.columns + column] - want) <= bound);
    }
}

TEST(LowRankDelta, ZeroDeltaChangesNothing) {
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::q8_0}) {
    const TensorPtr weight = random_tensor("w", 24, 64, dtype, 1);
    const LowRankTerm zero_b{random_tensor("a", 8, 64, DType::f32, 2),
                             tensor_of("b", 24, 8, DType::f32, std::vector<double>(24 * 8)), 3.0};
    const LowRankTerm zero_scale{random_tensor("a", 8, 64, DType::f32, 2), random_tensor("b", 24, 8, DType::f32, 3),
                                 0.0};
    for (const LowRankTerm& term : {zero_b, zero_scale}) {
      const TensorPtr merged = with_low_rank_delta(weight, {term});
      EXPECT_EQ(read_all<double>(*merged), read_all<double>(*weight));
      if (!is_block_type(dtype)) {
        EXPECT_EQ(read_all<std::byte>(*cast(merged, dtype)), read_all<std::byte>(*weight));
      }
    }
  }
  const TensorPtr weight = random_tensor("w", 4, 8, DType::f16, 1);
  EXPECT_EQ(with_low_rank_delta(weight, {}), weight);
}

TEST(LowRankDelta, AnyPartitionAndAnyThreadGiveTheSameBytes) {
  const TensorPtr weight = random_tensor("w", 300, 500, DType::f16, 1);
  const LowRankTerm term{random_tensor("a", 16, 500, DType::f32, 2), random_tensor("b", 300, 16, DType::f32, 3), 2.0};
  const TensorPtr wide = with_low_rank_delta(weight, {term});
  EXPECT_TRUE(wide->is_wide());
  EXPECT_FALSE(wide->has_raw());
  EXPECT_EQ(wide->dtype(), DType::f16);
  expect_any_partition_agrees(*wide);
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32}) {
    const TensorPtr merged = cast(wide, dtype);
    expect_any_partition_agrees(*merged);
    const std::vector<std::byte> whole = read_all<std::byte>(*merged);
    std::vector<std::byte> parallel(whole.size());
    merged->release();  // threads then race to prepare, and one releases meanwhile
    {
      std::vector<std::jthread> threads;
      for (std::uint64_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
          for (std::uint64_t row = t; row < 300; row += 4) {
            const std::uint64_t bytes = merged->info().row_bytes();
            merged->read_raw({row, row + 1}, std::span(parallel).subspan(row * bytes, bytes));
            if (row % 50 == 0) merged->release();
          }
        });
    }
    EXPECT_EQ(parallel, whole);
  }
}

TEST(LowRankDelta, OneRoundingNotTwo) {
  // W + delta = 1 + 2^-11 + 2^-40: by way of float it would be a tie and go down.
  const TensorPtr weight = tensor_of("w", 1, 1, DType::f16, {1});
  const LowRankTerm term{tensor_of("a", 1, 1, DType::f32, {0x1p-11 + 0x1p-34}), tensor_of("b", 1, 1, DType::f32, {1}),
                         1.0};
  EXPECT_EQ(read_all<float>(*cast(with_low_rank_delta(weight, {term}), DType::f16))[0], f16_to_f32(0x3c01));
}

TEST(LowRankDelta, ShapesThatDoNotFitAreRefused) {
  const TensorPtr weight = random_tensor("model.w", 6, 8, DType::f16, 1);
  const TensorPtr a = random_tensor("x.lora_A", 2, 8, DType::f32, 2),
                  b = random_tensor("x.lora_B", 6, 2, DType::f32, 3);
  EXPECT_NO_THROW(with_low_rank_delta(weight, {{a, b, 1.0}}));
  EXPECT_THROW(with_low_rank_delta(weight, {{b, a, 1.0}}), Error);
  EXPECT_THROW(with_low_rank_delta(weight, {{random_tensor("a", 3, 8, DType::f32, 2), b, 1.0}}), Error);
  try {
    with_low_rank_delta(weight, {{a, random_tensor("x.lora_B", 5, 2, DType::f32, 3), 1.0}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_STREQ(
        error.what(),
        "tensor 'model.w' of shape [6, 8] does not fit the product of 'x.lora_B' [5, 2] and 'x.lora_A' [2, 8]; "
        "the adapter was trained on a model of another shape: use that one");
  }
}

TEST(LowRankDelta, PreparedBytesAreDeclared) {
  const TensorPtr weight = random_tensor("w", 10, 30, DType::f16, 1);
  const TensorPtr merged = with_low_rank_delta(
      weight, {{random_tensor("a", 4, 30, DType::f32, 2), random_tensor("b", 10, 4, DType::f32, 3), 1.0}});
  // A in panels of 24 doubles and of 48 floats, B in both, a bound for each row and each column of the panels
  EXPECT_EQ(merged->prepared_bytes(), (4 * 48 + 10 * 4) * 8u + (4 * 48 + 10 * 4 + 10 + 48) * 4u);
  EXPECT_EQ(cast(merged, DType::f16)->prepared_bytes(), merged->prepared_bytes());
}

// A file's tensors by name: just enough of safetensors to reach the goldens without the layer above.
std::map<std::string, TensorPtr> tensors_of(const std::filesystem::path& path) {
  const std::shared_ptr<const File> file = File::open(path);
  std::uint64_t length = 0;
  file->read(0, std::as_writable_bytes(std::span(&length, 1)));
  std::string header(length, ' ');
  file->read(8, std::as_writable_bytes(std::span(header)));
  const nlohmann::json json = nlohmann::json::parse(header);
  std::map<std::string, TensorPtr> tensors;
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") continue;
    TensorInfo info{name, entry["shape"], *dtype_from_safetensors(entry["dtype"].get<std::string>())};
    tensors[name] = file_tensor(std::move(info), file, 8 + length + entry["data_offsets"][0].get<std::uint64_t>());
  }
  return tensors;
}

// The trained adapter on its trained model, against float16(W + s B A) computed in float64 by numpy.
TEST(LowRankDelta, GoldenMergeHasTheExactHashes) {
  const std::filesystem::path fixtures = ROPEWALK_GOLDEN_DIR "/fixtures";
  const nlohmann::json golden =
      nlohmann::json::parse(std::ifstream(fixtures / "adapters/qlora-shakespeare-merged/merged.json"));
  const auto base = tensors_of(fixtures / "models/tolstoy-4m-yarn-2k/model.safetensors");
  const auto factors = tensors_of(fixtures / "adapters/qlora-shakespeare/adapter_model.safetensors");
  for_each_simd_target([&] {
    std::size_t merged = 0;
    for (const auto& [name, want] : golden["tensors"].items()) {
      const std::string module = "base_model.model." + name.substr(0, name.size() - std::string(".weight").size());
      const LowRankTerm term{factors.at(module + ".lora_A.weight"), factors.at(module + ".lora_B.weight"),
                             golden["scale"].get<double>()};
      Sha256 hash;
      hash.update(read_all<std::byte>(*cast(with_low_rank_delta(base.at(name), {term}), DType::f16)));
      EXPECT_EQ(hash.finish(), want["exact"]) << name;
      ++merged;
    }
    EXPECT_EQ(merged, golden["adapted_tensors"]);
    EXPECT_EQ(2 * merged, factors.size());
  });
}

}  // namespace
