#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/lazy_tensor.h"

namespace ropewalk::formats {

/// A key of an adapter's file, taken apart: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight" is
/// the role "lora_A.weight" of the module "model.layers.0.self_attn.q_proj". Spellings met in the wild are accepted:
/// without "base_model.model.", with "module.", "_orig_mod." at any depth, ".default", one "model." more or less.
struct AdapterKey {
  std::string module;  // as transformers names it; empty where the tensor is of all modules (vera_A)
  std::string role;    // one of the names PEFT 0.21.2 saves under; "weight" and "bias" for whole tensors
};
/// nullopt if the key ends in no role.
std::optional<AdapterKey> parse_adapter_key(std::string key);
/// As PEFT 0.21.2 writes it.
std::string adapter_key(const std::string& module, std::string_view role);

/// The tensors of an adapter's file, each to be taken exactly once.
class AdapterTensors {
 public:
  /// `path`: the file, for messages. Error(bad_input) for two keys that mean the same.
  AdapterTensors(const std::vector<TensorPtr>& tensors, std::string path);

  /// Modules that have a tensor of one of `roles` which is not taken yet, in order of name: reports and errors do not
  /// depend on the file's order.
  std::vector<std::string> modules(const std::vector<std::string_view>& roles) const;
  bool has(const std::string& module, std::string_view role) const;
  /// nullptr if there is none. What is taken is floating point and finite, or it is Error(bad_input) naming its key.
  TensorPtr take(const std::string& module, std::string_view role);
  /// Error(bad_input) naming `partner`, a tensor of the module that is there, if there is none.
  TensorPtr require(const std::string& module, std::string_view role, const LazyTensor& partner);
  /// All of them, in this order, or none if the module has none. Error(bad_input) naming one that is there and one that is not.
  std::vector<TensorPtr> take_all(const std::string& module, const std::vector<std::string_view>& roles);
  /// Error(bad_input) naming the first key that nothing took. `kind`: of adapter, as said by its configuration.
  void refuse_leftovers(const std::string& kind) const;

  const std::string& path() const noexcept { return path_; }
  [[noreturn]] void fail(const std::string& problem, const std::string& fix) const;

 private:
  std::string path_;
  std::map<std::string, std::map<std::string, TensorPtr, std::less<>>> modules_;
  std::vector<TensorPtr> unknown_;  // keys without a role
};

/// Every element is a finite number, or Error(bad_input) naming the key.
void require_finite(const LazyTensor& tensor, const std::string& path);
/// `tensor` has so many axes, or Error(bad_input) naming its key.
void require_axes(const LazyTensor& tensor, std::size_t axes, const std::string& path);

}  // namespace ropewalk::formats
