#include "formats/imatrix.h"

#include <array>
#include <cmath>
#include <cstring>
#include <memory>

#include "formats/gguf.h"
#include "formats/gguf_cursor.h"
#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr std::uint64_t kMaxName = 4096;
constexpr const char* kCollectAgain = "collect the importance matrix again";

[[noreturn]] void fail(const std::string& path, const std::string& problem) {
  throw Error(ErrorKind::bad_input, {.path = path}, problem, kCollectAgain);
}

std::vector<float> floats_of(const LazyTensor& tensor, const std::string& path) {
  if (tensor.dtype() != DType::f32)
    fail(path, "tensor '" + tensor.name() + "' is " + std::string(info(tensor.dtype()).name) + ", expected f32");
  std::vector<float> values(tensor.info().elements());
  tensor.read_f32({0, tensor.info().rows()}, values);
  return values;
}

void check_values(const std::string& name, const std::vector<float>& values, const std::string& path) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]) || values[i] < 0)  // squares
      fail(path, "value " + std::to_string(i) + " of '" + name + "' is " + (values[i] < 0 ? "below 0" : "not finite"));
}

/// A file as it stands, before anything is divided.
struct RawImatrix {
  ImatrixCollection collection;  // counts of a .dat: its n_calls
  std::int32_t chunks = 0;
  bool dat = false;
};

ImatrixSums sums_of(const std::string& name, std::vector<float> sums, const std::vector<float>& counts,
                    const std::string& path) {
  if (counts.empty() || sums.empty() || sums.size() % counts.size() != 0)
    fail(path, "'" + name + "' has " + plural(sums.size(), "sum") + " and " + plural(counts.size(), "count") +
                   ", expected a multiple of as many");
  ImatrixSums entry{std::move(sums), {}};
  for (std::size_t expert = 0; expert < counts.size(); ++expert) {
    if (!(counts[expert] >= 0 && counts[expert] <= static_cast<float>(kMaxImatrixRows)))
      fail(path, "count " + std::to_string(expert) + " of '" + name + "' is not a count");
    entry.counts.push_back(std::lround(counts[expert]));
  }
  return entry;
}

/// Where the count is 0 the mean is 1; of a .dat, which has one count for all, what stands there.
ImatrixEntry means(ImatrixSums sums, bool dat) {
  ImatrixEntry entry{std::move(sums.sums), sums.counts.size(), {}};
  const std::size_t columns = entry.values.size() / sums.counts.size();
  for (std::size_t expert = 0; expert < sums.counts.size(); ++expert) {
    const auto count = static_cast<float>(sums.counts[expert]);
    if (dat && count == 0) continue;
    if (count == 0) entry.experts_unseen.push_back(expert);
    for (std::size_t column = 0; column < columns; ++column) {
      float& value = entry.values[expert * columns + column];
      value = count > 0 ? value / count : 1;
    }
  }
  return entry;
}

RawImatrix read_from_gguf(const std::filesystem::path& path) {
  const GgufFile file = read_gguf(path);
  const std::string label = path.string();
  RawImatrix matrix;
  struct Pair {
    TensorPtr sums, counts;
  };
  std::map<std::string, Pair> pairs;
  for (const TensorPtr& tensor : file.tensors) {
    const std::string& name = tensor->name();
    if (name.ends_with(kSums)) pairs[name.substr(0, name.size() - kSums.size())].sums = tensor;
    if (name.ends_with(kCounts)) pairs[name.substr(0, name.size() - kCounts.size())].counts = tensor;
  }
  if (pairs.empty()) fail(label, "holds no NAME.in_sum2 and NAME.counts: not an importance matrix");
  for (const auto& [name, pair] : pairs) {
    if (!pair.sums || !pair.counts)
      fail(label, "'" + name + "' has " + (pair.sums ? "no counts" : "no sums") + ", expected both");
    matrix.collection.entries[name] =
        sums_of(name, floats_of(*pair.sums, label), floats_of(*pair.counts, label), label);
  }
  for (const char* key : {"imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"})
    if (!file.find(key)) fail(label, "key '" + std::string(key) + "' is missing");
  const GgufArray* datasets = file.array("imatrix.datasets");
  if (!datasets || datasets->element_type != GgufType::string) fail(label, "imatrix.datasets is no array of strings");
  matrix.collection.datasets = datasets->strings;
  const std::uint64_t chunks = file.integer("imatrix.chunk_count").value_or(0);
  if (chunks > INT32_MAX) fail(label, "imatrix.chunk_count is " + std::to_string(chunks));
  matrix.chunks = static_cast<std::int32_t>(chunks);
  return matrix;
}

