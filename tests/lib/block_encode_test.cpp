#include "lib/codecs/encode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "lib/codecs/decode.h"
#include "lib/codecs/encoders.h"
#include "tests/lib/block_golden.h"
#include "tests/lib/block_stream.h"
#include "tests/lib/each_simd_target.h"

using namespace ropewalk;
using block_golden::index;

namespace {

std::vector<DType> all_types() {
  std::vector<DType> types;
  for (const auto& [name, unused] : index()["types"].items())
    if (has_block_encoder(*dtype_from_name(name))) types.push_back(*dtype_from_name(name));
  return types;
}
const nlohmann::json& golden_of(DType dtype) { return index()["types"][std::string(info(dtype).name)]; }

std::vector<std::byte> encoded(DType dtype, std::span<const float> values, std::uint64_t columns,
                               std::span<const float> importances = {}) {
  std::vector<std::byte> bytes(*byte_size(dtype, values.size()));
  encode_blocks(dtype, values, columns, importances, bytes);
  return bytes;
}

using block_golden::importances, block_golden::kColumns, block_golden::kRows, block_golden::stream;

TEST(BlockEncode, EveryTypeOfTheGoldenAndNoOther) {
  for (const DTypeInfo& type : kDTypes) {
    const bool listed = index()["types"].contains(std::string(type.name));
    ASSERT_EQ(has_block_encoder(type.dtype), listed) << type.name;
    if (!listed) continue;
    const std::string want = golden_of(type.dtype)["importances"];
    const Importances found = importances_of(type.dtype);
    EXPECT_EQ(found == Importances::ignored ? "ignored"
              : found == Importances::used  ? "used"
                                            : "required",
              want)
        << type.name;
  }
}

// All rows of the golden, one at a time, so that a failure names its row.
TEST(BlockEncode, NamedRowsAsGgml) {
  std::size_t seen = 0;
  for (const DType dtype : all_types())
    for (const auto& [kind, places] : golden_of(dtype)["decoded"].items()) {
      const std::string name = block_golden::upper(std::string(info(dtype).name)) + "/" + kind;
      const bool is_long = kind.starts_with("long");
      const std::vector<float> x = block_golden::floats_of(is_long ? "xl" : "x");
      std::vector<float> weights;
      if (kind != "none" && kind != "long") weights = block_golden::floats_of(is_long ? "impl" : kind);
      const std::size_t columns = is_long ? 1024 : 256, row_bytes = *byte_size(dtype, columns);
      const std::span<const std::byte> want = block_golden::bytes_of(name);
      const auto aborting = golden_of(dtype)["aborting_rows"].value(kind, std::vector<std::string>{});
      for (std::size_t row = 0; row * columns < x.size(); ++row) {
        const std::string row_name = is_long ? std::to_string(row) : index()["row_names"][row].get<std::string>();
        const std::vector<std::byte> bytes =
            encoded(dtype, std::span(x).subspan(row * columns, columns), columns, weights);
        if (std::count(aborting.begin(), aborting.end(), row_name) > 0) continue;  // ours must merely come to an end
        EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), want.begin() + std::ptrdiff_t(row * row_bytes)))
            << name << ", row '" << row_name << "'";
        ++seen;
      }
    }
  EXPECT_EQ(seen, 3861u);
}

void expect_stream(DType dtype, const std::function<std::vector<std::byte>(std::span<const float> weights)>& encode) {
  for (const bool weighted : {false, true}) {
    const char* key = weighted ? "stream_weighted" : "stream";
    if (!golden_of(dtype).contains(key)) continue;
    EXPECT_EQ(block_golden::sha(encode(weighted ? importances() : std::vector<float>())), golden_of(dtype)[key])
        << info(dtype).name << " " << key;
  }
}

TEST(BlockEncode, StreamAsGgml) {
  for (const DType dtype : all_types())
    expect_stream(dtype, [&](auto weights) { return encoded(dtype, stream(), kColumns, weights); });
}

