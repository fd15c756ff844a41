// Several devices played on the host: windows in parallel, the bits of one, one error and no hang.
#include "verify/device_group.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <memory>
#include <numeric>
#include <thread>

#include "lib/error.h"
#include "lib/lazy_tensor.h"
#include "tests/verify/device_sweeps.h"
#include "verify/weight_stream.h"

namespace ropewalk::verify {
namespace {

/// Played devices host:0, host:1, ... and the group of them.
struct Played {
  explicit Played(std::size_t count, unsigned seed = 1, std::uint64_t limit = kRoom) {
    for (std::size_t i = 0; i < count; ++i) {
      all.push_back(std::make_unique<HostAccelerator>(seed + unsigned(i), limit));
      all.back()->number = int(i);
    }
  }
  Devices devices() const {
    std::vector<Accelerator*> out;
    for (const auto& one : all) out.push_back(one.get());
    return Devices(out);
  }
  std::vector<std::unique_ptr<HostAccelerator>> all;
};

TEST(DeviceGroup, EveryWindowOnceAndTheWorkShared) {
  const ModelConfig config = awkward_config();
  const std::vector<std::size_t> lengths = {100, 4000, 7, 900, 900, 900, 0, 4000, 1, 300};
  for (std::size_t devices = 1; devices <= 12; ++devices) {
    const auto assigned = assign_windows(config, lengths, devices);
    EXPECT_EQ(assigned.size(), std::min<std::size_t>(devices, 9)) << "a device for an empty window";
    std::vector<std::size_t> all;
    for (const auto& own : assigned) {
      EXPECT_FALSE(own.empty());
      EXPECT_TRUE(std::ranges::is_sorted(own));
      EXPECT_GT(std::accumulate(own.begin(), own.end(), std::size_t{0},
                                [&](std::size_t sum, std::size_t window) { return sum + lengths[window]; }),
                0u);
      all.insert(all.end(), own.begin(), own.end());
    }
    std::ranges::sort(all);
    std::vector<std::size_t> want(lengths.size());
    std::iota(want.begin(), want.end(), std::size_t{0});
    EXPECT_EQ(all, want);
    EXPECT_EQ(assigned, assign_windows(config, lengths, devices));
  }
  EXPECT_EQ(assign_windows(config, std::vector<std::size_t>{10, 10, 10, 10}, 2),
            (std::vector<std::vector<std::size_t>>{{0, 2}, {1, 3}}));
  EXPECT_EQ(assign_windows(config, std::vector<std::size_t>{8, 8, 8, 8, 500}, 2),
            (std::vector<std::vector<std::size_t>>{{4}, {0, 1, 2, 3}}))
      << "one long window outweighs four short ones";
}

TEST(DeviceGroup, TheBitsOfOneDevice) {
  const Checkpoint a = random_model(awkward_config(), 1), b = random_model(awkward_config(), 2);
  const std::vector<Window> windows = windows_of({90, 6, 6, 31, 70, 1, 12}, a.config.n_vocab);
  for (const Precision precision : {Precision::bf16, Precision::f32}) {
    SweepReport one_report;
    Played one(1);
    const auto want = device_score(one.devices(), a, windows, in(precision, &one_report), small());
    const PairResult want_pair = device_compare(one.devices(), a, b, windows, in(precision), small());
    for (const std::size_t count : {2, 3, 9}) {
      Played several(count, unsigned(10 * count));
      SweepReport report;
      EXPECT_TRUE(same(device_score(several.devices(), a, windows, in(precision, &report), small()), want)) << count;
      const std::size_t used = std::min<std::size_t>(count, windows.size());
      EXPECT_EQ(report.devices, used);
      EXPECT_EQ(report.device, std::to_string(used) + " x host");
      EXPECT_EQ(report.weight_bytes, used * one_report.weight_bytes);
      ASSERT_EQ(report.rounding.size(), 1u);
      EXPECT_EQ(report.rounding[0].rms, one_report.rounding[0].rms);

      EXPECT_TRUE(same(device_compare(several.devices(), a, b, windows, in(precision), small()), want_pair)) << count;
    }
  }
}

// Endings are taken out of tiles of logits, on whichever device their window is.
TEST(DeviceGroup, EndingsHaveTheBitsOfTheirWholeWindows) {
  ModelConfig config = awkward_config();
  config.n_vocab = int(kHeadTile) + 33;  // two tiles
  const Checkpoint model = random_model(config, 1);
  const std::vector<Window> windows = windows_of({90, 6, 31, 1, 12}, config.n_vocab);
  std::vector<std::vector<std::int32_t>> endings(windows.size());
  for (std::size_t w = 0; w < windows.size(); ++w)
    for (std::int32_t i = 0; i < std::int32_t(w); ++i) endings[w].push_back((4097 * i + 7) % config.n_vocab);
  for (const Precision precision : {Precision::bf16, Precision::f32})
    for (const std::size_t count : {1, 3}) {
      Played several(count, unsigned(20 * count)), one(1);
      const auto found = device_score_endings(several.devices(), model, windows, endings, in(precision), small());
      ASSERT_EQ(found.size(), windows.size());
      for (std::size_t w = 0; w < windows.size(); ++w) {
        ASSERT_EQ(found[w].within.size(), windows[w].size() - 1);
        ASSERT_EQ(found[w].endings.size(), endings[w].size());
        for (std::size_t i = 0; i < endings[w].size(); ++i) {
          Window whole = windows[w];
          whole.push_back(endings[w][i]);
          const auto want = device_score(one.devices(), model, {&whole, 1}, in(precision), small())[0];
          EXPECT_EQ(found[w].endings[i], want.back().nll) << count << " devices, window " << w;
          for (std::size_t t = 0; t + 1 < want.size(); ++t) EXPECT_EQ(found[w].within[t], want[t].nll);
        }
      }
    }
}

TEST(DeviceGroup, DevicesWithLessMemoryGiveTheSameBits) {
  const Checkpoint model = random_model(awkward_config(), 3);
  const std::vector<Window> windows = windows_of({150, 150, 140, 40}, model.config.n_vocab);
  SweepReport report;
  Played one(1);
  const auto want = device_score(one.devices(), model, windows, in(Precision::bf16, &report), small());
  Played two(2, 20, report.device_bytes - 1);
  SweepReport less;
  EXPECT_TRUE(same(device_score(two.devices(), model, windows, in(Precision::bf16, &less), small()), want));
  EXPECT_LE(less.device_bytes, report.device_bytes - 1);
}

/// What the error of too little memory calls the least that works.
std::uint64_t least_of(const Error& error) {
  const std::string text = error.what(), words = "that works is ";
  return std::stoull(text.substr(text.find(words) + words.size()));
}

// One holds everything, one has the least that works: the head in pieces, or hidden states spilled and heads in turns.
// What crosses is taken in one order all the same, or they would wait for each other for ever.
TEST(DeviceGroup, DevicesWithUnequalMemoryGiveTheSameBits) {
  for (const bool is_wide : {true, false}) {
    ModelConfig config = awkward_config();
    if (is_wide) config.n_vocab = int(2 * kHeadTile + 100), config.d_model = 24, config.n_layers = 2;
    const Checkpoint a = random_model(config, 9), b = random_model(config, 10);
    const std::vector<Window> windows =
        is_wide ? windows_of({20, 21, 9}, config.n_vocab) : windows_of({170, 170, 150}, config.n_vocab);
    Played one(1);
    const PairResult want = device_compare(one.devices(), a, b, windows, in(Precision::bf16), small());
    for (const std::size_t tight : {0, 1}) {
      const auto compare_with = [&](std::uint64_t limit, SweepReport* report) {
        Played two(2, unsigned(20 + tight));
        two.all[tight] = std::make_unique<HostAccelerator>(30, limit);
        return device_compare(two.devices(), a, b, windows, in(Precision::bf16, report), small());
      };
      std::uint64_t least = 0;
      try {
        compare_with(1000, nullptr);
      } catch (const Error& error) {
        least = least_of(error);
      }
      SweepReport report;
      EXPECT_TRUE(same(compare_with(least, &report), want)) << is_wide << tight;
      EXPECT_TRUE(is_wide ? report.head_pieces == 3 : report.spilled && report.kv_groups == 2)
          << report.head_pieces << " " << report.spilled << " " << report.kv_groups;
    }
  }
}

/// A tensor that counts the bytes read of it.
class Counted : public LazyTensor {
 public:
  Counted(TensorPtr of, std::atomic<std::uint64_t>& bytes)
      : LazyTensor(of->info()), of_(std::move(of)), bytes_(bytes) {}
  bool has_raw() const noexcept override { return of_->has_raw(); }
  void read_raw(RowRange range, std::span<std::byte> bytes) const override {
    bytes_ += bytes.size();
    of_->read_raw(range, bytes);
  }
  void read_f32(RowRange range, std::span<float> values) const override {
    bytes_ += range.size() * info().row_bytes();
    of_->read_f32(range, values);
  }

