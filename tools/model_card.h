#pragma once

#include <string>

#include "formats/source.h"

namespace ropewalk::tools {

/// README.md for a model this program wrote: what it was made of and how it stands, facts only. The source's own card
/// keeps its front matter (licence, tags) at the top and its text below ours. `name`: the new model's; `what`:
/// "merged", "extended". `combined`: how adapters became one, in words. `rope`: in words, where the model's kinds of layers have ropes of their own.
std::string model_card(const formats::Source& source, const std::string& name, const std::string& what,
                       const std::string& rope = {}, const std::string& combined = {});

}  // namespace ropewalk::tools
