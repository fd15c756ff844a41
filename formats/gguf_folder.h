#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/gguf_rope.h"
#include "formats/rope_emit.h"
#include "formats/source.h"

namespace ropewalk::formats {

/// What a Hugging Face folder of a GGUF's model holds beside the weights, and what it cannot hold. Everything is what
/// llama.cpp 0.5 reads in the GGUF: its defaults for keys that are not there are written out.
struct GgufFolder {
  Json config;                               // config.json, of class LlamaForCausalLM
  std::string dialect;                       // of its rope, in words
  std::vector<EngineVerdict> verdicts;       // what engines read in it
  std::map<std::string, std::string> files;  // generation_config.json; the tokenizer's
  // "tokenizer": it cannot be said in Hugging Face's files; can change logits, for text gets other ids.
  // "sliding_window", "tokenizer.normalizer": a GGUF has no key for them, "sampling": generation_config.json has none.
  // "quantization": weights are what their blocks hold
  std::vector<Loss> losses;
};

/// `source` is a GGUF, adapters and rope applied; the tokenizer is rebuilt unless it comes from a folder of its own.
/// `rope`: as wanted in config.json, written so that `engines` read it (emit_rope): llama3 where divisors are Llama 3's,
/// longrope lists where they are no published method's.
/// Error(unsupported) for a geometry that transformers has no class for and a rope that no config.json says.
GgufFolder folder_of_gguf(const Source& source, const RopeTarget& rope, std::span<const EngineVersion> engines);

/// tokenizer.model (SentencePiece) or tokenizer.json (BPE) with tokenizer_config.json, by name.
/// Error(unsupported) where no such files give the ids that the GGUF does.
std::map<std::string, std::string> tokenizer_files(const Vocabulary& vocabulary, int context);

}  // namespace ropewalk::formats
