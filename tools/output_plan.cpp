#include "tools/output_plan.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ostream>

#include "formats/gguf_split.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/pending_file.h"
#include "lib/temporary.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_of(const formats::Source& source) {
  std::vector<fs::path> paths = weight_files(source);
  if (source.hf) paths.push_back(source.hf->folder);
  for (const auto& adapter : source.adapters) paths.push_back(adapter.folder);
  if (!source.tokenizer_folder.empty()) paths.push_back(source.tokenizer_folder);
  return paths;
}

bool is_within(const fs::path& inner, const fs::path& outer) {
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

fs::path folder_of(const fs::path& target) { return whole_path(target).parent_path(); }

struct FileSystem {
  dev_t device;
  fs::path folder;  // the first target's
  std::uint64_t free_bytes, write_bytes;
};
/// The file systems the targets lie on; one that does not say what is free is left out.
std::vector<FileSystem> file_systems(const OutputPlan& plan) {
  std::vector<FileSystem> all;
  for (const OutputPlan::Target& target : plan.targets) {
    const fs::path folder = folder_of(target.path);
    struct stat status = {};
    struct statvfs disk = {};
    if (stat(folder.c_str(), &status) != 0 || statvfs(folder.c_str(), &disk) != 0) continue;
    auto found =
        std::find_if(all.begin(), all.end(), [&](const FileSystem& one) { return one.device == status.st_dev; });
    if (found == all.end()) {
      all.push_back({status.st_dev, folder, static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize, 0});
      found = all.end() - 1;
    }
    found->write_bytes += target.bytes;
  }
  return all;
}

std::string file_of(const StreamPlan& pass, const std::string& tensor) {
  const auto item = std::ranges::find(pass.items(), tensor, [](const StreamItem& one) { return one.tensor->name(); });
  return std::string(item->tensor->file());
}

StreamOptions stream_options(const StreamPlan& pass, NotFinite policy, const CommonOptions& common, Progress& progress,
                             std::vector<std::string>& warnings) {
  StreamOptions options;
  options.threads = common.threads;
  options.progress = [&progress](std::uint64_t bytes) { progress.add(bytes); };
  options.finding = [&pass, policy, &warnings](const StreamFinding& finding) {
    if (finding.not_finite > 0) {
      const std::string found = "tensor '" + finding.tensor + "' holds " + plural(finding.not_finite, "value") +
                                " that " + (finding.not_finite == 1 ? "is" : "are") +
                                " infinite or NaN, the first in row " + std::to_string(finding.first_row);
      if (policy == NotFinite::refuse)
        throw Error(ErrorKind::bad_input, {.path = file_of(pass, finding.tensor)}, found + ", expected finite weights",
                    "make the file again from weights that are");
      warnings.push_back(found + ": written as they are");
    }
    if (finding.clamped > 0)
      warnings.push_back("tensor '" + finding.tensor + "': " + plural(finding.clamped, "value") +
                         " past the range of the type written, clamped to its largest");
    if (finding.overflowed > 0)
      warnings.push_back("overflow: tensor '" + finding.tensor + "': " + plural(finding.overflowed, "finite value") +
                         " past the range of the type written became infinite, as the converter of --compat writes " +
                         (finding.overflowed == 1 ? "it" : "them"));
  };
  return options;
}

/// What is written after the outputs, a report or a plan, would replace one of them or a file in it.
void refuse_outputs_in(const OutputPlan& plan, const CommonOptions& common) {
  for (const NamedPath& other : common.named.writes)
    for (const OutputPlan::Target& target : plan.targets) {
      if (other.as == "--output" ||
          !is_within(fs::weakly_canonical(fs::absolute(other.path)), fs::weakly_canonical(fs::absolute(target.path))))
        continue;
      if (target.path == other.path) refuse_shared({{}, {{"an output", target.path.string()}, other}});
      throw Error(ErrorKind::usage, {.path = other.path},
                  std::string(other.as == "--report" ? "the report" : "the file of " + other.as) +
                      " would lie in the folder that is to be written",
                  "give it a place outside");
    }
}

}  // namespace

std::vector<fs::path> weight_files(const formats::Source& source) {
  std::vector<fs::path> paths;
  if (source.hf) paths.assign(source.hf->weight_files.begin(), source.hf->weight_files.end());
  if (source.gguf)
    for (const auto& file : source.gguf->files) paths.emplace_back(file->path());
  for (const formats::PeftAdapter& adapter : source.adapters) paths.push_back(adapter.weights);
  return paths;
}

