#pragma once

#include <dlfcn.h>

#include <string>
#include <utility>

namespace ropewalk::verify {

/// A library of the CUDA Toolkit that is loaded when first wanted, never linked: the program starts, and passes its
/// tests, without it. Closed with its owner.
class SharedLibrary {
 public:
  /// Looks where the loader looks, then in the toolkit's usual folder. handle null and why() set if there is none.
  explicit SharedLibrary(const std::string& name) {
    for (const std::string& place : {name, "/usr/local/cuda/lib64/" + name}) {
      handle_ = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle_) return;
      if (why_.empty()) why_ = dlerror();
    }
  }
  SharedLibrary(SharedLibrary&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), why_(std::move(other.why_)) {}
  SharedLibrary& operator=(SharedLibrary&&) = delete;
  ~SharedLibrary() {
    if (handle_) dlclose(handle_);
  }

  /// Sets `function` to the symbol; false, and why() says which, if it is missing.
  template <class F>
  bool find(const char* symbol, F*& function) {
    function = handle_ ? reinterpret_cast<F*>(dlsym(handle_, symbol)) : nullptr;
    if (!function && handle_) why_ = std::string("no symbol ") + symbol;
    return function != nullptr;
  }
  const std::string& why() const noexcept { return why_; }
  void* handle() const noexcept { return handle_; }

 private:
  void* handle_ = nullptr;
  std::string why_;
};

}  // namespace ropewalk::verify
