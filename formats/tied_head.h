#pragma once

#include <string>
#include <vector>

#include "formats/hf_folder.h"
#include "lib/model_config.h"

namespace ropewalk::formats {

/// The names of transformers.
inline constexpr const char* kEmbeddingWeight = "model.embed_tokens.weight";
inline constexpr const char* kHeadWeight = "lm_head.weight";

/// Of one shape, type and content as stored.
bool same_bytes(const LazyTensor& a, const LazyTensor& b);

/// What transformers 5.23.0 does when the configuration ties the head: whichever of the two is there serves as both;
/// equal ones are one; different ones stay apart, and config.tied_head is false.
void resolve_tied_head(HfFiles& files, ModelConfig& config, std::vector<std::string>& warnings);

}  // namespace ropewalk::formats
