#include "formats/torch/saved_object.h"

#include <optional>
#include <span>

#include "formats/torch/unpickler.h"
#include "formats/torch/zip_archive.h"
#include "formats/utf8.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 20;

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& problem) {
  throw Error(ErrorKind::bad_input, {.path = path.string()}, problem, "save it again, or remove it");
}

bool is_text(const torch::Node& node) {
  return node.kind == torch::Node::Kind::text && first_invalid_utf8(node.text) == node.text.size();
}

std::optional<Json> value_of(const torch::Node& node) {
  using Kind = torch::Node::Kind;
  if (node.kind == Kind::none) return Json(nullptr);
  if (node.kind == Kind::boolean) return Json(node.integer != 0);
  if (node.kind == Kind::integer) return Json(node.integer);
  if (is_text(node)) return Json(std::string(node.text));
  return std::nullopt;
}

}  // namespace

Json read_saved_attributes(const std::filesystem::path& path) {
  const auto file = File::open(path);
  char head[4] = {};
  if (file->size() >= sizeof head) file->read(0, std::as_writable_bytes(std::span(head)));
  if (std::string_view(head, sizeof head) != std::string_view("PK\3\4", 4))
    fail(path, "is no zip file, expected what torch.save writes");
  const torch::ZipMember* pickle = nullptr;
  const auto members = torch::read_zip(*file);
  for (const auto& [name, member] : members)
    if (name.ends_with("/data.pkl")) pickle = &member;
  if (!pickle) fail(path, "holds no NAME/data.pkl, expected what torch.save writes");
  if (pickle->bytes > kMostBytes)
    fail(path, "holds a pickle of " + std::to_string(pickle->bytes) + " bytes, expected at most " +
                   std::to_string(kMostBytes));
  std::string bytes(pickle->bytes, '\0');
  file->read(pickle->offset, std::as_writable_bytes(std::span(bytes)));
  const torch::Pickle read = torch::unpickle(path.string(), pickle->offset, bytes, torch::Names::any_as_data);
  const torch::Node* attributes = nullptr;
  if (read.value->kind == torch::Node::Kind::object && read.value->items.size() > 1)
    attributes = read.value->items.back();
  if (!attributes || attributes->kind != torch::Node::Kind::dictionary)
    fail(path, "holds no object with attributes, expected the arguments of a trainer");
  Json out = Json::object();
  for (std::size_t i = 0; i + 1 < attributes->items.size(); i += 2) {
    const torch::Node& key = *attributes->items[i];
    if (!is_text(key)) continue;
    if (const auto value = value_of(*attributes->items[i + 1])) out[std::string(key.text)] = *value;
  }
  return out;
}

}  // namespace ropewalk::formats
