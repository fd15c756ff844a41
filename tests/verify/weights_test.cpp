#include "verify/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <random>

#include "lib/error.h"
#include "lib/recipes.h"
#include "tests/verify/random_model.h"

namespace ropewalk::verify {
namespace {

std::vector<float> values_of(const TensorPtr& tensor) {
  std::vector<float> out(tensor->info().elements());
  tensor->prepare();
  tensor->read_f32({0, tensor->info().rows()}, out);
  tensor->release();
  return out;
}

template <class Change>
Checkpoint changed(Checkpoint model, const std::string& name, const Change& change) {
  for (TensorPtr& tensor : model.tensors)
    if (tensor->name() == name) {
      std::vector<float> values = values_of(tensor);
      change(values);
      tensor = memory_tensor(name, tensor->info().shape, values);
    }
  return model;
}

/// Matrices in another encoding.
Checkpoint stored_as(Checkpoint model, DType type) {
  for (TensorPtr& tensor : model.tensors)
    if (tensor->info().shape.size() == 2) tensor = cast(tensor, type);
  return model;
}

Checkpoint whole_blocks() {
  ModelConfig config = awkward_config();
  config.d_model = 64, config.d_ff = 96, config.n_heads = 8, config.n_kv_heads = 2, config.head_dim = 8;
  return random_model(config, 5);
}

std::vector<std::string> failing(const Checkpoint& a, const Checkpoint& b) {
  std::vector<std::string> names;
  for (const WeightDifference& d : compare_weights(a, b, 2, {}))
    if (!d.pass) names.push_back(d.name);
  return names;
}

TEST(Weights, TheSameModelIsEqual) {
  const Checkpoint model = whole_blocks();
  const auto differences = compare_weights(model, model, 1, {});
  EXPECT_EQ(differences.size(), model.tensors.size());
  for (const WeightDifference& d : differences) EXPECT_TRUE(d.pass && d.max_error == 0 && d.rms > 0) << d.name;
  EXPECT_TRUE(weight_gate(differences).pass);
}

// A double holds 53 bits of them, a float 24.
TEST(Weights, IntegersAreComparedExactly) {
  const auto with = [](std::int64_t last) {
    const std::array<std::int64_t, 2> values = {7, last};
    const auto bytes = std::as_bytes(std::span(values));
    Checkpoint model = whole_blocks();
    model.tensors.push_back(memory_tensor({"ids", {2}, DType::i64}, {bytes.begin(), bytes.end()}));
    return model;
  };
  constexpr std::int64_t kLarge = (std::int64_t{1} << 60) + 1;
  EXPECT_EQ(failing(with(kLarge), with(kLarge)), std::vector<std::string>{});
  EXPECT_EQ(failing(with(kLarge), with(kLarge + 1)), std::vector<std::string>{"ids"});
  for (const WeightDifference& d : compare_weights(with(kLarge), with(kLarge + 1), 1, {}))
    EXPECT_EQ(d.max_error, d.name == "ids" ? 1 : 0);
  EXPECT_EQ(encoding_bound(DType::i32, 5, 5), 0) << "an integer that is stored is that integer";
}

TEST(Weights, OneRoundingPassesAndACoarserOneDoesNot) {
  const Checkpoint model = whole_blocks();
  for (const DType type : {DType::f16, DType::bf16, DType::q8_0}) {
    const auto differences = compare_weights(model, stored_as(model, type), 2, {});
    for (const WeightDifference& d : differences)
      EXPECT_TRUE(d.pass && d.worst_of_bound <= 1) << d.name << " " << info(type).name << " " << d.worst_of_bound;
  }
  // Twice rounded: what f16 holds was cut to bf16 before.
  EXPECT_FALSE(failing(model, stored_as(stored_as(model, DType::bf16), DType::f16)).empty());
}

// Rows are heads, neurons and tokens: a tensor can lose many before its own RMSE shows it. Beside each type's good export.
TEST(Weights, ARowLostInBlocksFails) {
  const Checkpoint model = whole_blocks();
  const std::string name = "model.layers.1.self_attn.q_proj.weight";
  const auto row = [](std::vector<float>& values, std::size_t at) { return std::span(values).subspan(64 * at, 64); };
  for (const DType type : {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::iq4_nl}) {
    SCOPED_TRACE(info(type).name);
    EXPECT_EQ(failing(model, stored_as(model, type)), std::vector<std::string>{});
    const auto fails = [&](const auto& change) {
      const Checkpoint bad = changed(model, name, change);
      EXPECT_EQ(failing(model, stored_as(bad, type)), std::vector<std::string>{name});
    };
    fails([&](auto& values) { std::ranges::fill(row(values, 5), 0.0f); });
    fails([&](auto& values) {
      for (float& value : row(values, 5)) value = -value;
    });
    fails([&](auto& values) { std::ranges::swap_ranges(row(values, 5), row(values, 6)); });
    fails([&](auto& values) { std::ranges::fill(row(values, 5).first(32), 0.0f); });
  }
  const Checkpoint bad = changed(model, name, [&](auto& values) { std::ranges::fill(row(values, 5), 0.0f); });
  for (const WeightDifference& d : compare_weights(model, stored_as(bad, DType::q4_0), 1, {})) {
    if (d.name != name) continue;
    ASSERT_TRUE(d.worst_row.has_value());
    EXPECT_EQ(d.worst_row->row, 5u);
    EXPECT_DOUBLE_EQ(d.worst_row->error, 1);
    EXPECT_TRUE(d.flag.starts_with("errors in row 5 are 100 % of its values")) << d.flag;
  }
}

// What is next to nothing in its tensor may be lost, and a row of zeros is no number to divide by; neither may become much.
TEST(Weights, RowsOfNextToNothing) {
  const std::string name = "model.layers.1.self_attn.q_proj.weight";
  for (const float size : {0.0f, 1e-6f}) {
    const auto tiny = [&](float factor) {
      return changed(whole_blocks(), name, [&](std::vector<float>& values) {
        for (std::size_t c = 0; c < 64; ++c) values[64 * 5 + c] = factor * (c % 2 ? 1.0f : -1.0f);
      });
    };
    EXPECT_EQ(failing(tiny(size), stored_as(tiny(size), DType::q4_0)), std::vector<std::string>{});
    EXPECT_EQ(failing(tiny(size), stored_as(tiny(0), DType::q4_0)), std::vector<std::string>{});
    EXPECT_EQ(failing(tiny(size), stored_as(tiny(1), DType::q4_0)), std::vector<std::string>{name});
  }
}

TEST(Weights, SwappedLayersFail) {
  const Checkpoint model = whole_blocks();
  Checkpoint swapped = model;
  const std::string zero = "model.layers.0.mlp.up_proj.weight", one = "model.layers.1.mlp.up_proj.weight";
  for (TensorPtr& tensor : swapped.tensors) {
    if (tensor->name() == zero) tensor = renamed(model.find(one), zero);
    else if (tensor->name() == one) tensor = renamed(model.find(zero), one);
  }
  EXPECT_EQ(failing(model, stored_as(swapped, DType::q8_0)), (std::vector<std::string>{zero, one}));
}

TEST(Weights, OneNormGainScaledFails) {
  const Checkpoint model = whole_blocks();
  const std::string norm = "model.layers.2.input_layernorm.weight";
  const Checkpoint scaled = changed(model, norm, [](std::vector<float>& values) { values[17] *= 1 + 1e-6f; });
  EXPECT_EQ(failing(model, stored_as(scaled, DType::q8_0)), std::vector<std::string>{norm});
}

// Each fault beside its undamaged twin; the flag says what is wrong with the gains as a whole.
TEST(Weights, GainsOutOfRangeAreSaid) {
  const Checkpoint model = whole_blocks();
  const std::string norm = "model.layers.2.input_layernorm.weight";
  const auto of = [&](const Checkpoint& source, const Checkpoint& candidate) {
    for (const WeightDifference& d : compare_weights(source, candidate, 1, {}))
      if (d.name == norm) return d;
    ADD_FAILURE() << "not compared";
    return WeightDifference{};
  };
  const auto planted = [&](auto change) {
    return changed(model, norm, [&](std::vector<float>& values) {
      for (float& value : values) value = change(value);
    });
  };
  const float nan = std::nanf("");
  const auto flag = [&](const Checkpoint& candidate) {
    const WeightDifference d = of(model, candidate);
    EXPECT_FALSE(d.pass);
    return d.flag;
  };
  EXPECT_NE(flag(planted([](float x) { return 1e4f * x; })).find("out of the source's range of "), std::string::npos);
  EXPECT_EQ(flag(planted([](float x) { return -x; })).find("gains from -"), 0u);
  EXPECT_NE(flag(planted([](float x) { return x - 1; })).find("out of the source's range"), std::string::npos);
  EXPECT_EQ(flag(planted([&](float) { return nan; })), "gains that are no numbers, 64 of them");
  EXPECT_EQ(flag(planted([](float) { return INFINITY; })), "gains that are no numbers, 64 of them");
  const Checkpoint no_number = planted([&](float) { return nan; });
  EXPECT_TRUE(of(no_number, no_number).pass) << "no difference";
  EXPECT_EQ(of(no_number, no_number).flag, "gains that are no numbers, 64 of them, as in the source");
  // controls: the same, one rounding, and errors within the range
  EXPECT_TRUE(of(model, model).pass && of(model, model).flag.empty());
  Checkpoint rounded = model;
  for (TensorPtr& tensor : rounded.tensors)
    if (tensor->name() == norm) tensor = cast(tensor, DType::bf16);
  EXPECT_TRUE(of(model, rounded).pass && of(model, rounded).flag.empty());
  const Checkpoint all_one = planted([](float) { return 1.f; });
  EXPECT_FALSE(of(model, all_one).pass);
  EXPECT_EQ(of(model, all_one).flag, "");
}

// Half a step of q8_0 is what a rounding may cost, not what a copy of q8_0 may.
TEST(Weights, TheSameTypeOnBothSidesMustBeEqual) {
  const Checkpoint model = whole_blocks();
  const std::string name = "model.layers.0.mlp.gate_proj.weight";
  for (const DType type : {DType::f16, DType::bf16, DType::q8_0}) {
    const Checkpoint stored = stored_as(model, type);
    EXPECT_TRUE(failing(stored, stored_as(model, type)).empty());
    // The same matrix, each value moved by less than one rounding may cost: against the unrounded model nothing is
    // wrong.
    const std::vector<float> exact = values_of(model.find(name)), rounded = values_of(stored.find(name));
    const Checkpoint other = stored_as(changed(model, name,
                                               [&](std::vector<float>& values) {
                                                 for (std::size_t i = 0; i < values.size(); ++i)
                                                   values[i] += (exact[i] - rounded[i]) * 0.9f;
                                               }),
                                       type);
    EXPECT_EQ(failing(stored, other), std::vector<std::string>{name}) << info(type).name;
  }
}

// 1 and 1 + 2^-40 are the same float. Control: equal f64 are equal.
TEST(Weights, WhatF64DiffersInIsNotRoundedAway) {
  const auto model_of = [](double value) {
    const std::vector<double> values = {0.5, value, -2, 3};
    const auto bytes = std::as_bytes(std::span(values));
    Checkpoint model;
    model.tensors = {memory_tensor({"model.norm.weight", {4}, DType::f64}, {bytes.begin(), bytes.end()})};
    return model;
  };
  const Checkpoint one = model_of(1), other = model_of(1 + std::ldexp(1.0, -40));
  EXPECT_TRUE(failing(one, one).empty());
  EXPECT_EQ(failing(one, other).size(), 1u);
  EXPECT_EQ(compare_weights(one, other, 1, {})[0].max_error, std::ldexp(1.0, -40));
  EXPECT_TRUE(failing(other, stored_as(other, DType::f64)).empty());
}

// Two tensors cannot be read: which one is named does not depend on who came first.
TEST(Weights, TheFirstErrorIsToldWhateverTheThreads) {
  struct Unreadable final : LazyTensor {
    using LazyTensor::LazyTensor;
    void read_f32(RowRange, std::span<float>) const override {
      throw Error(ErrorKind::bad_input, {name()}, "unreadable", "fetch it again");
    }
  };
  Checkpoint model = whole_blocks();
  for (const std::size_t i : {std::size_t{3}, std::size_t{20}})
    model.tensors[i] = std::make_shared<Unreadable>(model.tensors[i]->info());
  for (int run = 0; run < 20; ++run) try {
      compare_weights(model, model, 4, {});
      FAIL();
    } catch (const Error& error) {
      ASSERT_EQ(error.where().path, model.tensors[3]->name());
    }
}

TEST(Weights, NothingToCompareFails) {
  const Checkpoint model = whole_blocks();
  Checkpoint other = random_model(awkward_config(), 1);
  std::erase_if(other.tensors, [](const TensorPtr& tensor) { return tensor->info().shape.size() == 1; });
  for (TensorPtr& tensor : other.tensors) tensor = renamed(tensor, "other." + tensor->name());
  const auto none = compare_weights(model, other, 1, {});
  EXPECT_TRUE(none.empty());
  EXPECT_FALSE(weight_gate(none).pass);
  EXPECT_FALSE(weight_gate(std::vector<WeightDifference>{{.name = "x", .type = DType::f32, .pass = false}}).pass);
}

TEST(Weights, ANanIsKept) {
  const Checkpoint model = whole_blocks();
  const std::string name = "model.norm.weight";
  const auto broken = changed(model, name, [](std::vector<float>& values) { values[3] = std::nanf(""); });
  for (const WeightDifference& d : compare_weights(model, broken, 1, {}))
    EXPECT_EQ(!d.pass && std::isnan(d.max_error), d.name == name) << d.name << " " << d.max_error;
}

// Identical values are no difference, whatever they are; one that is no number on one side alone fails, in every
// encoding, and so does an infinity, whose bound would be one too.
TEST(Weights, ValuesThatAreNotFiniteAreComparedAsWhatTheyAre) {
  const Checkpoint model = whole_blocks();
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  const auto with = [&](float value) {
    return changed(model, name, [&](std::vector<float>& values) { values[40] = value; });
  };
  const auto of = [&](const Checkpoint& a, const Checkpoint& b) {
    for (const WeightDifference& d : compare_weights(a, b, 1, {}))
      if (d.name == name) return d;
    ADD_FAILURE() << "not compared";
    return WeightDifference{};
  };
  for (const float value : {nan, infinity, -infinity}) {
    const WeightDifference same = of(with(value), with(value));
    EXPECT_TRUE(same.pass && same.max_error == 0 && same.mean_error == 0 && same.worst_of_bound == 0) << value;
    EXPECT_TRUE(std::isfinite(same.rms) && same.rms > 0) << value;
    for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0})
      for (const bool in_source : {true, false}) {
        if (type == DType::q8_0 && !in_source) continue;  // holds no such value
        const auto a = in_source ? with(value) : model, b = in_source ? model : with(value);
        const WeightDifference d = of(a, stored_as(b, type));
        EXPECT_TRUE(!d.pass && !std::isfinite(d.max_error)) << value << " " << info(type).name << " " << d.max_error;
      }
  }
  EXPECT_FALSE(of(with(infinity), with(-infinity)).pass);
  EXPECT_FALSE(of(with(infinity), with(nan)).pass);
  EXPECT_TRUE(of(with(nan), stored_as(with(nan), DType::f16)).pass) << "whatever its payload";
}

