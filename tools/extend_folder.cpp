// extend of a Hugging Face folder: config.json and what else names the context as planned, all else is carried.
#include <algorithm>

#include "formats/hf_folder.h"
#include "formats/hf_writer.h"
#include "lib/clone_file.h"
#include "lib/file.h"
#include "tools/extend.h"
#include "tools/model_card.h"

namespace ropewalk::tools {

namespace fs = std::filesystem;
namespace {

constexpr const char* kCard = "README.md";

/// Files of the source that the new folder has too, beside weights, config.json and the card.
std::vector<std::string> kept_files(const formats::HfFolder& hf, const FolderPlan& plan) {
  std::vector<std::string> kept;
  for (const std::string& name : hf.carried_files)
    if (name != kCard && !plan.changes.left_out.contains(name)) kept.push_back(name);
  return kept;
}

}  // namespace

ExtendWritten write_extended_folder(const formats::Source& source, const FolderPlan& plan, const ExtendOptions& options,
                                    const WriteOptions& write) {
  const formats::HfFolder& hf = *source.hf;
  ExtendWritten written;
  PendingFolder folder(options.output, write);
  const std::vector<std::string> kept = kept_files(hf, plan);
  std::vector<std::string> names = kept;
  names.insert(names.end(), {"config.json", kCard});
  folder.refuse_to_lose(names);
  const fs::path& building = folder.building();
  const auto text_file = [&](const std::string& name, const std::string& text) {
    write_file(building / name, text, folder.inside(name));
    written.files.push_back(name);
  };
  text_file("config.json", json_text(plan.config));
  text_file(kCard, model_card(source, last_part(folder.target()), "extended", plan.rope_text));
  CloneMethod method = CloneMethod::reflink;
  const auto clone = [&](const fs::path& from, const std::string& name, bool allow_link) {
    const CloneMethod used = clone_file(from, building / name, allow_link, folder.inside(name));
    written.files.push_back(name);
    return used;
  };
  std::error_code ignored;
  const std::optional<fs::path> index =
      formats::weight_index(fs::exists(source.spec.model, ignored) ? fs::path(source.spec.model) : hf.folder);
  if (index)
    clone(*index,
          index->filename().string().find(".bin") == std::string::npos ? "model.safetensors.index.json"
                                                                       : "pytorch_model.bin.index.json",
          false);
  for (const fs::path& weights : hf.weight_files) {  // a file that no index lists is found under one name alone
    const CloneMethod used = clone(weights,
                                   index                           ? weights.filename().string()
                                   : weights.extension() == ".bin" ? "pytorch_model.bin"
                                                                   : "model.safetensors",
                                   options.link);
    if (used != CloneMethod::reflink) method = used;
  }
  for (const std::string& name : kept) {
    if (const auto text = plan.changes.texts.find(name); text != plan.changes.texts.end()) {
      text_file(name, text->second);
      continue;
    }
    fs::create_directories((building / name).parent_path());
    clone(hf.folder / name, name, false);
  }
  folder.finish();
  std::sort(written.files.begin(), written.files.end());
  written.weights = clone_method_name(method);
  return written;
}

}  // namespace ropewalk::tools
