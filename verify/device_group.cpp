#include "verify/device_group.h"

#include <algorithm>
#include <exception>
#include <future>
#include <numeric>
#include <system_error>
#include <thread>

#include "verify/no_threads.h"

namespace ropewalk::verify {

OpenDevices::OpenDevices(const DeviceOptions& options, std::size_t windows) {
  std::vector<std::optional<int>> wanted(options.indices.begin(), options.indices.end());
  if (wanted.empty()) wanted = {std::nullopt};
  wanted.resize(std::clamp<std::size_t>(windows, 1, wanted.size()));
  for (const std::optional<int>& index : wanted)
    open_.push_back(open_device(index, options.memory_bytes, options.attention));
  open_.front()->make_current();
}

Devices OpenDevices::all() const {
  std::vector<Accelerator*> out;
  for (const auto& device : open_) out.push_back(device.get());
  return Devices(std::move(out));
}

std::vector<std::vector<std::size_t>> assign_windows(const ModelConfig& config, std::span<const std::size_t> lengths,
                                                     std::size_t devices) {
  const double d_model = config.d_model, d_q = double(config.d_q()), d_kv = double(config.d_kv());
  const double per_token = d_model * (2 * d_q + 2 * d_kv + 3.0 * config.d_ff);
  std::vector<double> cost;
  for (const std::size_t length : lengths) {
    const auto n = double(length);
    cost.push_back(n *
                   (per_token + n * d_q));  // products of a layer; causal attention has two of n / 2 keys on average
  }
  std::vector<std::size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater{}, [&](std::size_t window) { return cost[window]; });
  const auto with_tokens =
      static_cast<std::size_t>(std::ranges::count_if(lengths, [](std::size_t n) { return n > 0; }));
  std::vector<std::vector<std::size_t>> out(std::clamp<std::size_t>(with_tokens, 1, devices));
  std::vector<double> load(out.size());
  for (const std::size_t window : order) {
    const auto least = static_cast<std::size_t>(std::ranges::min_element(load) - load.begin());
    out[least].push_back(window), load[least] += cost[window];
  }
  for (std::vector<std::size_t>& windows : out) std::ranges::sort(windows);
  return out;
}

DeviceGroup::DeviceGroup(std::size_t devices, const std::function<void(int)>& progress)
    : done_(devices, -1), progress_(progress) {}

void DeviceGroup::run(const Devices& devices, const std::function<void(std::size_t)>& body) {
  if (done_.size() == 1) return body(0);
  std::vector<std::exception_ptr> errors(done_.size());
  std::promise<bool> all_started;
  const std::shared_future<bool> start = all_started.get_future().share();
  const auto on_device = [&](std::size_t device) {
    if (!start.get()) return;
    try {
      devices[device].make_current();
      body(device);
    } catch (const Stopped&) {  // another's error is the one to tell
    } catch (const Error& error) {
      failed_ = true;
      errors[device] = std::make_exception_ptr(
          error.kind() == ErrorKind::device ? Error(error.kind(), {devices[device].id()}, error.problem(), error.fix())
                                            : error);
    } catch (...) {
      failed_ = true;
      errors[device] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    threads.reserve(done_.size());
    try {
      for (std::size_t device = 0; device < done_.size(); ++device) threads.emplace_back(on_device, device);
    } catch (const std::system_error&) {  // one that began would wait for those that never do
      all_started.set_value(false);
      throw no_more_threads();
    }
    all_started.set_value(true);
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

void DeviceGroup::stop_if_failed() const {
  if (failed_) throw Stopped{};
}

void DeviceGroup::finished_layers(std::size_t device, int layers) {
  stop_if_failed();
  const std::lock_guard lock(mutex_);
  done_[device] = layers;
  const int least = *std::ranges::min_element(done_);
  if (least <= told_ || !progress_) return;
  told_ = least;
  progress_(least);
}

}  // namespace ropewalk::verify
