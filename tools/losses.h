#pragma once

#include <string>
#include <vector>

#include "formats/gguf_rope.h"
#include "lib/checkpoint.h"
#include "tools/command_line.h"
#include "tools/render.h"

namespace ropewalk::tools {

/// --rope-encoding and --allow-loss, for commands that write GGUFs.
void declare_losses(CommandLine& line, std::string& rope_encoding, std::vector<std::string>& allowed);
/// --allow-loss alone.
void declare_allowed_losses(CommandLine& line, std::vector<std::string>& allowed);
/// "auto", "keys", "freqs"; Error(usage) otherwise.
formats::RopeEncoding parse_rope_encoding(const std::string& text);

/// Error(usage) for a name that no loss has.
void check_allowed_losses(const std::vector<std::string>& allowed);
/// Error(unsupported) for the first loss that can change a logit and was not allowed, with what would accept and what
/// would avoid it.
void refuse_losses(const std::vector<formats::Loss>& losses, const std::vector<std::string>& allowed,
                   const Checkpoint& source);
/// "loss: rope.dynamic: llama.cpp 0.5 cannot ...", for people.
std::string loss_line(const formats::Loss& loss);
Json losses_json(const std::vector<formats::Loss>& losses);

}  // namespace ropewalk::tools
