// cuDNN's plans for attention, built without a GPU for the chips we build for: whether the graphs we hand it are such as
// it takes, at the shapes of long contexts. What a plan computes only a GPU shows (cudnn_gpu_test.cpp).
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "verify/cuda/cudnn_sdpa.h"

namespace ropewalk::verify {
namespace {

struct Chip {
  const char* name;
  int capability;  // times ten
  int processors, shared_memory, clock_khz, memory_khz, l2_bytes;
};
// Of NVIDIA's data sheets and the CUDA programming guide's table of compute capabilities (13.0).
constexpr Chip kA100{"A100", 80, 108, 166912, 1410000, 1593000, 41943040};
constexpr Chip kH100{"H100", 90, 132, 232448, 1980000, 2619000, 52428800};
constexpr Chip kB200{"B200", 100, 148, 232448, 1965000, 3996000, 132644864};

SdpaChip described(const Chip& chip) {
  const auto field = [](const char* name, long long value) {
    return "\"" + std::string(name) + "\": " + std::to_string(value) + ", ";
  };
  return {"{\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], " +
              field("regsPerBlock", 65536) + field("multiProcessorCount", chip.processors) + field("warpSize", 32) +
              field("maxSharedMemoryPerBlock", 49152) + field("maxSharedMemoryPerBlockOptin", chip.shared_memory) +
              field("reservedSharedMemoryPerBlock", 1024) + field("maxRegistersPerSM", 65536) +
              field("maxCtasPerSM", 32) + field("maxThreadsPerBlock", 1024) + field("maxThreadsPerSM", 2048) +
              field("pciDeviceId", 0) + field("isTccDriver", 0) + field("supportCoopLaunch", 1) +
              field("smClockRateKHz", chip.clock_khz) + field("memClockRateKHz", chip.memory_khz) +
              field("l2CacheSize", chip.l2_bytes) + field("cudaDeviceId", 0) +
              field("deviceVer", chip.capability * 10) + field("driverVer", 13000) +
              field("totalGlobalMem", 85899345920) + "\"deviceName\": \"" + chip.name + "\"}",
          chip.capability};
}

struct Model {
  const char* name;
  std::uint32_t n_heads, n_kv_heads, head_dim;
  std::uint64_t sliding_window = 0;
  bool is_f16 = false, with_lse = false;
};
constexpr std::uint64_t kChunk = 4096, kLong = 131072;
constexpr Model kModels[] = {{"7B", 32, 32, 128},
                             {"70B", 64, 8, 128},
                             {"7B, window 4096", 32, 8, 128, 4096},
                             {"64 channels", 9, 3, 64},
                             {"64 channels, window 1000", 64, 8, 64, 1000},
                             {"80 channels", 32, 32, 80},
                             {"256 channels", 16, 8, 256},
                             {"256 channels, window 4096", 16, 8, 256, 4096},
                             {"70B in f16, ln-sum-exp out", 64, 8, 128, 0, true, true}};
/// (windows, rows, keys): chunks of a window of 128k, first, second, in the middle, last; one row less; an odd rest;
/// the shortest there is; one row; windows in one launch; a million keys.
constexpr std::uint64_t kLengths[][3] = {{1, kChunk, kChunk}, {1, kChunk, 2 * kChunk}, {1, kChunk, kLong / 2},
                                         {1, kChunk, kLong},  {1, kChunk - 1, kLong},  {1, 37, 100037},
                                         {1, 2, 100002},      {1, 1, 100001},          {1, 128, kLong},
                                         {2, 2048, 2048},     {1, kChunk, 1 << 20}};

/// As the sweep has it: q a part of [q, k, v] rows, k and v rows of their own.
SdpaShape shape_of(const Model& m, const std::uint64_t (&lengths)[3]) {
  SdpaShape out;
  out.is_f16 = m.is_f16, out.with_lse = m.with_lse;
  out.windows = lengths[0], out.rows = lengths[1], out.keys = lengths[2];
  out.sliding_window = m.sliding_window;
  out.n_heads = m.n_heads, out.n_kv_heads = m.n_kv_heads, out.head_dim = m.head_dim;
  out.q_row = std::uint64_t{m.n_heads + 2 * m.n_kv_heads} * m.head_dim, out.q_window = out.rows * out.q_row;
  out.out_row = std::uint64_t{m.n_heads} * m.head_dim, out.out_window = out.rows * out.out_row;
  out.kv_row = std::uint64_t{m.n_kv_heads} * m.head_dim, out.kv_window = out.keys * out.kv_row;
  out.scale = 0.0883883461F;
  return out;
}

class CudnnPlans : public testing::Test {
 protected:
  void SetUp() override {
    // Even where there is a driver: that one would refuse other chips' code.
    void* driver = dlopen(ROPEWALK_PRETEND_DRIVER, RTLD_NOW | RTLD_GLOBAL);
    ASSERT_NE(driver, nullptr) << dlerror();
    last_loaded_ = reinterpret_cast<std::uint64_t (*)()>(dlsym(driver, "ropewalk_last_loaded"));
    ASSERT_NE(last_loaded_, nullptr);
  }

