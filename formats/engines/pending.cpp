#include "formats/engines/rules.h"

namespace ropewalk::formats::engines {
void read_as_llama_cpp(Walk&, EngineReading&) { not_followed("not yet", ""); }
void read_as_exllamav2(Walk&, EngineReading&) { not_followed("not yet", ""); }
void read_as_exllamav3(Walk&, EngineReading&) { not_followed("not yet", ""); }
}  // namespace ropewalk::formats::engines
