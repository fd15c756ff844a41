#include "lib/executor.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <set>
#include <string>

#include "lib/convert.h"
#include "lib/cpu_count.h"
#include "lib/error.h"
#include "lib/recipes.h"

using namespace ropewalk;
namespace fs = std::filesystem;

namespace {

/// Values computed from their place: element e is scale * (e mod 251 - 125). Keeps account of what the executor asks
/// for.
class Generated : public LazyTensor {
 public:
  explicit Generated(TensorInfo tensor_info, bool raw = false, bool wide = false, std::uint64_t unit = 1)
      : LazyTensor(std::move(tensor_info)), raw_(raw), wide_(wide), unit_(unit) {}
  std::uint64_t row_unit() const noexcept override { return unit_; }
  bool has_raw() const noexcept override { return raw_; }
  bool is_wide() const noexcept override { return wide_; }
  void read_raw(RowRange range, std::span<std::byte> bytes) const override {
    std::vector<float> values(range.size() * info().columns());
    fill(range, std::span(values));
    encode_f32(dtype(), values, bytes);
    ++raw_reads;
  }
  void read_f32(RowRange range, std::span<float> values) const override {
    fill(range, values);
    ++reads;
  }
  void read_f64(RowRange range, std::span<double> values) const override {
    fill(range, values);
    ++reads;
  }
  void prepare() const override {
    const std::lock_guard lock(*mutex);
    if (!prepared_) *most_prepared = std::max(*most_prepared, ++*now_prepared);
    prepared_ = true;
  }
  void release() const override {
    const std::lock_guard lock(*mutex);
    EXPECT_TRUE(prepared_);
    prepared_ = false;
    --*now_prepared;
  }

  mutable std::atomic<int> reads = 0, raw_reads = 0;
  std::uint64_t fail_row = UINT64_MAX;
  std::shared_ptr<std::mutex> mutex = std::make_shared<std::mutex>();
  std::shared_ptr<int> now_prepared = std::make_shared<int>(0), most_prepared = std::make_shared<int>(0);
  double scale = 1.0 / 3;

