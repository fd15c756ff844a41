#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "formats/protobuf_reader.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/utf8.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{64} << 20;  // Gemma's 262,144 pieces take 5 MB
constexpr std::size_t kMaxPieces = std::size_t{1} << 20;
constexpr std::size_t kMaxPieceBytes = 8000;  // the library refuses longer ones
constexpr std::string_view kNullPiece("\0", 1);

using Field = ProtobufReader::Field;

struct TrainerSpec {
  std::uint64_t model_type = 1;  // UNIGRAM
  bool byte_fallback = false, whitespace_as_suffix = false;
  std::string bos = "<s>", eos = "</s>", pad = "<pad>";
  std::uint64_t offset = 0;
  bool found = false;
};

/// What the file says, before it is judged as a whole.
struct Model {
  std::vector<std::uint64_t> offsets;  // of each piece in the file
  TrainerSpec trainer;
  bool has_normalizer = false;
};

/// Name of a piece in a message: quoted while it is printable, else by number.
std::string called(const std::vector<Piece>& pieces, std::size_t id) {
  const std::string& text = pieces[id].text;
  const bool plain = text.size() <= 40 && text.find('\0') == std::string::npos;
  return "piece " + std::to_string(id) + (plain ? " '" + text + "'" : "");
}

Piece read_piece(const std::string& path, const Field& message) {
  ProtobufReader reader(path, message.bytes, message.bytes_offset);
  Piece piece;
  for (Field field; reader.next(field);) {
    if (field.number == 1) {
      piece.text = reader.string(field, "a piece's text");
      if (piece.text.size() >= kMaxPieceBytes)
        reader.fail(field.offset,
                    "a piece of " + std::to_string(piece.text.size()) + " bytes, expected fewer than 8000");
      const std::size_t bad = first_invalid_utf8(piece.text);
      if (bad != piece.text.size()) reader.fail(field.bytes_offset + bad, "a piece's text is not UTF-8");
    } else if (field.number == 2) {
      piece.score = reader.number(field, "a piece's score");
      if (std::isnan(piece.score)) reader.fail(field.offset, "a piece's score is not a number");
    } else if (field.number == 3) {
      const std::uint64_t type = reader.varint(field, "a piece's type");
      if (type < 1 || type > 6)
        reader.fail(field.offset, "a piece has type " + std::to_string(type) + ", expected 1 to 6");
      piece.type = static_cast<PieceType>(type);
    }
  }
  return piece;
}

/// An empty name means the default one.
void set_name(std::string& name, std::string_view given) {
  if (!given.empty()) name = given;
}

void read_trainer(const std::string& path, const Field& message, Vocabulary& vocabulary, TrainerSpec& trainer) {
  trainer.found = true;
  trainer.offset = message.offset;
  ProtobufReader reader(path, message.bytes, message.bytes_offset);
  for (Field field; reader.next(field);) {
    switch (field.number) {
      case 3: trainer.model_type = reader.varint(field, "model_type"); break;
      case 24: trainer.whitespace_as_suffix = reader.varint(field, "treat_whitespace_as_suffix") != 0; break;
      case 35: trainer.byte_fallback = reader.varint(field, "byte_fallback") != 0; break;
      case 44: vocabulary.unk_surface = reader.string(field, "unk_surface"); break;
      case 46: set_name(trainer.bos, reader.string(field, "bos_piece")); break;
      case 47: set_name(trainer.eos, reader.string(field, "eos_piece")); break;
      case 48: set_name(trainer.pad, reader.string(field, "pad_piece")); break;
      default: break;
    }
  }
}

void read_normalizer(const std::string& path, const Field& message, Vocabulary& vocabulary) {
  ProtobufReader reader(path, message.bytes, message.bytes_offset);
  for (Field field; reader.next(field);) {
    switch (field.number) {
      case 1: vocabulary.normalizer_name = reader.string(field, "the normalizer's name"); break;
      case 2: vocabulary.precompiled_charsmap = reader.string(field, "precompiled_charsmap"); break;
      case 3: vocabulary.add_dummy_prefix = reader.varint(field, "add_dummy_prefix") != 0; break;
      case 4: vocabulary.remove_extra_whitespaces = reader.varint(field, "remove_extra_whitespaces") != 0; break;
      case 5: vocabulary.escape_whitespaces = reader.varint(field, "escape_whitespaces") != 0; break;
      default: break;
    }
  }
}

void refuse_denormalizing_table(const std::string& path, const Field& message) {
  ProtobufReader reader(path, message.bytes, message.bytes_offset);
  for (Field field; reader.next(field);)
    if (field.number == 2 && !reader.string(field, "the denormalizer's precompiled_charsmap").empty())
      throw Error(ErrorKind::unsupported, {.path = path, .offset = field.offset},
                  "the denormalizer has a table of its own", "use a model trained without --denormalization_rule_tsv");
}

void check_trainer(const std::string& path, const TrainerSpec& trainer) {
  static constexpr const char* kKinds[] = {"0", "unigram", "bpe", "word", "char"};
  if (trainer.model_type == 1 || trainer.model_type == 2) return;
  const std::string kind =
      trainer.model_type < std::size(kKinds) ? kKinds[trainer.model_type] : std::to_string(trainer.model_type);
  throw Error(ErrorKind::unsupported, {.path = path, .offset = trainer.offset},
              "a SentencePiece model of type " + kind + ", only bpe and unigram are read",
              "use a checkpoint with a BPE or unigram tokenizer.model");
}

