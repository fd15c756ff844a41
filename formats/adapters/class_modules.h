#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "formats/source.h"

namespace ropewalk::formats {

// What the tensors of a Hugging Face folder are in the class that transformers 5.23.0 loads them into, as far as their names
// say it: PEFT targets modules by their paths there.

/// "model.layers.0.mlp.up_proj" of "model.layers.0.mlp.up_proj.weight", and its last part.
std::string module_of(const std::string& tensor);
std::string last_part_of(const std::string& module);
/// True for "model.layers.3.mlp.up_proj.weight": a number stands in it.
bool in_numbered_layer(std::string_view name);

/// What transformers 5.23.0 renames on loading, in the class and in the files.
inline constexpr std::string_view kMlp = ".mlp.", kSparseMoe = ".block_sparse_moe.";
inline constexpr std::array kPrefixes = {
    std::pair{std::string_view("model.language_model."), std::string_view("language_model.model.")},
    std::pair{std::string_view("model.language_model."), std::string_view("model.")},
    std::pair{std::string_view("lm_head."), std::string_view("language_model.lm_head.")},
    std::pair{std::string_view("lm_head."), std::string_view("embed_out.")},  // GPT-NeoX
    std::pair{std::string_view("model.visual."), std::string_view("visual.")},
    std::pair{std::string_view("model.vision_tower."), std::string_view("vision_tower.vision_model.")},
    std::pair{std::string_view("model.vision_tower."), std::string_view("vision_tower.")},
    std::pair{std::string_view("model.multi_modal_projector."), std::string_view("multi_modal_projector.")},
};

/// The names of one model's tensors in its class, and what kind of module each is of.
class ClassModules {
 public:
  explicit ClassModules(const Source& source);

  /// Of a tensor of the files: what their class renames (vision models' parts, Mixtral's block_sparse_moe), and the first
  /// part of a name where files saved from the class without its head lack it.
  std::string class_name(const std::string& tensor) const;
  /// The class has a head over the vocabulary: the configuration's `architectures` says so, or says nothing.
  bool has_head() const noexcept { return has_head_; }
  /// The configuration says that the head, whatever its name, is a tensor of its own.
  bool untied() const noexcept { return untied_; }
  /// It generates text by itself: PEFT's task_type CAUSAL_LM.
  bool causal() const noexcept { return causal_; }
  /// Its linear layers are Conv1D, whose weights stand [in, out].
  bool conv1d() const noexcept { return conv1d_; }

  /// Its names here were compared with its class (tests/peers/extract.py); others are those of their files.
  bool compared() const;

  /// PEFT 0.21.2 takes a LoRA of each expert's matrices, which transformers 4 had as modules, for one of its parameters.
  bool experts_by_name() const;

  /// By the name in the class. An embedding of tokens or of positions; a head; an expert's matrix among many.
  static bool is_embedding(const std::string& class_name);
  static bool is_input_embedding(const std::string& class_name);
  static bool is_head(const std::string& class_name);
  static bool is_expert(const std::string& class_name);
  /// A buffer that old files hold and that transformers computes anew: attention masks, frequencies, positions.
  static bool is_buffer(const TensorInfo& info);
  /// A matrix of a module that PEFT has a LoRA for: in a layer, and none that chooses experts or looks rows up.
  static bool is_linear(const std::string& class_name);

 private:
  bool nested_ = false, parts_ = false, has_head_ = true, causal_ = true, conv1d_ = false, untied_ = false;
  std::string type_;
  std::string missing_prefix_;  // "transformer.", "" where names are whole
};

}  // namespace ropewalk::formats
