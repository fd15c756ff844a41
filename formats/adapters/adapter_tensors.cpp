#include "formats/adapters/adapter_tensors.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lib/adapters/best_of_rank.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/row_blocks.h"

namespace ropewalk::formats {
namespace {

/// Longer ones before those they end in.
constexpr std::array kRoles = {"token_adapter.base_layer.weight",
                               "token_adapter.trainable_tokens_delta",
                               "base_layer.weight",
                               "base_layer.bias",
                               "lora_A.weight",
                               "lora_B.weight",
                               "lora_B.bias",
                               "lora_A",
                               "lora_B",
                               "lora_E",
                               "lora_embedding_A",
                               "lora_embedding_B",
                               "lora_magnitude_vector",
                               "hada_w1_a",
                               "hada_w1_b",
                               "hada_w2_a",
                               "hada_w2_b",
                               "hada_t1",
                               "hada_t2",
                               "lokr_w1",
                               "lokr_w1_a",
                               "lokr_w1_b",
                               "lokr_w2",
                               "lokr_w2_a",
                               "lokr_w2_b",
                               "lokr_t2",
                               "ia3_l",
                               "vera_lambda_b",
                               "vera_lambda_d",
                               "vera_A",
                               "vera_B",
                               "oft_R.weight",
                               "oft_embedding_R.weight",
                               "boft_R",
                               "boft_s",
                               "hra_u",
                               "ln_tuning_layers.weight",
                               "ln_tuning_layers.bias",
                               "weight",
                               "bias"};

void drop_prefix(std::string& path, std::string_view prefix) {
  if (path.starts_with(prefix)) path.erase(0, prefix.size());
}

/// A component of the path that only says how the module was wrapped.
void drop_component(std::string& path, std::string_view name) {
  const std::string inside = "." + std::string(name) + ".";
  for (std::size_t at = path.find(inside); at != std::string::npos; at = path.find(inside))
    path.erase(at, inside.size() - 1);
  if (path.ends_with(inside.substr(0, inside.size() - 1))) path.erase(path.size() - inside.size() + 1);
}

/// As transformers names the module of a causal language model.
std::string canonical(std::string module) {
  drop_prefix(module, "base_model.model.");
  if (module.starts_with("model.model.")) module.erase(0, 6);
  if (module.starts_with("layers.") || module == "embed_tokens" || module == "norm") module.insert(0, "model.");
  return module;
}

/// "lora_A" of "lora_A.weight": how messages call it.
std::string short_role(std::string_view role) {
  return std::string(role.ends_with(".weight") && !role.starts_with("base_layer") ? role.substr(0, role.size() - 7)
                                                                                  : role);
}

}  // namespace

std::optional<AdapterKey> parse_adapter_key(std::string key) {
  for (std::size_t at = key.find("_orig_mod."); at != std::string::npos; at = key.find("_orig_mod."))
    key.erase(at, 10);          // torch.compile, at any depth
  drop_prefix(key, "module.");  // DataParallel
  drop_prefix(key, "base_model.model.");
  drop_prefix(key, "module.");
  drop_component(key, "default");  // the adapter's name, which PEFT takes out
  drop_component(key, "modules_to_save");
  if (key.ends_with(".lora_magnitude_vector.weight")) key.erase(key.size() - 7);  // as it is in memory
  drop_prefix(key, "base_model.");                                                // base_model.vera_A
  for (const std::string_view role : kRoles) {
    if (key == role) return role.starts_with("vera_") ? std::optional(AdapterKey{"", key}) : std::nullopt;
    if (!key.ends_with(role) || key[key.size() - role.size() - 1] != '.') continue;
    std::string module = canonical(key.substr(0, key.size() - role.size() - 1));
    if (module.empty()) return std::nullopt;
    return AdapterKey{std::move(module), std::string(role)};
  }
  return std::nullopt;
}

std::string adapter_key(const std::string& module, std::string_view role) {
  return "base_model.model." + module + "." + std::string(role);
}

AdapterTensors::AdapterTensors(const std::vector<TensorPtr>& tensors, std::string path) : path_(std::move(path)) {
  for (const TensorPtr& tensor : tensors) {
    // what modules_to_save set aside: nothing reads it again
    if (tensor->name().find(".original_module.") != std::string::npos) continue;
    const auto key = parse_adapter_key(tensor->name());
    if (!key) {
      unknown_.push_back(tensor);
      continue;
    }
    TensorPtr& place = modules_[key->module][key->role];
    if (place && same_values(*place, *tensor)) continue;  // PEFT writes some tensors under two names
    if (place)
      fail("keys '" + place->name() + "' and '" + tensor->name() + "' both name " + short_role(key->role) + " of '" +
               key->module + "'",
           "expected one, or the same numbers; the file was put together from two adapters");
    place = tensor;
  }
}

std::vector<std::string> AdapterTensors::modules(const std::vector<std::string_view>& roles) const {
  std::vector<std::string> found;
  for (const auto& [module, tensors] : modules_)
    if (std::any_of(roles.begin(), roles.end(), [&](std::string_view role) { return has(module, role); }))
      found.push_back(module);
  return found;
}

bool AdapterTensors::has(const std::string& module, std::string_view role) const {
  const auto found = modules_.find(module);
  return found != modules_.end() && found->second.find(role) != found->second.end();
}

TensorPtr AdapterTensors::take(const std::string& module, std::string_view role) {
  const auto found = modules_.find(module);
  if (found == modules_.end()) return nullptr;
  const auto tensor = found->second.find(role);
  if (tensor == found->second.end()) return nullptr;
  const TensorPtr taken = tensor->second;
  found->second.erase(tensor);
  if (!is_float(taken->dtype()))
    fail("'" + taken->name() + "' holds " + std::string(info(taken->dtype()).name) + ", expected floating point",
         "save the adapter again");
  require_finite(*taken, path_);
  return taken;
}

TensorPtr AdapterTensors::require(const std::string& module, std::string_view role, const LazyTensor& partner) {
  if (TensorPtr found = take(module, role)) return found;
  fail("'" + partner.name() + "' has no partner: " + short_role(role) + " of '" + module + "' is missing",
       "the adapter is incomplete: fetch or save it again");
}

// Through float: only a double beyond its range would look infinite, and no adapter holds that either.
std::vector<TensorPtr> AdapterTensors::take_all(const std::string& module, const std::vector<std::string_view>& roles) {
  const auto first = std::ranges::find_if(roles, [&](std::string_view role) { return has(module, role); });
  if (first == roles.end()) return {};
  const TensorPtr partner = modules_.at(module).find(*first)->second;
  std::vector<TensorPtr> all;
  for (const std::string_view role : roles) all.push_back(require(module, role, *partner));
  return all;
}

void require_finite(const LazyTensor& tensor, const std::string& path) {
  for_row_blocks(tensor, [&](std::uint64_t row, std::span<const float> values) {
    const std::size_t bad = first_not_finite(values);
    if (bad == values.size()) return true;
    throw Error(ErrorKind::bad_input, {.path = path},
                "'" + tensor.name() + "' holds " + (std::isnan(values[bad]) ? "NaN" : "an infinity") + " in row " +
                    std::to_string(row + bad / tensor.info().columns()) + ", expected finite numbers",
                "the training diverged or the file is damaged: take an earlier checkpoint of the adapter");
  });
}

void require_axes(const LazyTensor& tensor, std::size_t axes, const std::string& path) {
  if (tensor.info().shape.size() == axes) return;
  throw Error(ErrorKind::bad_input, {.path = path},
              "'" + tensor.name() + "' has shape " + shape_text(tensor.info().shape) + ", expected " +
                  (axes == 1 ? "one axis" : "two axes"),
              "only adapters of linear layers and embeddings are read");
}

void AdapterTensors::refuse_leftovers(const std::string& kind) const {
  std::vector<std::string> keys;
  for (const TensorPtr& tensor : unknown_) keys.push_back(tensor->name());
  for (const auto& [module, tensors] : modules_)
    for (const auto& [role, tensor] : tensors) keys.push_back(tensor->name());
  if (keys.empty()) return;
  std::sort(keys.begin(), keys.end());
  const std::string more = keys.size() > 1 ? " (nor do " + std::to_string(keys.size() - 1) + " more)" : "";
  fail("key '" + keys.front() + "' has no place in the " + kind + " adapter that its adapter_config.json describes" +
           more,
       "every key must be used: take configuration and weights of the same adapter, or take the key out of the file");
}

void AdapterTensors::fail(const std::string& problem, const std::string& fix) const {
  throw Error(ErrorKind::bad_input, {.path = path_}, problem, fix);
}

}  // namespace ropewalk::formats