/// i32 length and that many bytes, up to the first zero as C reads them.
std::string text(GgufCursor& in, const char* what) {
  const auto length = in.number<std::int32_t>(what);
  if (length < 0 || std::uint64_t(length) > kMaxName)
    in.fail(std::string(what) + " is " + std::to_string(length) + " bytes long, expected at most " +
                std::to_string(kMaxName),
            kCollectAgain);
  std::string out(std::size_t(length), '\0');
  in.read(std::as_writable_bytes(std::span(out)), what);
  return out.substr(0, out.find('\0'));
}

RawImatrix read_from_dat(std::shared_ptr<const File> file) {
  RawImatrix matrix;
  matrix.dat = true;
  GgufCursor in(std::move(file));
  const auto n_entries = in.number<std::int32_t>("the number of entries");
  if (n_entries < 1) in.fail("claims " + std::to_string(n_entries) + " entries, expected at least 1", kCollectAgain);
  in.check_count(std::uint64_t(n_entries), 16, INT32_MAX, "entries");
  for (std::int32_t i = 0; i < n_entries; ++i) {
    const std::string name = text(in, "an entry's name");
    in.set_subject(" of '" + name + "'");
    const auto calls = in.number<std::int32_t>("the number of calls");
    if (calls < 0) in.fail("is " + std::to_string(calls) + ", expected at least 0", kCollectAgain);
    const auto n_values = in.number<std::int32_t>("the number of values");
    if (n_values < 1) in.fail("is " + std::to_string(n_values) + ", expected at least 1", kCollectAgain);
    in.check_count(std::uint64_t(n_values), sizeof(float), INT32_MAX, "values");
    ImatrixSums entry{std::vector<float>(std::size_t(n_values)), {calls}};
    in.read(std::as_writable_bytes(std::span(entry.sums)), "the values");
    if (!matrix.collection.entries.emplace(name, std::move(entry)).second)
      in.fail("is the second of that name", kCollectAgain);
    in.set_subject("");
  }
  if (in.remaining() == 0) return matrix;  // the oldest files end here
  matrix.chunks = in.number<std::int32_t>("the number of chunks");
  if (in.remaining() > 0)
    if (std::string dataset = text(in, "the dataset's name"); !dataset.empty())
      matrix.collection.datasets = {std::move(dataset)};
  if (in.remaining() > 0)
    in.fail("is followed by " + std::to_string(in.remaining()) + " bytes that mean nothing", kCollectAgain);
  return matrix;
}

RawImatrix read_raw(const std::filesystem::path& path) {
  std::shared_ptr<const File> file = File::open(path);
  std::array<std::byte, 4> magic{};
  if (file->size() >= magic.size()) file->read(0, magic);
  const bool gguf = std::memcmp(magic.data(), "GGUF", magic.size()) == 0;
  return gguf ? read_from_gguf(path) : read_from_dat(std::move(file));
}

}  // namespace

Imatrix read_imatrix(const std::filesystem::path& path) {
  RawImatrix raw = read_raw(path);
  Imatrix matrix{path.string(), {}, std::move(raw.collection.datasets), raw.chunks};
  for (auto& [name, sums] : raw.collection.entries) {
    const ImatrixEntry& entry = matrix.entries[name] = means(std::move(sums), raw.dat);
    check_values(name, entry.values, matrix.path);
  }
  return matrix;
}

ImatrixCollection read_imatrix_sums(const std::filesystem::path& path, std::int64_t chunk_size) {
  RawImatrix raw = read_raw(path);
  for (auto& [name, entry] : raw.collection.entries) {
    if (raw.dat) {
      for (float& sum : entry.sums) sum *= static_cast<float>(chunk_size);
      for (std::int64_t& count : entry.counts) {
        if (count > kMaxImatrixRows / chunk_size)
          fail(path.string(), "'" + name + "' has " + std::to_string(count) + " calls, too many of " +
                                  plural(std::uint64_t(chunk_size), "token"));
        count *= chunk_size;
      }
    }
    check_values(name, entry.sums, path.string());
  }
  return std::move(raw.collection);
}

}  // namespace ropewalk::formats