  void build_all(const Chip& chip) {
    CudnnSdpa cudnn(described(chip));
    if (!cudnn.why_not().empty()) GTEST_SKIP() << "SKIPPED: no plan of cuDNN was built: " << cudnn.why_not();
    std::set<std::uint64_t> of_families;
    for (const Model& model : kModels) {
      std::set<std::string> usual, single;
      std::set<std::uint64_t> kernels;
      for (const auto& lengths : kLengths) {
        if (lengths[1] == 1 && model.sliding_window != 0) continue;  // compiled for itself: half a second each
        const CudnnSdpa::Plan& plan = cudnn.plan(shape_of(model, lengths));
        const std::string where = std::string(chip.name) + ", " + model.name + ", " + std::to_string(lengths[0]) +
                                  " x " + std::to_string(lengths[1]) + " rows, " + std::to_string(lengths[2]) + " keys";
        EXPECT_EQ(plan.why, "") << where;
        EXPECT_LE(plan.workspace_bytes, CudnnSdpa::kWorkspaceBytes) << where;
        EXPECT_EQ(plan.why_alone.empty(), plan.shares_kernel) << where << ": " << plan.why_alone;
        (lengths[1] == 1 ? single : usual).insert(plan.engine);
        if (lengths[1] == 1) continue;
        EXPECT_TRUE(plan.shares_kernel) << where << ": its kernel is compiled for this shape alone";
        kernels.insert(last_loaded_());
      }
      EXPECT_EQ(usual.size(), 1u) << chip.name << ", " << model.name << ": a row's bits hang on its chunk";
      EXPECT_EQ(kernels.size(), 1u) << chip.name << ", " << model.name << ": not all shapes load the same machine code";
      of_families.insert(kernels.begin(), kernels.end());
      std::printf("%s, %s: %s: %s%s\n", cudnn.name().c_str(), chip.name, model.name, usual.begin()->c_str(),
                  single.empty() ? "" : (", one row " + *single.begin()).c_str());
    }
    EXPECT_GE(of_families.size(), 4u)
        << "head widths, types and windows load different code, if it is told apart at all";
  }

