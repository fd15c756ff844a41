#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/source.h"
#include "tools/placed_gates.h"
#include "tools/published.h"
#include "tools/render.h"
#include "tools/sweep_options.h"
#include "verify/perplexity.h"

namespace ropewalk::tools {

using Documents = std::vector<std::vector<std::int32_t>>;  // ids

/// A source and the text in its own ids.
struct Opened {
  formats::Source source;
  Documents documents;
  std::optional<std::int32_t> bos;
  bool is_baseline = false;
  bool as_baseline = true;  // the same ids as the baseline, and BOS where that has it; true where there is none
};

/// How windows are cut, beside context and protocol.
struct WindowOptions {
  std::optional<int> stride, windows, last;
  bool truncate = false;

  int asked_stride() const;
};

/// One source under one protocol. results: by context, nullopt where it was not evaluated.
struct SourceResults {
  std::string source;
  bool is_baseline = false, as_baseline = true;  // Opened's
  int own_context = 0;                           // that the source serves
  std::vector<std::optional<verify::PerplexityResult>> results;
  std::string file = {};  // that says what the source is
};
/// At those of `contexts` it is asked for: a baseline at those it serves. The windows of all lengths share one sweep, as
/// far as memory allows.
SourceResults evaluate(const Opened& opened, const std::vector<int>& contexts, verify::Protocol protocol,
                       const WindowOptions& windows, SweepDevice& device, const CommonOptions& common, const Io& io);

/// Everything found under one protocol: a table of it, and one of the last positions.
struct ProtocolResults {
  verify::Protocol protocol;
  std::vector<SourceResults> sources;
};
void add_tables(const ProtocolResults& results, const std::vector<int>& contexts, const WindowOptions& windows,
                const std::vector<PublishedFigure>& published, const std::string& text_sha256,
                const std::string& headline, Output& output);
/// results[] and taxes[] of the JSON.
void add_json(const ProtocolResults& results, const WindowOptions& windows, Output& output);
/// What gates are held against. with_protocol: names say which.
std::vector<PlacedFigure> figures_of(const ProtocolResults& results, bool with_protocol);

}  // namespace ropewalk::tools
