#include <algorithm>
#include <map>
#include <set>

#include "formats/gguf_model.h"
#include "formats/source_tokenizer.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/forwarding_tensor.h"
#include "lib/number_text.h"

namespace ropewalk::formats {
namespace {

constexpr std::uint64_t kMaxLayers = 512;  // LLAMA_MAX_LAYERS
constexpr const char* kOtherFile = "llama.cpp 0.5 would refuse this file: write it again with a current converter";

/// A tensor of the file under its canonical name and layout. Reading values of a type that cannot be decoded says
/// which tensor it is.
class NamedTensor final : public RelabelledTensor {
 public:
  NamedTensor(TensorInfo info, TensorPtr parent, std::string path)
      : RelabelledTensor(std::move(info), std::move(parent)), path_(std::move(path)) {}

  void read_f32(RowRange range, std::span<float> values) const override {
    check();
    RelabelledTensor::read_f32(range, values);
  }
  void read_f64(RowRange range, std::span<double> values) const override {
    check();
    RelabelledTensor::read_f64(range, values);
  }

 private:
  void check() const {
    if (!can_decode(dtype()))
      throw Error(ErrorKind::unsupported, {.path = path_},
                  "tensor '" + parent().name() + "' is " + std::string(ropewalk::info(dtype()).name) +
                      ", which cannot be decoded",
                  "llama.cpp 0.5 cannot read it either: write the file again with a current converter");
  }
  std::string path_;
};

class ModelReader {
 public:
  ModelReader(const GgufFile& file, const std::string& path, TokenizerUse use = TokenizerUse::carried)
      : file_(file), path_(path), use_(use) {}

  Checkpoint read() {
    check_architecture();
    read_shape();
    Checkpoint out;
    out.label = path_;
    out.read_as = "llama.cpp 0.5";
    out.warnings = file_.warnings;
    out.vocabulary = read_or_warn([&] { return read_gguf_vocabulary(file_, path_, &out.warnings); },
                                  use_ == TokenizerUse::rewritten ? TokenizerUse::carried : use_, out.warnings);
    take_tensors(out);
    config_.rope = read_gguf_rope(file_, path_);
    out.config = config_;
    return out;
  }

  ModelConfig read_config() {
    check_architecture();
    read_shape();
    if (const GgufArray* tokens = file_.array("tokenizer.ggml.tokens"); tokens && tokens->size() <= 0x7fffffff)
      config_.n_vocab = static_cast<int>(tokens->size());
    check_rope_tensors();
    config_.rope = read_gguf_rope(file_, path_);
    return config_;
  }

 private:
  [[noreturn]] void refuse(const std::string& problem, ErrorKind kind = ErrorKind::bad_input,
                           const std::string& fix = kOtherFile) const {
    throw Error(kind, {.path = path_}, problem, fix);
  }

  void check_architecture() const {
    const auto arch = file_.string("general.architecture");
    if (!arch) refuse("has no general.architecture");
    if (*arch != "llama")
      refuse("architecture '" + *arch + "' is not read yet", ErrorKind::unsupported,
             "use a GGUF of architecture llama");
    if (file_.integer("llama.expert_count").value_or(0) > 0)
      refuse("mixtures of experts are not read yet", ErrorKind::unsupported, "use a dense model");
    if (!file_.boolean("llama.attention.causal").value_or(true))
      refuse("its attention is not causal", ErrorKind::unsupported, "use a decoder");
  }

  int positive(std::uint64_t value, const std::string& key) const {
    if (value == 0 || value > 0x7fffffff)
      refuse("key '" + key + "' is " + std::to_string(value) + ", expected 1 to 2147483647");
    return static_cast<int>(value);
  }
  int required(const std::string& key) const {
    const auto value = file_.integer(key);
    if (!value) refuse("key '" + key + "' is missing");
    return positive(*value, key);
  }

  /// A key that may be a number or an array with one number per layer; only arrays of equal numbers are read.
  std::optional<int> per_layer(const std::string& key) const {
    const GgufValue* value = file_.find(key);
    if (!value) return std::nullopt;
    const auto* array = std::get_if<GgufArray>(&value->value);
    if (!array) return positive(*file_.integer(key), key);
    std::vector<std::int32_t> layers = i32_elements(*array);
    if (array->element_type == GgufType::u32) {
      GgufArray as_signed = *array;
      as_signed.element_type = GgufType::i32;
      layers = i32_elements(as_signed);
    }
    if (layers.size() != static_cast<std::size_t>(config_.n_layers))
      refuse("key '" + key + "' has " + std::to_string(array->size()) + " elements, expected one per layer, " +
             std::to_string(config_.n_layers));
    if (std::adjacent_find(layers.begin(), layers.end(), std::not_equal_to<>()) != layers.end())
      refuse("key '" + key + "' differs from layer to layer, which is not read yet", ErrorKind::unsupported,
             "use a model whose layers are alike");
    return positive(static_cast<std::uint64_t>(static_cast<std::uint32_t>(layers.front())), key);
  }

