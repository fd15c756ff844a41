#include <string>

#include "formats/hf_config.h"
#include "formats/tensor_inventory.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> warnings;
  try {
    const Json json = parse_json("config.json", text, {.max_bytes = 1 << 20});
    const ModelConfig config = read_hf_config("config.json", text, json, warnings);
    require(
        config.n_layers >= 1 && config.d_model >= 1 && config.d_ff >= 1 && config.n_vocab >= 1 && config.context >= 1,
        "sizes are positive");
    require(config.n_heads % config.n_kv_heads == 0 && config.head_dim % 2 == 0,
            "heads share evenly and rotate in pairs");
    require(config.rope.rotary_dim >= 2 && config.rope.rotary_dim % 2 == 0 && config.rope.rotary_dim <= config.head_dim,
            "what rotates is inside the head");
    if (config.n_layers <= 64)
      for (const ExpectedTensor& tensor : expected_tensors(config))
        require(element_count(tensor.shape).has_value(), "no shape wraps");
    if (config.head_dim <= 1024)
      require(!rope_table(config.rope, config.context).inv_freq.empty(),
              "a configuration that is read has frequencies");
    const ModelConfig again = read_hf_config("config.json", "", json, warnings);
    require(again.head_dim == config.head_dim && again.context == config.context, "the text is for messages only");
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "a configuration is refused as bad input or as unsupported");
    require(error.where().path == "config.json" && !error.fix().empty(), "a refusal names the file and what to do");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  const std::string sizes =
      R"("hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 512, "num_attention_heads": 4)";
  return {
      "{\"model_type\": \"llama\", " + sizes +
          R"(, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": {"type": "yarn", "factor": 8.0,
 "original_max_position_embeddings": 256, "finetuned": true}, "max_position_embeddings": 2048, "tie_word_embeddings": true, "attention_bias": true, "torch_dtype": "float16"})",
      "{\"model_type\": \"mistral\", " + sizes +
          R"(, "sliding_window": 16, "max_position_embeddings": 256, "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0,
 "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}, "dtype": "bfloat16"})",
      "{\"model_type\": \"llama\", " + sizes + R"(, "quantization_config": {"quant_method": "awq"}})",
      "{\"model_type\": \"llama\", " + sizes + R"(, "num_key_value_heads": null, "rope_scaling": null})"};
}