  std::uint64_t (*last_loaded_)() = nullptr;
};

TEST_F(CudnnPlans, AreRefusedWithAReason) {
  CudnnSdpa cudnn(described(kH100));
  if (!cudnn.why_not().empty()) GTEST_SKIP() << "SKIPPED: no plan of cuDNN was built: " << cudnn.why_not();
  SdpaShape shape = shape_of({"", 32, 5, 128}, kLengths[0]);
  EXPECT_NE(cudnn.plan(shape).why.find("group"), std::string::npos) << cudnn.plan(shape).why;
  EXPECT_EQ(cudnn.plan(shape).engine, "");
  shape = shape_of({"", 32, 8, 36}, kLengths[0]);
  EXPECT_NE(cudnn.plan(shape).why.find("multiple of 8"), std::string::npos) << cudnn.plan(shape).why;
  EXPECT_EQ(cudnn.run(shape, {}, nullptr, nullptr), cudnn.plan(shape).why);

  // What is taken and then does not run is no refusal: the plan stays what it was.
  shape = shape_of(kModels[0], kLengths[0]);
  const std::string engine = cudnn.plan(shape).engine;
  EXPECT_NE(engine, "");
  EXPECT_NE(cudnn.run(shape, {}, nullptr, nullptr), "");
  EXPECT_EQ(cudnn.plan(shape).engine, engine);
  EXPECT_EQ(cudnn.plan(shape).why, "");

  Chip volta = kA100;
  volta.capability = 70;
  CudnnSdpa old(described(volta));
  EXPECT_NE(old.plan(shape_of(kModels[0], kLengths[0])).why.find("SM80"), std::string::npos);
  CudnnSdpa nonsense({{"{}", 90}});
  EXPECT_NE(nonsense.why_not(), "");
  EXPECT_EQ(nonsense.plan(shape).why, nonsense.why_not());
}

// As several devices do, each on a thread of its own with a library handle of its own.
TEST_F(CudnnPlans, AreBuiltByTwoThreadsAtOnce) {
  if (const std::string why = CudnnSdpa::why_no_library(); !why.empty())
    GTEST_SKIP() << "SKIPPED: no plan of cuDNN was built: " << why;
  const auto engines = [&](std::vector<std::string>& out) {
    CudnnSdpa cudnn(described(kH100));
    for (const std::size_t model : {0, 3, 0})
      for (const std::size_t lengths : {0, 3, 6})
        out.push_back(cudnn.plan(shape_of(kModels[model], kLengths[lengths])).engine);
  };
  std::vector<std::string> alone, first, second;
  {
    const std::jthread one([&] { engines(first); }), other([&] { engines(second); });
  }
  engines(alone);
  EXPECT_EQ(std::ranges::count(alone, ""), 0);
  EXPECT_EQ(first, alone);
  EXPECT_EQ(second, alone);
}

/// Of the heads of `m` every `groups`th part, where the others' queries stand beside them.
SdpaShape shape_of_group(const Model& m, std::uint32_t groups, bool last, const std::uint64_t (&lengths)[3]) {
  const SdpaShape whole = shape_of(m, lengths);
  SdpaShape out = shape_of(
      {m.name, m.n_heads / groups, m.n_kv_heads / groups, m.head_dim, m.sliding_window, m.is_f16, m.with_lse}, lengths);
  out.q_row = whole.q_row, out.q_window = whole.q_window;
  if (last) out.out_row = whole.out_row, out.out_window = whole.out_window;
  return out;
}

// Heads in turns (device_forward.h): fewer heads of the same model are to run on the same machine code.
TEST_F(CudnnPlans, OfFewerHeadsLoadTheSameCode) {
  CudnnSdpa cudnn(described(kH100));
  if (!cudnn.why_not().empty()) GTEST_SKIP() << "SKIPPED: no plan of cuDNN was built: " << cudnn.why_not();
  const Model& model = kModels[1];
  const auto& lengths = kLengths[3];
  const std::string engine = cudnn.plan(shape_of(model, lengths)).engine;
  const std::uint64_t code = last_loaded_();
  for (const std::uint32_t groups : {2u, model.n_kv_heads})
    for (const bool last : {false, true}) {
      EXPECT_EQ(cudnn.plan(shape_of_group(model, groups, last, lengths)).engine, engine) << groups;
      EXPECT_EQ(last_loaded_(), code) << groups << " groups" << (last ? ", the last" : "");
    }
}

/// What is told apart before cuDNN is asked.
TEST(SdpaShapeOf, TakesWhatItCan) {
  AttentionArgs<Bf16> args{};
  alignas(16) Bf16 q[8], out[8], kv[8];
  args.q = q, args.out = out, args.k = args.v = kv;
  args.n_heads = 4, args.n_kv_heads = 2, args.head_dim = 64, args.rows = 5, args.first_position = 100;
  args.q_row = 512, args.q_window = 5 * 512, args.out_row = 256, args.out_window = 5 * 256, args.kv_row = 128,
  args.kv_window = 105 * 128;
  args.window = 90, args.scale = 0.125F;
  std::string why;
  const std::optional<SdpaShape> shape = sdpa_shape(args, 3, 105, why);
  ASSERT_TRUE(shape) << why;
  EXPECT_EQ(*shape, (SdpaShape{.windows = 3,
                               .rows = 5,
                               .keys = 105,
                               .sliding_window = 90,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_dim = 64,
                               .q_row = 512,
                               .q_window = 2560,
                               .out_row = 256,
                               .out_window = 1280,
                               .kv_row = 128,
                               .kv_window = 13440,
                               .scale = 0.125F}));

  const auto reason = [&](auto change) {
    AttentionArgs<Bf16> other = args;
    change(other);
    std::string text;
    return sdpa_shape(other, 3, 105, text) ? std::string() : text;
  };
  const float sinks[4] = {};
  EXPECT_NE(reason([&](auto& a) { a.sinks = sinks; }).find("sinks"), std::string::npos);
  EXPECT_NE(reason([](auto& a) { a.head_dim = 36; }).find("wide"), std::string::npos);
  EXPECT_NE(reason([](auto& a) { a.head_dim = 264; }).find("wide"), std::string::npos);
  EXPECT_NE(reason([](auto& a) { a.kv_row = 129; }).find("16 bytes"), std::string::npos);
  EXPECT_NE(reason([](auto& a) { a.q += 1; }).find("16 bytes"), std::string::npos);
  EXPECT_NE(reason([](auto& a) { a.out = const_cast<Bf16*>(a.q); }).find("place"), std::string::npos);
  EXPECT_NE(reason([](auto& a) { a.first_position = 1 << 24; }).find("keys"), std::string::npos);
  // A window that no position of its text feels is none; one that a later chunk feels is one for all chunks.
  args.window = 110;
  EXPECT_EQ(sdpa_shape(args, 3, 110, why)->sliding_window, 0u);
  EXPECT_EQ(sdpa_shape(args, 3, 111, why)->sliding_window, 110u);
}

TEST_F(CudnnPlans, AreBuiltForAmpere) { build_all(kA100); }
TEST_F(CudnnPlans, AreBuiltForHopper) { build_all(kH100); }
TEST_F(CudnnPlans, AreBuiltForBlackwell) { build_all(kB200); }

}  // namespace
}  // namespace ropewalk::verify