// Types whose vector bodies are used above: the scalar ones, and the vectors of every instruction set this CPU has, on
// rows of an odd number of blocks, too.
constexpr std::pair<DType, codecs::RowEncoder*> kVectorised[] = {
    {DType::q4_0, codecs::encode_q4_0},       {DType::q4_1, codecs::encode_q4_1},
    {DType::q5_0, codecs::encode_q5_0},       {DType::q5_1, codecs::encode_q5_1},
    {DType::iq4_nl, codecs::encode_iq4_nl},   {DType::iq4_xs, codecs::encode_iq4_xs},
    {DType::q2_k, codecs::encode_q2_k},       {DType::q3_k, codecs::encode_q3_k},
    {DType::q4_k, codecs::encode_q4_k},       {DType::q5_k, codecs::encode_q5_k},
    {DType::q6_k, codecs::encode_q6_k},       {DType::iq1_s, codecs::encode_iq1_s},
    {DType::iq1_m, codecs::encode_iq1_m},     {DType::iq2_xxs, codecs::encode_iq2_xxs},
    {DType::iq2_xs, codecs::encode_iq2_xs},   {DType::iq2_s, codecs::encode_iq2_s},
    {DType::iq3_xxs, codecs::encode_iq3_xxs}, {DType::iq3_s, codecs::encode_iq3_s},
    {DType::q2_0, codecs::encode_q2_0},       {DType::tq1_0, codecs::encode_tq1_0},
    {DType::tq2_0, codecs::encode_tq2_0},     {DType::mxfp4, codecs::encode_mxfp4},
    {DType::nvfp4, codecs::encode_nvfp4},
};

TEST(BlockEncode, DefinitionsAsGgml) {
  for (const auto& [dtype, definition] : kVectorised)
    expect_stream(dtype, [&](std::span<const float> weights) {
      std::vector<std::byte> bytes(*byte_size(dtype, stream().size()));
      for (std::size_t row = 0; row < kRows; ++row)
        definition(stream().data() + row * kColumns, weights.empty() ? nullptr : weights.data(), kColumns,
                   bytes.data() + row * *byte_size(dtype, kColumns));
      return bytes;
    });
}

TEST(BlockEncode, EveryInstructionSetAsGgml) {
  for_each_simd_target([] {
    for (const DType dtype : all_types())
      expect_stream(dtype, [&](auto weights) { return encoded(dtype, stream(), kColumns, weights); });
    for (const auto& [dtype, definition] : kVectorised) {
      const std::vector<float> weights = importances();
      const std::span odd = std::span(stream()).first(768);
      std::vector<std::byte> want(*byte_size(dtype, 768));
      definition(odd.data(), weights.data(), 768, want.data());
      EXPECT_EQ(encoded(dtype, odd, 768, std::span(weights).first(768)), want) << info(dtype).name;
    }
  });
}

TEST(BlockEncode, Iq2XxsCanary) {
  for_each_simd_target([] {
    const auto weights = importances(block_golden::kIq2XxsSeed);
    EXPECT_EQ(block_golden::sha(encoded(DType::iq2_xxs, stream(), kColumns, weights)), block_golden::kIq2XxsHash);
  });
}

// Groups whose levels move in five rounds and would in more, found by counting: the hash is of ggml 0.25.3's bytes
// (ggml_quantize_chunk of libggml-base, type 11).
TEST(BlockEncode, Q3KMovesInFiveRoundsAndNoMore) {
  std::vector<float> row;
  for (const std::uint64_t seed :
       {10016, 12096, 29488, 71232, 187776, 239136, 1473728, 2860544, 3512560, 4329216, 5087920, 40568960}) {
    std::vector<float> group;
    for (const std::uint64_t word : block_golden::noise(seed, 16)) {
      const auto thousandths = static_cast<float>(static_cast<int>(word % 2001) - 1000);
      group.push_back(std::copysign(0.3f + 0.7f * std::fabs(thousandths / 1000), thousandths));
    }
    for (int i = 0; i < 16; ++i) row.insert(row.end(), group.begin(), group.end());
  }
  for_each_simd_target([&] {
    EXPECT_EQ(block_golden::sha(encoded(DType::q3_k, row, row.size())),
              "976ba6c8a3cbf64b1f2511dd27ed78fc5edc188ad09ecb3819e52aaf7a64f8c3");
  });
}

// Rows of every length that ends a batch early, of ties, zeros of either sign, denormals and what no block holds: the
// golden's named rows one after the other, then random bits, infinities and NaN among them.
std::vector<float> hard_row() {
  const std::vector<float> named = block_golden::floats_of("x");
  std::vector<float> row(named.begin(), named.end());
  for (std::size_t i = 0; i < 64; ++i) row.push_back(i % 2 == 0 ? 0.0f : -0.0f);
  for (std::size_t i = 0; i < 64; ++i) row.push_back(i % 32 == 5 ? 3.0f : i % 32 == 9 ? -3.0f : 0.25f);
  row.resize(row.size() / 256 * 256 + 256, -0.0f);
  for (const std::uint64_t word : block_golden::noise(5, 33 * 256))
    row.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(word)));
  return row;
}