 private:
  TensorPtr of_;
  std::atomic<std::uint64_t>& bytes_;
};

TEST(DeviceGroup, WeightsAreReadOnceForAll) {
  Checkpoint model = random_model(awkward_config(), 11);
  std::atomic<std::uint64_t> read = 0;
  std::uint64_t matrices = 0;
  for (TensorPtr& tensor : model.tensors)
    if (tensor->info().shape.size() == 2 && tensor->name() != "model.embed_tokens.weight") {
      matrices += tensor->info().bytes();
      tensor = std::make_shared<Counted>(tensor, read);
    }
  const std::vector<Window> windows = windows_of({40, 40, 40, 40}, model.config.n_vocab);
  for (const std::size_t count : {1, 2, 4}) {
    read = 0;
    Played played(count);
    SweepReport report;
    device_score(played.devices(), model, windows, in(Precision::bf16, &report), small());
    EXPECT_EQ(read, matrices) << count;
    EXPECT_GT(report.weight_bytes, count * matrices) << "to each of " << count << ", vectors besides";
  }
}

/// Token 3 alone drives one MLP channel past f16: its embedding is the channel that gate and up of layer 0 read 40-fold,
/// 40^2 times about 60 with a norm of sqrt(64) in one channel.
Checkpoint overflowing_at_token_3() {
  ModelConfig c = awkward_config();
  c.d_model = 64, c.n_heads = 4, c.n_kv_heads = 2, c.head_dim = 16, c.d_ff = 96, c.n_vocab = 97;
  c.attention_bias = c.mlp_bias = false;
  Checkpoint model = random_model(c, 4);
  for (TensorPtr& tensor : model.tensors) {
    if (tensor->info().shape.size() != 2) continue;
    std::vector<float> values(tensor->info().elements());
    tensor->read_f32({0, tensor->info().rows()}, values);
    const auto set_row = [&](std::size_t row, float first) {
      for (std::size_t c0 = 0; c0 < 64; ++c0) values[row * 64 + c0] = c0 == 0 ? first : 0;
    };
    if (tensor->name() == "model.embed_tokens.weight") set_row(3, 200);
    if (tensor->name() == "model.layers.0.mlp.gate_proj.weight" ||
        tensor->name() == "model.layers.0.mlp.up_proj.weight")
      set_row(0, 40);
    TensorInfo info = tensor->info();
    info.dtype = DType::f16;
    std::vector<std::byte> bytes(info.bytes());
    encode_f32(DType::f16, values, bytes);
    tensor = memory_tensor(info, std::move(bytes));
  }
  return model;
}

// One device alone would go on in f16: what one window needs is decided for all.
TEST(DeviceGroup, WhatDoesNotFitF16OnOneIsComputedInBf16OnAll) {
  const Checkpoint model = overflowing_at_token_3();
  std::vector<Window> windows = windows_of({20, 20, 20, 20}, 97);
  for (Window& window : windows) std::ranges::replace(window, 3, 4);
  SweepReport report;
  Played one(1), two(2, 30);
  device_score(one.devices(), model, windows, in(Precision::automatic, &report), small());
  EXPECT_EQ(report.precision, "f16");
  windows[2][7] = 3;
  const auto want = device_score(one.devices(), model, windows, in(Precision::automatic, &report), small());
  EXPECT_EQ(report.precision, "bf16");
  EXPECT_TRUE(same(device_score(two.devices(), model, windows, in(Precision::automatic, &report), small()), want));
  EXPECT_EQ(report.precision, "bf16");
  EXPECT_NE(report.note.find("f16"), std::string::npos);
}

std::string error_of(const Played& played, const Checkpoint& model, const std::vector<Window>& windows) {
  try {
    device_score(played.devices(), model, windows, in(Precision::bf16), small());
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::device);
    return error.what();
  }
  return "";
}

TEST(DeviceGroup, OneDevicesFailureIsOneErrorThatNamesItTheOperationTheLayerAndTheShape) {
  const Checkpoint model = random_model(awkward_config(), 5);
  const std::vector<Window> windows = windows_of({40, 40, 40, 40, 40, 40}, model.config.n_vocab);
  const std::string problem =
      ", [32, 40]: an illegal memory access was encountered (cudaErrorIllegalAddress); this is a bug in ropewalk or "
      "its "
      "driver: please report it with this line, and use --device cpu meanwhile";
  for (const std::size_t count : {1, 2, 3})
    for (std::size_t bad = 0; bad < count; ++bad)
      for (const int layer : {0, 2}) {
        Played played(count, unsigned(40 + bad));
        played.all[bad]->broken_layer = layer;
        EXPECT_EQ(error_of(played, model, windows), (count > 1 ? "host:" + std::to_string(bad) + ": " : "") +
                                                        "rms_norm, layer " + std::to_string(layer) + problem);
      }
  Played all(3, 60);
  for (const auto& one : all.all) one->broken_layer = 1;
  EXPECT_NE(error_of(all, model, windows).find(": rms_norm, layer 1" + problem), std::string::npos);
  Played healthy(3, 70);
  EXPECT_EQ(error_of(healthy, model, windows), "");
}

TEST(DeviceGroup, TooLittleMemoryOnOneIsToldOfThatOne) {
  const Checkpoint model = random_model(awkward_config(), 6);
  const std::vector<Window> windows = windows_of({40, 40}, model.config.n_vocab);
  Played played(2);
  played.all[1] = std::make_unique<HostAccelerator>(9, 10000);
  played.all[1]->number = 1;
  EXPECT_EQ(error_of(played, model, windows).substr(0, 16), "host:1: the pass");
}

TEST(DeviceGroup, ADamagedWeightIsOneErrorOfItsFile) {
  Checkpoint model = random_model(awkward_config(), 7);
  TensorPtr& tensor = model.tensors[2];
  std::vector<float> values(tensor->info().elements(), 1);
  values[5] = INFINITY;
  tensor = memory_tensor(tensor->name(), tensor->info().shape, values);
  const std::vector<Window> windows = windows_of({40, 40, 40}, model.config.n_vocab);
  Played played(3);
  try {
    device_score(played.devices(), model, windows, in(Precision::bf16), small());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_EQ(std::string(error.what()).substr(0, tensor->name().size() + 2), "'" + tensor->name() + "'");
  }
}

TEST(DeviceGroup, ProgressIsWhatAllHaveDone) {
  const Checkpoint model = random_model(awkward_config(), 8);
  const std::vector<Window> windows = windows_of({70, 30, 30, 30}, model.config.n_vocab);
  for (const std::size_t count : {1, 3}) {
    Played played(count);
    std::vector<int> told;
    SweepOptions options = in(Precision::bf16);
    options.progress = [&](int done) { told.push_back(done); };
    device_score(played.devices(), model, windows, options, small());
    EXPECT_TRUE(std::ranges::is_sorted(told));
    ASSERT_FALSE(told.empty());
    EXPECT_EQ(told.back(), model.config.n_layers);
  }
}

TEST(DeviceGroup, TheSlowestDeviceIsTold) {
  std::vector<int> told;
  const std::function<void(int)> tell = [&](int done) { told.push_back(done); };
  DeviceGroup group(2, tell);
  group.finished_layers(0, 3);
  EXPECT_EQ(told, std::vector<int>{}) << "the other has not begun";
  group.finished_layers(1, 2);
  EXPECT_EQ(told, std::vector<int>{2});
  group.finished_layers(1, 2);
  EXPECT_EQ(told, std::vector<int>{2}) << "nothing new";
  group.finished_layers(1, 5);
  EXPECT_EQ(told, (std::vector<int>{2, 3}));
  group.finished_layers(0, 4);
  EXPECT_EQ(told, (std::vector<int>{2, 3, 4}));
}

#ifndef __SANITIZE_ADDRESS__  // which needs address space of its own
// Threads want stacks: without address space for them the system refuses, as it does past its limit of processes.
TEST(DeviceGroup, ARefusedThreadIsTheSystemsAndNoHang) {
  constexpr std::size_t kMany = 64;
  const Played played(kMany);
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = pages * std::uint64_t(sysconf(_SC_PAGESIZE)) + (std::uint64_t{100} << 20);
  const std::function<void(int)> nobody;
  DeviceGroup group(kMany, nobody);
  std::atomic<int> begun = 0;
  std::optional<ErrorKind> kind;
  std::string said;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &tight), 0);
  try {
    group.run(played.devices(), [&](std::size_t) { ++begun; });
  } catch (const Error& error) {
    kind = error.kind(), said = error.what();
  }
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_EQ(kind, ErrorKind::io);
  EXPECT_EQ(said,
            "the system gives no more threads; use fewer with --threads, or raise the limit of processes (ulimit -u)");
  EXPECT_EQ(begun, 0) << "one would wait for weights that another never releases";
}

