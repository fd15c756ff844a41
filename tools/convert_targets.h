#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf_model.h"
#include "formats/gguf_write.h"
#include "formats/source.h"
#include "lib/dtype.h"
#include "tools/common_options.h"
#include "tools/mix_options.h"
#include "tools/new_rope.h"

namespace ropewalk::tools {

struct ConvertOptions {
  std::string source, output;
  std::optional<std::string> types;
  std::string rope_encoding = "auto";
  std::optional<std::string> model_name, metadata, compat;
  std::optional<std::uint64_t> split_max_size;
  std::optional<int> split_max_tensors;
  bool no_tensor_first_split = false, sha256 = false, rmse = false;
  std::optional<std::string> intermediate;
  MixChoice mix;
  NewRopeOptions rope;
  SourceOptions modifiers;
  WriterOptions writer;
  CommonOptions common;
};

/// One thing to write.
struct Target {
  std::string type;          // as asked for: "f16", "keep", "hf:bf16"
  DType dtype = DType::f16;  // of the matrices; under a mix what they are rounded to before it
  std::optional<formats::FileType> mix = std::nullopt;  // "Q4_K_M": each tensor's own encoding
  bool folder = false;                                  // a Hugging Face folder
  bool keep = false;                                    // tensor bytes as stored
  bool automatic = false;                               // each tensor's type is to be chosen
  std::filesystem::path path = {};
  std::optional<formats::GgufPlan> plan = std::nullopt;  // of a GGUF
  formats::GgufWritten planned = {};                     // its files
  std::uint64_t bytes = 0;                               // to be written
  std::vector<EncodingError> errors = {};                // by tensor of the plan, if they were measured
  std::vector<formats::Loss> losses = {};
  std::vector<std::string> notes = {};
  std::vector<formats::EngineVerdict> verdicts = {};  // of a new rope: what the engines read
};

/// Whether --type asks for a GGUF, seen before anything is opened.
bool wants_gguf(const ConvertOptions& options);
/// What --type and -o ask for, in order, each with its path. Error(usage) for names that mean nothing, two outputs of
/// one name, options that no output has a use for;
/// Error(unsupported) for what cannot be written yet.
std::vector<Target> parse_targets(const ConvertOptions& options, const formats::Source& source);
/// What tensors in blocks become when adapters change them: the type of the one folder that is asked for (f16 for keep);
/// nullopt where a GGUF is asked for, which has blocks.
std::optional<DType> type_of_blocks(const std::optional<std::string>& types);
/// Error(usage) if there is nothing to split by.
formats::GgufSplit split_of(const ConvertOptions& options);

}  // namespace ropewalk::tools
