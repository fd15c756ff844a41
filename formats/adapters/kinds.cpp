#include "formats/adapters/kinds.h"

#include <algorithm>
#include <array>
#include <utility>

namespace ropewalk::formats {
namespace {

constexpr std::array kKinds = {&kLora, &kLoha, &kLokr, &kIa3, &kVera, &kAdaLora, &kLnTuning, &kOft, &kBoft, &kHra};

/// Of PeftConfig and of nearly every kind's configuration.
constexpr std::array kCommonFields = {
    AdapterField{"peft_type", FieldType::any, FieldUse::read},
    AdapterField{"peft_version", FieldType::any, FieldUse::none},
    AdapterField{"task_type", FieldType::any, FieldUse::none},
    AdapterField{"inference_mode", FieldType::any, FieldUse::none},
    AdapterField{"base_model_name_or_path", FieldType::any, FieldUse::read},
    AdapterField{"revision", FieldType::any, FieldUse::none},
    AdapterField{"auto_mapping", FieldType::any, FieldUse::none},
    AdapterField{"target_modules", FieldType::any, FieldUse::read},
    AdapterField{"exclude_modules", FieldType::any, FieldUse::read},
    AdapterField{"layers_to_transform", FieldType::any, FieldUse::read},
    AdapterField{"layers_pattern", FieldType::any, FieldUse::read},
    AdapterField{"modules_to_save", FieldType::list, FieldUse::read},
};

constexpr std::string_view kVirtualTokens = "it is virtual tokens before the text, not a change of weights";
constexpr std::array kNeverMerged = {
    std::pair{std::string_view("PREFIX_TUNING"),
              std::string_view("it is keys and values before the text, not a change of weights")},
    std::pair{std::string_view("PROMPT_TUNING"), kVirtualTokens},
    std::pair{std::string_view("MULTITASK_PROMPT_TUNING"), kVirtualTokens},
    std::pair{std::string_view("P_TUNING"), kVirtualTokens},
    std::pair{std::string_view("CPT"), kVirtualTokens},
    std::pair{std::string_view("CARTRIDGE"),
              std::string_view("it is a cache of keys and values, not a change of weights")},
    std::pair{std::string_view("ADAPTION_PROMPT"),
              std::string_view("it adds attention to learned prompts, not a change of weights")},
    std::pair{std::string_view("POLY"), std::string_view("what it adds depends on the task asked for")},
    std::pair{std::string_view("XLORA"), std::string_view("what it adds depends on the text, token by token")},
};

}  // namespace

std::span<const AdapterKind* const> adapter_kinds() { return kKinds; }

const AdapterKind* find_kind(std::string_view peft_type) {
  const auto found =
      std::find_if(kKinds.begin(), kKinds.end(), [&](const AdapterKind* kind) { return kind->peft_type == peft_type; });
  return found == kKinds.end() ? nullptr : *found;
}

std::string_view why_not_merged(std::string_view peft_type) {
  for (const auto& [type, reason] : kNeverMerged)
    if (type == peft_type) return reason;
  return {};
}

const AdapterField* find_field(const AdapterKind& kind, std::string_view name) {
  const auto among = [&](std::span<const AdapterField> fields) -> const AdapterField* {
    const auto found =
        std::find_if(fields.begin(), fields.end(), [&](const AdapterField& f) { return f.name == name; });
    return found == fields.end() ? nullptr : &*found;
  };
  if (const AdapterField* own = among(kind.fields)) return own;
  return among(kCommonFields);
}

}  // namespace ropewalk::formats