/// While it lives no thread can be started: none has room for a stack of that size.
class NoThreads {
 public:
  NoThreads() {
    pthread_attr_init(&before_);
    pthread_getattr_default_np(&before_);
    pthread_attr_t huge;
    pthread_attr_init(&huge);
    pthread_attr_setstacksize(&huge, std::size_t{1} << 46);
    EXPECT_EQ(pthread_setattr_default_np(&huge), 0);
    pthread_attr_destroy(&huge);
  }
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;
  ~NoThreads() {
    pthread_setattr_default_np(&before_);
    pthread_attr_destroy(&before_);
  }

 private:
  pthread_attr_t before_;
};

// As above, of the threads that read: every taker is told, also one that comes after.
TEST(DeviceGroup, RefusedReadersAreTold) {
  std::vector<std::byte> buffer(8);
  const auto ring = [&] { return std::vector<std::span<std::byte>>{buffer}; };
  const auto fill = [](std::span<std::byte> to) { std::ranges::fill(to, std::byte{1}); };
  const auto kind_of = [](const auto& action) -> std::optional<ErrorKind> {
    try {
      action();
    } catch (const Error& error) {
      return error.kind();
    }
    return std::nullopt;
  };
  WeightStream refused({{8, fill}}, 4, 2), given({{8, fill}}, 4, 2);
  {
    const NoThreads none;
    EXPECT_EQ(kind_of([&] { refused.start(ring); }), ErrorKind::io);
  }
  refused.start(ring);  // the other taker
  EXPECT_EQ(kind_of([&] { refused.wait(0); }), ErrorKind::io);
  given.start(ring);
  EXPECT_EQ(kind_of([&] { EXPECT_EQ(given.wait(0)[7], std::byte{1}); }), std::nullopt);
}
#endif

// Two devices of one make are two of them, whatever ran on each; who attended is told beside.
TEST(DeviceGroup, WhoAttendedIsNoPartOfTheName) {
  const Checkpoint model = random_model(awkward_config(), 8);
  const std::vector<Window> windows = windows_of({70, 30, 30}, model.config.n_vocab);
  Played played(3);
  played.all[0]->attention_told = "cuDNN 9.19.0";
  SweepReport report;
  device_score(played.devices(), model, windows, in(Precision::bf16, &report), small());
  EXPECT_EQ(report.device, "3 x host");
  EXPECT_EQ(report.attention, "cuDNN 9.19.0; loops");
}

}  // namespace
}  // namespace ropewalk::verify
