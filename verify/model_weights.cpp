#include "verify/model_weights.h"

#include <algorithm>
#include <array>
#include <functional>
#include <initializer_list>
#include <numeric>

#include "lib/error.h"
#include "lib/unmerged.h"
#include "verify/attention.h"

namespace ropewalk::verify {
namespace {

using Linears = std::initializer_list<std::reference_wrapper<const LinearTensors>>;

/// The biases of `modules` one after another, padded to whole panels; empty if none has one. A module without a bias
/// adds 0.
std::vector<float> read_biases(Linears modules) {
  std::size_t total = 0;
  bool any = false;
  for (const LinearTensors& module : modules) total += module.outputs, any = any || module.bias;
  if (!any) return {};
  std::vector<float> all(whole_panels(total));
  std::size_t first = 0;
  for (const LinearTensors& module : modules) {
    if (module.bias)
      std::ranges::copy(read_vector(module.bias, module.outputs), all.begin() + static_cast<std::ptrdiff_t>(first));
    first += module.outputs;
  }
  return all;
}

/// As pack_interleaved orders the rows.
std::vector<float> read_interleaved_biases(const LinearTensors& gate, const LinearTensors& up) {
  if (!gate.bias && !up.bias) return {};
  std::vector<float> all(whole_panels(2 * ((gate.outputs + 15) / 16 * 16)));
  for (const bool is_up : {false, true}) {
    const TensorPtr& bias = is_up ? up.bias : gate.bias;
    if (!bias) continue;
    const std::vector<float> values = read_vector(bias, gate.outputs);
    for (std::size_t i = 0; i < values.size(); ++i) all[i / 16 * 32 + (is_up ? 16 : 0) + i % 16] = values[i];
  }
  return all;
}

void pack_rows(Linears modules, const Workers& workers, PackedMatrix& out) {
  std::vector<MatrixPart> parts;
  for (const LinearTensors& module : modules) parts.push_back({module.weight, module.outputs});
  pack(parts, modules.begin()->get().inputs, workers, out);
}

/// `interleaved`: of gate and up, as pack_interleaved orders them.
void pack_deltas(Linears modules, bool interleaved, const Workers& workers, LowRankFactors& out) {
  std::vector<MatrixPart> a;
  std::vector<FactorPart> b;
  std::size_t rank = 0;
  for (const LinearTensors& module : modules) {
    if (module.a) a.push_back({module.a, module.rank()});
    b.push_back({module.b, module.outputs, rank});
    rank += module.rank();
  }
  if (rank == 0) {
    out = {};
    return;
  }
  pack(a, modules.begin()->get().inputs, workers, out.a);
  if (interleaved) pack_factors_interleaved(b[0], b[1], rank, workers, out.b);
  else pack_factors(b, rank, workers, out.b);
}

LinearTensors linear_of(const Checkpoint& model, const std::string& name, TensorPtr bias, std::size_t outputs,
                        std::size_t inputs) {
  const TensorPtr weight = required(model, name);
  if (const auto parts = taken_apart(*weight))
    return {parts->weight, std::move(bias), outputs, inputs, parts->a, parts->b};
  return {weight, std::move(bias), outputs, inputs};
}

}  // namespace

LayerTensors layer_tensors(const Checkpoint& model, int layer) {
  const ModelConfig& c = model.config;
  const auto d_model = std::size_t(c.d_model), d_ff = std::size_t(c.d_ff);
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const auto norm = [&](const char* name) { return required(model, prefix + name + ".weight"); };
  const auto linear = [&](const char* name, std::size_t outputs, std::size_t inputs) {
    return linear_of(model, prefix + name + ".weight", model.find(prefix + name + ".bias"), outputs, inputs);
  };
  return {norm("input_layernorm"),
          norm("post_attention_layernorm"),
          linear("self_attn.q_proj", c.d_q(), d_model),
          linear("self_attn.k_proj", c.d_kv(), d_model),
          linear("self_attn.v_proj", c.d_kv(), d_model),
          linear("self_attn.o_proj", d_model, c.d_q()),
          linear("mlp.gate_proj", d_ff, d_model),
          linear("mlp.up_proj", d_ff, d_model),
          linear("mlp.down_proj", d_model, d_ff)};
}

LinearTensors head_tensors(const Checkpoint& model) {
  return linear_of(model, model.config.tied_head ? "model.embed_tokens.weight" : "lm_head.weight", nullptr,
                   std::size_t(model.config.n_vocab), std::size_t(model.config.d_model));
}

void read_layer(const Checkpoint& model, int layer, const Workers& workers, LayerWeights& out) {
  const auto d_model = std::size_t(model.config.d_model);
  const LayerTensors t = layer_tensors(model, layer);
  out.attention_norm = read_vector(t.attention_norm, d_model);
  out.mlp_norm = read_vector(t.mlp_norm, d_model);
  pack_rows({t.q, t.k, t.v}, workers, out.qkv);
  out.qkv_bias = read_biases({t.q, t.k, t.v});
  pack_rows({t.o}, workers, out.output);
  out.output_bias = read_biases({t.o});
  pack_interleaved(t.gate.weight, t.up.weight, t.gate.outputs, d_model, workers, out.gate_up);
  out.gate_up_bias = read_interleaved_biases(t.gate, t.up);
  pack_rows({t.down}, workers, out.down);
  out.down_bias = read_biases({t.down});
  pack_deltas({t.q, t.k, t.v}, false, workers, out.qkv_delta);
  pack_deltas({t.o}, false, workers, out.output_delta);
  pack_deltas({t.gate, t.up}, true, workers, out.gate_up_delta);
  pack_deltas({t.down}, false, workers, out.down_delta);
}

HeadWeights read_head(const Checkpoint& model, const Workers& workers) {
  const ModelConfig& config = model.config;
  HeadWeights out;
  out.norm = read_vector(required(model, "model.norm.weight"), std::size_t(config.d_model));
  const LinearTensors head = head_tensors(model);
  pack_rows({head}, workers, out.logits);
  pack_deltas({head}, false, workers, out.delta);
  return out;
}

void read_embeddings(const Checkpoint& model, std::span<const std::int32_t> ids, float* rows, std::size_t stride,
                     const Workers& workers) {
  const TensorPtr embedding = required(model, "model.embed_tokens.weight");
  const auto d_model = std::size_t(model.config.d_model);
  if (embedding->info().shape != std::vector<std::uint64_t>{std::uint64_t(model.config.n_vocab), d_model})
    throw Error(ErrorKind::bad_input, {model.label},
                "'model.embed_tokens.weight' is not [n_vocab, d_model] as configured",
                "the configuration does not belong to these weights");
  std::vector<std::size_t> order(ids.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t at) { return ids[at]; });
  std::vector<std::size_t> firsts;  // where each distinct id starts in `order`
  for (std::size_t i = 0; i < order.size(); ++i)
    if (i == 0 || ids[order[i]] != ids[order[i - 1]]) firsts.push_back(i);
  embedding->prepare();
  workers.for_each(firsts.size(), [&](std::size_t index, std::size_t) {
    const std::size_t begin = firsts[index], end = index + 1 < firsts.size() ? firsts[index + 1] : order.size();
    const auto id = static_cast<std::uint64_t>(ids[order[begin]]);
    float* first = rows + order[begin] * stride;
    embedding->read_f32({id, id + 1}, {first, d_model});
    require_finite(*embedding, id, {first, d_model});
    for (std::size_t i = begin + 1; i < end; ++i) std::copy_n(first, d_model, rows + order[i] * stride);
  });
  embedding->release();
}

