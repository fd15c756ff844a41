// Structure and weights of two checkpoints, on the zoo and on small ones made here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "lib/convert.h"
#include "lib/recipes.h"
#include "verify/structure.h"
#include "verify/weights.h"

namespace ropewalk::verify {
namespace {

Checkpoint tiny(const std::vector<float>& values, DType type, RotaryPairs pairs = RotaryPairs::half_split) {
  Checkpoint checkpoint;
  checkpoint.config.n_layers = 1;
  checkpoint.config.n_heads = checkpoint.config.n_kv_heads = 2;
  checkpoint.config.head_dim = 4;
  checkpoint.config.context = 128;
  checkpoint.config.rope.rotary_dim = 4;
  const std::uint64_t columns = values.size() / 8;
  std::vector<std::byte> bytes(*byte_size(type, values.size()));
  encode_f32(type, values, bytes);
  checkpoint.tensors.push_back(
      memory_tensor({"model.layers.0.self_attn.q_proj.weight", {8, columns}, type, pairs}, bytes));
  return checkpoint;
}

std::vector<float> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> bell(0, 0.05f);
  std::vector<float> values(n);
  for (float& value : values) value = bell(random);
  return values;
}

// Each bound is reached (values halfway between two codes) and never passed: every f16 value in f16's bound would be
// loose by a factor if it were not.
TEST(EncodingBound, HoldsAndIsTight) {
  for (DType type : {DType::f16, DType::bf16, DType::q8_0}) {
    double worst = 0;
    for (unsigned seed = 1; seed <= 20; ++seed) {
      std::vector<float> values = random_values(4096, seed), found(4096);
      // a tie of f16 and of bf16
      for (std::size_t i = 0; i < values.size(); i += 7)
        values[i] = std::ldexp(1.0f + std::ldexp(1.0f, type == DType::f16 ? -11 : -8), -int(i % 5));
      std::vector<std::byte> bytes(*byte_size(type, values.size()));
      encode_f32(type, values, bytes);
      decode_f32(type, bytes, found);
      for (std::size_t block = 0; block < values.size(); block += 32) {
        double block_max = 0;
        for (std::size_t i = block; i < block + 32; ++i) block_max = std::max(block_max, std::abs(double(values[i])));
        for (std::size_t i = block; i < block + 32; ++i) {
          const double error = std::abs(double(found[i]) - values[i]),
                       bound = encoding_bound(type, values[i], block_max);
          ASSERT_LE(error, bound) << info(type).name << " " << values[i];
          worst = std::max(worst, error / bound);
        }
      }
    }
    EXPECT_GT(worst, type == DType::q8_0 ? 0.85 : 0.99) << info(type).name;
  }
}

TEST(CompareWeights, EqualAndEncoded) {
  const auto values = random_values(8 * 64, 7);
  const Checkpoint source = tiny(values, DType::f32);
  EXPECT_EQ(compare_weights(source, source, 1, {})[0].max_error, 0);
  for (DType type : {DType::f16, DType::bf16, DType::q8_0}) {
    const WeightDifference difference = compare_weights(source, tiny(values, type), 2, {})[0];
    EXPECT_TRUE(difference.pass);
    EXPECT_GT(difference.max_error, 0);
    EXPECT_GT(difference.worst_of_bound, 0.5);
    EXPECT_LE(difference.worst_of_bound, 1);
  }
}

TEST(CompareWeights, OneStepTooFarFails) {
  auto values = random_values(8 * 64, 8);
  for (float& value : values) value = f16_to_f32(f32_to_f16(value));
  const Checkpoint source = tiny(values, DType::f16);
  auto bent = values;
  bent[100] = f16_to_f32(static_cast<std::uint16_t>(f32_to_f16(bent[100]) + 1));
  EXPECT_FALSE(compare_weights(source, tiny(bent, DType::f16), 1, {})[0].pass)
      << "the same encoding must hold the same value";
  bent = values;
  bent[100] *= 1 + std::ldexp(1.0f, -6);
  EXPECT_FALSE(compare_weights(source, tiny(bent, DType::bf16), 1, {})[0].pass) << "more than one rounding to bf16";
  bent[100] = std::nanf("");
  EXPECT_FALSE(compare_weights(source, tiny(bent, DType::f32), 1, {})[0].pass) << "NaN is no value";
}

/// `names` of 8 x 256 values each, in `type`; what `bend` makes of the values of one.
Checkpoint several(int n, DType type, int bent, const std::function<void(std::vector<float>&)>& bend) {
  Checkpoint checkpoint = tiny(random_values(8 * 32, 1), DType::f32);
  checkpoint.tensors.clear();
  for (int i = 0; i < n; ++i) {
    std::vector<float> values = random_values(8 * 256, unsigned(20 + i));
    if (i == bent) bend(values);
    std::vector<std::byte> bytes(*byte_size(type, values.size()));
    encode_f32(type, values, bytes);
    checkpoint.tensors.push_back(
        memory_tensor({"model.layers." + std::to_string(i) + ".mlp.up_proj.weight", {8, 256}, type}, bytes));
  }
  return checkpoint;
}

// Blocks of few bits promise no bound for an element; what is left of the whole is judged.
TEST(CompareWeights, ABlockTypeThatLeavesNothingFails) {
  const Checkpoint source = several(6, DType::f32, -1, {});
  const auto differences = [&](const std::function<void(std::vector<float>&)>& bend) {
    return compare_weights(source, several(6, DType::q4_0, 3, bend), 1, {});
  };
  for (const WeightDifference& one : differences([](auto&) {})) {
    EXPECT_TRUE(one.pass) << one.name << " " << one.flag;
    EXPECT_EQ(one.flag, "");
    EXPECT_GT(one.rmse, 0);
  }
  const auto zeroed = differences([](auto& values) { std::ranges::fill(values, 0.0f); });
  EXPECT_FALSE(zeroed[3].pass);
  EXPECT_EQ(zeroed[3].flag, "errors are 100 % of its values: nothing is left of them");
  EXPECT_TRUE(zeroed[2].pass);
  const auto reversed = differences([](auto& values) { std::ranges::reverse(values); });
  EXPECT_FALSE(reversed[3].pass) << "the right values in the wrong places";
  const auto coarser = differences([](auto& values) {
    for (float& value : values) value = std::round(value * 20) / 20;
  });
  EXPECT_TRUE(coarser[3].pass);
  EXPECT_NE(coarser[3].flag.find("times the median of q4_0 tensors"), std::string::npos) << coarser[3].flag;
}

TEST(CompareWeights, AVectorInBlocksFails) {
  const std::vector<float> gains = random_values(64, 3);
  Checkpoint source = tiny(random_values(8 * 32, 1), DType::f32), candidate = source;
  source.tensors.push_back(memory_tensor("model.norm.weight", {64}, gains));
  const auto with_norm = [&](DType type) {
    std::vector<std::byte> bytes(*byte_size(type, gains.size()));
    encode_f32(type, gains, bytes);
    Checkpoint out = candidate;
    out.tensors.push_back(memory_tensor({"model.norm.weight", {64}, type}, bytes));
    return compare_weights(source, out, 1, {})[1];
  };
  EXPECT_TRUE(with_norm(DType::f32).pass);
  EXPECT_TRUE(with_norm(DType::bf16).pass);
  EXPECT_FALSE(with_norm(DType::q4_0).pass);
  EXPECT_EQ(with_norm(DType::q8_0).flag, "a vector in q8_0, which every consumer keeps in float");
}

TEST(CompareWeights, RotaryOrderIsUndone) {
  const auto values = random_values(8 * 32, 9);
  const Checkpoint source = tiny(values, DType::f32);
  Checkpoint candidate = source;
  candidate.tensors[0] = with_rotary_pairs(source.tensors[0], RotaryPairs::interleaved, 2, 4, 4);
  EXPECT_TRUE(compare_weights(source, candidate, 1, {})[0].pass);
  EXPECT_EQ(compare_weights(source, candidate, 1, {})[0].max_error, 0);
  // the same rows, said to be in the other order
  candidate.tensors[0] = tiny(values, DType::f32, RotaryPairs::interleaved).tensors[0];
  EXPECT_FALSE(compare_weights(source, candidate, 1, {})[0].pass);
}

std::map<std::string, StructureItem> items_of(const StructureReport& report) {
  std::map<std::string, StructureItem> items;
  for (const StructureItem& item : report.items) items[item.name] = item;
  return items;
}

Vocabulary words(std::vector<std::string> pieces) {
  Vocabulary vocabulary;
  vocabulary.pieces.push_back({"<unk>", 0, PieceType::unknown});
  for (std::string& piece : pieces) vocabulary.pieces.push_back({std::move(piece), -1, PieceType::normal});
  vocabulary.unk = 0;
  return vocabulary;
}

TEST(CompareStructure, TensorsMissingLeftOverAndBent) {
  const auto values = random_values(8 * 32, 10);
  const Checkpoint source = tiny(values, DType::f32);
  EXPECT_TRUE(*items_of(compare_structure(source, source, {}, 128))["tensors"].pass);
  Checkpoint candidate = source;
  candidate.tensors.clear();
  EXPECT_EQ(compare_structure(source, candidate, {}, 128).problems.size(), 1u);
  EXPECT_EQ(compare_structure(candidate, source, {}, 128).problems.size(), 1u);
  candidate = tiny(random_values(8 * 64, 10), DType::f32);
  EXPECT_FALSE(*items_of(compare_structure(source, candidate, {}, 128))["tensors"].pass);
  candidate = source;  // a buffer outside the decoder decides nothing
  candidate.tensors.push_back(memory_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", {2}, {1, 2}));
  EXPECT_TRUE(compare_structure(candidate, source, {}, 128).problems.empty());
}

TEST(CompareStructure, VocabularyIdById) {
  Checkpoint source, candidate;
  source.config.rope.rotary_dim = candidate.config.rope.rotary_dim = 4;
  source.config.context = candidate.config.context = 16;
  source.vocabulary = words({"a", "b", "c"});
  candidate.vocabulary = words({"a", "b", "c"});
  const std::vector<std::string> text = {"abcabc"};
  EXPECT_TRUE(*items_of(compare_structure(source, candidate, text, 16))["vocabulary"].pass);
  EXPECT_TRUE(*items_of(compare_structure(source, candidate, text, 16))["ids"].pass);
  candidate.vocabulary->pieces.push_back({"[PAD4]", 0, PieceType::unused});  // rows of the embedding without a token
  EXPECT_TRUE(*items_of(compare_structure(source, candidate, text, 16))["vocabulary"].pass);
  candidate.vocabulary = words({"a", "c", "b"});
  const StructureReport swapped = compare_structure(source, candidate, text, 16);
  EXPECT_FALSE(*items_of(swapped)["vocabulary"].pass);
  EXPECT_FALSE(*items_of(swapped)["ids"].pass);
  EXPECT_EQ(std::find_if(swapped.gates.begin(), swapped.gates.end(),
                         [](const Gate& gate) { return gate.name == "tokenizer"; })
                ->value,
            3);  // two ids, one text
  candidate.vocabulary.reset();
  EXPECT_FALSE(*items_of(compare_structure(source, candidate, text, 16))["vocabulary"].pass);
}

bool gate_passes(const StructureReport& report, const std::string& name) {
  for (const Gate& gate : report.gates)
    if (gate.name == name) return gate.pass;
  ADD_FAILURE() << "no gate " << name;
  return false;
}

TEST(CompareStructure, RopeGeometryAndContextAreGates) {
  Checkpoint source, candidate;
  source.config.rope.rotary_dim = candidate.config.rope.rotary_dim = 64;
  source.config.context = candidate.config.context = 1024;
  source.config.rope.scaling = candidate.config.rope.scaling = RopeYarn{8, 128};
  EXPECT_TRUE(gate_passes(compare_structure(source, candidate, {}, 1024), "rope"));
  candidate.config.rope.attention_factor = 1.2;
  const StructureReport report = compare_structure(source, candidate, {}, 1024);
  EXPECT_FALSE(*items_of(report)["rope"].pass);
  EXPECT_FALSE(gate_passes(report, "rope"));

  // A theta that is 1 % off moves the low frequencies by as much, whatever the logits of a short text say; float
  // rounding of the stored theta does not count.
  candidate = source;
  candidate.config.rope.theta *= 1 + 5e-8;
  EXPECT_TRUE(gate_passes(compare_structure(source, candidate, {}, 1024), "rope"));
  candidate.config.rope.theta = source.config.rope.theta * 1.01;
  EXPECT_FALSE(gate_passes(compare_structure(source, candidate, {}, 1024), "rope"));

  candidate = source;
  EXPECT_TRUE(gate_passes(compare_structure(source, candidate, {}, 1024), "geometry"));
  candidate.config.rms_eps = source.config.rms_eps * 10;
  EXPECT_FALSE(gate_passes(compare_structure(source, candidate, {}, 1024), "geometry"));
  candidate = source;
  source.config.sliding_window = 512;  // lost by the candidate: nothing at 512 tokens, another function past them
  EXPECT_TRUE(gate_passes(compare_structure(source, candidate, {}, 512), "geometry"));
  EXPECT_FALSE(gate_passes(compare_structure(source, candidate, {}, 1024), "geometry"));

  candidate.config.context = 512;
  EXPECT_FALSE(*items_of(compare_structure(source, candidate, {}, 1024))["context"].pass);
  EXPECT_TRUE(*items_of(compare_structure(source, candidate, {}, 512))["context"].pass);
}

}  // namespace
}  // namespace ropewalk::verify
