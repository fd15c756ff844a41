#include "formats/sweep_state.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "lib/error.h"
#include "lib/file_sha256.h"
#include "lib/sha256.h"

namespace ropewalk::formats {
namespace {

constexpr std::array<char, 8> kMagic = {'R', 'W', 'S', 'W', 'E', 'E', 'P', 0x1a};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHash = 64, kPiece = std::size_t{1} << 20;
constexpr const char* kStartAnew = "remove it, or give --overwrite: the run then starts anew";

/// Only counts.
struct Counter {
  std::uint64_t bytes = 0;
  void take(std::span<const std::byte> some) { bytes += some.size(); }
};

/// Writes and hashes, a piece at a time.
class Writer {
 public:
  explicit Writer(PendingFile& file) : file_(file) { piece_.reserve(kPiece); }
  void take(std::span<const std::byte> some) {
    while (!some.empty()) {
      const auto now = some.first(std::min(some.size(), kPiece - piece_.size()));
      piece_.insert(piece_.end(), now.begin(), now.end());
      some = some.subspan(now.size());
      if (piece_.size() == kPiece) flush();
    }
  }
  void finish() {
    flush();
    const std::string digest = hash_.finish();
    file_.write(at_, std::as_bytes(std::span(digest)));
    file_.finish();
  }

 private:
  void flush() {
    hash_.update(piece_);
    file_.write(at_, piece_);
    at_ += piece_.size();
    piece_.clear();
  }
  PendingFile& file_;
  Sha256 hash_;
  std::vector<std::byte> piece_;
  std::uint64_t at_ = 0;
};

template <class Sink, class T>
void put(Sink& sink, const T& number) {
  sink.take(std::as_bytes(std::span(&number, 1)));
}
template <class Sink>
void put_sweep(Sink& sink, const SweepNumbers& sweep) {
  sink.take(std::as_bytes(std::span(sweep.key)));
  put(sink, std::uint64_t(sweep.numbers.size()));
  sink.take(std::as_bytes(std::span(sweep.numbers)));
}
template <class Sink>
void put_all(Sink& sink, std::span<const SweepNumbers> finished, const BegunSweep* begun) {
  sink.take(std::as_bytes(std::span(kMagic)));
  put(sink, kVersion), put(sink, std::uint32_t{0});
  put(sink, std::uint64_t(finished.size()));
  for (const SweepNumbers& sweep : finished) put_sweep(sink, sweep);
  put(sink, std::uint8_t(begun ? 1 : 0));
  if (!begun) return;
  put_sweep(sink, begun->sweep);
  put(sink, std::uint32_t(begun->layers));
  put(sink, std::uint64_t(begun->hidden.size()));
  for (const HiddenRows<const float>& model : begun->hidden) {
    put(sink, std::uint64_t(model.rows)), put(sink, std::uint64_t(model.width));
    for (std::size_t row = 0; row < model.rows; ++row)
      sink.take(std::as_bytes(std::span(model.first + row * model.stride, model.width)));
  }
}

/// Cursor over the file up to its checksum. Nothing is allocated for a count that the bytes left cannot hold.
class In {
 public:
  In(const File& file, std::uint64_t end) : file_(file), end_(end) {}

