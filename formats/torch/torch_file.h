#pragma once

#include <filesystem>
#include <vector>

#include "lib/lazy_tensor.h"

namespace ropewalk::formats {

// torch.save of torch 2.15, and of 1.5 and before:
//   zip     NAME/data.pkl (a pickle of {name: tensor}), NAME/data/KEY (the bytes of each storage), NAME/byteorder and
//           others; nothing compressed
//   legacy  five pickles: the number 0x1950a86a20f9469cfc6c, 1001, {"little_endian": True, ...}, {name: tensor}, [KEY...];
//           then for each key in that order u64 elements and the storage's bytes
struct TorchFile {
  std::vector<TensorPtr> tensors;  // in the dictionary's order
};

/// The tensors of a .bin, .pt or .pth that holds a dictionary of them (a state_dict), read as data: nothing of the pickle is
/// run, and whatever names anything but what tensors are saved with is Error(bad_input) that says the name
/// (torch/unpickler.h). Tensors must be contiguous, or a transposed matrix; their bytes stay in the file.
/// Error(bad_input) naming the byte for whatever does not fit; Error(unsupported) for big-endian files and other strides.
TorchFile read_torch_file(const std::filesystem::path& path);

}  // namespace ropewalk::formats
