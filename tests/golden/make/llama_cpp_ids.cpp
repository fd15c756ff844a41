// What the real llama.cpp does with texts and ids: built by sentencepiece_ids.py against libllama, not part of the
// tree's build.
// stdin: lines  "t HEX" (text) or "d ID ID ..." (ids). stdout, per line: for a text two lists of ids, special tokens as
// text and as tokens, or null if
// the vocabulary cannot encode it; for ids the text in hex, by llama_detokenize without and with special tokens.
#include <cstdio>
#include <iostream>
#include <sstream>
#include <exception>
#include <string>
#include <vector>

#include "llama.h"

static std::string unhex(const std::string& hex) {
  std::string out;
  for (std::size_t at = 0; at + 1 < hex.size(); at += 2)
    out += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
  return out;
}

static void print_ids(const llama_vocab* vocab, const std::string& text, bool special) {
  std::vector<llama_token> ids(text.size() * 4 + 16);  // a byte that is no UTF-8 may take three
  try {
    ids.resize(llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), ids.data(),
                              static_cast<int32_t>(ids.size()), false, special));
  } catch (const std::exception&) {
    std::printf("null");
    return;
  }
  std::printf("[");
  for (std::size_t at = 0; at < ids.size(); ++at) std::printf("%s%d", at ? "," : "", ids[at]);
  std::printf("]");
}

static void print_text(const llama_vocab* vocab, const std::vector<llama_token>& ids, bool special) {
  std::string text(ids.size() * 256 + 16, '\0');
  text.resize(llama_detokenize(vocab, ids.data(), static_cast<int32_t>(ids.size()), text.data(),
                               static_cast<int32_t>(text.size()), false, special));
  std::printf("\"");
  for (unsigned char byte : text) std::printf("%02x", byte);
  std::printf("\"");
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_model_params parameters = llama_model_default_params();
  parameters.vocab_only = true;
  const llama_model* model = llama_model_load_from_file(argv[1], parameters);
  if (!model) return 1;
  const llama_vocab* vocab = llama_model_get_vocab(model);
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line.substr(1));
    std::printf("[");
    if (line[0] == 't') {
      std::string hex;
      words >> hex;
      print_ids(vocab, unhex(hex), false);
      std::printf(",");
      print_ids(vocab, unhex(hex), true);
    } else {
      std::vector<llama_token> ids;
      for (llama_token id; words >> id;) ids.push_back(id);
      print_text(vocab, ids, false);
      std::printf(",");
      print_text(vocab, ids, true);
    }
    std::printf("]\n");
  }
}
