#pragma once

#include <string>
#include <vector>

#include "tools/rope_source.h"
#include "tools/render.h"

namespace ropewalk::tools {

// What `rope` shows: tables and JSON.

struct RopeQuestion {
  std::vector<formats::EngineVersion> engines;  // none: the meaning alone
  formats::EngineOptions options;               // told to every engine
  int sequence_length = 0;                      // for ropes that depend on it
  bool flags = false;
};

/// One engine's answer.
struct RopeTarget {
  formats::EngineReading reading;
  std::optional<formats::RopeDifference> difference;  // from what is meant; nullopt if nobody can say
  std::optional<formats::EngineFlags> flags;
};
/// ropewalk has no rule for the file in that engine.
bool not_followed(const formats::EngineReading& reading);
std::vector<RopeTarget> ask_engines(const RopeSource& source, const RopeQuestion& question);

/// A rope and who has it. Of distinct_ropes: engines that turn every pair alike, as one: "vllm 0.33.0, sglang 0.5.23".
/// Errors are left out; the first of the list is what is meant, if anybody can say.
struct RopeGroup {
  std::string name;
  formats::WantedRope rope;
};
/// What is meant and what each engine makes of it, one by one.
std::vector<RopeGroup> rope_readings(const RopeSource& source, const std::vector<RopeTarget>& targets);
/// Engines that have none: "exllamav2 0.3.2 does not load it".
std::vector<std::string> without_rope(const std::vector<RopeTarget>& targets);
std::vector<RopeGroup> distinct_ropes(const RopeSource& source, const std::vector<RopeTarget>& targets,
                                      int sequence_length);

void show_meaning(Output& output, const RopeSource& source, int sequence_length);
void show_engines(Output& output, const RopeSource& source, const std::vector<RopeTarget>& targets,
                  const RopeQuestion& question);
void show_flags(Output& output, const std::vector<RopeTarget>& targets);
formats::Json rope_report_json(const RopeSource& source, const std::vector<RopeTarget>& targets,
                               const RopeQuestion& question);
Output engine_list();

/// Numbers of a table: five digits; "1.25x", "stands still"; four decimals, where the number is one that a model has.
std::string frequency_text(double f);
std::string ratio_text(double ratio);
std::string factor_text(double a);

}  // namespace ropewalk::tools
