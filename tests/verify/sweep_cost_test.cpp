#include "verify/sweep_cost.h"

#include <gtest/gtest.h>

#include "formats/source.h"
#include "lib/file.h"
#include "tests/verify/golden_models.h"

namespace ropewalk::verify {
namespace {

/// Shapes of a Llama; nothing reads a value.
Checkpoint llama(int n_layers, std::uint64_t d_model, std::uint64_t d_kv, std::uint64_t d_ff, int n_heads,
                 std::uint64_t n_vocab) {
  Checkpoint model;
  model.config.n_layers = n_layers, model.config.d_model = int(d_model), model.config.n_heads = n_heads;
  model.config.head_dim = int(d_model) / n_heads, model.config.n_vocab = int(n_vocab);
  const auto add = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns) {
    class Shape final : public LazyTensor {
     public:
      using LazyTensor::LazyTensor;
      void read_f32(RowRange, std::span<float>) const override { FAIL(); }
    };
    model.tensors.push_back(std::make_shared<Shape>(TensorInfo{name, {rows, columns}, DType::f16}));
  };
  add("model.embed_tokens.weight", n_vocab, d_model), add("lm_head.weight", n_vocab, d_model);
  for (int layer = 0; layer < n_layers; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    add(at + "self_attn.q_proj.weight", d_model, d_model), add(at + "self_attn.o_proj.weight", d_model, d_model);
    add(at + "self_attn.k_proj.weight", d_kv, d_model), add(at + "self_attn.v_proj.weight", d_kv, d_model);
    for (const char* name : {"mlp.gate_proj.weight", "mlp.up_proj.weight"}) add(at + name, d_ff, d_model);
    add(at + "mlp.down_proj.weight", d_model, d_ff);
  }
  return model;
}

// Llama 2 7B (arXiv:2307.09288): 6,738,415,616 parameters, of which 131,072,000 are the embedding, as many the head,
// and 266,240 norms.
TEST(SweepCost, CountsTheOperationsOfLlama2) {
  const Checkpoint model = llama(32, 4096, 4096, 11008, 32, 32000);
  const std::vector<std::size_t> lengths = {4096, 1000};
  const SweepOperations operations = sweep_operations(model, lengths);
  EXPECT_EQ(operations.linear, 2.0 * 5096 * (6738415616.0 - 2 * 131072000.0 - 266240.0));
  EXPECT_EQ(operations.head, 2.0 * 5096 * 131072000.0);
  // a query at t sees t + 1 keys, each 128 products for Q K and for P V, of 32 heads in 32 layers
  const double keys = 4096.0 * 4097 / 2 + 1000.0 * 1001 / 2;
  EXPECT_EQ(operations.attention, 2 * 2 * keys * 128 * 32 * 32);
}

TEST(SweepCost, ASlidingWindowSeesLess) {
  Checkpoint model = llama(1, 64, 64, 128, 2, 100);
  const std::vector<std::size_t> lengths = {10};
  model.config.sliding_window = 4;
  // 1 + 2 + 3 + 4 and six times 4
  EXPECT_EQ(sweep_operations(model, lengths).attention, 4.0 * (10 + 24) * 64);
  model.config.sliding_window = 100;
  EXPECT_EQ(sweep_operations(model, lengths).attention, 4.0 * 55 * 64);
}

// What a machine does is not known here; that it did something, and that longer windows cost more than their tokens, is.
TEST(SweepCost, MeasuresARealLayer) {
  const auto source = open_golden(golden_dir() / "fixtures/models/tolstoy-4m");
  const MeasuredRates rates = measure_rates(source.checkpoint, 1);
  EXPECT_GT(rates.linear, 1e7);
  EXPECT_GT(rates.attention, 1e7);
  EXPECT_GE(rates.read_seconds, 0);
  const std::vector<std::size_t> one = {1024}, four = {4096}, apart = {1024, 1024, 1024, 1024};
  const double whole = sweep_seconds(source.checkpoint, four, rates);
  EXPECT_GT(whole, sweep_seconds(source.checkpoint, one, rates));
  EXPECT_GT(whole, sweep_seconds(source.checkpoint, apart, rates));
}

}  // namespace
}  // namespace ropewalk::verify
