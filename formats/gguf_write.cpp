#include "formats/gguf_write.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <utility>

#include "formats/gguf_split.h"
#include "lib/error.h"
#include "lib/temporary.h"

namespace ropewalk::formats {
namespace {

std::filesystem::path shard_file(const std::filesystem::path& target, const GgufShard& shard) {
  if (shard.suffix.empty()) return target;
  return target.parent_path() / (split_stem(target) + shard.suffix + ".gguf");
}

/// What stands under the target's name and is not one of `files`.
std::vector<std::filesystem::path> others_of(const std::filesystem::path& target,
                                             const std::set<std::filesystem::path>& files) {
  std::vector<std::filesystem::path> others;
  for (const std::filesystem::path& path : existing_files_of(target))
    if (!files.contains(path.lexically_normal())) others.push_back(path);
  return others;
}

/// The space is reserved, but zeros that matter are written, not hoped for.
void write_zeros(PendingFile& file, std::uint64_t offset, std::uint64_t n) {
  constexpr std::array<std::byte, 4096> kZeros{};
  for (std::uint64_t done = 0; done < n;) {
    const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(n - done, kZeros.size()));
    file.write(offset + done, std::span(kZeros).first(part));
    done += part;
  }
}

}  // namespace

struct GgufOutputs::Output {
  GgufPlan plan;
  std::vector<GgufShard> shards;
  std::vector<std::unique_ptr<PendingFile>> files;
  GgufWritten written;
  std::vector<std::unique_ptr<EncodingErrors>> errors;  // by tensor of the plan, if they are measured
};

GgufWritten planned_files(const GgufPlan& plan, const GgufTarget& target) {
  GgufWritten out;
  std::set<std::filesystem::path> names;
  for (const GgufShard& shard : layout_gguf(plan, target.split)) {
    out.files.push_back(shard_file(target.path, shard));
    names.insert(out.files.back().lexically_normal());
    out.bytes += shard.file_bytes;
  }
  out.replaced = others_of(target.path, names);
  return out;
}

GgufOutputs::GgufOutputs(std::vector<GgufPlan> plans, const std::vector<GgufTarget>& targets,
                         const WriteOptions& options) {
  std::set<std::filesystem::path> names;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    Output output;
    output.shards = layout_gguf(plans[i], targets[i].split);
    output.plan = std::move(plans[i]);
    for (const GgufShard& shard : output.shards) {
      const std::filesystem::path path = shard_file(targets[i].path, shard);
      if (!names.insert(path.lexically_normal()).second)
        throw Error(ErrorKind::usage, {.path = path.string()}, "two outputs would be this file",
                    "give each type a name of its own: '{name}-{type}.gguf'");
      output.written.files.push_back(path);
      output.written.bytes += shard.file_bytes;
    }
    outputs_.push_back(std::move(output));
  }
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    outputs_[i].written.replaced = others_of(targets[i].path, names);
    for (const std::filesystem::path& old : outputs_[i].written.replaced) {
      if (!options.overwrite) throw_exists(old.string());
      if (std::filesystem::is_directory(std::filesystem::symlink_status(old)))
        throw Error(
            ErrorKind::io, {.path = old.string()},
            "is a folder under the name of a shard of '" + targets[i].path.string() + "', expected a file or nothing",
            "move it away or choose another name");
    }
  }
  for (Output& output : outputs_) {
    for (std::size_t s = 0; s < output.shards.size(); ++s) {
      const GgufShard& shard = output.shards[s];
      output.files.push_back(std::make_unique<PendingFile>(output.written.files[s], shard.file_bytes, options));
      PendingFile& file = *output.files.back();
      file.write(0, std::as_bytes(std::span(shard.header.data(), shard.header.size())));
      std::uint64_t end = shard.file_bytes;
      for (auto place = shard.places.rbegin(); place != shard.places.rend(); ++place) {
        write_zeros(file, end - place->padding_bytes, place->padding_bytes);
        end = place->offset_bytes;
      }
    }
  }
}

GgufOutputs::~GgufOutputs() = default;

void GgufOutputs::append_items(StreamPlan& pass, bool measure) {
  for (Output& output : outputs_) {
    for (std::size_t i = 0; measure && i < output.plan.tensors.size(); ++i)
      output.errors.push_back(std::make_unique<EncodingErrors>());
    for (std::size_t s = 0; s < output.shards.size(); ++s)
      for (const GgufShard::Place& place : output.shards[s].places) {
        const GgufTensorPlan& tensor = output.plan.tensors[place.tensor];
        pass.add(tensor.tensor, {tensor.dtype, output.files[s].get(), place.offset_bytes, tensor.out_of_range, nullptr,
                                 tensor.importances, measure ? output.errors[place.tensor].get() : nullptr});
      }
  }
}

std::vector<EncodingError> GgufOutputs::errors(std::size_t output) const {
  std::vector<EncodingError> all;
  for (const auto& errors : outputs_[output].errors) all.push_back(errors->total());
  return all;
}

void GgufOutputs::append_pending(PendingSet& set) const {
  for (const Output& output : outputs_) {
    std::vector<PendingFile*> shards;
    for (const auto& file : output.files) shards.push_back(file.get());
    if (shards.size() == 1) set.files.push_back(shards.front());
    else set.splits.push_back(std::move(shards));
    set.replaced.insert(set.replaced.end(), output.written.replaced.begin(), output.written.replaced.end());
  }
}

std::vector<GgufWritten> GgufOutputs::written() const {
  std::vector<GgufWritten> out;
  for (const Output& output : outputs_) out.push_back(output.written);
  return out;
}

std::vector<GgufWritten> GgufOutputs::finish() {
  PendingSet set;
  append_pending(set);
  finish_together(set);
  return written();
}

std::vector<GgufWritten> write_ggufs(std::vector<GgufPlan> plans, const std::vector<GgufTarget>& targets,
                                     const WriteOptions& write, const StreamOptions& streaming) {
  GgufOutputs outputs(std::move(plans), targets, write);
  StreamPlan pass;
  outputs.append_items(pass);
  stream(pass.items(), streaming);
  return outputs.finish();
}

}  // namespace ropewalk::formats
