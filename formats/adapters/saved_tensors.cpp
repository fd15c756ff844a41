#include <algorithm>

#include "formats/adapters/kinds.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

std::vector<std::string> names_to_save(const PeftConfig& config) {
  std::vector<std::string> names;
  if (const Json* list = config.fields().find_set("modules_to_save"))
    for (const Json& name : *list) {
      if (!name.is_string())
        config.fields().fail(ErrorKind::bad_input, "modules_to_save",
                             "'modules_to_save' is " + shown(*list) + ", expected a list of names",
                             "correct the value in the file");
      names.push_back(name);
    }
  return names;
}

bool is_embedding(const std::string& module) {
  const auto is = [&](std::string_view name) { return module == name || module.ends_with("." + std::string(name)); };
  return is("embed_tokens") || is("lm_head");
}

constexpr const char* kEmbedding = "model.embed_tokens";
constexpr double kMostIndex = 1 << 24;

/// Which rows of a module trainable_token_indices names: a list is of the input embedding, an object of what its names
/// end the paths of.
std::vector<std::uint64_t> token_indices(const PeftConfig& config, const std::string& module) {
  const Json* value = config.fields().find_set("trainable_token_indices");
  const Json* list = value && value->is_array() && module == kEmbedding ? value : nullptr;
  if (value && value->is_object())
    for (const auto& [name, indices] : value->items())
      if (module == name || module.ends_with("." + name)) list = &indices;
  std::vector<std::uint64_t> rows;
  if (!list) return rows;
  const auto fail = [&](const Json& found) {
    config.fields().fail(ErrorKind::bad_input, "trainable_token_indices",
                         "'trainable_token_indices' holds " + shown(found) + ", expected lists of row numbers",
                         "correct the value in the file");
  };
  if (!list->is_array()) fail(*list);
  for (const Json& index : *list) {
    if (!index.is_number_integer() || index.get<double>() < 0 || index.get<double>() > kMostIndex) fail(index);
    rows.push_back(index);
  }
  return rows;
}

/// New rows of an embedding, whole rows despite the name of their tensor; tied, they are the head's too.
void read_token_rows(AdapterReading& reading) {
  AdapterTensors& tensors = reading.tensors;
  const Json* named = reading.config.fields().find_set("trainable_token_indices");
  if (named && !named->empty() && tensors.modules({"token_adapter.trainable_tokens_delta"}).empty())
    tensors.fail(
        "the file has no '<embedding>.token_adapter.trainable_tokens_delta', and trainable_token_indices of "
        "adapter_config.json names rows",
        "the adapter is incomplete: fetch or save it again");
  for (const std::string& module : tensors.modules({"token_adapter.trainable_tokens_delta"})) {
    std::vector<std::uint64_t> indices = token_indices(reading.config, module);
    if (module == "lm_head" && indices.empty())  // tied, it was saved once more
      indices = token_indices(reading.config, kEmbedding);
    if (indices.empty()) continue;  // a leftover: nothing says which rows
    const TensorPtr rows = tensors.take(module, "token_adapter.trainable_tokens_delta");
    require_axes(*rows, 2, tensors.path());
    RewriteChange change{[rows, indices](TensorPtr weight) { return with_rows(std::move(weight), indices, rows); },
                         true};
    reading.modules.push_back({module + ".weight", "rows", {rows}, 0, 1, std::move(change), true, false});
    reading.modules.back().rows = indices;
  }
}

}  // namespace

bool saves(const std::string& name, const std::string& module) {
  for (std::size_t end = module.find('.'); end != std::string::npos; end = module.find('.', end + 1))
    if (std::string_view(module).substr(0, end).ends_with(name)) return true;
  return module.ends_with(name);
}

void read_saved_tensors(AdapterReading& reading) {
  AdapterTensors& tensors = reading.tensors;
  const std::vector<std::string> names = names_to_save(reading.config);
  // whichever they are, of all modules or of targets, the file holds them
  const bool biases = reading.config.fields().optional_string("bias").value_or("none") != "none";
  const auto is_saved = [&](const std::string& module) {
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return saves(name, module); });
  };
  const auto replace = [&](const std::string& module, std::string_view role, const char* what, const char* kind,
                           bool tied_too, bool base_copy = false) {
    const TensorPtr tensor = tensors.take(module, role);
    if (!tensor) return;
    reading.modules.push_back({module + what, kind, {tensor}, 0, 1, ReplacementChange{tensor}, tied_too, false});
    reading.modules.back().base_copy = base_copy;
  };
  for (const std::string& module : tensors.modules({"weight"}))
    // an embedding that is not named was saved because its vocabulary is another: tied, it is the head too
    if (is_saved(module) || is_embedding(module)) replace(module, "weight", ".weight", "saved", !is_saved(module));
  for (const std::string& module : tensors.modules({"base_layer.weight", "token_adapter.base_layer.weight"}))
    if (is_embedding(module)) {  // the one below an adapter's own change
      replace(module, "base_layer.weight", ".weight", "saved", true, true);
      replace(module, "token_adapter.base_layer.weight", ".weight", "saved", true, true);
    }
  for (const std::string& module : tensors.modules({"bias", "base_layer.bias"})) {
    if (is_saved(module)) replace(module, "bias", ".bias", "saved", false);
    if (!biases) continue;
    replace(module, "base_layer.bias", ".bias", "bias", false);
    replace(module, "bias", ".bias", "bias", false);
  }
  read_token_rows(reading);
}

}  // namespace ropewalk::formats
