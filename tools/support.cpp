#include <array>

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
    Row{"Hugging Face folder", "llama", "Llama 1 and 2, SOLAR, and kin with a SentencePiece tokenizer", true, true,
        true, true},
    Row{"Hugging Face folder", "mistral", "Mistral 7B and kin with a SentencePiece tokenizer", true, true, true, true},
    Row{"Hugging Face folder", "gemma3_text, gpt_oss, phi3, qwen2, qwen3", "by config.json alone, the rest is carried",
        true, false, false, false},
    Row{"GGUF", "llama", "every plain and block type of ggml 0.25", true, false, true, true},
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
  output.body = {{"architectures", rows}, {"encodings", encodings}};
  output.table(std::move(table));
  output.text(
      "adapters: LoRA and rsLoRA of PEFT 0.21; tokenizers: SentencePiece BPE, tokenizer.json\nencodings read: " +
      types);
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command support_command() {
  return make_command("support", "architectures and commands of this version", declare, run_support);
}

}  // namespace ropewalk::tools
