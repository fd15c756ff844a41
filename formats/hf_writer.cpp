#include "formats/hf_writer.h"

#include <algorithm>
#include <array>
#include <map>

#include "formats/folder_writer.h"
#include "formats/hf_folder.h"
#include "formats/safetensors.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCard = "README.md";
constexpr std::uint64_t kMaxCardBytes = std::uint64_t{16} << 20;

/// A target that is or holds a folder we read from would replace its own source.
void refuse_source_as_target(const Source& source, const fs::path& target) {
  std::error_code ignored;
  const fs::path whole = fs::weakly_canonical(fs::absolute(target, ignored), ignored);
  std::vector<fs::path> inputs;
  if (source.hf) inputs.push_back(source.hf->folder);
  if (source.gguf && !source.gguf->files.empty()) inputs.push_back(source.gguf->files.front()->path());
  for (const PeftAdapter& adapter : source.adapters) inputs.push_back(adapter.folder);
  if (!source.tokenizer_folder.empty()) inputs.push_back(source.tokenizer_folder);
  for (const fs::path& input : inputs) {
    const fs::path read = fs::weakly_canonical(fs::absolute(input, ignored), ignored);
    if (std::mismatch(whole.begin(), whole.end(), read.begin(), read.end()).first == whole.end())
      throw Error(ErrorKind::io, {.path = target.string()},
                  "the target is or contains the source '" + input.string() + "'", "name another folder");
  }
}

using Stored = FolderWriter::Stored;

/// transformers' layers have biases everywhere or nowhere, those of a GGUF may have some: zeros for the others.
std::vector<TensorPtr> with_all_biases(const Checkpoint& checkpoint) {
  std::vector<TensorPtr> tensors;
  const std::set<std::string> names = [&] {
    std::set<std::string> all;
    for (const TensorPtr& tensor : checkpoint.tensors) all.insert(tensor->name());
    return all;
  }();
  for (const TensorPtr& tensor : checkpoint.tensors) {
    tensors.push_back(tensor);
    const std::string& name = tensor->name();
    const bool biased = (checkpoint.config.attention_bias && name.find(".self_attn.") != std::string::npos) ||
                        (checkpoint.config.mlp_bias && name.find(".mlp.") != std::string::npos);
    if (!biased || !name.ends_with("_proj.weight")) continue;
    const std::string bias = name.substr(0, name.size() - 6) + "bias";
    const std::uint64_t rows = tensor->info().rows();
    if (!names.contains(bias)) tensors.push_back(memory_tensor(bias, {rows}, std::vector<float>(rows)));
  }
  return tensors;
}

/// Tensors as an HF folder holds them: half-split rotary rows, an encoding safetensors knows.
std::vector<Stored> hf_tensors(const Checkpoint& checkpoint, std::optional<DType> dtype) {
  const ModelConfig& config = checkpoint.config;
  std::vector<Stored> tensors;
  for (TensorPtr tensor : with_all_biases(checkpoint)) {
    const bool cast_it = dtype && (is_float(tensor->dtype()) || is_block_type(tensor->dtype()));
    const DType stored = cast_it ? *dtype : tensor->dtype();
    if (info(stored).safetensors.empty())
      throw Error(ErrorKind::unsupported, {.path = std::string(tensor->file())},
                  "tensor '" + tensor->name() + "' is " + std::string(info(tensor->dtype()).name) +
                      ", which safetensors cannot hold",
                  "choose a type for the output, such as f16");
    if (tensor->info().pairs == RotaryPairs::interleaved)
      tensor = with_rotary_pairs(tensor, RotaryPairs::half_split, config);
    tensors.push_back({tensor, cast(tensor, stored)});
  }
  return tensors;
}

/// torch's name of the type most elements have; empty if it has none.
std::string main_dtype(const std::vector<Stored>& tensors) {
  std::map<DType, std::uint64_t> elements;
  for (const Stored& tensor : tensors)
    if (is_float(tensor.stored->dtype())) elements[tensor.stored->dtype()] += tensor.stored->info().elements();
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == elements.end() ? "" : std::string(info(most->first).torch);
}

Json config_with_dtype(Json config, const std::string& dtype) {
  config.erase("quantization_config");  // the tensors are plain now
  if (dtype.empty()) return config;
  const bool version5 =
      config.contains("dtype") || (!config.contains("torch_dtype") && config.contains("rope_parameters"));
  if (config.contains("torch_dtype") || !version5) config["torch_dtype"] = dtype;
  if (version5) config["dtype"] = dtype;
  return config;
}

