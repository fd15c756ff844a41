#include "formats/tokenizers/sentencepiece_writer.h"

#include <bit>
#include <string_view>

#include "formats/tokenizers/characters.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kBytes = 256;

/// A message in protobuf's wire format (protobuf_reader.h), field by field.
class Message {
 public:
  void number(std::uint32_t field, std::uint64_t value) {
    varint(field << 3);
    varint(value);
  }
  void real(std::uint32_t field, float value) {
    varint(field << 3 | 5);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (unsigned shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(bits >> shift & 255);
  }
  void text(std::uint32_t field, std::string_view value) {
    varint(field << 3 | 2);
    varint(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 128; value >>= 7) bytes_ += static_cast<char>(value | 128);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

[[noreturn]] void refuse(const std::string& problem) {
  throw Error(ErrorKind::unsupported, {}, problem + ", which no tokenizer.model may",
              "name a folder with the model's own tokenizer: --tokenizer DIR");
}

Message trainer_spec(const Vocabulary& vocabulary, std::size_t unknown, bool bytes) {
  Message trainer;
  trainer.number(3, vocabulary.model == "unigram" ? 1 : 2);
  trainer.number(4, vocabulary.pieces.size());
  if (bytes) trainer.number(35, 1);
  // an id of -1 is none; negative numbers are written as 64 bits
  const auto id = [](const std::optional<std::int32_t>& said) {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(said.value_or(-1)));
  };
  trainer.number(40, unknown);
  trainer.number(41, id(vocabulary.bos));
  trainer.number(42, id(vocabulary.eos));
  trainer.number(43, id(vocabulary.pad));
  trainer.text(45, vocabulary.pieces[unknown].text);
  const auto name = [&](std::uint32_t field, const std::optional<std::int32_t>& said) {
    if (said) trainer.text(field, vocabulary.pieces[static_cast<std::size_t>(*said)].text);
  };
  name(46, vocabulary.bos);
  name(47, vocabulary.eos);
  name(48, vocabulary.pad);
  return trainer;
}

/// The piece that stands for what is none: the one that the GGUF names, else the one of that type.
std::size_t unknown_piece(const Vocabulary& vocabulary) {
  const auto may_be = [&](const Piece& piece) {
    return piece.type == PieceType::unknown || piece.type == PieceType::control;
  };
  if (vocabulary.unk && may_be(vocabulary.pieces[static_cast<std::size_t>(*vocabulary.unk)]))
    return static_cast<std::size_t>(*vocabulary.unk);
  std::optional<std::size_t> found;
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    if (vocabulary.pieces[id].type != PieceType::unknown) continue;
    if (found) refuse("pieces " + std::to_string(*found) + " and " + std::to_string(id) + " are both unknown");
    found = id;
  }
  if (!found) refuse("none of its pieces is the unknown one");
  return *found;
}

}  // namespace

std::string sentencepiece_model(const Vocabulary& vocabulary) {
  Message model;
  const std::size_t unknown = unknown_piece(vocabulary);
  std::size_t bytes = 0;
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    bytes += piece.type == PieceType::byte ? 1 : 0;
    std::string text = piece.text;
    if (piece.type == PieceType::user_defined) replace_all(text, " ", kSpaceMark);
    Message said;
    said.text(1, text);
    said.real(2, piece.score);
    const PieceType type = id == unknown                      ? PieceType::unknown
                           : piece.type == PieceType::unknown ? PieceType::control  // matched alike by llama.cpp
                                                              : piece.type;
    said.number(3, static_cast<std::uint64_t>(type));
    model.text(1, said.bytes());
  }
  if (bytes != 0 && bytes != kBytes) refuse("it has " + std::to_string(bytes) + " of the 256 bytes as pieces");
  model.text(2, trainer_spec(vocabulary, unknown, bytes == kBytes).bytes());
  Message normalizer;
  normalizer.text(1, vocabulary.precompiled_charsmap.empty() ? "identity" : "user_defined");
  if (!vocabulary.precompiled_charsmap.empty()) normalizer.text(2, vocabulary.precompiled_charsmap);
  normalizer.number(3, vocabulary.add_dummy_prefix ? 1 : 0);
  normalizer.number(4, vocabulary.remove_extra_whitespaces ? 1 : 0);
  normalizer.number(5, 1);
  model.text(3, normalizer.bytes());
  return model.bytes();
}

}  // namespace ropewalk::formats
