// What classes have where config.json is silent: AutoConfig and the rotary embedding of every class of transformers 5.23.0
// and 4.57.6, asked with a file that says nothing of the rope (tests/golden/make/class_ropes.py).
#include "formats/engines/class_defaults.h"

#include <algorithm>
#include <array>

namespace ropewalk::formats::engines {
namespace {

constexpr std::array kClasses = {
    ClassRope{"EvollaModel", 500000, 500000, 1, 0},
    ClassRope{"afmoe", 10000, 10000, 1, 128},
    ClassRope{"apertus", 12000000, 12000000, 1, 0},
    ClassRope{"axk1", 10000, 10000, 1, 64},
    ClassRope{"axk2", 10000, 10000, 1, 32},
    ClassRope{"bailing_hybrid", 6000000, 6000000, 1, 64},
    ClassRope{"bamba", 10000, 10000, 0.5, 0},
    ClassRope{"bitnet", 500000, 500000, 1, 0},
    ClassRope{"blt", 500000, 500000, 1, 0},
    ClassRope{"blt_global_transformer", 500000, 500000, 1, 0},
    ClassRope{"blt_local_decoder", 500000, 500000, 1, 0},
    ClassRope{"blt_local_encoder", 500000, 500000, 1, 0},
    ClassRope{"cohere", 500000, 10000, 1, 0},
    ClassRope{"cohere2_moe", 10000, 10000, 1, 128},
    ClassRope{"cosmos3_edge_text", 100000000, 100000000, 1, 128},
    ClassRope{"csm", 500000, 500000, 1, 0},
    ClassRope{"csm_depth_decoder_model", 500000, 500000, 1, 0},
    ClassRope{"cwm", 1000000, 1000000, 1, 128},
    ClassRope{"deepseek_v2", 10000, 10000, 1, 64},
    ClassRope{"deepseek_v3", 10000, 10000, 1, 64},
    ClassRope{"deepseek_v32", 10000, 10000, 1, 64},
    ClassRope{"dia_decoder", 10000, 10000, 1, 128},
    ClassRope{"dia_encoder", 10000, 10000, 1, 128},
    ClassRope{"emu3_text_model", 1000000, 1000000, 1, 0},
    ClassRope{"ernie4_5", 500000, 500000, 1, 128},
    ClassRope{"ernie4_5_moe", 500000, 500000, 1, 0},
    ClassRope{"evolla", 500000, 500000, 1, 0},
    ClassRope{"falcon_h1", 10000, 100000, 1, 0},
    ClassRope{"flex_olmo", 500000, 500000, 1, 0},
    ClassRope{"flint", 10000, 10000, 1, 128},
    ClassRope{"gemma", 10000, 10000, 1, 256},
    ClassRope{"gemma2", 10000, 10000, 1, 256},
    ClassRope{"gemma3n_text", 1000000, 1000000, 1, 256},
    ClassRope{"glm", 10000, 10000, 0.5, 128},
    ClassRope{"glm4", 10000, 10000, 0.5, 128},
    ClassRope{"glm4_moe", 10000, 10000, 0.5, 0},
    ClassRope{"glm4_moe_lite", 10000, 10000, 1, 64},
    ClassRope{"glm4v_moe_text", 10000, 10000, 0.5, 0},
    ClassRope{"glm_moe_dsa", 10000, 10000, 1, 64},
    ClassRope{"glmasr_encoder", 10000, 10000, 0.5, 0},
    ClassRope{"gte", 160000, 160000, 1, 0},
    ClassRope{"helium", 100000, 100000, 1, 128},
    ClassRope{"higgs_audio_v2", 10000, 10000, 1, 128},
    ClassRope{"hrm_text", 10000, 10000, 1, 128},
    ClassRope{"hy_v3", 11158840, 11158840, 1, 128},
    ClassRope{"hy_v4", 10000, 10000, 1, 64},
    ClassRope{"jetmoe", 10000, 10000, 1, 128},
    ClassRope{"jina_embeddings_v3", 20000, 20000, 1, 0},
    ClassRope{"kolibri1", 10000, 10000, 1, 128},
    ClassRope{"kyutai_speech_to_text", 10000, 100000, 1, 0},
    ClassRope{"lfm2", 1000000, 1000000, 1, 0},
    ClassRope{"lfm2_moe", 1000000, 1000000, 1, 0},
    ClassRope{"llama4_text", 500000, 500000, 1, 128},
    ClassRope{"longcat_flash", 10000000, 10000000, 1, 64},
    ClassRope{"minicpm3", 10000, 10000, 1, 32},
    ClassRope{"minimax", 1000000, 1000000, 1, 0},
    ClassRope{"minimax_m2", 5000000, 5000000, 1, 128},
    ClassRope{"minimax_m3_vl_text", 5000000, 5000000, 1, 128},
    ClassRope{"ministral3", 10000, 10000, 1, 128},
    ClassRope{"mistral4", 10000, 10000, 1, 128},
    ClassRope{"mistral_large4_text", 10000, 10000, 1, 64},
    ClassRope{"mixtral", 1000000, 1000000, 1, 0},
    ClassRope{"mllama_text_model", 500000, 500000, 1, 0},
    ClassRope{"molmo2_text", 10000, 10000, 1, 128},
    ClassRope{"moonshine", 10000, 10000, 0.9, 0},
    ClassRope{"muse_glimmer_assistant", 500000, 500000, 1, 128},
    ClassRope{"muse_glimmer_text", 10000, 10000, 1, 128},
    ClassRope{"muse_spark_text", 10000, 10000, 1, 64},
    ClassRope{"musicflamingo", 1200, 1200, 0.2, 1280},
    ClassRope{"nemotron", 10000, 10000, 0.5, 0},
    ClassRope{"nemotron3_5_transcribe_asr_audio", 10000, 10000, 0.5, 0},
    ClassRope{"nemotron3_5_transcribe_word_timestamp", 10000, 10000, 0.5, 0},
    ClassRope{"neucodec", 10000, 10000, 1, 64},
    ClassRope{"nomic_bert", 1000, 1000, 1, 0},
    ClassRope{"openai_privacy_filter", 10000, 10000, 1, 64},
    ClassRope{"paddleocr_vl_text", 500000, 500000, 1, 128},
    ClassRope{"pe_video_encoder", 20000, 20000, 1, 128},
    ClassRope{"persimmon", 10000, 25000, 0.5, 0},
    ClassRope{"phi", 10000, 10000, 0.5, 0},
    ClassRope{"phimoe", 1000000, 1000000, 1, 0},
    ClassRope{"qwen2_5_omni_dit", 10000, 10000, 1, 64},
    ClassRope{"qwen2_5_omni_talker", 1000000, 1000000, 1, 128},
    ClassRope{"qwen2_5_omni_text", 1000000, 1000000, 1, 0},
    ClassRope{"qwen2_5_vl", 1000000, 1000000, 1, 0},
    ClassRope{"qwen2_5_vl_text", 1000000, 1000000, 1, 0},
    ClassRope{"qwen2_vl", 1000000, 1000000, 1, 0},
    ClassRope{"qwen2_vl_text", 1000000, 1000000, 1, 0},
    ClassRope{"qwen3_5_moe_text", 10000, 10000, 0.25, 256},
    ClassRope{"qwen3_5_text", 10000, 10000, 0.25, 256},
    ClassRope{"qwen3_next", 10000, 10000, 0.25, 256},
    ClassRope{"qwen3_omni_moe_talker_code_predictor", 10000, 10000, 1, 128},
    ClassRope{"qwen3_omni_moe_text", 1000000, 1000000, 1, 0},
    ClassRope{"qwen3_vl_moe_text", 500000, 5000000, 1, 0},
    ClassRope{"qwen3_vl_text", 500000, 5000000, 1, 128},
    ClassRope{"qwen4_exp_text", 10000, 10000, 1, 256},
    ClassRope{"recurrent_gemma", 10000, 10000, 0.5, 0},
    ClassRope{"seed_oss", 10000, 10000, 1, 128},
    ClassRope{"smollm3", 2000000, 2000000, 1, 0},
    ClassRope{"solar_open", 1000000, 1000000, 1, 128},
    ClassRope{"stablelm", 10000, 10000, 0.25, 0},
    ClassRope{"t5_gemma_module", 10000, 10000, 1, 256},
    ClassRope{"t5gemma2_decoder", 1000000, 1000000, 1, 256},
    ClassRope{"t5gemma2_text", 1000000, 1000000, 1, 256},
    ClassRope{"timesfm2_5", 10000, 10000, 1, 80},
    ClassRope{"vaultgemma", 10000, 10000, 1, 256},
    ClassRope{"voxtral_realtime_encoder", 10000, 10000, 1, 64},
    ClassRope{"xcodec2", 10000, 10000, 1, 64},
    ClassRope{"youtu", 10000, 10000, 1, 64},
};
static_assert(std::is_sorted(kClasses.begin(), kClasses.end(),
                             [](const ClassRope& a, const ClassRope& b) { return a.model_type < b.model_type; }));

struct ClassDictionary {
  std::string_view model_type, json;
};
constexpr const char* kGptOss =
    R"({"rope_type":"yarn","factor":32.0,"beta_fast":32.0,"beta_slow":1.0,"truncate":false,)"
    R"("original_max_position_embeddings":4096})";
const std::array kDictionaries = {
    ClassDictionary{"apertus", R"({"rope_type":"llama3","rope_theta":12000000.0,"factor":8.0,"low_freq_factor":1.0,)"
                               R"("high_freq_factor":4.0,"original_max_position_embeddings":8192})"},
    ClassDictionary{"cosmos3_edge_text", R"({"rope_type":"default","rope_theta":100000000.0})"},
    ClassDictionary{"cwm", R"({"rope_type":"llama3","rope_theta":1000000.0,"factor":16.0,"low_freq_factor":1.0,)"
                           R"("high_freq_factor":4.0,"original_max_position_embeddings":8192})"},
    ClassDictionary{"gpt_oss", kGptOss},
    ClassDictionary{"higgs_audio_v2",
                    R"({"rope_type":"llama3","rope_theta":500000.0,"factor":32.0,"low_freq_factor":0.125,)"
                    R"("high_freq_factor":0.5,"original_max_position_embeddings":1024})"},
    ClassDictionary{"ministral3", R"({"rope_type":"yarn","rope_theta":1000000.0,"factor":16.0,"mscale":1.0,)"
                                  R"("mscale_all_dim":1.0,"original_max_position_embeddings":16384})"},
    ClassDictionary{"mistral4", R"({"rope_type":"yarn","rope_theta":10000.0,"factor":128.0,"mscale":1.0,)"
                                R"("mscale_all_dim":1.0,"original_max_position_embeddings":8192,)"
                                R"("partial_rotary_factor":0.5})"},
    ClassDictionary{"mistral_large4_text",
                    R"({"rope_type":"yarn","rope_theta":10000.0,"factor":2048.0,"attention_factor":1.0,)"
                    R"("original_max_position_embeddings":512})"},
    ClassDictionary{"moonshine_streaming",
                    R"({"rope_type":"default","rope_theta":10000.0,"partial_rotary_factor":0.8})"},
    ClassDictionary{"muse_spark_text", R"({"rope_type":"default","rope_theta":500000.0})"},
    ClassDictionary{"openai_privacy_filter",
                    R"({"rope_type":"yarn","rope_theta":150000.0,"factor":32.0,"truncate":false,)"
                    R"("original_max_position_embeddings":4096})"}};

/// Classes whose kinds of layers have ropes of their own, each class by keys and defaults of its own.
constexpr std::array kKindsOfLayers = {"beam",
                                       "deepseek_v4",
                                       "diffusion_gemma_text",
                                       "dots3_note_text",
                                       "embedding_gemma2_text",
                                       "gemma4_text",
                                       "gemma4_unified_text",
                                       "laguna",
                                       "lfm3",
                                       "mellum",
                                       "mimo_v2_flash",
                                       "modernbert",
                                       "modernbert-decoder",
                                       "neomme",
                                       "step3p5",
                                       "step3p7",
                                       "ultrabert",
                                       "zaya"};

}  // namespace

const ClassRope& class_rope(const std::string& model_type) {
  static const ClassRope llama{"", 10000, 10000, 1, 0};
  const auto found =
      std::lower_bound(kClasses.begin(), kClasses.end(), model_type,
                       [](const ClassRope& one, const std::string& type) { return one.model_type < type; });
  return found != kClasses.end() && found->model_type == model_type ? *found : llama;
}

Json class_dictionary(const std::string& model_type) {
  for (const ClassDictionary& one : kDictionaries)
    if (one.model_type == model_type) return Json::parse(one.json);
  return nullptr;
}

bool has_kinds_of_layers(const std::string& model_type) {
  return std::find(kKindsOfLayers.begin(), kKindsOfLayers.end(), model_type) != kKindsOfLayers.end();
}

bool widens_full_layers(const std::string& model_type) {
  return model_type == "gemma4_text" || model_type == "gemma4_unified_text" || model_type == "diffusion_gemma_text";
}

bool takes_gemma3_names(const std::string& model_type) {
  return model_type == "gemma3_text" || model_type == "gemma3n_text" || model_type == "t5gemma2_text" ||
         model_type == "t5gemma2_decoder";
}

}  // namespace ropewalk::formats::engines
