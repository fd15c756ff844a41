#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "lib/dtype.h"

namespace ropewalk::formats::torch {

// A pickle is a program. This reads the part of the language in which torch.save writes tensors, as data: opcodes of
// protocols 2 to 4 that build numbers, texts, tuples, lists and dictionaries, and of names (GLOBAL) these, and no other:
//   collections.OrderedDict                                            an empty dictionary, or one of pairs
//   torch.Size                                                         the tuple itself
//   torch._utils._rebuild_tensor, _v2, _v3, _rebuild_parameter         a tensor
//   torch.FloatStorage and its like, torch.storage.UntypedStorage      the type of a storage
//   torch.float32 and its like                                         a type (of _v3)
// Nothing is imported, called or run; any other name or opcode is Error(bad_input) that says it.
//
// Where an object is looked into that is no tensor (Names::any_as_data), every name is taken, for itself alone: what the
// pickle would call or make is an object that holds what it was given, and nothing of it is imported, called or run either.

struct Node;
using NodePtr = const Node*;

/// One value of a pickle. Nodes refer to nodes of the same Pickle.
struct Node {
  enum class Kind : std::uint8_t {
    none,
    boolean,
    integer,
    real,  // its value is of no use to anybody
    text,
    tuple,
    list,
    dictionary,  // items: key, value, key, value, ...
    name,        // of the list above: text is "module.name"; any other: its name without the module
    storage,     // text: its key; integer: elements; dtype
    tensor,      // items: storage; sizes: offset, then the shape, then as many strides
    object       // of any name: text is its last part, items what it was made of, the attributes it was given last
  };
  Kind kind = Kind::none;
  std::int64_t integer = 0;    // boolean too
  std::string_view text = {};  // in the pickle's bytes
  std::vector<Node*> items = {};
  std::vector<std::uint64_t> sizes = {};
  DType dtype = DType::f32;
};

/// What one pickle holds; its nodes live as long as it does, and texts as long as the bytes it was read from.
struct Pickle {
  std::deque<Node> nodes;
  NodePtr value = nullptr;
  std::uint64_t end = 0;  // bytes the pickle took
};

/// Reads the pickle at the beginning of `bytes`, which stands at `offset` of the file, for messages. An integer of more
/// than 64 bits is a text, of its little-endian bytes. At most kMaxNodes values.
inline constexpr std::size_t kMaxNodes = std::size_t{1} << 22;
enum class Names { of_tensors, any_as_data };
Pickle unpickle(const std::string& path, std::uint64_t offset, std::string_view bytes, Names names = Names::of_tensors);

}  // namespace ropewalk::formats::torch