// Every vectorised type on every instruction set, with and without importances: each named row (1e30, denormals, halves,
// midpoints, ...), random bits that a block holds and random bits of which some are infinities, NaN and far past what a
// scale holds (refused before they are encoded, value_range.h, but equal all the same), and narrow groups far from zero
// and from one another, whose stored minimum is off by thousands of levels, in rows that end a batch of blocks early.
TEST(BlockEncode, EveryInstructionSetOnNamedRowsAndBits) {
  std::vector<float> row = hard_row();
  const std::size_t named = block_golden::floats_of("x").size();
  for (std::size_t i = row.size(); i-- > named;) {
    float held = row[i];
    if (!(std::abs(held) < 4096)) held = static_cast<float>(std::bit_cast<std::uint32_t>(held) & 0xffff) / 64;
    row.push_back(held);
  }
  for (const std::uint64_t word : block_golden::noise(6, 33 * 256))
    row.push_back(2e-4f * static_cast<float>(word % 16) - 200 - 74 * static_cast<float>(row.size() / 32 % 8));
  const std::vector<float> tiled = importances();
  std::vector<float> weights;
  while (weights.size() < row.size()) weights.insert(weights.end(), tiled.begin(), tiled.end());
  for_each_simd_target([&] {
    for (const auto& [dtype, definition] : kVectorised)
      for (const bool weighted : {false, true}) {
        if (importances_of(dtype) == (weighted ? Importances::ignored : Importances::required)) continue;
        const auto elements = static_cast<std::size_t>(info(dtype).block_elements);
        for (const std::size_t blocks : {std::size_t{1}, std::size_t{31}, std::size_t{33}})
          for (std::size_t from = 0; from + blocks * elements <= row.size(); from += 68 * 256 / 4) {
            const std::size_t columns = blocks * elements;
            const std::span<const float> given = weighted ? std::span(weights).first(columns) : std::span<float>();
            std::vector<std::byte> want(*byte_size(dtype, columns));
            definition(row.data() + from, weighted ? weights.data() : nullptr, static_cast<std::int64_t>(columns),
                       want.data());
            EXPECT_EQ(encoded(dtype, std::span(row).subspan(from, columns), columns, given), want)
                << info(dtype).name << (weighted ? " weighted, " : ", ") << blocks << " blocks from " << from;
          }
      }
  });
}

TEST(BlockEncode, PlainTypesOnAnyFloatsAndLengths) {
  const std::vector<float> row = hard_row();
  std::size_t seen = 0;
  for_each_simd_target([&] {
    for (const auto& [dtype, definition] : kVectorised) {
      const auto elements = static_cast<std::size_t>(info(dtype).block_elements);
      if (dtype != DType::q4_0 && dtype != DType::q4_1 && dtype != DType::q5_0 && dtype != DType::q5_1 &&
          importances_of(dtype) != Importances::ignored)
        continue;
      for (const std::size_t blocks : {std::size_t{1}, std::size_t{15}, std::size_t{33}, row.size() / elements}) {
        const std::size_t columns = blocks * elements;
        for (const std::size_t from : {std::size_t{0}, row.size() - columns}) {
          std::vector<std::byte> want(*byte_size(dtype, columns));
          definition(row.data() + from, nullptr, static_cast<std::int64_t>(columns), want.data());
          EXPECT_EQ(encoded(dtype, std::span(row).subspan(from, columns), columns, {}), want)
              << info(dtype).name << ", " << blocks << " blocks from " << from;
          ++seen;
        }
      }
    }
  });
  EXPECT_EQ(seen % (9 * 8), 0u);
  EXPECT_GT(seen, 0u);
}

// Hostile input through --ieee paths: any bytes may come out, but the same ones each time and without undefined behaviour.
TEST(BlockEncode, AnyFloatsComeToAnEnd) {
  std::vector<float> values(4096);
  const std::vector<std::uint64_t> words = block_golden::noise(3, values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = std::bit_cast<float>(static_cast<std::uint32_t>(words[i]));
  values[7] = std::numeric_limits<float>::infinity();
  values[300] = -std::numeric_limits<float>::infinity();
  values[600] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> weights(1024, 0.5f);
  for (const DType dtype : all_types()) {
    const auto once = encoded(dtype, values, 1024, weights), again = encoded(dtype, values, 1024, weights);
    EXPECT_EQ(once, again);
    std::vector<float> back(values.size());
    decode_blocks(dtype, once, back);
  }
}

}  // namespace
