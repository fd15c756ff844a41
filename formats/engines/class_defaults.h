#pragma once

#include <string>
#include <string_view>

#include "formats/json.h"

// What a class of transformers has where config.json is silent. Private to formats.

namespace ropewalk::formats::engines {

/// Of classes that Llama's rules are used for.
struct ClassRope {
  std::string_view model_type;
  double theta;     // of 5.x
  double theta_v4;  // of 4.57; of classes that it does not have, that of 5.x
  double share;     // of a head that rotates
  int head_dim;     // 0: hidden_size / num_attention_heads
};
/// 10000, the whole head and the split width for any other.
const ClassRope& class_rope(const std::string& model_type);

/// The class's own rope dictionary, which counts where a file has none; null: none. A base in it hides the file's.
Json class_dictionary(const std::string& model_type);

/// The kinds of layers have ropes of their own, and a file that does not give each a dictionary is read by keys and
/// defaults of that one class.
bool has_kinds_of_layers(const std::string& model_type);
/// rope_theta and rope_scaling are of the full layers, rope_local_base_freq of those that slide (5.23.0, run).
bool takes_gemma3_names(const std::string& model_type);

/// Heads of the full layers are global_head_dim wide, 512 where the file does not say it (5.23.0, run).
bool widens_full_layers(const std::string& model_type);

}  // namespace ropewalk::formats::engines
