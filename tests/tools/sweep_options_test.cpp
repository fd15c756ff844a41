// Which GPUs --device names, and how a sweep on them is told: no GPU is needed to read either.
#include "tools/sweep_options.h"

#include <gtest/gtest.h>

#include <sstream>

#include "lib/error.h"

namespace ropewalk::tools {
namespace {

const verify::DeviceList kThree = {{{0, "NVIDIA H200"}, {1, "NVIDIA H200"}, {3, "NVIDIA H200"}}, ""};

std::vector<int> named(const std::string& text, const verify::DeviceList& found = kThree) {
  std::vector<int> out;
  for (const verify::DeviceInfo& one : named_devices(text, found)) out.push_back(one.index);
  return out;
}
std::string refusal(const std::string& text, ErrorKind kind, const verify::DeviceList& found = kThree) {
  try {
    named_devices(text, found);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << text;
    return error.what();
  }
  return "";
}

TEST(SweepOptions, DevicesByName) {
  EXPECT_EQ(named("cuda"), (std::vector<int>{0}));
  EXPECT_EQ(named("cuda:3"), (std::vector<int>{3}));
  EXPECT_EQ(named("cuda:3,0"), (std::vector<int>{3, 0}));
  EXPECT_EQ(named("cuda:all"), (std::vector<int>{0, 1, 3}));
  for (const char* text :
       {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0,", "cuda:,0", "cuda:0,all", "cuda:all,0", "cuda:0 1", "cuda0"})
    EXPECT_EQ(refusal(text, ErrorKind::usage),
              "--device is '" + std::string(text) + "'; give auto, cpu, cuda, cuda:INDEX[,INDEX]... or cuda:all");
  EXPECT_EQ(
      refusal("cuda:1,1", ErrorKind::usage),
      "--device is 'cuda:1,1', which names one GPU twice; give auto, cpu, cuda, cuda:INDEX[,INDEX]... or cuda:all");
  EXPECT_EQ(refusal("cuda:2", ErrorKind::device), "there is no cuda:2; the first GPU is cuda:0");
  EXPECT_EQ(refusal("cuda:0,2", ErrorKind::device), "there is no cuda:2 as in cuda:0,2; the first GPU is cuda:0");
  EXPECT_EQ(refusal("cuda:all", ErrorKind::device, {{}, "no driver"}),
            "--device is cuda:all, and no GPU can be used: no driver; use --device cpu");
}

TEST(SweepOptions, DevicesOfDifferentMakeAreRefusedTogether) {
  const verify::DeviceList mixed = {{{0, "NVIDIA H200"}, {1, "NVIDIA A100"}, {2, "NVIDIA H200"}}, ""};
  EXPECT_EQ(named("cuda:0,2", mixed), (std::vector<int>{0, 2}));
  EXPECT_EQ(named("cuda:1", mixed), (std::vector<int>{1}));
  EXPECT_EQ(refusal("cuda:all", ErrorKind::device, mixed),
            "--device is cuda:all, but cuda:1, NVIDIA A100, and cuda:0, NVIDIA H200, are of different make: a window's "
            "bits would depend on which computed it; name GPUs of one make");
}

verify::SweepReport report() {
  verify::SweepReport r;
  r.device = "2 x NVIDIA H200, cuBLASLt 13.0.2", r.attention = "cuDNN 9.19.0", r.precision = "bf16", r.devices = 2;
  r.seconds = 9.124, r.first_wait_seconds = 0.251, r.wait_seconds = 1.5;
  r.weight_bytes = 27'000'000'000, r.device_bytes = 5'900'000'000, r.slots = 4, r.chunk_rows = 4096, r.spilled = true;
  r.rounding = {{0.0038911, 0.0016523}};
  return r;
}

TEST(SweepOptions, ASweepInOneLine) {
  EXPECT_EQ(sweep_line(report()),
            "2 x NVIDIA H200, cuBLASLt 13.0.2, cuDNN 9.19.0, bf16: 9.12 s; 27 GB of weights, not hidden under compute: "
            "1.50 s and 0.25 s "
            "for the first layer; 5.9 GB of device memory, 4 layers at once, chunks of 4096 tokens, hidden states in "
            "host memory; weights rounded to 16 bits, by at most 0.0039 and in RMS by 0.0017 of themselves");
  verify::SweepReport pair = report();
  pair.rounding = {{0, 0}, {0.002, 0.001}}, pair.spilled = false, pair.note = "a note";
  EXPECT_TRUE(
      sweep_line(pair).ends_with("chunks of 4096 tokens; the candidate's weights rounded to 16 bits, by at most "
                                 "0.002 and in RMS by 0.001 of themselves; a note"))
      << sweep_line(pair);
  verify::SweepReport tight = report();
  tight.kv_groups = 4, tight.head_pieces = 3, tight.rounding.clear();
  EXPECT_TRUE(sweep_line(tight).ends_with(
      ", hidden states in host memory, heads of keys and values in 4 groups, the head in 3 pieces"))
      << sweep_line(tight);
  pair.rounding = {{0, 0}}, pair.note = "";
  EXPECT_TRUE(sweep_line(pair).ends_with("chunks of 4096 tokens")) << "nothing was rounded";
}

// What is told on standard error is in --json too, every sweep of it, quiet or not.
TEST(SweepOptions, EverySweepInJson) {
  SweepDevice device{.device = verify::DeviceOptions{}, .report = report(), .sweeps = {}, .announcement = ""};
  std::istringstream in;
  std::ostringstream out, err;
  const Io io{.in = in, .out = out, .err = err, .hub_cache = {}};
  CommonOptions common;
  tell_sweep(device, common, io);
  EXPECT_EQ(err.str(), sweep_line(report()) + "\n");
  common.quiet = true;
  device.report.seconds = 3;
  tell_sweep(device, common, io);
  EXPECT_EQ(err.str(), sweep_line(report()) + "\n");
  const formats::Json json = device_json(device);
  EXPECT_EQ(json["name"], report().device);
  ASSERT_EQ(json["sweeps"].size(), 2u);
  EXPECT_EQ(json["sweeps"][0], (formats::Json{{"precision", "bf16"},
                                              {"attention", "cuDNN 9.19.0"},
                                              {"devices", 2},
                                              {"seconds", 9.124},
                                              {"first_wait_seconds", 0.251},
                                              {"wait_seconds", 1.5},
                                              {"weight_bytes", 27'000'000'000},
                                              {"device_bytes", 5'900'000'000},
                                              {"layers_at_once", 4},
                                              {"chunk_tokens", 4096},
                                              {"spilled", true},
                                              {"head_pieces", 1},
                                              {"kv_groups", 1},
                                              {"weight_rounding", {{{"max", 0.0038911}, {"rms", 0.0016523}}}},
                                              {"note", nullptr}}));
  EXPECT_EQ(json["sweeps"][1]["seconds"], 3);
  EXPECT_EQ(device_json({}),
            (formats::Json{{"name", "cpu"}, {"precision", "f32"}, {"sweeps", formats::Json::array()}}));
}

}  // namespace
}  // namespace ropewalk::tools
