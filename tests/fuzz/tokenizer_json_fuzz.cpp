// tokenizer.json from strangers: read, and if it reads, used.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/tokenizer_json.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

namespace {

std::string file(const std::string& steps, const std::string& model) {
  return R"({"version": "1.0", "added_tokens": [{"id": 9, "content": "<s>", "single_word": true, "lstrip": true,
"rstrip": true, "normalized": true, "special": true}], )" +
         steps + R"("model": )" + model + "}";
}

const char* const kBpe =
    R"({"type": "BPE", "unk_token": "b", "byte_fallback": true, "vocab": {"a": 0, "b": 1, "ab": 2, "aba": 3, "<0x41>": 4}, "merges": ["a b", "ab a"]})";

/// "a" becomes "xyz", in base64: 1024 bytes of trie, mostly zeros.
std::string charsmap() {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes(4 + 1024, '\0');
  const auto put = [&](std::size_t at, std::uint32_t word) {
    for (std::size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<char>(word >> (8 * i));
  };
  put(0, 1024);
  put(4, 0x80u << 10);
  put(4 + (0x80 ^ 'a') * 4, 0x40u << 10 | 1u << 8 | 'a');
  put(4 + (0x80 ^ 'a' ^ 0x40) * 4, 0x80000000u);
  bytes += std::string("xyz\0", 4);  // a multiple of three in all
  std::string out;
  for (std::size_t at = 0; at + 2 < bytes.size(); at += 3) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i) bits = bits << 8 | static_cast<unsigned char>(bytes[at + i]);
    for (int shift = 18; shift >= 0; shift -= 6) out += kDigits[bits >> shift & 63];
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace ropewalk;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = formats::Tokenizer::create(formats::parse_tokenizer_json("fuzz", bytes));
    const auto ids = tokenizer->encode(bytes.substr(0, 512), true);
    for (std::int32_t id : ids)
      if (id < 0 || id >= tokenizer->size()) std::abort();
    tokenizer->decode(ids);
  } catch (const Error&) {
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      file("", kBpe),
      file(R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}, {"type":
"Strip", "strip_left": true, "strip_right": true}]}, "pre_tokenizer": {"type": "Split", "pattern": {"Regex":
"(?i:'s)|\\p{L}{1,3}+|[^\\s&&[a-c]]+"}, "behavior": "MergedWithNext", "invert": true}, )",
           kBpe),
      file(R"("pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Metaspace", "replacement": "_",
"prepend_scheme": "first", "split": true}, {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true}]},
"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content":
"a", "start": 1, "stop": 1}]}, )",
           R"({"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0], ["b", -2.5], ["ab", -1.5]]})"),
      file(R"("normalizer": {"type": "Precompiled", "precompiled_charsmap": ")" + charsmap() + R"("}, )", kBpe),
      file(R"("post_processor": {"type": "BertProcessing", "sep": ["a", 0], "cls": ["b", 1]}, )",
           R"({"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
"vocab": {"a": 0, "b": 1, "##b": 2}})"),
  };
}