void check_output_name(const fs::path& target, OutputKind kind) {
  const auto refuse = [&](const std::string& problem, const std::string& fix) {
    throw Error(ErrorKind::usage, {.path = target.string()}, problem, fix);
  };
  const std::string ending = target.extension().string();
  if (kind == OutputKind::folder) {
    if (ending == ".gguf")
      refuse("a folder is to be written, and this is a GGUF's name",
             "give -o DIR, or write a GGUF: ropewalk convert SOURCE -o FILE.gguf");
    if (ending == ".safetensors" || ending == ".json" || ending == ".bin")
      refuse("a folder is to be written, with config, weights and tokenizer, and this is a file's name", "give -o DIR");
    return;
  }
  const bool gguf = kind == OutputKind::gguf;
  const std::string wanted = gguf ? ".gguf" : ".safetensors";
  if (ending != wanted)
    refuse((gguf ? "a GGUF's name ends in " : "a safetensors file is to be written, and its name ends in ") + wanted,
           "give a name such as " + (target.filename().empty() ? "NAME" : target.string()) + wanted);
  if (const auto shard = formats::parse_shard_name(target, wanted))
    refuse("this is the name of one file of a split, " +
               std::string(gguf ? "which is written as a whole" : "which belongs to the others"),
           "give " + (shard->folder / (shard->stem + wanted)).string() +
               (gguf ? ", and --split-max-size to split it" : ""));
}

void check_target(const fs::path& target, OutputKind kind, const formats::Source& source, const CommonOptions& common) {
  const bool overwrite = common.overwrite;
  refuse_output(common, target, "the output");
  struct stat status = {};
  if (lstat(target.c_str(), &status) != 0 && errno != ENOENT && errno != ENOTDIR)
    throw_output_error(target.string(), "write there", errno);
  std::error_code ignored, failed;
  const fs::path absolute = fs::absolute(target);  // throws where the working directory is gone and needed
  fs::path whole = fs::weakly_canonical(absolute, failed);
  // a link to itself: replaced or refused as what it is
  if (failed) whole = absolute.lexically_normal();
  for (const fs::path& from : files_of(source))
    if (fs::equivalent(target, from, ignored) || is_within(fs::weakly_canonical(from, ignored), whole))
      throw Error(ErrorKind::io, {.path = target.string()},
                  "the target is or contains the source '" + from.string() + "'", "write to another place");
  if (const fs::path here = fs::current_path(ignored); !here.empty() && is_within(here, whole))
    throw Error(ErrorKind::io, {.path = target.string()}, "the target is or contains the working directory",
                "write to another place");
  if (!overwrite && fs::exists(fs::symlink_status(target, ignored)))
    throw Error(ErrorKind::io, {.path = target.string()}, "exists already",
                "use --overwrite to replace it, or choose another name");
  const fs::path folder = folder_of(target);
  if (!fs::is_directory(folder, ignored))
    throw Error(ErrorKind::io, {.path = folder.string()}, "no such folder to write into", "create it first");
  if (faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
    throw_output_error(folder.string(), "write into the folder", errno);
  if (kind == OutputKind::folder) check_folder_target(target, overwrite);
  else check_file_target(target, overwrite);
}

void announce(const OutputPlan& plan, const CommonOptions& common, const Io& io) {
  refuse_outputs_in(plan, common);
  const std::vector<FileSystem> disks = file_systems(plan);
  std::uint64_t write_bytes = 0;
  for (const OutputPlan::Target& target : plan.targets) write_bytes += target.bytes;
  for (const FileSystem& disk : disks)
    if (disk.free_bytes < disk.write_bytes)
      throw Error(ErrorKind::io, {.path = disk.folder.string()},
                  "the output needs " + bytes_text(disk.write_bytes) + ", " + bytes_text(disk.free_bytes) + " are free",
                  "free some space or write elsewhere");
  if (common.quiet) return;
  io.err << "writing " << plan.what << ", " << bytes_text(write_bytes) << ", from " << bytes_text(plan.read_bytes)
         << " of weights";
  if (disks.size() == 1) io.err << "; " << bytes_text(disks.front().free_bytes) << " free";
  io.err << "\n" << std::flush;
}

std::vector<std::string> stream_pass(const StreamPlan& pass, const std::string& what, const CommonOptions& common,
                                     const Io& io, NotFinite policy) {
  std::vector<std::string> warnings;
  {
    std::uint64_t bytes = 0;
    for (const StreamItem& item : pass.items()) bytes += item.tensor->info().bytes();
    Progress progress(io, common.quiet, what, bytes, Progress::Unit::bytes);
    stream(pass.items(), stream_options(pass, policy, common, progress, warnings));
  }  // the bar is gone
  for (const std::string& warning : warnings) warn(warning, common, io);
  return warnings;
}

}  // namespace ropewalk::tools
