#include "verify/layer_sweep.h"

#include <algorithm>

#include "verify/sweep_journal.h"

namespace ropewalk::verify {

std::vector<double> run_layers(std::span<Forward* const> models, const SweepOptions& options, std::size_t each,
                               const std::function<void(int layer, std::vector<double>& found)>& after) {
  int layers = 0;
  for (const Forward* model : models) layers = std::max(layers, model->config().n_layers);
  const auto report = [&](int done) {
    if (options.progress) options.progress(done);
  };
  std::vector<double> found;
  int layer = options.journal ? options.journal->take_up(models, each, found) : 0;
  for (; layer < layers; ++layer) {
    report(layer);
    for (Forward* model : models)
      if (layer < model->config().n_layers) model->run_layer(layer);
    if (each > 0) after(layer, found);
    if (options.journal) options.journal->keep(layer + 1, models, found);
  }
  report(layers);
  return found;
}

}  // namespace ropewalk::verify