/// By its card: a tokenizer in it was put there as this one is.
bool made_by_us(const fs::path& target) {
  const fs::path card = target / kCard;
  std::error_code ignored;
  if (!fs::is_regular_file(card, ignored) || fs::file_size(card, ignored) > kMaxCardBytes) return false;
  return read_text_file(card, kMaxCardBytes).find(" with ropewalk ") != std::string::npos;
}

/// Files to copy, by name in the target.
std::map<std::string, fs::path> carried(const Source& source, const HfWriteOptions& options) {
  std::map<std::string, fs::path> files;
  const fs::path base = source.hf ? source.hf->folder : fs::path();
  const bool other_tokenizer = !source.tokenizer_folder.empty() && source.tokenizer_folder != base;
  if (source.hf)
    for (const std::string& name : source.hf->carried_files)
      if (!(other_tokenizer && is_tokenizer_file(name)) && !(name == kCard && !options.card.empty()) &&
          !options.changes.left_out.contains(name))
        files[name] = base / name;
  if (other_tokenizer)
    for (const std::string& name : list_carried_files(source.tokenizer_folder))
      if (is_tokenizer_file(name)) files[name] = source.tokenizer_folder / name;
  return files;
}

}  // namespace

struct HfOutput::State {
  State(const fs::path& target, const HfWriteOptions& writing) : options(writing), folder(target, writing.write) {}

  void lay_out(const std::vector<Stored>& tensors);

  HfWriteOptions options;
  FolderWriter folder;
  std::string index;
};

void HfOutput::State::lay_out(const std::vector<Stored>& tensors) {
  std::vector<TensorPtr> stored;
  std::map<const LazyTensor*, const Stored*> by_stored;
  for (const Stored& tensor : tensors) {
    stored.push_back(tensor.stored);
    by_stored.emplace(tensor.stored.get(), &tensor);
  }
  ShardPlan plan = plan_shards(stored, options.max_shard_bytes);
  for (const auto& [name, members] : plan.shards) {
    std::vector<Stored> shard;
    for (const TensorPtr& member : members) shard.push_back(*by_stored.at(member.get()));
    folder.add_safetensors(name, shard, options.saturate ? OutOfRange::clamp : OutOfRange::refuse);
  }
  index = std::move(plan.index_json);
}

HfOutput::HfOutput(const Source& source, const Json& config, const fs::path& target, const HfWriteOptions& options) {
  refuse_source_as_target(source, target);
  const std::vector<Stored> tensors = hf_tensors(source.checkpoint, options.dtype);
  const std::map<std::string, fs::path> files = carried(source, options);
  state_ = std::make_unique<State>(target, options);
  State& s = *state_;
  // As transformers writes it: two spaces, ASCII, a newline at the end. Key order is the source's.
  s.folder.add_text("config.json", config_with_dtype(config, main_dtype(tensors)).dump(2, ' ', true) + "\n");
  if (!options.card.empty()) s.folder.add_text(kCard, options.card);
  for (const auto& [name, from] : files) {
    const auto text = options.changes.texts.find(name);
    if (text != options.changes.texts.end()) s.folder.add_text(name, text->second);
    else s.folder.add_copy(name, from);
  }
  for (const auto& [name, text] : options.changes.texts)
    if (!files.contains(name)) s.folder.add_text(name, text);
  s.lay_out(tensors);
  std::vector<std::string> files_known = s.folder.files();
  if (made_by_us(target))
    for (const std::string& name : list_carried_files(target))
      if (is_tokenizer_file(name)) files_known.push_back(name);
  s.folder.pending().refuse_to_lose(files_known);
}

HfOutput::~HfOutput() = default;
HfOutput::HfOutput(HfOutput&&) noexcept = default;

void HfOutput::append_items(StreamPlan& pass) const { state_->folder.append_items(pass); }

void HfOutput::seal() {
  State& s = *state_;
  s.folder.close_files();
  if (!s.index.empty()) s.folder.add_text("model.safetensors.index.json", s.index);
}

void HfOutput::append_pending(PendingSet& set) const { set.folders.push_back(&state_->folder.pending()); }

HfWritten HfOutput::finish() {
  state_->folder.pending().finish();
  HfWritten written{state_->folder.files(), state_->folder.bytes()};
  std::sort(written.files.begin(), written.files.end());
  return written;
}

HfWritten write_hf_folder(const Source& source, const Json& config, const fs::path& target,
                          const HfWriteOptions& options) {
  HfOutput output(source, config, target, options);
  StreamPlan pass;
  output.append_items(pass);
  stream(pass.items(), options.stream);
  output.seal();
  return output.finish();
}

}  // namespace ropewalk::formats
