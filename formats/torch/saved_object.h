#pragma once

#include <filesystem>

#include "formats/json.h"

namespace ropewalk::formats {

/// The attributes of the one object that torch.save of torch 2.15 wrote into a zip file (TorchFile's layout): texts, whole
/// numbers, booleans and null of its __dict__; of other types they are left out. Read as data, whatever its class: nothing is
/// run (torch/unpickler.h). Error(bad_input) for a file that is none, or holds more than a megabyte.
Json read_saved_attributes(const std::filesystem::path& path);

}  // namespace ropewalk::formats
