#include "formats/folder_writer.h"

#include <algorithm>
#include <map>
#include <span>

#include "formats/safetensors.h"
#include "lib/file.h"

namespace ropewalk::formats {

namespace fs = std::filesystem;

FolderWriter::FolderWriter(const fs::path& target, const WriteOptions& options) : folder_(target, options) {}

void FolderWriter::add_text(const std::string& name, std::string_view content) {
  write_file(folder_.building() / name, content, folder_.inside(name));
  names_.push_back(name);
  bytes_ += content.size();
}

void FolderWriter::add_copy(const std::string& name, const fs::path& from) {
  const fs::path to = folder_.building() / name;
  fs::create_directories(to.parent_path());
  const auto source = File::open(from);
  PendingFile target(to, source->size(), folder_.inside(name));
  std::vector<std::byte> block(std::size_t{1} << 20);
  for (std::uint64_t at = 0; at < source->size();) {
    const std::span<std::byte> part =
        std::span(block).first(std::min<std::uint64_t>(block.size(), source->size() - at));
    source->read(at, part);
    target.write(at, part);
    at += part.size();
  }
  target.finish();
  names_.push_back(name);
  bytes_ += source->size();
}

void FolderWriter::add_safetensors(const std::string& name, const std::vector<Stored>& tensors,
                                   OutOfRange out_of_range) {
  std::vector<TensorPtr> stored;
  std::map<const LazyTensor*, TensorPtr> read;
  for (const Stored& tensor : tensors) {
    stored.push_back(tensor.stored);
    read.emplace(tensor.stored.get(), tensor.read);
  }
  const SafetensorsLayout layout = plan_safetensors(stored, {{"format", "pt"}});
  open_.push_back(std::make_unique<PendingFile>(folder_.building() / name, layout.file_bytes, folder_.inside(name)));
  open_.back()->write(0, std::as_bytes(std::span(layout.header)));
  for (const auto& [tensor, offset] : layout.places)
    sinks_.emplace_back(read.at(tensor.get()), Sink{tensor->dtype(), open_.back().get(), offset, out_of_range});
  names_.push_back(name);
  bytes_ += layout.file_bytes;
}

void FolderWriter::append_items(StreamPlan& pass) const {
  for (const auto& [tensor, sink] : sinks_) pass.add(tensor, sink);
}

void FolderWriter::close_files() {
  for (const auto& file : open_) file->finish();
  open_.clear();
}

}  // namespace ropewalk::formats
