#include <gtest/gtest.h>

#include <set>

#include "lib/codecs/encode.h"
#include "tests/lib/block_stream.h"

// The negative control of BlockEncode.EveryInstructionSetAsGgml and Iq2XxsCanary: the same encoders, compiled for AVX2 with
// -ffp-contract=fast, so that a product and a sum are one rounding, must not have the golden's hashes. So one of those
// tests fails if any object of any type and instruction set is built like this.
using namespace ropewalk;

namespace {

/// Products that are added to are exact, or nothing is added: contraction changes nothing.
const std::set<DType> kUnchanged = {DType::q8_0,  DType::q1_0,  DType::q2_0, DType::tq1_0,
                                    DType::tq2_0, DType::mxfp4, DType::nvfp4};

std::string hash_of(DType dtype, std::span<const float> importances) {
  std::vector<std::byte> bytes(*byte_size(dtype, block_golden::stream().size()));
  encode_blocks(dtype, block_golden::stream(), block_golden::kColumns, importances, bytes);
  return block_golden::sha(bytes);
}

bool is_golden(DType dtype, bool weighted) {
  const nlohmann::json& golden = block_golden::index()["types"][std::string(info(dtype).name)];
  const char* key = weighted ? "stream_weighted" : "stream";
  if (!golden.contains(key)) return true;
  if (dtype == DType::iq2_xxs)
    return hash_of(dtype, block_golden::importances(block_golden::kIq2XxsSeed)) == block_golden::kIq2XxsHash;
  return hash_of(dtype, weighted ? block_golden::importances() : std::vector<float>()) == golden[key];
}

TEST(Contraction, IsSeenInEveryTypeItChanges) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) GTEST_SKIP() << "this CPU has no AVX2 or FMA";
  int seen = 0;
  for (const DTypeInfo& type : kDTypes) {
    if (!has_block_encoder(type.dtype)) continue;
    ++seen;
    EXPECT_EQ(is_golden(type.dtype, false) && is_golden(type.dtype, true), kUnchanged.count(type.dtype) == 1)
        << type.name;
  }
  EXPECT_EQ(seen, 25);
}

}  // namespace
