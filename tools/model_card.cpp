#include "tools/model_card.h"

#include <filesystem>

#include "formats/hub_cache.h"
#include "formats/synthetic.h"
#include "lib/file.h"
#include "lib/number_text.h"
#include "tools/describe.h"
#include "tools/escape.h"
#include "tools/render.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

struct SourceCard {
  std::string front_matter;  // with both "---" lines, or empty
  std::string body;
};

SourceCard source_card(const formats::Source& source) {
  SourceCard card;
  if (!source.hf) return card;
  const std::filesystem::path path = source.hf->folder / "README.md";
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return card;
  card.body = read_text_file(path, std::uint64_t{16} << 20);
  if (!card.body.starts_with("---\n")) return card;
  const auto end = card.body.find("\n---\n", 3);
  if (end == std::string::npos) return card;
  card.front_matter = card.body.substr(0, end + 5);
  card.body.erase(0, end + 5);
  return card;
}

/// A folder's name, of a snapshot in the Hub cache its repository's.
std::string published_name(const std::filesystem::path& folder) {
  return formats::repository_of(folder).value_or(last_part(folder));
}

std::string base_text(const formats::Source& source) {
  std::string text = model_name(source);
  if (source.hf) text = formats::repository_of(source.hf->folder).value_or(text);
  if (source.quantization) text += ", dequantized from " + source.quantization->method;
  if (!source.nf4_base.empty())
    text += ", " + plural(source.nf4_base.size(), "linear layer") + " through NF4 and back first (--qlora-base nf4)";
  return text;
}

std::string merged_text(const formats::Source& source, std::size_t i) {
  const formats::PeftAdapter& adapter = source.adapters[i];
  std::string text =
      published_name(adapter.folder) + ", " + adapter.kind + " of " + plural(adapter.modules.size(), "module");
  if (!adapter.modules.empty() && adapter.modules.front().rank > 0)
    text += ", rank " + std::to_string(adapter.modules.front().rank);
  if (!adapter.base_model.empty()) text += ", trained on " + last_part(adapter.base_model);
  if (const double scale = adapter_scale(source, i); scale != 1) text += ", times " + number_text(scale, 6);
  return text;
}

}  // namespace

std::string model_card(const formats::Source& source, const std::string& name, const std::string& what,
                       const std::string& rope, const std::string& combined) {
  const SourceCard original = source_card(source);
  const ModelConfig& config = source.checkpoint.config;
  Table table{{{""}, {""}}, {}};
  table.rows.push_back({"base", base_text(source)});
  for (std::size_t i = 0; i < source.adapters.size(); ++i) table.rows.push_back({"adapter", merged_text(source, i)});
  if (!combined.empty()) table.rows.push_back({"combination", combined});
  if (!source.adapters.empty()) {
    std::string origin = source.tokenizer_origin;  // without a path of this machine
    if (!source.tokenizer_folder.empty() && origin != "base" && origin != "none")
      origin = origin.substr(0, origin.find(' ')) + " " + published_name(source.tokenizer_folder);
    table.rows.push_back({"tokenizer", origin});
  }
  table.rows.push_back({"architecture", config.model_type + (config.n_layers > 0 ? ": " + geometry_text(config) : "")});
  table.rows.push_back({"parameters", count_text(total_elements(source.checkpoint.tensors)) + ", " +
                                          std::string(info(dominant_dtype(source.checkpoint.tensors)).name)});
  if (!source.named_only) {
    table.rows.push_back({"context", std::to_string(config.context) + " tokens"});
    table.rows.push_back({"rope", rope.empty() ? describe(config.rope) : rope});
  }
  std::string card = original.front_matter + (original.front_matter.empty() ? "" : "\n") + "# " + markdown_text(name) +
                     "\n\nThis model was " + what + " with ropewalk " ROPEWALK_VERSION ".\n\n" +
                     (source.synthetic ? formats::kSyntheticDescription + std::string("\n\n") : "") +
                     markdown_table(table);
  if (original.body.find_first_not_of(" \n\r\t") != std::string::npos)
    card += "\n## Card of " + model_name(source) + "\n\n" + original.body;
  return card;
}

}  // namespace ropewalk::tools
