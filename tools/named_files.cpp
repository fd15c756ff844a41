#include "tools/named_files.h"

#include <algorithm>

#include "formats/hf_folder.h"
#include "formats/hub_cache.h"
#include "formats/source.h"
#include "lib/error.h"
#include "lib/file.h"
#include "tools/command_line.h"
#include "tools/common_options.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

/// Links resolved as far as there is something; where that fails (a link to itself) the words alone.
fs::path resolved(const std::string& path) {
  std::error_code failed;
  fs::path whole = fs::absolute(path, failed);
  if (failed) whole = path;  // the working directory is gone
  const fs::path canonical = fs::weakly_canonical(whole, failed);
  return (failed ? whole.lexically_normal() : canonical) / "";  // 'a/' and 'a' are one
}

bool is_same(const std::string& a, const std::string& b) {
  std::error_code failed;
  return fs::equivalent(a, b, failed) || resolved(a) == resolved(b);
}

bool is_within(const fs::path& inner, const fs::path& outer) {
  return std::mismatch(outer.begin(), --outer.end(), inner.begin(), inner.end()).first == --outer.end();
}

/// Of a model's or adapter's folder, beside the weights, and no report of an earlier run that was put there.
bool is_read_with_folder(const fs::path& file) {
  const std::string name = file.filename().string(), kind = file.extension().string();
  return (kind == ".json" || kind == ".jinja" || kind == ".py" || kind == ".md" || formats::is_tokenizer_file(name)) &&
         (is_model_file(file) || !is_report(file));
}

/// Whether `file` is one that is read with `folder`, by whatever name.
bool is_read_with(const std::string& folder, const std::string& file) {
  std::error_code failed;
  if (!fs::is_directory(folder, failed) || !fs::is_regular_file(file, failed)) return false;
  for (fs::directory_iterator entry(folder, failed), end; !failed && entry != end; entry.increment(failed))
    if (std::error_code none; fs::equivalent(entry->path(), file, none) && is_read_with_folder(entry->path()))
      return true;
  return false;
}

}  // namespace

bool holds(const std::string& folder, const std::string& path) {
  std::error_code failed;
  return fs::is_directory(folder, failed) && is_within(resolved(path), resolved(folder));
}

std::vector<std::string> paths_read(const NamedFile& file, const fs::path& hub_cache) {
  const bool is_adapter = file.role == Role::adapter;
  if (file.value.empty() || file.value == "-") return {};
  if (is_there(file.value)) return {file.value};
  std::vector<std::string> found;
  const auto add = [&](const std::string& name) {
    if (is_there(name)) found.push_back(name);
    else if (const auto hub = formats::parse_hub_name(name))
      if (const auto folder = formats::find_in_hub_cache(hub_cache, *hub)) found.push_back(folder->string());
  };
  for (const std::string& part : split_list(file.value))
    if (part != file.value && is_there(part)) found.push_back(part);
  if (!found.empty()) return found;
  try {
    const formats::SourceSpec spec = formats::parse_source((is_adapter ? "base+" : "") + file.value);
    if (!is_adapter) add(spec.model.starts_with("synthetic:") ? spec.model.substr(10) : spec.model);
    for (const auto& adapter : spec.adapters) add(adapter.path);
  } catch (const Error&) {
    // no SOURCE: another word, such as --tokenizer's auto
  }
  return found;
}

NamedPaths named_paths(const std::vector<NamedFile>& files, const fs::path& hub_cache) {
  NamedPaths out;
  for (const NamedFile& file : files) {
    if (file.role == Role::reads || file.role == Role::adapter)
      for (std::string& path : paths_read(file, hub_cache)) out.reads.push_back({file.option, std::move(path)});
    else if ((file.role == Role::writes || file.role == Role::keeps) && !file.value.empty())
      out.writes.push_back({file.option, file.value});
  }
  return out;
}

void refuse_input(const NamedPath& output, const NamedPath& input) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::io, {.path = output.path},
                output.as + " would replace " + what + "'" + input.path + "', which is read as " + input.as,
                "write it elsewhere");
  };
  if (is_same(output.path, input.path)) refuse("");
  if (is_read_with(input.path, output.path)) refuse("a file in ");
}

void refuse_shared(const NamedPaths& paths) {
  for (std::size_t at = 0; at < paths.writes.size(); ++at) {
    const NamedPath& output = paths.writes[at];
    for (const NamedPath& input : paths.reads) refuse_input(output, input);
    for (std::size_t before = 0; before < at; ++before)
      if (const NamedPath& other = paths.writes[before]; is_same(output.path, other.path))
        throw Error(ErrorKind::usage, {},
                    other.as + " '" + other.path + "' and " + output.as + " '" + output.path + "' are one file",
                    "give each a name of its own");
  }
}

}  // namespace ropewalk::tools