void check_config(const Checkpoint& model) {
  const ModelConfig& c = model.config;
  const auto fail = [&](ErrorKind kind, const std::string& problem, const std::string& fix) {
    throw Error(kind, {model.label}, problem, fix);
  };
  for (const auto& [value, name] : {std::pair{c.n_layers, "layers"},
                                    {c.d_model, "hidden size"},
                                    {c.n_heads, "attention heads"},
                                    {c.n_kv_heads, "key-value heads"},
                                    {c.head_dim, "head size"},
                                    {c.d_ff, "intermediate size"},
                                    {c.n_vocab, "vocabulary"}})
    if (value < 1)
      fail(ErrorKind::bad_input, std::string(name) + " is " + std::to_string(value) + ", at least 1 was expected",
           "correct the configuration");
  if (c.n_heads % c.n_kv_heads != 0)
    fail(ErrorKind::bad_input,
         std::to_string(c.n_heads) + " attention heads are not a multiple of " + std::to_string(c.n_kv_heads) +
             " key-value heads",
         "correct the configuration");
  if (std::size_t(c.head_dim) > kMaxHeadDim)
    fail(ErrorKind::unsupported,
         "heads of " + std::to_string(c.head_dim) + " channels, at most " + std::to_string(kMaxHeadDim) +
             " can be evaluated",
         "use another engine");
  if (c.rope.rotary_dim > c.head_dim || c.rope.rotary_dim < 2 || c.rope.rotary_dim % 2 != 0)
    fail(ErrorKind::bad_input,
         "rotary size " + std::to_string(c.rope.rotary_dim) + " does not fit a head of " + std::to_string(c.head_dim),
         "correct the configuration");
  if (c.sliding_window && *c.sliding_window < 1)
    fail(ErrorKind::bad_input, "sliding window is " + std::to_string(*c.sliding_window), "correct the configuration");
}

}  // namespace ropewalk::verify