// From both sides: no rounding errs by more, and some err by nearly as much.
TEST(EncodingBound, HoldsAndIsReached) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> mantissa(-1, 1);
  for (const DType type : {DType::f16, DType::bf16, DType::q8_0}) {
    double worst = 0;
    for (int exponent = -30; exponent <= 15; ++exponent) {
      // the scale is then subnormal in f16; its own term of the bound covers that, far from reached
      if (type == DType::q8_0 && exponent < -8) continue;
      std::vector<float> values(32 * 64);
      for (float& value : values) value = std::ldexp(mantissa(random), exponent);
      const TensorPtr exact = memory_tensor("w", {64, 32}, values);
      const std::vector<float> rounded = values_of(cast(exact, type));
      for (std::size_t row = 0; row < 64; ++row) {
        double block_max = 0;
        for (std::size_t c = 0; c < 32; ++c) block_max = std::max(block_max, std::abs(double(values[32 * row + c])));
        for (std::size_t c = 0; c < 32; ++c) {
          const double error = std::abs(double(rounded[32 * row + c]) - double(values[32 * row + c])),
                       bound = encoding_bound(type, values[32 * row + c], block_max);
          ASSERT_TRUE(error <= bound) << info(type).name << " " << values[32 * row + c] << " err " << error << " of "
                                      << bound;
          worst = std::max(worst, error / bound);
        }
      }
    }
    EXPECT_GT(worst, 0.8) << info(type).name;
  }
  EXPECT_EQ(encoding_bound(DType::f32, 1e30, 1e30), 0);
  EXPECT_EQ(encoding_bound(DType::f64, 1e30, 1e30), 0);
}

