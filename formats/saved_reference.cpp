#include "formats/saved_reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "formats/gguf_cursor.h"
#include "formats/zstd.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/sha256.h"

namespace ropewalk::formats {
namespace {

constexpr std::array<unsigned char, 8> kMagic = {'R', 'W', 'R', 'E', 'F', '\r', '\n', 0x1a};
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kDigestAt = 16, kDigest = 64, kHeader = kDigestAt + kDigest;
constexpr std::uint64_t kMaxFile = std::uint64_t{16} << 30;
// 64-byte rows of equal logits compress a thousandfold; what claims more was made to fill memory
constexpr std::uint64_t kMostPerByte = 2048, kSlack = std::uint64_t{4} << 20;
constexpr const char* kSaveAgain = "save the reference again";

/// Appends what it is given.
class Out {
 public:
  static constexpr bool reads = false;

  template <class T>
  void number(const char*, const T& value) {
    const auto* raw = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), raw, raw + sizeof(T));
  }
  void text(const char* field, const std::string& value) {
    number(field, static_cast<std::uint32_t>(value.size()));
    const auto* raw = reinterpret_cast<const std::byte*>(value.data());
    bytes.insert(bytes.end(), raw, raw + value.size());
  }
  template <class T>
  void list(const char* field, std::vector<T>& values, std::uint64_t) {
    number(field, static_cast<std::uint64_t>(values.size()));
  }
  template <class T>
  void planes(const char*, std::vector<T>& values, std::uint64_t) {
    const auto* raw = reinterpret_cast<const std::byte*>(values.data());
    for (std::size_t plane = 0; plane < sizeof(T); ++plane)
      for (std::size_t i = 0; i < values.size(); ++i) bytes.push_back(raw[i * sizeof(T) + plane]);
  }

  std::vector<std::byte> bytes;
};

