#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/quantize/quantize.h"
#include "tools/common_options.h"
#include "tools/mix_options.h"

namespace ropewalk::tools {

/// The command line of llama-quantize 0.5, and ours beside it.
struct QuantizeCommand {
  std::vector<std::string> words;  // IN.gguf [OUT.gguf] TYPE [THREADS]
  bool keep_split = false, saturate = false, sha256 = false, rmse = false;
  std::vector<std::string> prune_layers, override_kv;
  std::optional<int> max_buffer_mib;
  MixChoice mix;
  WriterOptions writer;
  CommonOptions common;
};
void declare_quantize(CommandLine& line, QuantizeCommand& command);

/// What the words and options come to. Error(usage) for whatever llama-quantize answers with its usage.
struct QuantizeRequest {
  std::filesystem::path input, output;  // of --keep-split without ".gguf"
  std::string type;                     // as llama-quantize spells it: "Q4_K_M", "COPY"
  std::optional<int> threads;
  formats::QuantizeOptions options;  // all but the importance matrix
  bool automatic = false;            // AUTO: types are to be chosen
};
/// IN and OUT of the words, as far as they are there: for who has to know before they are read.
void add_named_words(const QuantizeCommand& command, std::vector<NamedFile>& files);
QuantizeRequest parse_quantize(const QuantizeCommand& command);

}  // namespace ropewalk::tools