// One f32 norm or one larger f16 matrix must not lend its limits to a q8_0 matrix.
TEST(CoarsestEncoding, IsThatOfAnyMatrix) {
  const Checkpoint model = whole_blocks();
  EXPECT_EQ(coarsest_encoding(model.tensors), DType::f32);
  EXPECT_EQ(coarsest_encoding({}), DType::f32);
  for (const DType type : {DType::f16, DType::bf16, DType::q8_0}) {
    Checkpoint mixed = model;
    for (TensorPtr& tensor : mixed.tensors)
      if (tensor->name() == "model.layers.1.self_attn.k_proj.weight") tensor = cast(tensor, type);
    EXPECT_EQ(coarsest_encoding(mixed.tensors), type) << "the smallest matrix decides";
  }
  Checkpoint norms = model;
  for (TensorPtr& tensor : norms.tensors)
    if (tensor->info().shape.size() == 1) tensor = cast(tensor, DType::bf16);
  EXPECT_EQ(coarsest_encoding(norms.tensors), DType::f32) << "vectors do not count";
}

// Types without a bound are told apart by their bits: the first of a mix is not its coarsest.
TEST(CoarsestEncoding, OfBlocksIsTheOneOfFewestBits) {
  class Typed final : public LazyTensor {
   public:
    explicit Typed(DType type) : LazyTensor(TensorInfo{"w", {256, 256}, type}) {}
    void read_f32(RowRange, std::span<float>) const override { FAIL() << "names and types are enough"; }
  };
  const DType finer_first[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0,   DType::q6_k, DType::q5_k,
                               DType::q4_k, DType::q3_k, DType::q2_k, DType::iq2_xs, DType::iq1_s};
  for (std::size_t fine = 0; fine < std::size(finer_first); ++fine)
    for (std::size_t coarse = fine + 1; coarse < std::size(finer_first); ++coarse) {
      const auto a = std::make_shared<Typed>(finer_first[fine]), b = std::make_shared<Typed>(finer_first[coarse]);
      EXPECT_EQ(coarsest_encoding({a, b}), finer_first[coarse]) << info(finer_first[fine]).name << " first";
      EXPECT_EQ(coarsest_encoding({b, a}), finer_first[coarse]) << info(finer_first[coarse]).name << " first";
    }
}

}  // namespace
}  // namespace ropewalk::verify
