#include "verify/cuda/cudnn_sdpa.h"

#include <cuda_runtime_api.h>

#include <map>
#include <stdexcept>
#include <unordered_map>
#include <vector>

// cuDNN's own C++ headers (nvidia-cudnn-frontend): the graph, its expansion into what the library's pattern matching
// knows, and the list of what is broken in which version. Half a minute to compile, 1 MB of code: in this file alone.
// Their JSON is not used.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include "verify/cuda/shared_library.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // declared by its headers, which look their functions up in it
}

namespace ropewalk::verify {
namespace {

namespace fe = cudnn_frontend;

/// Loads the library, once for the process. Why not, or empty.
const std::string& load_library() {
  static const std::string why = [] {
    auto* library = new SharedLibrary("libcudnn.so.9");  // never closed: the headers keep pointers into it
    if (!library->handle()) return library->why();
    fe::cudnn_dlhandle = library->handle();
    if (fe::detail::get_backend_version() < CudnnSdpa::kOldest)
      return "libcudnn.so.9 is version " + std::to_string(fe::detail::get_backend_version()) + ", " +
             std::to_string(CudnnSdpa::kOldest) + " is the oldest that serves";
    return std::string();
  }();
  return why;
}

/// The headers' messages run over several lines.
std::string first_line(const std::string& text) {
  const std::size_t end = text.find_first_of("\r\n");
  return text.substr(0, end);
}

/// Never empty: an empty reason is none.
std::string reason_of(const std::exception& error) {
  const std::string line = first_line(error.what());
  return line.empty() ? "it does not say why" : line;
}

/// What the library or its headers said, as an exception, within this file. The headers throw some of their own.
class Refused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
void check(fe::error_t status) {
  if (status.is_bad()) throw Refused{first_line(status.get_message())};
}

enum Uid : std::int64_t { kQ = 1, kK, kV, kOut, kLse };

/// The shape a family's kernel is compiled for. cuDNN 9.19 binds a family's first kernel to whatever comes later, and
/// gives lengths that are multiples of 128 one of their own, smaller, which it would bind to all others too (seen in
/// what it loads into the driver): so the first has lengths that are multiples of nothing.
SdpaShape family_of(const SdpaShape& shape) {
  SdpaShape out = shape;
  out.windows = 1, out.rows = 4095, out.keys = 8191;
  out.q_row = out.out_row = std::uint64_t{shape.n_heads} * shape.head_dim;
  out.kv_row = std::uint64_t{shape.n_kv_heads} * shape.head_dim;
  out.q_window = out.out_window = out.rows * out.q_row, out.kv_window = out.keys * out.kv_row;
  return out;
}

}  // namespace

struct CudnnSdpa::Impl {
  struct Built : Plan {
    std::shared_ptr<fe::graph::Graph> graph;
  };

  cudnnHandle_t handle = nullptr;                      // null: for a chip that is not here
  std::shared_ptr<const fe::DeviceProperties> device;  // of that chip
  int capability = 0;
  std::map<SdpaShape, Built> plans;
  struct Family {
    std::shared_ptr<fe::KernelCache> kernels;  // null: cannot be shared
    std::string engine, why;                   // why it cannot
  };
  std::map<SdpaShape, Family> families;  // by family_of()

  ~Impl() {
    plans.clear();
    families.clear();
    if (handle) fe::detail::destroy_handle(handle);
  }

  void open(const std::optional<SdpaChip>& chip) {
    if (chip) {
      auto properties = std::make_shared<fe::DeviceProperties>();
      check(properties->deserialize({chip->properties.begin(), chip->properties.end()}));
      device = properties, capability = chip->capability;
      return;
    }
    int index = 0, major = 0, minor = 0;
    if (cudaGetDevice(&index) != cudaSuccess ||
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index) != cudaSuccess)
      throw Refused{"there is no current device"};
    capability = 10 * major + minor;
    if (const cudnnStatus_t status = fe::detail::create_handle(&handle); status != CUDNN_STATUS_SUCCESS) {
      handle = nullptr;
      throw Refused{std::string("cuDNN does not start: ") + fe::detail::get_error_string(status)};
    }
  }