/// The library's own checks on the pieces together (ModelInterface::InitializePieces of 0.2.3).
void check_pieces(const std::string& path, const Model& model, std::vector<Piece>& pieces) {
  const auto fail = [&](std::size_t id, const std::string& problem) {
    throw Error(ErrorKind::bad_input, {.path = path, .offset = model.offsets[id]}, called(pieces, id) + " " + problem,
                "the file is corrupt or was not made by SentencePiece: fetch it again");
  };
  std::unordered_map<std::string_view, std::size_t> seen;
  std::array<bool, 256> byte_found{};
  std::optional<std::size_t> unknown;
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    Piece& piece = pieces[id];
    if (piece.text.empty()) fail(id, "has no text");
    // Converters add a raw NUL beside <0x00>; the library takes it for unused and leaves it out.
    if (piece.text == kNullPiece && model.trainer.byte_fallback) piece.type = PieceType::unused;
    if (piece.text == kNullPiece && piece.type == PieceType::unused) continue;
    if (piece.text.find('\0') != std::string::npos) fail(id, "holds a NUL character");
    if (const auto [first, is_new] = seen.emplace(piece.text, id); !is_new)
      fail(id, "is defined twice, first as piece " + std::to_string(first->second));
    if (piece.type == PieceType::unknown) {
      if (unknown) fail(id, "is a second unknown piece, the first is piece " + std::to_string(*unknown));
      unknown = id;
    }
    if (piece.type == PieceType::byte) {
      if (!model.trainer.byte_fallback) fail(id, "is a byte, but byte_fallback is false");
      const auto byte = byte_of_piece(piece.text);
      if (!byte) fail(id, "is no byte, expected '<0x00>' to '<0xFF>'");
      byte_found[*byte] = true;
    }
  }
  if (!unknown && !model.trainer.byte_fallback)
    throw Error(ErrorKind::bad_input, {.path = path, .offset = model.trainer.offset}, "no piece of type unknown",
                "the file is corrupt: fetch it again");
  for (int byte = 0; model.trainer.byte_fallback && byte < 256; ++byte)
    if (!byte_found[static_cast<std::size_t>(byte)])
      throw Error(ErrorKind::bad_input, {.path = path, .offset = model.trainer.offset},
                  "byte_fallback is set, but " + byte_piece(static_cast<std::uint8_t>(byte)) + " is missing",
                  "the file is corrupt: fetch it again");
}

/// `text` nullopt: whatever its text.
std::optional<std::int32_t> find_piece(const std::vector<Piece>& pieces, std::optional<std::string_view> text,
                                       PieceType type) {
  for (std::size_t id = 0; id < pieces.size(); ++id)
    if (pieces[id].type == type && (!text || pieces[id].text == *text)) return static_cast<std::int32_t>(id);
  return std::nullopt;
}

}  // namespace

std::string byte_piece(std::uint8_t byte) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
}

std::optional<std::uint8_t> byte_of_piece(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return std::nullopt;
  const int high = digit(text[3]), low = digit(text[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<std::uint8_t>(high * 16 + low);
}

Vocabulary parse_sentencepiece_model(const std::string& path, std::string_view bytes) {
  Vocabulary vocabulary;
  vocabulary.remove_extra_whitespaces = true;  // the field's default
  vocabulary.normalizer_name.clear();
  Model model;
  ProtobufReader reader(path, bytes);
  for (Field field; reader.next(field);) {
    switch (field.number) {
      case 1:
        reader.string(field, "a piece");
        if (vocabulary.pieces.size() == kMaxPieces)
          reader.fail(field.offset, "more than " + std::to_string(kMaxPieces) + " pieces");
        vocabulary.pieces.push_back(read_piece(path, field));
        model.offsets.push_back(field.offset);
        break;
      case 2:
        reader.string(field, "trainer_spec");
        read_trainer(path, field, vocabulary, model.trainer);
        break;
      case 3:
        reader.string(field, "normalizer_spec");
        model.has_normalizer = true;
        read_normalizer(path, field, vocabulary);
        break;
      case 5:
        reader.string(field, "denormalizer_spec");
        refuse_denormalizing_table(path, field);
        break;
      default: break;
    }
  }
  if (vocabulary.pieces.empty()) reader.fail(bytes.size(), "no pieces, so this is no SentencePiece model");
  if (!model.trainer.found) reader.fail(bytes.size(), "trainer_spec is missing");
  if (!model.has_normalizer) reader.fail(bytes.size(), "normalizer_spec is missing");
  check_trainer(path, model.trainer);
  check_pieces(path, model, vocabulary.pieces);
  vocabulary.model = model.trainer.model_type == 1 ? "unigram" : "spm";
  vocabulary.byte_fallback = model.trainer.byte_fallback;
  vocabulary.whitespace_as_suffix = model.trainer.whitespace_as_suffix;
  vocabulary.unk = find_piece(vocabulary.pieces, std::nullopt, PieceType::unknown);
  vocabulary.bos = find_piece(vocabulary.pieces, model.trainer.bos, PieceType::control);
  vocabulary.eos = find_piece(vocabulary.pieces, model.trainer.eos, PieceType::control);
  vocabulary.pad = find_piece(vocabulary.pieces, model.trainer.pad, PieceType::control);
  return vocabulary;
}

Vocabulary read_sentencepiece_model(const std::filesystem::path& path) {
  return parse_sentencepiece_model(path.string(), read_text_file(path, kMaxFileBytes));
}

}  // namespace ropewalk::formats
