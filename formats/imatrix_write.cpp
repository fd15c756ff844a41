#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/gguf_write.h"
#include "formats/imatrix.h"
#include "lib/error.h"
#include "lib/plural.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

void append(std::string& bytes, const void* data, std::size_t size) {
  bytes.append(static_cast<const char*>(data), size);
}
void append_i32(std::string& bytes, std::int64_t value) {
  const auto narrow = static_cast<std::int32_t>(value);
  append(bytes, &narrow, sizeof narrow);
}
void append_text(std::string& bytes, const std::string& text) {
  append_i32(bytes, static_cast<std::int64_t>(text.size()));
  bytes += text;
}

/// Of an entry each of whose addends is in range, so that nothing has wrapped.
void check_range(const std::string& name, const ImatrixSums& entry, const std::string& path) {
  const bool sums = std::ranges::all_of(entry.sums, [](float sum) { return std::isfinite(sum); });
  if (sums && std::ranges::all_of(entry.counts, [](std::int64_t count) { return count <= kMaxImatrixRows; })) return;
  throw Error(ErrorKind::bad_input, {.path = path},
              "'" + name + "' would have " + (sums ? "more than 2^53 rows" : "a sum that is not finite"),
              "put fewer matrices together, or collect them again");
}
/// What the fields of either format hold.
void check_fields(const ImatrixCollection& collection, std::int64_t chunk_size, const std::string& path) {
  for (const auto& [name, entry] : collection.entries) check_range(name, entry, path);
  if (chunks_of(collection, chunk_size) >= INT32_MAX)  // calls are rounded up
    throw Error(ErrorKind::bad_input, {.path = path},
                "would have " + std::to_string(chunks_of(collection, chunk_size)) + " chunks of " +
                    plural(std::uint64_t(chunk_size), "token") + ", expected fewer than " + std::to_string(INT32_MAX),
                "give a larger -c");
}

GgufPlan gguf_of(const ImatrixCollection& collection, std::int64_t chunk_size, std::vector<GgufKey> more_keys) {
  GgufPlan plan;
  const auto u32 = [](std::int64_t value) { return gguf_u32(static_cast<std::uint32_t>(value)); };
  plan.keys = {{"general.type", gguf_string("imatrix")},
               {"imatrix.datasets", gguf_strings(collection.datasets)},
               {"imatrix.chunk_count", u32(chunks_of(collection, chunk_size))},
               {"imatrix.chunk_size", u32(chunk_size)}};
  plan.keys.insert(plan.keys.end(), more_keys.begin(), more_keys.end());
  const auto add = [&](const std::string& name, std::size_t rows, std::vector<float> values) {
    std::vector<std::uint64_t> shape = {values.size() / rows};
    if (rows > 1) shape.insert(shape.begin(), rows);  // as ggml counts dimensions
    plan.tensors.push_back({name, memory_tensor(name, std::move(shape), std::move(values)), DType::f32});
  };
  for (const auto& [name, entry] : collection.entries) {
    add(name + ".in_sum2", entry.counts.size(), entry.sums);
    add(name + ".counts", entry.counts.size(), {entry.counts.begin(), entry.counts.end()});
  }
  return plan;
}

std::string dat_of(const ImatrixCollection& collection, std::int64_t chunk_size, const std::string& path) {
  std::string bytes;
  const auto has_data = [](const auto& entry) {
    return std::ranges::any_of(entry.second.counts, [](std::int64_t count) { return count > 0; });
  };
  append_i32(bytes, std::ranges::count_if(collection.entries, has_data));
  for (const auto& one : collection.entries) {
    if (!has_data(one)) continue;
    const auto& [name, entry] = one;
    append_text(bytes, name);
    // rounded up, so that it is never 0
    const std::int64_t calls = (*std::ranges::max_element(entry.counts) + chunk_size - 1) / chunk_size;
    append_i32(bytes, calls);
    append_i32(bytes, static_cast<std::int64_t>(entry.sums.size()));
    if (entry.sums.size() > INT32_MAX)
      throw Error(ErrorKind::unsupported, {.path = path}, "'" + name + "' has " + plural(entry.sums.size(), "value"),
                  "write a .gguf: a .dat has no room for so many");
    const std::size_t columns = entry.sums.size() / entry.counts.size();
    bool finite = true;
    for (std::size_t i = 0; i < entry.sums.size(); ++i) {
      const auto count = static_cast<float>(entry.counts[i / columns]);
      const float value = (count == 0 ? 1 : entry.sums[i] / count) * static_cast<float>(calls);
      append(bytes, &value, sizeof value);
      finite = finite && std::isfinite(value);
    }
    if (!finite)
      throw Error(ErrorKind::bad_input, {.path = path}, "'" + name + "' times its calls is not finite",
                  "write a .gguf, or collect the importance matrix again");
  }
  append_i32(bytes, chunks_of(collection, chunk_size));
  append_text(bytes, collection.datasets.empty() ? "" : collection.datasets.back());
  return bytes;
}

}  // namespace

void add_imatrix(ImatrixCollection& total, const ImatrixCollection& more, const std::string& path) {
  for (const auto& [name, entry] : more.entries) {
    const auto refuse = [&](std::size_t has, std::size_t wanted, const char* what) {
      if (has == wanted) return;
      throw Error(ErrorKind::bad_input, {.path = path},
                  "'" + name + "' has " + plural(has, what) + ", in what it is added to " + std::to_string(wanted),
                  "add matrices of one model");
    };
    ImatrixSums& sum = total.entries[name];
    if (sum.sums.empty()) sum = {std::vector<float>(entry.sums.size()), std::vector<std::int64_t>(entry.counts.size())};
    if (sum.counts.size() == 1) sum.counts.resize(entry.counts.size(), sum.counts.front());
    refuse(entry.sums.size(), sum.sums.size(), "sum");
    if (entry.counts.size() != 1) refuse(entry.counts.size(), sum.counts.size(), "count");
    for (std::size_t i = 0; i < sum.sums.size(); ++i) sum.sums[i] += entry.sums[i];
    for (std::size_t i = 0; i < sum.counts.size(); ++i) sum.counts[i] += entry.counts[entry.counts.size() == 1 ? 0 : i];
    check_range(name, sum, path);
  }
  total.datasets.insert(total.datasets.end(), more.datasets.begin(), more.datasets.end());
}

std::int64_t chunks_of(const ImatrixCollection& collection, std::int64_t chunk_size) {
  std::int64_t most = 0;
  for (const auto& [name, entry] : collection.entries)
    for (const std::int64_t count : entry.counts) most = std::max(most, count);
  return most / chunk_size;
}

void write_imatrix(const std::filesystem::path& path, const ImatrixCollection& collection, std::int64_t chunk_size,
                   ImatrixFormat format, const WriteOptions& options, std::vector<GgufKey> more_keys) {
  check_fields(collection, chunk_size, path.string());
  if (format == ImatrixFormat::dat) return write_file(path, dat_of(collection, chunk_size, path.string()), options);
  write_ggufs({gguf_of(collection, chunk_size, std::move(more_keys))}, {{path}}, options,
              {.threads = 1, .progress = {}});
}

}  // namespace ropewalk::formats
