// Models with their sites found and proven, ready to be fitted.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "graph/model.h"
#include "graph/observe.h"
#include "graph/site.h"
#include "support/fixtures.h"
#include "support/load.h"

namespace repquant::testing {

struct Prepared {
  Model model;
  SiteSearch search;
  std::vector<std::vector<at::Tensor>> batches;

  const Site& site(const std::string& path) const {
    for (const auto& candidate : search.sites) {
      if (candidate.path == path) return candidate;
    }
    throw std::runtime_error("no site " + path);
  }
};

inline Prepared prepare(const std::string& file, std::vector<std::vector<at::Tensor>> batches) {
  Prepared prepared{load_for(file, batches.front()), {}, std::move(batches)};
  prepared.search = find_sites(prepared.model);
  prove_sites(prepared.model, prepared.search, prepared.batches.front(),
              observe(prepared.model, prepared.batches.front()).observed);
  return prepared;
}

/// A fixture with its own three samples as the only batch.
inline Prepared prepare_fixture(const std::string& name, const std::string& form) {
  return prepare(fixture_path(name, form), {fixture_data(name).inputs});
}

/// The planted model with the first `batches` batches of eight calibration samples.
inline Prepared prepare_planted(std::int64_t batches = 4) {
  const auto arrays = read_npz(fixture_dir() / "planted_calib.npz");
  std::vector<std::vector<at::Tensor>> split;
  for (std::int64_t i = 0; i < batches; ++i) {
    std::vector<at::Tensor> batch;
    for (std::size_t k = 0; k < arrays.names.size(); ++k) {
      if (arrays.names[k] == "labels") continue;
      batch.push_back(arrays.tensors[k].narrow(0, 8 * i, 8).clone());
    }
    split.push_back(std::move(batch));
  }
  return prepare(fixture_path("planted", "trace"), std::move(split));
}

}  // namespace repquant::testing