/// Fills what it is given. Nothing is allocated for a count that the bytes left cannot hold.
class In {
 public:
  static constexpr bool reads = true;
  In(std::span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  template <class T>
  void number(const char* field, T& value) {
    std::memcpy(&value, take(sizeof(T), field).data(), sizeof(T));
  }
  void text(const char* field, std::string& value) {
    std::uint32_t size = 0;
    number(field, size);
    const auto raw = take(size, field);
    value.assign(reinterpret_cast<const char*>(raw.data()), raw.size());
  }
  template <class T>
  void list(const char* field, std::vector<T>& values, std::uint64_t item_bytes) {
    std::uint64_t n = 0;
    number(field, n);
    if (n > left() / item_bytes)
      fail(std::string(field) + " claims " + std::to_string(n) + " entries, and " + std::to_string(left()) +
           " bytes are left");
    values.resize(static_cast<std::size_t>(n));
  }
  template <class T>
  void planes(const char* field, std::vector<T>& values, std::uint64_t n) {
    if (n > left() / sizeof(T))
      fail(std::string(field) + " needs " + std::to_string(n) + " values, and " + std::to_string(left()) +
           " bytes are left");
    const auto raw = take(n * sizeof(T), field);
    values.resize(static_cast<std::size_t>(n));
    auto* out = reinterpret_cast<std::byte*>(values.data());
    for (std::size_t plane = 0; plane < sizeof(T); ++plane)
      for (std::size_t i = 0; i < n; ++i) out[i * sizeof(T) + plane] = raw[plane * n + i];
  }
  void end() {
    if (left() > 0) fail(std::to_string(left()) + " bytes are left over");
  }
  [[noreturn]] void fail(const std::string& problem) const {
    throw Error(ErrorKind::bad_input, {.path = path_, .offset = at_}, problem + " (once decompressed)", kSaveAgain);
  }

 private:
  std::uint64_t left() const { return bytes_.size() - at_; }
  std::span<const std::byte> take(std::uint64_t n, const char* field) {
    if (n > left())
      fail(std::string(field) + " needs " + std::to_string(n) + " bytes, " + std::to_string(left()) + " are left");
    const auto out = bytes_.subspan(at_, static_cast<std::size_t>(n));
    at_ += static_cast<std::size_t>(n);
    return out;
  }

  std::span<const std::byte> bytes_;
  const std::string& path_;
  std::size_t at_ = 0;
};

/// A bool, an enumeration or an int as the layout has it: `Stored`, within [least, most].
template <class Stored, class Io, class T>
void small(Io& io, const char* field, T& value, std::uint64_t least, std::uint64_t most) {
  Stored stored = static_cast<Stored>(value);
  io.number(field, stored);
  if constexpr (Io::reads) {
    if (stored < least || stored > most)
      io.fail(std::string(field) + " is " + std::to_string(stored) + ", " + std::to_string(least) + " to " +
              std::to_string(most) + " was expected");
    value = static_cast<T>(stored);
  }
}
constexpr std::uint64_t kInt = std::numeric_limits<std::int32_t>::max();

template <class Io>
void optional_id(Io& io, const char* field, std::optional<std::int32_t>& id) {
  bool present = id.has_value();
  std::int32_t value = id.value_or(0);
  small<std::uint8_t>(io, field, present, 0, 1);
  small<std::uint32_t>(io, field, value, 0, present ? kInt : 0);
  if constexpr (Io::reads) id = present ? std::optional(value) : std::nullopt;
}
template <class Io>
void optional_flag(Io& io, const char* field, std::optional<bool>& flag) {
  int said = flag ? (*flag ? 1 : 0) : 2;
  small<std::uint8_t>(io, field, said, 0, 2);
  if constexpr (Io::reads) flag = said == 2 ? std::nullopt : std::optional(said == 1);
}

template <class Io>
void vocabulary_fields(Io& io, std::optional<Vocabulary>& optional) {
  bool present = optional.has_value();
  small<std::uint8_t>(io, "vocabulary", present, 0, 1);
  if (!present) return;
  if constexpr (Io::reads) optional.emplace();
  Vocabulary& v = *optional;
  io.text("the tokenizer's model", v.model);
  small<std::uint8_t>(io, "the tokenizer's rules", v.rules, 0, static_cast<std::uint64_t>(TokenizerRules::tokenizers));
  io.list("pieces", v.pieces, 9);
  for (Piece& piece : v.pieces) {
    io.text("a piece", piece.text);
    io.number("a piece's score", piece.score);
    small<std::uint8_t>(io, "a piece's type", piece.type, 1, static_cast<std::uint64_t>(PieceType::byte));
  }
  io.list("added tokens", v.added, 8);
  for (AddedToken& token : v.added) {
    small<std::uint32_t>(io, "an added token's id", token.id, 0, std::uint64_t{1} << 20);
    io.text("an added token", token.content);
  }
  bool bpe = v.gguf_bpe.has_value();
  small<std::uint8_t>(io, "merges", bpe, 0, 1);
  if (bpe) {
    if constexpr (Io::reads) v.gguf_bpe.emplace();
    io.text("the pre-tokenizer", v.gguf_bpe->pre);
    io.list("merges", v.gguf_bpe->merges, 8);
    for (auto& [left, right] : v.gguf_bpe->merges) io.text("a merge", left), io.text("a merge", right);
  }
  optional_id(io, "bos", v.bos), optional_id(io, "eos", v.eos);
  optional_id(io, "unk", v.unk), optional_id(io, "pad", v.pad);
  optional_flag(io, "add_bos", v.add_bos), optional_flag(io, "add_eos", v.add_eos);
  io.list("chat templates", v.chat_templates, 8);
  for (ChatTemplate& one : v.chat_templates) io.text("a template's name", one.name), io.text("a template", one.text);
}

template <class Io>
void config_fields(Io& io, ModelConfig& c) {
  small<std::uint32_t>(io, "n_layers", c.n_layers, 1, 1 << 20);
  small<std::uint32_t>(io, "d_model", c.d_model, 1, 1 << 24);
  small<std::uint32_t>(io, "n_heads", c.n_heads, 1, 1 << 20);
  small<std::uint32_t>(io, "n_kv_heads", c.n_kv_heads, 1, 1 << 20);
  small<std::uint32_t>(io, "head_dim", c.head_dim, 1, 1 << 20);
  small<std::uint32_t>(io, "n_vocab", c.n_vocab, 1, 1 << 24);
  small<std::uint32_t>(io, "the context served", c.context, 0, kInt);
  int window = c.sliding_window.value_or(0);
  small<std::uint32_t>(io, "the sliding window", window, 0, kInt);
  if constexpr (Io::reads) c.sliding_window = window > 0 ? std::optional(window) : std::nullopt;
  io.number("rms_eps", c.rms_eps);
  small<std::uint8_t>(io, "tied_head", c.tied_head, 0, 1);
}

/// The layout of the header, once for both directions.
template <class Io>
void fields(Io& io, SavedReference& r) {
  io.text("the label", r.label), io.text("read_as", r.read_as);
  io.text("the text's name", r.corpus_path), io.text("the text's sha256", r.corpus_sha256);
  io.number("the text's tokens", r.corpus_tokens);
  io.text("the ids' sha256", r.ids_sha256);
  small<std::uint8_t>(io, "unmerged", r.unmerged, 0, 1);
  small<std::uint32_t>(io, "the context", r.context, 2, kInt);
  small<std::uint32_t>(io, "the original context", r.original_context, 0, kInt);
  config_fields(io, r.config);
  io.text("the rope", r.rope_words);
  io.number("the attention factor", r.rope.attention_factor);
  io.list("frequencies", r.rope.inv_freq, sizeof(double));
  for (double& frequency : r.rope.inv_freq) io.number("a frequency", frequency);
  io.list("tensors", r.tensors, 12);
  for (SavedTensor& tensor : r.tensors) {
    io.text("a tensor's name", tensor.name);
    io.list("a tensor's shape", tensor.shape, sizeof(std::uint64_t));
    for (std::uint64_t& extent : tensor.shape) io.number("an extent", extent);
  }
  vocabulary_fields(io, r.vocabulary), vocabulary_fields(io, r.gguf_vocabulary);
  io.list("windows", r.windows, 8);
  for (auto& window : r.windows) {
    io.list("ids", window, sizeof(std::int32_t));
    for (std::int32_t& id : window) io.number("an id", id);
  }
  small<std::uint32_t>(io, "top", r.top, 1, std::min<std::uint64_t>(1024, std::uint64_t(r.config.n_vocab)));
  const std::uint64_t rows = r.rows(), top = std::uint64_t(r.top);
  io.planes("log_sum_exp", r.log_sum_exp, rows), io.planes("next", r.next, rows);
  io.planes("top ids", r.top_ids, rows * top), io.planes("top logits", r.top_logits, rows * top);
  small<std::uint32_t>(io, "sketch_every", r.sketch_every, 1, 1 << 20);
  small<std::uint32_t>(io, "sketch_width", r.sketch_width, 0, 1 << 10);
  const std::uint64_t sketches = r.sketch_width == 0 ? 0 : std::uint64_t(r.config.n_layers) * r.sketched_rows();
  io.planes("sketches", r.sketches, sketches * (1 + std::uint64_t(r.sketch_width)));
}

/// What the layout cannot say: values that no model gives. A gate on them would judge nothing.
class Check {
 public:
  Check(const SavedReference& r, const std::string& path) : r_(r), path_(path) {}
  void all() const {
    for (const std::string* line : {&r_.label, &r_.read_as, &r_.corpus_path, &r_.corpus_sha256, &r_.rope_words})
      if (!is_printable_utf8(*line)) fail("a line of it is no text");
    if (!std::isfinite(r_.config.rms_eps) || !std::isfinite(r_.rope.attention_factor))
      fail("an epsilon or a factor is no number");
    for (const double frequency : r_.rope.inv_freq)
      if (!std::isfinite(frequency)) fail("a frequency is no number");
    for (const SavedTensor& tensor : r_.tensors)
      if (!is_printable_utf8(tensor.name) || tensor.shape.size() > 8) fail("a tensor has no usable name or shape");
    windows();
    std::vector<std::int32_t> ids(std::size_t(r_.top));
    std::size_t row = 0;
    for (const auto& window : r_.windows)
      for (std::size_t t = 0; t < window.size(); ++t, ++row) {
        check_row(row, ids);
        check_next(row, t + 1 < window.size() ? std::optional(window[t + 1]) : std::nullopt);
      }
    for (std::size_t i = 0; i < r_.sketches.size(); ++i)
      if (!std::isfinite(r_.sketches[i]) || (i % std::size_t(1 + r_.sketch_width) == 0 && r_.sketches[i] < 0))
        fail("a sketch is no number, or its norm is below 0");
  }