  void read_shape() {
    config_.model_type = "llama";
    config_.rotary_pairs = RotaryPairs::interleaved;
    config_.n_layers = required("llama.block_count");
    if (config_.n_layers > static_cast<int>(kMaxLayers))
      refuse("llama.block_count is " + std::to_string(config_.n_layers) + ", llama.cpp 0.5 takes at most 512");
    config_.context = required("llama.context_length");
    config_.d_model = required("llama.embedding_length");
    const auto heads = per_layer("llama.attention.head_count");
    const auto d_ff = per_layer("llama.feed_forward_length");
    if (!heads) refuse("key 'llama.attention.head_count' is missing");
    if (!d_ff) refuse("key 'llama.feed_forward_length' is missing");
    config_.n_heads = *heads;
    config_.d_ff = *d_ff;
    config_.n_kv_heads = per_layer("llama.attention.head_count_kv").value_or(*heads);
    if (config_.n_heads % config_.n_kv_heads != 0)
      refuse(std::to_string(config_.n_heads) + " heads cannot share " + std::to_string(config_.n_kv_heads) +
             " key-value heads");
    const auto head_size = [&](const char* key) {
      const auto said = file_.integer(key);
      return said ? positive(*said, key) : positive(static_cast<std::uint64_t>(config_.d_model / config_.n_heads), key);
    };
    config_.head_dim = head_size("llama.attention.key_length");
    if (const int value_length = head_size("llama.attention.value_length"); value_length != config_.head_dim)
      refuse("llama.attention.value_length is " + std::to_string(value_length) + ", expected " +
             std::to_string(config_.head_dim) + " as attention.key_length");
    const auto eps = file_.number("llama.attention.layer_norm_rms_epsilon");
    if (!eps) refuse("key 'llama.attention.layer_norm_rms_epsilon' is missing");
    if (!(*eps >= 0 && *eps < 1))
      refuse("llama.attention.layer_norm_rms_epsilon is " + round_trip_text(*eps) + ", expected 0 to 1");
    config_.rms_eps = *eps;
  }

  using Shape = std::vector<std::uint64_t>;
  struct Expected {
    Shape shape;
    bool required;
    RotaryPairs pairs = RotaryPairs::none;
  };

  /// Every tensor the loader creates for arch llama, by GGUF name.
  std::map<std::string, Expected> inventory() const {
    const auto u = [](int n) { return static_cast<std::uint64_t>(n); };
    const std::uint64_t d = u(config_.d_model), ff = u(config_.d_ff), vocab = u(config_.n_vocab);
    const std::uint64_t q = config_.d_q(), kv = config_.d_kv();
    std::map<std::string, Expected> all;
    all["token_embd.weight"] = {{vocab, d}, true};
    all["output_norm.weight"] = {{d}, true};
    all["output.weight"] = {{vocab, d}, false};
    for (int layer = 0; layer < config_.n_layers; ++layer) {
      const std::string blk = "blk." + std::to_string(layer) + ".";
      const auto linear = [&](const char* stem, std::uint64_t out, std::uint64_t in,
                              RotaryPairs pairs = RotaryPairs::none) {
        all[blk + stem + ".weight"] = {{out, in}, true, pairs};
        all[blk + stem + ".bias"] = {{out}, false, pairs};
      };
      all[blk + "attn_norm.weight"] = {{d}, true};
      all[blk + "ffn_norm.weight"] = {{d}, true};
      linear("attn_q", q, d, RotaryPairs::interleaved);
      linear("attn_k", kv, d, RotaryPairs::interleaved);
      linear("attn_v", kv, d);
      linear("attn_output", d, q);
      linear("ffn_gate", ff, d);
      linear("ffn_up", ff, d);
      linear("ffn_down", d, ff);
    }
    return all;
  }