  template <class T>
  T number(const char* field) {
    T value;
    file_.read(take(sizeof(T), field), std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  /// How many of at least `each` bytes follow.
  std::uint64_t count(const char* field, std::uint64_t each) {
    const auto n = number<std::uint64_t>(field);
    if (n > left() / each)
      fail(std::string(field) + " claims " + std::to_string(n) + " entries, and " + std::to_string(left()) +
           " bytes are left");
    return n;
  }
  SweepNumbers sweep() {
    SweepNumbers out;
    out.key.resize(kHash);
    file_.read(take(kHash, "a key"), std::as_writable_bytes(std::span(out.key)));
    out.numbers.resize(count("numbers", sizeof(double)));
    file_.read(take(out.numbers.size() * sizeof(double), "numbers"), std::as_writable_bytes(std::span(out.numbers)));
    return out;
  }
  /// The place of so many bytes, passed over.
  std::uint64_t take(std::uint64_t n, const char* field) {
    if (n > left())
      fail(std::string(field) + " needs " + std::to_string(n) + " bytes, " + std::to_string(left()) + " are left");
    const std::uint64_t at = at_;
    at_ += n;
    return at;
  }
  std::uint64_t left() const { return end_ - at_; }
  [[noreturn]] void fail(const std::string& problem) const {
    throw Error(ErrorKind::bad_input, {.path = file_.path(), .offset = at_}, problem, kStartAnew);
  }

 private:
  const File& file_;
  std::uint64_t at_ = 0, end_;
};

bool has_magic(const File& file) {
  std::array<char, kMagic.size()> magic{};
  if (file.size() < magic.size()) return false;
  file.read(0, std::as_writable_bytes(std::span(magic)));
  return magic == kMagic;
}

}  // namespace

void write_sweep_state(const std::filesystem::path& path, std::span<const SweepNumbers> finished,
                       const BegunSweep* begun, WriteOptions options) {
  options.overwrite = true;
  Counter counter;
  put_all(counter, finished, begun);
  PendingFile file(path, counter.bytes + kHash, options);
  Writer writer(file);
  put_all(writer, finished, begun);
  writer.finish();
}

bool is_sweep_state(const std::filesystem::path& path) { return has_magic(*File::open(path)); }

SweepState read_sweep_state(const std::filesystem::path& path) {
  SweepState state;
  state.file = File::open(path);
  const File& file = *state.file;
  if (!has_magic(file))
    throw Error(ErrorKind::bad_input, {.path = file.path(), .offset = 0}, "this holds no unfinished sweeps",
                "name another file");
  const std::uint64_t end = file.size() - std::min<std::uint64_t>(kHash, file.size());
  In in(file, std::max<std::uint64_t>(end, kMagic.size()));
  in.take(kMagic.size(), "the magic");
  std::string said(kHash, ' ');
  if (end > kMagic.size()) file.read(end, std::as_writable_bytes(std::span(said)));
  if (said != file_sha256(file, end)) in.fail("the checksum at its end does not fit: it is cut short or damaged");
  const auto version = in.number<std::uint32_t>("the version"), zero = in.number<std::uint32_t>("the header");
  if (version != kVersion || zero != 0)
    in.fail("version " + std::to_string(version) + " of unfinished sweeps, 1 is read");
  for (std::uint64_t n = in.count("finished sweeps", kHash + sizeof(std::uint64_t)); n > 0; --n)
    state.finished.push_back(in.sweep());
  const auto begun = in.number<std::uint8_t>("whether one is begun");
  if (begun > 1) in.fail("whether one is begun is " + std::to_string(begun) + ", 0 or 1 was expected");
  if (begun == 1) {
    SweepState::Begun& sweep = state.begun.emplace();
    sweep.sweep = in.sweep();
    const auto layers = in.number<std::uint32_t>("layers done");
    if (layers > 1 << 20) in.fail(std::to_string(layers) + " layers done");
    sweep.layers = static_cast<int>(layers);
    for (std::uint64_t n = in.count("models", 2 * sizeof(std::uint64_t)); n > 0; --n) {
      const auto rows = in.number<std::uint64_t>("rows"), width = in.number<std::uint64_t>("width");
      if (width == 0 || rows > in.left() / sizeof(float) / width)
        in.fail(std::to_string(rows) + " rows of " + std::to_string(width) + " floats, and " +
                std::to_string(in.left()) + " bytes are left");
      sweep.hidden.push_back({rows, width, in.take(rows * width * sizeof(float), "hidden states")});
    }
  }
  if (in.left() > 0) in.fail(std::to_string(in.left()) + " bytes are left over");
  return state;
}

void SweepState::read_hidden(std::size_t model, const HiddenRows<float>& rows) const {
  const Hidden& found = begun.value().hidden.at(model);
  if (found.rows != rows.rows || found.width != rows.width)
    throw Error(ErrorKind::bad_input, {.path = file->path(), .offset = found.offset_bytes},
                "hidden states of " + std::to_string(found.rows) + " x " + std::to_string(found.width) + ", " +
                    std::to_string(rows.rows) + " x " + std::to_string(rows.width) + " were expected",
                kStartAnew);
  const std::uint64_t row_bytes = found.width * sizeof(float);
  for (std::size_t row = 0; row < rows.rows; ++row)
    file->read(found.offset_bytes + row * row_bytes,
               std::as_writable_bytes(std::span(rows.first + row * rows.stride, rows.width)));
}

}  // namespace ropewalk::formats