 private:
  void windows() const {
    if (r_.windows.empty()) fail("it has no window");
    for (const auto& window : r_.windows) {
      if (window.size() < 2 || window.size() > std::size_t(r_.context))
        fail("a window has " + std::to_string(window.size()) + " tokens, 2 to " + std::to_string(r_.context) +
             " were expected");
      for (const std::int32_t id : window) check_id(id);
    }
  }
  void check_id(std::int32_t id) const {
    if (id < 0 || id >= r_.config.n_vocab)
      fail("id " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(r_.config.n_vocab));
  }
  void check_row(std::size_t row, std::vector<std::int32_t>& ids) const {
    const auto top = std::size_t(r_.top);
    const double sum = r_.log_sum_exp[row];
    if (!std::isfinite(sum) || !std::isfinite(r_.next[row])) fail_row(row, "is no number");
    std::copy_n(r_.top_ids.begin() + std::ptrdiff_t(row * top), top, ids.begin());
    for (std::size_t rank = 0; rank < top; ++rank) {
      check_id(ids[rank]);
      const float logit = r_.top_logits[row * top + rank];
      if (!std::isfinite(logit) || (rank > 0 && logit > r_.top_logits[row * top + rank - 1]))
        fail_row(row, "is not sorted");
    }
    if (!(kept(row) <= 1 + kRounding)) fail_row(row, "has probabilities that add up to more than 1");
    std::ranges::sort(ids);
    if (std::ranges::adjacent_find(ids) != ids.end()) fail_row(row, "names one token twice");
  }
  /// Probability of the tokens that are kept.
  double kept(std::size_t row) const {
    double share = 0;
    for (std::size_t rank = 0; rank < std::size_t(r_.top); ++rank)
      share += std::exp(double(r_.top_logits[row * std::size_t(r_.top) + rank]) - r_.log_sum_exp[row]);
    return share;
  }
  /// `id`: the token that came; nullopt: a window's last row.
  void check_next(std::size_t row, std::optional<std::int32_t> id) const {
    const auto top = std::size_t(r_.top);
    const auto ids = std::span(r_.top_ids).subspan(row * top, top);
    const auto logits = std::span(r_.top_logits).subspan(row * top, top);
    const float next = r_.next[row];
    const double sum = r_.log_sum_exp[row], outside = 1 - kept(row), least_kept = std::exp(double(logits.back()) - sum);
    const auto at = id ? std::ranges::find(ids, *id) : ids.end();
    const bool among = at != ids.end(), apart = id && !among;
    if (!id && next != 0) fail_row(row, "is a window's last and has a token that came");
    if (among && next != logits[std::size_t(at - ids.begin())])
      fail_row(row, "has two logits for the token that came, " + id_text(*id));
    const double share = apart ? std::exp(double(next) - sum) : 0;
    if (apart && (next > logits.back() || !(share <= outside + kRounding)))
      fail_row(row, "has a likelier token that came, " + id_text(*id) + ", than its likeliest leave room for");
    if (id && !(std::exp(double(next) - sum) > 0))
      fail_row(row, "gives the token that came, " + id_text(*id) + ", no probability");
    const double others = double(r_.config.n_vocab) - double(top) - (apart ? 1 : 0);
    if (!(outside <= others * least_kept + share + kRounding))
      fail_row(row, "has probabilities that add up to less than 1");
  }
  static std::string id_text(std::int32_t id) { return "id " + std::to_string(id); }
  [[noreturn]] void fail_row(std::size_t row, const std::string& problem) const {
    fail("row " + std::to_string(row) + " " + problem);
  }
  [[noreturn]] void fail(const std::string& problem) const {
    throw Error(ErrorKind::bad_input, {.path = path_}, problem, kSaveAgain);
  }