 private:
  template <class T>
  void fill(RowRange range, std::span<T> values) const {
    EXPECT_TRUE(range.begin % unit_ == 0 && (range.end % unit_ == 0 || range.end == info().rows()))
        << range.begin << " " << range.end;
    EXPECT_EQ(values.size(), range.size() * info().columns());
    if (range.begin <= fail_row && fail_row < range.end)
      throw Error(ErrorKind::bad_input, {.path = name(), .offset = fail_row}, "bad row", "");
    const std::uint64_t first = range.begin * info().columns();
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<T>(scale * (static_cast<double>((first + i) % 251) - 125));
  }
  bool raw_, wide_;
  std::uint64_t unit_;
  mutable bool prepared_ = false;
};

class ExecutorTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "ropewalk-executor-XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(folder); }
  std::unique_ptr<PendingFile> output(const std::string& name, std::uint64_t size) {
    return std::make_unique<PendingFile>(folder / name, size, WriteOptions{.sync = false});
  }
  std::string content(const std::string& name) {
    std::ifstream in(folder / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  fs::path folder;
};

/// The definition: every value by itself, encoded from the widest type.
std::string expected(const LazyTensor& tensor, DType dtype) {
  const std::uint64_t n = tensor.info().elements();
  std::string out(byte_size(dtype, n).value(), '\0');
  const auto bytes = std::as_writable_bytes(std::span(out));
  const double scale = static_cast<const Generated&>(tensor).scale;
  if (tensor.is_wide()) {
    std::vector<double> values(n);
    for (std::uint64_t i = 0; i < n; ++i) values[i] = scale * (static_cast<double>(i % 251) - 125);
    encode_f64(dtype, values, bytes);
  } else {
    std::vector<float> values(n);
    for (std::uint64_t i = 0; i < n; ++i) values[i] = static_cast<float>(scale * (static_cast<double>(i % 251) - 125));
    if (tensor.has_raw()) {  // its values are those its raw bytes stand for
      std::vector<std::byte> raw(tensor.info().bytes());
      encode_f32(tensor.dtype(), values, raw);
      decode_f32(tensor.dtype(), raw, values);
    }
    encode_f32(dtype, values, bytes);
  }
  return out;
}

long peak_rss_kib() {
  std::ifstream in("/proc/self/status");
  for (std::string key, line; in >> key && std::getline(in, line);)
    if (key == "VmHWM:") return std::stol(line);
  return -1;
}

}  // namespace

TEST_F(ExecutorTest, SameBytesForAnyThreadsAndBlocks) {
  const auto narrow = std::make_shared<Generated>(TensorInfo{.name = "narrow", .shape = {37, 64}, .dtype = DType::f32});
  const auto again = std::make_shared<Generated>(TensorInfo{.name = "again", .shape = {37, 64}, .dtype = DType::f32});
  const auto raw =
      std::make_shared<Generated>(TensorInfo{.name = "raw", .shape = {3, 11, 32}, .dtype = DType::f16}, true);
  const auto wide =
      std::make_shared<Generated>(TensorInfo{.name = "wide", .shape = {40, 96}, .dtype = DType::f16}, false, true, 8);
  const auto scalar = std::make_shared<Generated>(TensorInfo{.name = "scalar", .shape = {}, .dtype = DType::f32});
  const auto empty = std::make_shared<Generated>(TensorInfo{.name = "empty", .shape = {4, 0}, .dtype = DType::f32});
  const auto none = std::make_shared<Generated>(TensorInfo{.name = "none", .shape = {0, 4}, .dtype = DType::f32});
  const std::vector<std::pair<std::shared_ptr<Generated>, std::vector<DType>>> wanted = {
      {narrow, {DType::f32, DType::q8_0}},
      {raw, {DType::f16, DType::f32, DType::q8_0}},
      {empty, {DType::f16}},
      {wide, {DType::f16, DType::bf16}},
      {none, {DType::f32}},
      {scalar, {DType::f16}},
      {again, {DType::f16}}};
  std::string want;
  for (const auto& [tensor, dtypes] : wanted)
    for (const DType dtype : dtypes) want += expected(*tensor, dtype);

  int run = 0;
  for (const int threads : {1, 2, 3, 7})
    for (const std::uint64_t block_bytes : {std::uint64_t{1}, std::uint64_t{1000}, std::uint64_t{4} << 20}) {
      const std::string name = std::to_string(run++);
      auto file = output(name, want.size());
      std::vector<StreamItem> items;
      std::uint64_t offset = 0, source_bytes = 0, progress = 0;
      for (const auto& [tensor, dtypes] : wanted) {
        StreamItem& item = items.emplace_back(StreamItem{tensor, {}});
        source_bytes += tensor->info().bytes();
        for (const DType dtype : dtypes) {
          item.sinks.push_back({dtype, file.get(), offset});
          offset += byte_size(dtype, tensor->info().elements()).value();
        }
      }
      stream(items, {.threads = threads, .block_bytes = block_bytes, .progress = [&](std::uint64_t bytes) {
                       progress += bytes;
                     }});
      file->finish();
      EXPECT_EQ(content(name) == want, true) << threads << " threads, blocks of " << block_bytes;
      EXPECT_EQ(progress, source_bytes);
      EXPECT_EQ(*narrow->now_prepared, 0);
    }
  EXPECT_EQ(raw->reads, 0);  // its raw bytes fed the other sinks too
}

TEST_F(ExecutorTest, RowsAreProducedOnceForAllSinks) {
  const auto tensor = std::make_shared<Generated>(TensorInfo{.name = "t", .shape = {64, 64}, .dtype = DType::f32});
  auto file = output("out", 1 << 20);
  stream(
      {{tensor, {{DType::f32, file.get(), 0}, {DType::f16, file.get(), 1 << 15}, {DType::q8_0, file.get(), 1 << 16}}}},
      {.threads = 2, .block_bytes = 1 << 12, .progress = {}});
  EXPECT_EQ(tensor->reads, 4);
}

TEST_F(ExecutorTest, PreparedTensorsAreFewAndReleased) {
  const auto mutex = std::make_shared<std::mutex>();
  const auto now = std::make_shared<int>(0), most = std::make_shared<int>(0);
  auto file = output("out", 1 << 20);
  std::vector<StreamItem> items;
  for (int i = 0; i < 40; ++i) {
    auto tensor = std::make_shared<Generated>(TensorInfo{.name = "t", .shape = {16, 16}, .dtype = DType::f32});
    tensor->mutex = mutex, tensor->now_prepared = now, tensor->most_prepared = most;
    items.push_back({tensor, {{DType::f16, file.get(), 0}}});
  }
  stream(items, {.threads = 3, .block_bytes = 256, .progress = {}});
  EXPECT_EQ(*now, 0);
  EXPECT_GE(*most, 1);
  EXPECT_LE(*most, 4);  // a thread may prepare the next before the one that finished releases the last
}

TEST_F(ExecutorTest, TheEarliestErrorIsRethrownAndWorkStops) {
  for (const int threads : {1, 4}) {
    const auto bad = std::make_shared<Generated>(TensorInfo{.name = "bad", .shape = {8, 8}, .dtype = DType::f32});
    bad->fail_row = 5;
    const auto later =
        std::make_shared<Generated>(TensorInfo{.name = "later", .shape = {100'000, 8}, .dtype = DType::f32});
    later->fail_row = 3;
    auto file = output("out" + std::to_string(threads), 1 << 22);
    try {
      stream({{bad, {{DType::f32, file.get(), 0}}}, {later, {{DType::f32, file.get(), 0}}}},
             {.threads = threads, .block_bytes = 32, .progress = {}});
      FAIL();
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "bad: byte 5: bad row");
    }
    EXPECT_LT(later->reads, 1000);
  }
}

namespace {

/// What a pass over `items` reports, one line per tensor.
std::vector<std::string> findings_of(const std::vector<StreamItem>& items, int threads) {
  std::vector<std::string> lines;
  StreamOptions options;
  options.threads = threads;
  options.block_bytes = 256;
  options.finding = [&](const StreamFinding& f) {
    lines.push_back(f.tensor + " " + std::to_string(f.not_finite) + " from row " + std::to_string(f.first_row) +
                    ", clamped " + std::to_string(f.clamped));
  };
  stream(items, options);
  return lines;
}

}  // namespace

// Whatever the encoding and the way it is read: raw bytes that pass through, values, doubles before their rounding.
TEST_F(ExecutorTest, InfinitiesAndNanAreCounted) {
  std::vector<float> values(40 * 32, 1.0f);
  values[7 * 32 + 3] = std::numeric_limits<float>::quiet_NaN();
  values[9 * 32] = values[39 * 32 + 31] = -std::numeric_limits<float>::infinity();
  const auto tensor = [&](const std::string& name, DType dtype) {
    TensorInfo info{name, {40, 32}, dtype};
    std::vector<std::byte> bytes(info.bytes());
    encode_f32(dtype, values, bytes);
    return memory_tensor(std::move(info), std::move(bytes));
  };
  auto file = output("out", 1 << 20);
  const auto to = [&](DType dtype) { return Sink{dtype, file.get(), 0}; };
  const TensorPtr clean = memory_tensor("clean", {40, 32}, std::vector<float>(40 * 32, 1e30f));
  const TensorPtr delta = with_low_rank_delta(
      tensor("wide", DType::f32),
      {{memory_tensor("a", {1, 32}, std::vector<float>(32)), memory_tensor("b", {40, 1}, std::vector<float>(40)), 1}});
  for (const int threads : {1, 3})
    EXPECT_EQ(findings_of({{tensor("raw f16", DType::f16), {to(DType::f16)}},
                           {clean, {to(DType::f32), to(DType::bf16)}},
                           {tensor("raw bf16", DType::bf16), {to(DType::bf16), to(DType::q8_0)}},
                           {tensor("f64", DType::f64), {to(DType::f16)}},
                           {delta, {to(DType::f32)}},
                           {cast(tensor("cast", DType::f32), DType::f16), {to(DType::f32)}}},
                          threads),
              (std::vector<std::string>{"raw f16 3 from row 7, clamped 0", "raw bf16 3 from row 7, clamped 0",
                                        "f64 3 from row 7, clamped 0", "wide 3 from row 7, clamped 0",
                                        "cast 3 from row 7, clamped 0"}));
}

TEST_F(ExecutorTest, WhatDoesNotFitIsRefusedOrClampedForItsSinkAlone) {
  std::vector<float> values(8 * 32, 1.0f);
  values[5 * 32 + 2] = 70000;
  values[6 * 32 + 1] = -1e9f;
  const TensorPtr tensor = memory_tensor("t", {8, 32}, values);
  auto file = output("out", 4096);
  const auto sink = [&](DType dtype, std::uint64_t offset, OutOfRange policy) {
    return Sink{dtype, file.get(), offset, policy};
  };
  EXPECT_THROW(findings_of({{tensor, {sink(DType::f16, 0, OutOfRange::refuse)}}}, 1), Error);
  EXPECT_THROW(findings_of({{tensor, {sink(DType::q8_0, 0, OutOfRange::refuse)}}}, 1), Error);  // a scale of 1e9 / 127
  EXPECT_EQ(findings_of({{tensor,
                          {sink(DType::f16, 0, OutOfRange::clamp), sink(DType::f32, 1024, OutOfRange::clamp),
                           sink(DType::q8_0, 3072, OutOfRange::clamp)}}},
                        2),
            std::vector<std::string>{"t 0 from row 0, clamped 3"});  // two in f16, one in q8_0
  file->finish();
  const std::string bytes = content("out");
  std::vector<float> f16(256), f32(256), q8_0(256);
  decode_f32(DType::f16, std::as_bytes(std::span(bytes).subspan(0, 512)), f16);
  decode_f32(DType::f32, std::as_bytes(std::span(bytes).subspan(1024, 1024)), f32);
  decode_f32(DType::q8_0, std::as_bytes(std::span(bytes).subspan(3072, 272)), q8_0);
  EXPECT_EQ(f16[5 * 32 + 2], 65504);
  EXPECT_EQ(f16[6 * 32 + 1], -65504);
  EXPECT_EQ(f32, values);
  EXPECT_EQ(q8_0[6 * 32 + 1], -127 * 65504.0f);
}

TEST_F(ExecutorTest, RowsInTwoOrdersAreProducedOnce) {
  const auto tensor = std::make_shared<Generated>(
      TensorInfo{.name = "q", .shape = {24, 32}, .dtype = DType::f32, .pairs = RotaryPairs::half_split});
  const TensorPtr ordered = with_rotary_pairs(tensor, RotaryPairs::interleaved, 3, 8, 6);
  std::vector<float> want(24 * 32);
  ordered->read_f32({0, 24}, want);
  const int before = tensor->reads;
  StreamPlan plan;
  auto file = output("out", 3 * 24 * 32 * 4);
  plan.add(tensor, {DType::f32, file.get(), 0});
  plan.add(ordered, {DType::f32, file.get(), 24 * 32 * 4});
  plan.add(ordered, {DType::f16, file.get(), 2 * 24 * 32 * 4});
  ASSERT_EQ(plan.items().size(), 1u);
  stream(plan.items(), {.threads = 2, .block_bytes = 1024, .progress = {}});
  EXPECT_EQ(tensor->reads - before, 3);  // blocks of 8 rows: a head is never cut
  file->finish();
  const std::string bytes = content("out");
  std::vector<float> got(24 * 32), half(24 * 32), want_half(24 * 32);
  std::memcpy(got.data(), bytes.data() + 24 * 32 * 4, got.size() * 4);
  EXPECT_EQ(got, want);
  decode_f32(DType::f16, std::as_bytes(std::span(bytes).subspan(2 * 24 * 32 * 4, 24 * 32 * 2)), half);
  for (std::size_t i = 0; i < want.size(); ++i) want_half[i] = f16_to_f32(f32_to_f16(want[i]));
  EXPECT_EQ(half, want_half);
  EXPECT_EQ(bytes.substr(0, 24 * 32 * 4), expected(*tensor, DType::f32));
}

// Tensors whose preparation costs half the budget each: two at a time, though five threads would take more.
TEST_F(ExecutorTest, PreparedTensorsStayWithinTheBudget) {
  class Costly : public Generated {
   public:
    using Generated::Generated;
    std::uint64_t prepared_bytes() const noexcept override { return cost; }
    std::uint64_t cost = 100;
  };
  for (const std::uint64_t cost : {100, 1000}) {  // the second does not fit at all: one at a time
    const auto mutex = std::make_shared<std::mutex>();
    const auto now = std::make_shared<int>(0), most = std::make_shared<int>(0);
    auto file = output("out" + std::to_string(cost), 1 << 20);
    std::vector<StreamItem> items;
    for (int i = 0; i < 40; ++i) {
      auto tensor = std::make_shared<Costly>(TensorInfo{.name = "t", .shape = {16, 16}, .dtype = DType::f32});
      tensor->cost = cost;
      tensor->mutex = mutex, tensor->now_prepared = now, tensor->most_prepared = most;
      items.push_back({tensor, {{DType::f16, file.get(), 0}}});
    }
    StreamOptions options;
    options.threads = 5, options.block_bytes = 1 << 12, options.prepared_bytes = 200;
    stream(items, options);
    EXPECT_EQ(*now, 0);
    EXPECT_LE(*most, cost == 100 ? 2 : 1);
  }
}

TEST_F(ExecutorTest, EncodingsThatCannotBeAreRefusedFirst) {
  const auto good = std::make_shared<Generated>(TensorInfo{.name = "good", .shape = {4, 32}, .dtype = DType::f32});
  const auto odd = std::make_shared<Generated>(TensorInfo{.name = "odd", .shape = {4, 33}, .dtype = DType::f32});
  auto file = output("out", 1 << 20);
  for (const auto& [tensor, dtype, why] :
       {std::tuple(odd, DType::q8_0, "rows of 33 elements"), std::tuple(good, DType::i8, "cannot be encoded as i8")}) {
    try {
      stream({{good, {{DType::f32, file.get(), 0}}}, {tensor, {{dtype, file.get(), 0}}}}, {});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported);
      EXPECT_NE(std::string(error.what()).find(why), std::string::npos) << error.what();
    }
  }
  EXPECT_EQ(good->reads, 0);
}

// 4 GiB of values pass through; what stays is a few blocks per thread: 2 threads x (1 MiB values + 0.5 MiB encoded),
// the program and gtest.
TEST_F(ExecutorTest, MemoryStaysBounded) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "SKIPPED: the address sanitizer's own memory hides ours";
#endif
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts from here
  const long before = peak_rss_kib();
  ASSERT_GT(before, 0);
  auto file = output("out", 128 << 20);
  std::vector<StreamItem> items;
  for (int i = 0; i < 16; ++i)  // all to the same place: the disk is not what is tested
    items.push_back({std::make_shared<Generated>(TensorInfo{.name = "t", .shape = {16384, 4096}, .dtype = DType::f32}),
                     {{DType::f16, file.get(), 0}}});
  stream(items, {.threads = 2, .progress = {}});
  EXPECT_LT(peak_rss_kib() - before, 32 << 10);
  EXPECT_LT(peak_rss_kib(), 200 << 10);
}

TEST_F(ExecutorTest, CgroupQuotasAreSeen) {
  const auto set = [&](const fs::path& file, const std::string& text) {
    fs::create_directories((folder / file).parent_path());
    std::ofstream(folder / file) << text;
  };
  set("v2/cpu.max", "max 100000\n");
  set("v2/pod/cpu.max", "350000 100000\n");
  set("v2/pod/inner/cpu.max", "max 100000\n");
  set("v2/pod/tiny/cpu.max", "10000 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/pod/inner\n", folder / "v2"), 4);  // 3.5, set one level up
  EXPECT_EQ(cgroup_cpus("0::/pod/tiny\n", folder / "v2"), 1);
  EXPECT_EQ(cgroup_cpus("0::/\n", folder / "v2"), std::nullopt);
  EXPECT_EQ(cgroup_cpus("0::/kubepods/x/pod\n", folder / "v2"), 4);  // the container sees only the end of its path
  set("v1/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "200000\n");
  set("v1/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
  set("v1/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  set("v1/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpus("5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n", folder / "v1"), 2);
  EXPECT_EQ(cgroup_cpus("4:cpu,cpuacct:/\n3:cpuset:/docker/abc\n", folder / "v1"), std::nullopt);
  EXPECT_GE(available_threads(), 1);
}