  /// The graph with the library's ranking of engines for it, none of them built.
  std::shared_ptr<fe::graph::Graph> ranked_graph(const SdpaShape& s, const std::shared_ptr<fe::KernelCache>& kernels) {
    auto graph = std::make_shared<fe::graph::Graph>();
    graph->set_sm_version(capability)
        .set_io_data_type(s.is_f16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (device) graph->set_device_properties(device);
    if (kernels) graph->set_dynamic_shape_enabled(true).set_kernel_cache(kernels);
    const auto size = [](std::uint64_t n) { return static_cast<std::int64_t>(n); };
    // [windows, heads, positions, channels], the heads of a position side by side in memory
    const auto layout = [&](std::uint64_t heads, std::uint64_t positions, std::uint64_t row, std::uint64_t window) {
      const std::vector<std::int64_t> dims{size(s.windows), size(heads), size(positions), size(s.head_dim)},
          strides{size(window), size(s.head_dim), size(row), 1};
      return fe::graph::Tensor_attributes().set_dim(dims).set_stride(strides);
    };
    const auto q = graph->tensor(layout(s.n_heads, s.rows, s.q_row, s.q_window).set_name("q").set_uid(kQ));
    const auto k = graph->tensor(layout(s.n_kv_heads, s.keys, s.kv_row, s.kv_window).set_name("k").set_uid(kK));
    const auto v = graph->tensor(layout(s.n_kv_heads, s.keys, s.kv_row, s.kv_window).set_name("v").set_uid(kV));
    auto options = fe::graph::SDPA_attributes()
                       .set_name("attention")
                       .set_generate_stats(s.with_lse)
                       .set_attn_scale(s.scale)
                       .set_diagonal_alignment(fe::DiagonalAlignment_t::BOTTOM_RIGHT)
                       .set_diagonal_band_right_bound(0);
    // key + window > query's position: the query itself counts
    if (s.sliding_window != 0) options.set_diagonal_band_left_bound(static_cast<int>(s.sliding_window));
    const auto [out, lse] = graph->sdpa(q, k, v, options);
    const auto like_out = layout(s.n_heads, s.rows, s.out_row, s.out_window);
    out->set_output(true).set_dim(like_out.get_dim()).set_stride(like_out.get_stride()).set_uid(kOut);
    if (lse)
      lse->set_output(true)
          .set_data_type(fe::DataType_t::FLOAT)
          .set_dim({size(s.windows), size(s.n_heads), size(s.rows), 1})
          .set_stride({size(s.n_heads * s.rows), size(s.rows), 1, 1})
          .set_uid(kLse);
    check(graph->validate());
    check(graph->build_operation_graph(handle));
    check(graph->create_execution_plans({fe::HeurMode_t::A}));
    return graph;
  }

  static std::string engine_at(const fe::graph::Graph& graph, std::int64_t index) {
    std::string name;
    check(graph.get_plan_name_at_index(index, name));
    return name;
  }

  /// Builds the wanted engine's plan, or the first of any that can be; its name.
  static std::string build_one(fe::graph::Graph& graph, const std::string& wanted) {
    std::string why = "it ranks no engine " + wanted;
    for (std::int64_t index = 0; index < graph.get_execution_plan_count(); ++index) {
      if (!wanted.empty() && engine_at(graph, index) != wanted) continue;
      fe::error_t status = graph.build_plan_at_index(index);
      if (status.is_good()) return engine_at(graph, index);
      why = first_line(status.get_message());
    }
    throw Refused{why};
  }

  Family& family(const SdpaShape& shape) {
    const SdpaShape typical = family_of(shape);
    const auto [found, is_new] = families.try_emplace(typical);
    if (!is_new) return found->second;
    try {
      const auto kernels = std::make_shared<fe::KernelCache>();
      const auto graph = ranked_graph(typical, kernels);
      found->second.engine = build_one(*graph, "");
      found->second.kernels = kernels;
    } catch (const std::exception& error) {  // then each shape stands for itself
      found->second.why = reason_of(error);
    }
    return found->second;
  }

  Built build(const SdpaShape& shape, const Family& shared) {
    Built out;
    out.shares_kernel = shared.kernels != nullptr, out.why_alone = shared.why;
    try {
      out.graph = ranked_graph(shape, shared.kernels);
      out.engine = build_one(*out.graph, shared.engine);
      std::int64_t bytes = 0;
      check(out.graph->get_workspace_size(bytes));
      out.workspace_bytes = static_cast<std::uint64_t>(bytes);
      if (out.workspace_bytes > kWorkspaceBytes)
        throw Refused{"its plan wants " + std::to_string(bytes) + " bytes of workspace"};
    } catch (const std::exception& error) {
      out.why = reason_of(error);
    }
    if (!out.why.empty()) out.graph.reset(), out.engine.clear();
    return out;
  }
};

std::string CudnnSdpa::why_no_library() {
  try {
    return load_library();
  } catch (const std::exception& error) {
    return reason_of(error);
  }
}

CudnnSdpa::CudnnSdpa(const std::optional<SdpaChip>& chip) : impl_(std::make_unique<Impl>()) {
  try {
    why_not_ = load_library();
    if (!why_not_.empty()) return;
    const std::size_t version = fe::detail::get_backend_version();
    name_ = "cuDNN " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
            std::to_string(version % 100);
    impl_->open(chip);
  } catch (const std::exception& error) {
    why_not_ = reason_of(error);
  }
}
CudnnSdpa::~CudnnSdpa() = default;

const CudnnSdpa::Plan& CudnnSdpa::plan(const SdpaShape& shape) {
  const auto [found, is_new] = impl_->plans.try_emplace(shape);
  if (!is_new) return found->second;
  if (why_not_.empty()) {
    const Impl::Family& family = impl_->family(shape);
    found->second = impl_->build(shape, family);
    if (!found->second.why.empty() && family.kernels)
      found->second = impl_->build(shape, {.kernels = nullptr, .engine = "", .why = found->second.why});
  } else {
    found->second.why = why_not_;
  }
  return found->second;
}

std::string CudnnSdpa::run(const SdpaShape& shape, const Pointers& at, void* workspace, CUstream_st* stream) {
  if (const Plan& planned = plan(shape); !planned.why.empty()) return planned.why;
  if (!impl_->handle) return "the plan is of a chip that is not here";
  const Impl::Built& built = impl_->plans.at(shape);
  try {
    if (const cudnnStatus_t status = fe::detail::set_stream(impl_->handle, stream); status != CUDNN_STATUS_SUCCESS)
      throw Refused{fe::detail::get_error_string(status)};
    std::unordered_map<std::int64_t, void*> pointers{
        {kQ, const_cast<void*>(at.q)}, {kK, const_cast<void*>(at.k)}, {kV, const_cast<void*>(at.v)}, {kOut, at.out}};
    if (shape.with_lse) pointers.emplace(kLse, at.lse);
    check(built.graph->execute(impl_->handle, pointers, workspace));
    return "";
  } catch (const std::exception& error) {
    return reason_of(error);
  }
}

}  // namespace ropewalk::verify
