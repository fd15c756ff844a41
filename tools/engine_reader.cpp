#include "tools/engine_reader.h"

#include "lib/error.h"
#include "tools/one_line.h"
#include "tools/rope_source.h"

namespace ropewalk::tools {

void read_by_engine(Checkpoint& model, const std::string& text, const std::string& engine, const CommonOptions& common,
                    const Io& io) {
  const formats::EngineVersion version = formats::parse_engine(engine);
  const formats::EngineReading reading = open_rope_source(text, std::nullopt, io).read(version, {});
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorKind::unsupported, {.path = model.label}, version.title() + " does not run it: " + one_line(why),
                "name an engine that reads it: ropewalk rope " + model.label + " --engine all");
  };
  if (reading.error && reading.error->kind == formats::kNotFollowed)
    throw Error(ErrorKind::unsupported, {.path = model.label},
                "what " + version.title() + " makes of it is not known here: " + one_line(reading.error->text),
                "name an engine whose rule is: ropewalk rope " + model.label + " --engine all");
  if (reading.error) fail(reading.error->text);
  if (reading.context_error) fail(reading.context_error->text);
  if (reading.ropes.size() != 1) fail("its layers have ropes of several kinds there");
  RopeSpec spec = reading.ropes.front().spec, own = spec;
  own.attention_factor = std::nullopt;  // what the method has by itself need not be said
  if (!depends_on_length(spec) && spec.attention_factor == rope_table(own, 1).attention_factor) spec = own;
  model.config.rope = spec;
  if (reading.context) model.config.context = *reading.context;
  model.read_as = version.title();
  const auto say = [&](const std::string& line) {
    warn(line, common, io);
    model.warnings.push_back(line);
  };
  if (!version.notice.empty()) say(version.notice);
  for (const formats::EngineNotice& notice : reading.notices) say(notice.text);
}

}  // namespace ropewalk::tools
