#include "tools/io.h"

#include <cstdlib>

namespace ropewalk::tools {
namespace {

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? value : nullptr;
}

}  // namespace

Error unwritable_output() {
  return Error(ErrorKind::io, {}, "standard output could not be written", "check where it is redirected to");
}

std::filesystem::path hub_cache_from_environment() {
  if (const char* cache = environment("HF_HUB_CACHE")) return cache;
  if (const char* home = environment("HF_HOME")) return std::filesystem::path(home) / "hub";
  if (const char* cache = environment("XDG_CACHE_HOME")) return std::filesystem::path(cache) / "huggingface" / "hub";
  const char* home = environment("HOME");
  return std::filesystem::path(home ? home : ".") / ".cache" / "huggingface" / "hub";
}

}  // namespace ropewalk::tools