  /// Divisors of the frequencies: read_gguf_rope's, no part of the checkpoint.
  std::vector<std::string_view> rope_tensors() const {
    if (file_.string("llama.rope.scaling.type").value_or("linear") == "longrope")
      return {"rope_factors_long.weight", "rope_factors_short.weight"};
    return {kGgufRopeFreqs};
  }
  bool is_rope_tensor(const std::string& name) const {
    const std::vector<std::string_view> all = rope_tensors();
    return std::find(all.begin(), all.end(), name) != all.end();
  }
  /// A rope without the divisors that the rest of the file has is another one.
  void check_rope_tensors() const {
    for (const std::string_view wanted : rope_tensors()) {
      const std::string name(wanted);
      if (std::find(file_.left_out.begin(), file_.left_out.end(), name) != file_.left_out.end())
        refuse("the data of '" + name + "', which the rope needs, is cut off", ErrorKind::bad_input,
               "fetch more of the file");
      const bool here = std::any_of(file_.tensors.begin(), file_.tensors.end(),
                                    [&](const TensorPtr& tensor) { return tensor->name() == name; });
      if (!here && !file_.missing_shards.empty())
        refuse("'" + name + "', which the rope needs if there is one, may stand in '" + file_.missing_shards.front() +
                   "', which is missing",
               ErrorKind::bad_input, "fetch the first bytes of every shard into one folder");
    }
  }

  void take_tensors(Checkpoint& out) {
    const auto embedding = std::find_if(file_.tensors.begin(), file_.tensors.end(),
                                        [](const TensorPtr& t) { return t->name() == "token_embd.weight"; });
    if (file_.tensors.empty())
      refuse("holds keys and a vocabulary, but no weights", ErrorKind::bad_input, "name a whole model");
    if (embedding == file_.tensors.end()) refuse("tensor 'token_embd.weight' is missing");
    config_.n_vocab = positive((*embedding)->info().rows(), "rows of token_embd.weight");
    if (const GgufArray* tokens = file_.array("tokenizer.ggml.tokens");
        tokens && tokens->size() != static_cast<std::uint64_t>(config_.n_vocab))
      refuse("token_embd.weight has " + std::to_string(config_.n_vocab) + " rows, the tokenizer has " +
             std::to_string(tokens->size()) + " tokens");
    // Before the inventory is built: no file can make it larger than itself.
    if (static_cast<std::size_t>(config_.n_layers) * 9 > file_.tensors.size())
      refuse("llama.block_count is " + std::to_string(config_.n_layers) + ", which needs at least " +
             std::to_string(config_.n_layers * 9 + 2) + " tensors, the file has " +
             std::to_string(file_.tensors.size()));

    const std::map<std::string, Expected> expected = inventory();
    std::set<std::string> found;
    bool attention_bias = false, mlp_bias = false;
    for (const TensorPtr& tensor : file_.tensors) {
      const std::string& name = tensor->name();
      if (is_rope_tensor(name)) continue;
      const auto wanted = expected.find(name);
      if (wanted == expected.end()) {
        if (name.find(".attn_qkv.") != std::string::npos)
          refuse("tensor '" + name + "' holds Q, K and V fused, which is not read yet", ErrorKind::unsupported,
                 "convert without --fuse-qkv");
        refuse("tensor '" + name + "' is none of architecture llama with " + std::to_string(config_.n_layers) +
               " layers");
      }
      if (tensor->info().shape != wanted->second.shape)
        throw Error(ErrorKind::bad_input, {.path = std::string(tensor->file())},
                    "tensor '" + name + "' has shape " + shape_text(tensor->info().shape) + ", expected " +
                        shape_text(wanted->second.shape),
                    kOtherFile);
      found.insert(name);
      attention_bias = attention_bias || (name.ends_with(".bias") && name.find(".attn_") != std::string::npos);
      mlp_bias = mlp_bias || (name.ends_with(".bias") && name.find(".ffn_") != std::string::npos);
      out.tensors.push_back(std::make_shared<NamedTensor>(
          TensorInfo{*canonical_tensor_name(name), tensor->info().shape, tensor->dtype(), wanted->second.pairs}, tensor,
          path_));
    }
    for (const auto& [name, wanted] : expected)
      if (wanted.required && !found.contains(name)) refuse("tensor '" + name + "' is missing");
    config_.tied_head = !found.contains("output.weight");
    config_.attention_bias = attention_bias;
    config_.mlp_bias = mlp_bias;
  }

  const GgufFile& file_;
  const std::string& path_;
  TokenizerUse use_;
  ModelConfig config_;
};

}  // namespace

Checkpoint read_gguf_model(const GgufFile& file, const std::string& path, TokenizerUse use) {
  return ModelReader(file, path, use).read();
}

ModelConfig read_gguf_config(const GgufFile& file, const std::string& path) {
  return ModelReader(file, path).read_config();
}

}  // namespace ropewalk::formats
