// tokenizer.model from strangers, SentencePiece's or tiktoken's: read, and if it reads, used.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "formats/tokenizers/tiktoken.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

namespace {

// Protobuf's wire format: a field is (number << 3 | kind), then a varint, 4 bytes, or a length and bytes. Numbers below
// 16 and lengths below 128 only.
std::string varint_field(int number, int value) { return {static_cast<char>(number << 3), static_cast<char>(value)}; }
std::string bytes_field(int number, const std::string& bytes) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
}
std::string piece(const std::string& text, float score, int type) {
  std::string raw(4, '\0');
  std::memcpy(raw.data(), &score, 4);
  return bytes_field(
      1, bytes_field(1, text) + std::string(1, static_cast<char>(2 << 3 | 5)) + raw + varint_field(3, type));
}

/// precompiled_charsmap: "a" becomes "xy". The root leads to unit 0x60 + 'a', that to its leaf.
std::string charsmap() {
  std::string units(1024, '\0');
  const auto put = [&](std::size_t place, std::uint32_t unit) { std::memcpy(units.data() + place * 4, &unit, 4); };
  put(0, 0x80u << 10);
  put(0x80 ^ 'a', 0x40u << 10 | 1u << 8 | 'a');
  put(0x80 ^ 'a' ^ 0x40, 0x80000000u);
  const std::uint32_t size = 1024;
  return std::string(reinterpret_cast<const char*>(&size), 4) + units + std::string("xy\0", 3);
}

std::string model(bool bytes, bool unigram = false) {
  std::string out = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\xE2\x96\x81", -1, 1) +
                    piece("a", -2, 1) + piece("b", -3, 1) + piece("ab", -0.5, 1) +
                    piece(
                        "\xE2\x96\x81"
                        "ab",
                        -0.25, 1) +
                    piece("<sep>", 0, 4) + piece("unused", 0, 5);
  if (bytes) {
    const char* digits = "0123456789ABCDEF";
    for (int b = 0; b < 256; ++b) out += piece(std::string("<0x") + digits[b >> 4] + digits[b & 15] + ">", 0, 6);
  }
  const std::string byte_fallback = std::string("\x98\x02") + static_cast<char>(bytes ? 1 : 0);  // field 35
  out += bytes_field(2, varint_field(3, unigram ? 1 : 2) + byte_fallback);
  if (!unigram) return out + bytes_field(3, bytes_field(1, "identity"));
  const std::string table = charsmap();  // its length takes two bytes
  const auto long_field = [](int number, const std::string& value) {
    return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(value.size() | 0x80),
                       static_cast<char>(value.size() >> 7)} +
           value;
  };
  return out + long_field(3, long_field(2, table));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace ropewalk;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    if (formats::looks_like_tiktoken(bytes)) formats::parse_tiktoken("fuzz", bytes, true);
    Vocabulary vocabulary = formats::parse_sentencepiece_model("fuzz", bytes);
    for (const auto rules : {TokenizerRules::sentencepiece, TokenizerRules::llama_cpp}) {
      vocabulary.rules = rules;
      const auto tokenizer = formats::Tokenizer::create(vocabulary);
      if (tokenizer->size() != static_cast<std::int32_t>(vocabulary.pieces.size())) std::abort();
      try {
        const auto ids = tokenizer->encode(bytes.substr(0, 512), true);
        for (std::int32_t id : ids)
          if (id < 0 || id >= tokenizer->size()) std::abort();
        tokenizer->decode(ids);
      } catch (const Error&) {
        if (rules == TokenizerRules::sentencepiece) std::abort();  // every text has ids there
      }
    }
  } catch (const Error&) {
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {model(false), model(true), model(false, true), model(true, true), "YQ== 0\nYWE= 1\n"};
}
