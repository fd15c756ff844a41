#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/adapters/peft.h"
#include "formats/quantized/quantized.h"
#include "lib/adapters/combinations.h"
#include "lib/checkpoint.h"

namespace ropewalk::formats {

/// MODEL[+ADAPTER[:SCALE]]...[+rope=SPEC], parsed. An existing path is taken literally before any '+' or ':' is looked
/// for, the longest first; rope= takes the rest.
/// Error(usage) for an empty part or a SCALE that is no finite number.
struct SourceSpec {
  struct Adapter {
    std::string path;
    double scale = 1;
  };
  std::string text, model;
  std::vector<Adapter> adapters;
  std::optional<std::string> rope;
};
SourceSpec parse_source(std::string_view text);

/// A Hugging Face folder (or single .safetensors, or index) as found, for writers that carry things over.
struct HfFolder {
  std::filesystem::path folder;
  std::string config_text;
  Json config;
  Json generation_config;                           // null if absent
  std::vector<std::filesystem::path> weight_files;  // shards in order of name
  std::vector<std::string>
      carried_files;  // names of the other files of the folder, sorted: tokenizer, card, licence, ...
};

/// What a source's tokenizer is wanted for. One that is refused is a warning where nothing needs it, and an error with its
/// reason where something does.
enum class TokenizerUse {
  carried,    // its files or keys go along as they are: of a kind not read yet is a warning
  described,  // damaged is one too, and a tokenizer without weights opens
  rewritten,  // a folder's becomes a GGUF's; a GGUF's is carried
  encoding,   // text becomes ids
};

/// What a source's model is wanted for.
enum class ModelUse {
  running,  // each tensor has its role; an architecture that is not read is Error(unsupported) by name
  merging,  // a folder of any: of one that is not read tensors have names alone (named_model.h)
};

struct OpenOptions {
  ModelUse model_use = ModelUse::running;
  std::optional<DType> merge_dtype;            // --dtype; nullopt: each base tensor's stored dtype
  std::optional<DType> blocks = std::nullopt;  // what tensors in blocks become for an output that has none: f16
  bool saturate = false;
  std::optional<CombineOptions> combine = std::nullopt;  // of LoRA adapters as one, not one after the other
  bool nf4_base = false;  // --qlora-base nf4: linear layers of the base through NF4 and back, as a QLoRA was trained on
  bool qlora_advice = false;  // a warning where an adapter says that it was trained on a 4-bit base and this is none
  bool unmerged = false;      // adapters beside the weights, not in them (lib/unmerged.h): for the forward pass
  enum class TokenizerChoice { automatic, base, adapter, folder } tokenizer = TokenizerChoice::automatic;
  std::filesystem::path tokenizer_folder;
  TokenizerUse tokenizer_use = TokenizerUse::carried;
};

/// Anything that opens: what the forward pass needs, and the container it came from for writers.
struct Source {
  SourceSpec spec;
  Checkpoint checkpoint;       // adapters applied, rope replaced if asked
  std::optional<HfFolder> hf;  // one of hf, gguf is set
  std::optional<GgufFile> gguf;
  bool named_only = false;  // hf is of an architecture that is not read: names of tensors, no roles; of
                            // checkpoint.config model_type, tied_head and n_vocab alone
  bool synthetic = false;   // hf is a configuration alone, the weights are random
  // each in the order of checkpoint.tensors:
  std::vector<TensorPtr> base_tensors;       // before adapters
  std::vector<TensorPtr> exact_tensors;      // as adapters change it, before a rounding if any; nullptr: none does
  std::set<std::string> nf4_base;            // names of base_tensors that OpenOptions::nf4_base changed
  std::optional<Quantization> quantization;  // what base_tensors dequantize; not of a GGUF, whose types say it
  std::vector<PeftAdapter> adapters;
  std::vector<MergedModule> merged_modules;
  std::string tokenizer_origin;            // "base", "adapter DIR", "folder DIR", "none"
  std::filesystem::path tokenizer_folder;  // where a writer takes tokenizer files from; empty: none, or inside the GGUF
};

/// Opens by kind: folder with config.json, folder with adapter_config.json (its base is resolved from
/// base_model_name_or_path: beside the adapter, relative to the working directory, or in the Hub cache), .safetensors,
/// .index.json, .gguf (any shard), org/name[@REV] in the local Hub cache (HF_HOME, HF_HUB_CACHE), or
/// synthetic:CONFIG.json (synthetic.h; said in a warning).
/// Of an architecture that is read, checks that every tensor it needs is there with the right shape and no layer holds more; tensors
/// outside the decoder are kept, with a warning. `hub_cache` is passed in: nothing below tools reads the environment.
Source open_source(const SourceSpec& spec, const OpenOptions& options, const std::filesystem::path& hub_cache);

/// The tokenizer alone of a folder or a GGUF, whatever its architecture, with weights or without: a checkpoint without
/// tensors, whose configuration has n_vocab alone, the number of ids. It is read to encode (TokenizerUse). nullopt for
/// what has to be opened as a whole to know its tokenizer: adapters, a rope, a file of weights, a configuration, a folder
/// without tokenizer files.
std::optional<Source> open_tokenizer(const SourceSpec& spec, const std::filesystem::path& hub_cache);

}  // namespace ropewalk::formats
