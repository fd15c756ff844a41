#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/engines/flags.h"
#include "formats/hf_folder.h"
#include "lib/error.h"
#include "tools/io.h"

namespace ropewalk::tools {

/// A checkpoint's rope without its weights: a folder, a bare config.json, a GGUF, or a name in the Hub cache, of any
/// architecture.
struct RopeSource {
  std::string text;                         // as written
  std::string config_path, config_text;     // "" for a GGUF
  formats::Json config;                     // as it lies on disk
  formats::Json rewritten;                  // what extend would write for +rope=SPEC; the same without, or unwritten
  std::optional<Error> unwritten;           // why extend writes no file for +rope=SPEC
  std::unique_ptr<formats::GgufFile> gguf;  // set for a GGUF
  std::string gguf_path;
  std::optional<int> tokenizer_limit;        // model_max_length of tokenizer_config.json as it lies on disk
  std::optional<int> written_limit;          // what extend would write there beside +rope=SPEC; the same without
  std::optional<std::string> spec;           // +rope=SPEC
  std::string read_as;                       // whose rules say what is meant
  std::optional<formats::WantedRope> meant;  // nullopt: nobody can say, see `trouble`
  /// What trained_context counts from, whatever -c says: the context that the files declare; of +rope=none and ntk, which
  /// scale no positions, the context of the model they are laid over.
  int declared = 0;
  std::optional<Error> trouble;
  std::vector<std::string> warnings;

  formats::FlagsSource on_disk() const;
  /// What an engine makes of it, the SPEC written in. A GGUF with a SPEC is read as it is.
  formats::EngineReading read(const formats::EngineVersion& engine, formats::EngineOptions options) const;
};

/// `context`: -c, else the longest that the file means: max_position_embeddings, or original context times factor if
/// that is more.
RopeSource open_rope_source(const std::string& text, std::optional<int> context, const Io& io);

/// The context that a layer's rope was trained on, before its method, tokens.
int trained_on(const RopeSource& source, const formats::WantedLayer& layer);

/// How far back a query of such a layer looks, at most: the context, or its window.
int reach_of(const RopeSource& source, const formats::WantedLayer& layer);

/// "config.json:14:5" for a pointer into the file, "" for none.
std::string place_of(const RopeSource& source, const RopeProvenance& from);

}  // namespace ropewalk::tools