  static constexpr double kRounding = 1e-9;  // of some thousand sums in double: far below any figure

  const SavedReference& r_;
  const std::string& path_;
};

/// Of a file's contents.
std::string digest(std::span<const std::byte> contents) {
  Sha256 hash;
  hash.update(contents);
  return hash.finish();
}

}  // namespace

std::size_t sketched_positions(std::size_t size, int every) {
  const auto step = static_cast<std::size_t>(every), first = step / 2;
  return size > first ? (size - first - 1) / step + 1 : 0;
}
std::size_t SavedReference::rows() const {
  std::size_t n = 0;
  for (const auto& window : windows) n += window.size();
  return n;
}
std::size_t SavedReference::sketched_rows() const {
  std::size_t n = 0;
  for (const auto& window : windows) n += sketched_positions(window.size(), sketch_every);
  return n;
}

std::vector<std::byte> reference_bytes(const SavedReference& reference) {
  Out out;
  SavedReference copy = reference;  // one description of the layout, which fills what it is given
  fields(out, copy);
  return std::move(out.bytes);
}

SavedReference parse_reference(std::span<const std::byte> contents, const std::string& path) {
  SavedReference out;
  In in(contents, path);
  fields(in, out);
  in.end();
  Check(out, path).all();
  return out;
}

