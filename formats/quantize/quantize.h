#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/imatrix.h"
#include "formats/quantize/type_mix.h"

namespace ropewalk::formats {

/// What llama-quantize 0.5's options ask for; all of it but threads and names of files.
struct QuantizeOptions {
  MixOptions mix;                      // mix.importance is taken from `imatrix`
  bool copy = false;                   // COPY: every tensor as it is
  bool allow_requantize = false;       // --allow-requantize
  bool saturate = false;               // values that a type cannot hold are clamped, not refused
  std::vector<int> prune_layers;       // --prune-layers
  std::vector<int> shard_of;           // --keep-split: the source's shard of each tensor; empty: one file, sorted
  std::vector<GgufKey> override_keys;  // --override-kv, in the order given
  const Imatrix* imatrix = nullptr;    // --imatrix, after --include-weights and --exclude-weights
  std::string imatrix_file;            // its name as given
};

/// One tensor of the result.
struct QuantizedTensor {
  std::string name, source_name;                 // differ behind a pruned layer
  DType from, to, wanted;                        // wanted: by the mix, before the row's length was looked at
  bool weighted = false;                         // has importances, and its encoder uses them
  std::vector<std::size_t> experts_unseen = {};  // of those importances
};
struct QuantizePlan {
  GgufPlan plan;
  GgufSplit split;                       // --keep-split
  std::vector<QuantizedTensor> tensors;  // as plan.tensors
};

/// The file llama-quantize 0.5 makes of a GGUF `source`, which may be one that was never written: its keys and their
/// order (changed keys move to the end), its tensors in order of layers and names, the encoding of each, reached through
/// the one that `source` gives it. Any architecture. `path` is for messages. Throws
/// - Error(usage): --prune-layers names a layer that is not there, or all;
/// - Error(unsupported): a quantized tensor would be quantized again without allow_requantize, an encoding needs
///   importances that are not there, a row fits no block (mix_types), an encoding cannot be read or written;
/// - Error(bad_input): importances of another size than the tensor's rows (but the embedding's, which are ignored).
QuantizePlan quantize_plan(const GgufPlan& source, const std::string& path, const QuantizeOptions& options);

}  // namespace ropewalk::formats
