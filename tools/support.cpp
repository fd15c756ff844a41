#include <array>

#include "formats/adapters/kinds.h"
#include "formats/quantized/methods.h"
#include "lib/codecs/encode.h"
#include "lib/convert.h"
#include "tools/commands.h"
#include "tools/common_options.h"

namespace ropewalk::tools {
namespace {

struct SupportOptions {
  CommonOptions common;
};

void declare(CommandLine& line, SupportOptions& options) {
  declare_common(line, options.common);
  line.example("ropewalk support", "what this version reads and writes");
}

struct Row {
  const char *source, *architecture, *models;
  bool extend, merge, convert, verify;
};
// What is read today; anything else is refused with exit code 4.
constexpr std::array kRows = {
    Row{"Hugging Face folder", "llama", "Llama 1 to 3, SOLAR and kin", true, true, true, true},
    Row{"Hugging Face folder", "mistral", "Mistral 7B and kin", true, true, true, true},
    Row{"Hugging Face folder", "gemma3_text, gpt_oss, phi3, qwen2, qwen3",
        "rope by config.json alone, adapters by the names of tensors, the rest is carried", true, true, false, false},
    Row{"Hugging Face folder", "any other", "adapters by the names of tensors, the rest is carried", false, true, false,
        false},
    Row{"GGUF", "llama", "every plain and block type of ggml 0.25", true, true, true, true},
};

/// Whole files first, then kinds of vocabulary in a GGUF.
constexpr std::array kTokenizers = {"SentencePiece BPE and unigram",
                                    "tokenizer.json (BPE, Unigram, WordPiece, WordLevel)", "tiktoken",
                                    "vocab.json with merges.txt", "GGUF: llama, gpt2, gemma4, plamo2, t5"};

/// One after the other, and the same as JSON.
struct Names {
  std::string text;
  Json json = Json::array();
  void add(std::string_view name, const std::string& more = "") {
    text += (text.empty() ? "" : ", ") + std::string(name) + more;
    json.push_back(name);
  }
};

const char* mark(bool yes) { return yes ? "yes" : "-"; }

int run_support(const SupportOptions& options, Io& io) {
  check_reports(options.common);
  Output output{.command = "support"};
  Json rows = Json::array();
  Table table{{{"source"},
               {"architecture"},
               {"models"},
               {"extend"},
               {"merge"},
               {"convert"},
               {"verify, perplexity, logits, generate"}},
              {}};
  for (const Row& row : kRows) {
    table.rows.push_back({row.source, row.architecture, row.models, mark(row.extend), mark(row.merge),
                          mark(row.convert), mark(row.verify)});
    rows.push_back({{"source", row.source},
                    {"architecture", row.architecture},
                    {"models", row.models},
                    {"extend", row.extend},
                    {"merge", row.merge},
                    {"convert", row.convert},
                    {"verify", row.verify}});
  }
  std::string types;
  Json encodings = Json::array();
  for (const DTypeInfo& type : kDTypes) {
    if (!can_decode(type.dtype)) continue;
    encodings.push_back({{"name", type.name}, {"write", can_encode(type.dtype) || has_block_encoder(type.dtype)}});
    types += (types.empty() ? "" : ", ") + std::string(type.name);
  }
  Names adapters, tokenizers, packed;
  for (const formats::AdapterKind* kind : formats::adapter_kinds())
    adapters.add(kind->name, kind->variants.empty() ? "" : " (" + std::string(kind->variants) + ")");
  for (const char* one : kTokenizers) tokenizers.add(one);
  for (const std::string_view method : formats::quantized::method_names()) packed.add(method);
  output.body = {{"architectures", rows},
                 {"adapters", adapters.json},
                 {"tokenizers", tokenizers.json},
                 {"quantized", packed.json},
                 {"encodings", encodings}};
  output.table(std::move(table));
  output.text("adapters of PEFT 0.21.2: " + adapters.text + "; LoRA of a GGUF\ntokenizers: " + tokenizers.text +
              "\nquantized checkpoints: " + packed.text + "\nencodings read: " + types);
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command support_command() {
  return make_command("support", "architectures and commands of this version", declare, run_support);
}

}  // namespace ropewalk::tools
