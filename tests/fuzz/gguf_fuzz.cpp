#include "formats/gguf.h"

#include <cstring>

#include "formats/adapters/gguf_adapter.h"
#include "formats/gguf_model.h"
#include "lib/error.h"
#include "lib/recipes.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

namespace {

GgufPlan plan_of(const GgufFile& file) {
  GgufPlan plan;
  plan.keys = file.keys;
  plan.alignment = file.alignment;
  for (const TensorPtr& tensor : file.tensors) plan.tensors.push_back({tensor->name(), tensor, tensor->dtype()});
  return plan;
}

std::string written(const GgufPlan& plan) {
  const GgufShard shard = layout_gguf(plan).at(0);
  std::string out = shard.header;
  out.resize(shard.file_bytes);
  for (const GgufShard::Place& place : shard.places) {
    const LazyTensor& tensor = *plan.tensors[place.tensor].tensor;
    tensor.read_raw({0, tensor.info().rows()},
                    std::as_writable_bytes(std::span(out)).subspan(place.offset_bytes, tensor.info().bytes()));
  }
  return out;
}

/// A whole tiny model of arch llama, vocabulary included.
GgufPlan tiny_model() {
  GgufPlan plan;
  plan.keys = {{"general.architecture", gguf_string("llama")},
               {"llama.block_count", gguf_u32(1)},
               {"llama.context_length", gguf_u32(32)},
               {"llama.embedding_length", gguf_u32(4)},
               {"llama.feed_forward_length", gguf_i32s({6})},
               {"llama.attention.head_count", gguf_u32(2)},
               {"llama.attention.head_count_kv", gguf_u32(1)},
               {"llama.rope.scaling.type", gguf_string("yarn")},
               {"llama.rope.scaling.factor", gguf_f32(2)},
               {"llama.rope.scaling.original_context_length", gguf_u32(16)},
               {"llama.attention.layer_norm_rms_epsilon", gguf_f32(1e-5f)},
               {"tokenizer.ggml.model", gguf_string("llama")},
               {"tokenizer.ggml.tokens", gguf_strings({"<unk>", "<s>", "</s>", "a"})},
               {"tokenizer.ggml.scores", gguf_f32s({0, 0, 0, -1})},
               {"tokenizer.ggml.token_type", gguf_i32s({2, 3, 3, 1})},
               {"tokenizer.ggml.add_bos_token", gguf_bool(true)}};
  const auto add = [&](const char* name, std::vector<std::uint64_t> shape) {
    std::uint64_t n = 1;
    for (std::uint64_t d : shape) n *= d;
    plan.tensors.push_back({name, memory_tensor(name, std::move(shape), std::vector<float>(n, 0.5f)), DType::f32});
  };
  add("rope_freqs.weight", {1});
  add("token_embd.weight", {4, 4});
  add("blk.0.attn_norm.weight", {4});
  add("blk.0.attn_q.weight", {4, 4});
  add("blk.0.attn_k.weight", {2, 4});
  add("blk.0.attn_v.weight", {2, 4});
  add("blk.0.attn_output.weight", {4, 4});
  add("blk.0.ffn_norm.weight", {4});
  add("blk.0.ffn_gate.weight", {6, 4});
  add("blk.0.ffn_up.weight", {6, 4});
  add("blk.0.ffn_down.weight", {4, 6});
  add("output_norm.weight", {4});
  return plan;
}

/// A pair of factors of q_proj, and one of the embedding.
GgufPlan tiny_adapter() {
  GgufPlan plan;
  plan.keys = {{"general.architecture", gguf_string("llama")},
               {"general.type", gguf_string("adapter")},
               {"adapter.type", gguf_string("lora")},
               {"adapter.lora.alpha", gguf_f32(4)}};
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
    plan.tensors.push_back(
        {name, memory_tensor(name, shape, std::vector<float>(shape[0] * shape[1], 0.5f)), DType::f32});
  };
  add("token_embd.weight.lora_a", {4, 2});
  add("token_embd.weight.lora_b", {3, 2});
  add("blk.0.attn_q.weight.lora_a", {2, 3});
  add("blk.0.attn_q.weight.lora_b", {4, 2});
  return plan;
}

GgufPlan odd_types() {
  GgufPlan plan;
  plan.alignment = 64;
  plan.keys = {{"general.alignment", gguf_u32(64)},
               {"u16", gguf_u16(7)},
               {"i32", gguf_i32(-7)},
               {"s", gguf_string("")},
               {"f64", {GgufType::f64, 0.1}},
               {"i64", {GgufType::i64, std::int64_t{-1}}}};
  for (const DType dtype : {DType::q8_0, DType::q4_k, DType::bf16, DType::i8}) {
    TensorInfo info{.name = std::string(ropewalk::info(dtype).name), .shape = {2, 256}, .dtype = dtype};
    std::vector<std::byte> bytes(info.bytes(), std::byte{0x11});
    plan.tensors.push_back({info.name, memory_tensor(info, std::move(bytes)), dtype});
  }
  return plan;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile input(data, size);
  GgufFile file;
  try {
    file = read_gguf(input.path());
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "a refusal is about the input");
    require(!error.where().offset || *error.where().offset <= size + (1 << 20), "a refusal names a byte of the file");
    return 0;
  }
  std::uint64_t bytes = 0;
  for (const TensorPtr& tensor : file.tensors) bytes += tensor->info().bytes();
  require(bytes <= size, "the tensors lie inside the file");

  const std::string once = written(plan_of(file));
  const MemoryFile copy(once);
  const GgufFile again = read_gguf(copy.path());
  require(again.tensors.size() == file.tensors.size() && again.warnings.empty(), "what we write reads back");
  require(written(plan_of(again)) == once, "written twice, the same bytes");
  try {
    const Checkpoint model = read_gguf_model(file, "fuzz.gguf");
    require(model.tensors.size() <= file.tensors.size() && model.config.n_layers >= 1,
            "a model has the file's tensors");
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "a refusal is about the input");
  }
  try {
    const PeftAdapter adapter = read_gguf_adapter(input.path());
    require(2 * adapter.modules.size() == file.tensors.size(), "every tensor of an adapter is used");
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "a refusal is about the input");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {written(tiny_model()), written(tiny_adapter()), written(odd_types()), written({})};
}
