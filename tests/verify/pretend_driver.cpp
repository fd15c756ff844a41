// A CUDA driver that is none, for a machine without a GPU: cuDNN loads what it compiled into the driver before it calls a
// plan built. Every function it asks for says it went well, but there is no device and nothing runs. Built as
// libcuda.so.1, opened by cudnn_plans_test before cuDNN looks for one.
#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {
std::uint64_t last_loaded = 0;
}

extern "C" {

/// A hash (FNV-1a) of the machine code that was loaded last.
std::uint64_t ropewalk_last_loaded() { return last_loaded; }

int cuLibraryLoadData(const void** handle, const void* code) {
  Elf64_Ehdr header;
  std::memcpy(&header, code, sizeof header);
  const std::size_t bytes = header.e_shoff + std::size_t{header.e_shnum} * header.e_shentsize;
  last_loaded = 0xcbf29ce484222325;
  for (std::size_t i = 0; i < bytes; ++i)
    last_loaded = (last_loaded ^ static_cast<const unsigned char*>(code)[i]) * 0x100000001b3;
  *handle = code;
  return 0;
}

#define ROPEWALK_DOES_NOTHING(name) \
  int name() { return 0; }
#define ROPEWALK_GIVES_A_HANDLE(name) \
  int name(const void** handle) {     \
    static const int something = 0;   \
    *handle = &something;             \
    return 0;                         \
  }
#define ROPEWALK_FINDS_NO_DEVICE(name) \
  int name() { return 100; }  // CUDA_ERROR_NO_DEVICE

ROPEWALK_FINDS_NO_DEVICE(cuInit)
ROPEWALK_FINDS_NO_DEVICE(cuDeviceGetCount)
ROPEWALK_GIVES_A_HANDLE(cuLibraryLoadFromFile)
ROPEWALK_GIVES_A_HANDLE(cuLibraryGetKernel)
ROPEWALK_GIVES_A_HANDLE(cuModuleLoadData)
ROPEWALK_GIVES_A_HANDLE(cuModuleLoadDataEx)
ROPEWALK_GIVES_A_HANDLE(cuModuleLoadFatBinary)
ROPEWALK_GIVES_A_HANDLE(cuModuleGetFunction)
ROPEWALK_DOES_NOTHING(cuCtxGetCurrent)
ROPEWALK_DOES_NOTHING(cuCtxGetDevice)
ROPEWALK_DOES_NOTHING(cuCtxGetLimit)
ROPEWALK_DOES_NOTHING(cuCtxPopCurrent)
ROPEWALK_DOES_NOTHING(cuCtxPushCurrent)
ROPEWALK_DOES_NOTHING(cuDeviceGet)
ROPEWALK_DOES_NOTHING(cuDeviceGetAttribute)
ROPEWALK_DOES_NOTHING(cuDevicePrimaryCtxRelease)
ROPEWALK_DOES_NOTHING(cuDevicePrimaryCtxReset)
ROPEWALK_DOES_NOTHING(cuDevicePrimaryCtxRetain)
ROPEWALK_DOES_NOTHING(cuDriverGetVersion)
ROPEWALK_DOES_NOTHING(cuFuncGetAttribute)
ROPEWALK_DOES_NOTHING(cuFuncSetAttribute)
ROPEWALK_DOES_NOTHING(cuGetErrorName)
ROPEWALK_DOES_NOTHING(cuGetErrorString)
ROPEWALK_DOES_NOTHING(cuKernelGetAttribute)
ROPEWALK_DOES_NOTHING(cuKernelSetAttribute)
ROPEWALK_DOES_NOTHING(cuLaunchCooperativeKernel)
ROPEWALK_DOES_NOTHING(cuLaunchKernel)
ROPEWALK_DOES_NOTHING(cuLaunchKernelEx)
ROPEWALK_DOES_NOTHING(cuLibraryUnload)
ROPEWALK_DOES_NOTHING(cuLinkAddData)
ROPEWALK_DOES_NOTHING(cuLinkAddData_v2)
ROPEWALK_DOES_NOTHING(cuLinkAddFile_v2)
ROPEWALK_DOES_NOTHING(cuLinkComplete)
ROPEWALK_DOES_NOTHING(cuLinkCreate)
ROPEWALK_DOES_NOTHING(cuLinkCreate_v2)
ROPEWALK_DOES_NOTHING(cuLinkDestroy)
ROPEWALK_DOES_NOTHING(cuMemcpyDtoH_v2)
ROPEWALK_DOES_NOTHING(cuModuleGetGlobal_v2)
ROPEWALK_DOES_NOTHING(cuModuleUnload)
ROPEWALK_DOES_NOTHING(cuOccupancyMaxActiveBlocksPerMultiprocessor)
ROPEWALK_DOES_NOTHING(cuOccupancyMaxPotentialClusterSize)
ROPEWALK_DOES_NOTHING(cuStreamGetCtx)
ROPEWALK_DOES_NOTHING(cuStreamSynchronize)
ROPEWALK_DOES_NOTHING(cuTensorMapEncodeTiled)
}