void write_reference(const std::filesystem::path& path, const SavedReference& reference, const WriteOptions& options) {
  std::string file(reinterpret_cast<const char*>(kMagic.data()), kMagic.size());
  for (const std::uint32_t number : {kVersion, std::uint32_t{0}})
    file.append(reinterpret_cast<const char*>(&number), sizeof(number));
  const std::vector<std::byte> contents = reference_bytes(reference), frame = zstd_compressed(contents);
  file += digest(contents);
  file.append(reinterpret_cast<const char*>(frame.data()), frame.size());
  write_file(path, file, options);
}

SavedReference read_reference(const std::filesystem::path& path) {
  const std::string file = read_text_file(path, kMaxFile), name = path.string();
  const auto bytes = std::as_bytes(std::span(file));
  if (file.size() < kHeader || std::memcmp(file.data(), kMagic.data(), kMagic.size()) != 0)
    throw Error(ErrorKind::bad_input, {.path = name, .offset = 0}, "this is no saved reference",
                "give a file that --save-reference wrote");
  std::array<std::uint32_t, 2> version;
  std::memcpy(version.data(), file.data() + kMagic.size(), sizeof(version));
  if (version[0] == kVersion && version[1] != 0)
    throw Error(ErrorKind::bad_input, {.path = name, .offset = kMagic.size() + sizeof(version[0])},
                std::to_string(version[1]) + " stands where 0 was expected: damaged, or changed by hand", kSaveAgain);
  if (version[0] != kVersion)
    throw Error(
        ErrorKind::unsupported, {.path = name, .offset = kMagic.size()},
        "version " + std::to_string(version[0]) + " of saved references, " + std::to_string(kVersion) + " is read",
        "use the release that wrote it, or save the reference again");
  const std::uint64_t most = (file.size() - kHeader) * kMostPerByte + kSlack;
  const std::vector<std::byte> contents = zstd_decompressed(bytes.subspan(kHeader), most, name);
  if (const std::string found = digest(contents); found != std::string_view(file).substr(kDigestAt, kDigest))
    throw Error(ErrorKind::bad_input, {.path = name, .offset = kDigestAt},
                "its contents have sha256 " + found + ", and it says another: damaged, or changed by hand", kSaveAgain);
  return parse_reference(contents, name);
}

}  // namespace ropewalk::formats
