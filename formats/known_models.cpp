#include "formats/known_models.h"

#include <array>

namespace ropewalk::formats {
namespace {

constexpr std::array kKnown = {
    KnownModel{"qwen2", 1e6, 0, 32768, "Qwen2.5"}, KnownModel{"qwen3", 1e6, 0, 32768, "Qwen3"},
    KnownModel{"llama", 5e5, 128256, 8192, "Llama 3"}, KnownModel{"mistral", 1e4, 32000, 8192, "Mistral 7B v0.1"},
    KnownModel{"llama", 1e4, 32000, 0, "Llama 1 or 2"}};

}  // namespace

const KnownModel* known_model(std::string_view model_type, double theta, std::optional<double> vocabulary) {
  for (const KnownModel& one : kKnown)
    if (model_type == one.model_type && theta == one.theta &&
        (one.vocabulary == 0 || (vocabulary && *vocabulary == one.vocabulary)))
      return &one;
  return nullptr;
}

}  // namespace ropewalk::formats
