#include "pipeline/prepare.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <set>
#include <utility>

#include "artifact/check.h"
#include "base/text_table.h"
#include "data/open_data.h"
#include "data/past.h"
#include "evaluate/loaded_model.h"
#include "evaluate/mixed_samples.h"
#include "fit/hold_back.h"
#include "graph/inputs.h"
#include "graph/keep_codes.h"
#include "graph/walker.h"
#include "pipeline/after_tokens.h"
#include "pipeline/check_normalized.h"
#include "pipeline/memory_limits.h"
#include "pipeline/not_finite.h"
#include "pipeline/try_samples.h"
#include "repquant/artifact.h"
#include "repquant/error.h"
#include "tensor/cache_codes.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

std::string why_no_site(const SiteSearch& search) {
  if (search.skipped.empty()) return "no Linear, convolution or matrix product at all";
  const auto& first = search.skipped.front();
  return counted(search.skipped.size(), "product") + ", such as " + first.path + " (" + first.op +
         "): " + first.reason;
}

Model load_unquantized(const std::string& path, const std::vector<GivenInput>& given, bool trust) {
  if (is_artifact(path)) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model is already quantized",
                 .where = path,
                 .expected = "a floating-point model",
                 .got = "an artifact of repquant",
                 .hint = "quantize the model that it was made from; see repquant inspect"});
  }
  return load_model(path, given.size(), given, trust);
}

SiteSearch find_some_sites(const Model& model) {
  SiteSearch search = find_sites(model);
  if (!search.sites.empty()) return search;
  throw Error(ErrorKind::kUnsupported,
              {.what = "the model has no site that can be quantized",
               .where = model.path,
               .expected = "at least one Linear, patch embedding or attention product",
               .got = why_no_site(search)});
}

/// check_normalized() on later tokens, for a decoder that keeps keys and values.
void check_continued(const Model& model, const std::vector<at::Tensor>& batch) {
  const auto run = [&](const std::vector<at::Tensor>& inputs) {
    return output_tensors(run_graph(*model.graph, Schedule(*model.graph), copies_of(inputs)));
  };
  const at::NoGradGuard no_grad;
  const std::int64_t length = batch.empty() || batch[0].dim() < 2 ? 0 : batch[0].size(1);
  if (const auto later = after_tokens(batch, length / 3, run)) check_normalized(model, *later);
}

/// Enough samples for proofs and self-checks: as many as so many multiply-accumulates, from two to
/// four. More would only take longer, and of large samples two have as many values.
std::int64_t checked_samples(std::int64_t macs_of_one) {
  constexpr std::int64_t kMacs = 4'000'000'000;
  return std::clamp<std::int64_t>(kMacs / std::max<std::int64_t>(macs_of_one, 1), 2, 4);
}

/// Whether the graph computes what the model does where arguments from `first` on are left out.
bool takes_defaults(const Model& model, const LoadedModel& original, std::size_t first,
                    const std::vector<at::Tensor>& batch) {
  std::size_t given = 0;
  for (std::size_t i = 0; i < first; ++i) {
    given += leaves_of(form_of(model.graph->inputs()[i], model.argument_names[i])).size();
  }
  try {
    const std::vector<at::Tensor> tensors(batch.begin(),
                                          batch.begin() + static_cast<std::ptrdiff_t>(given));
    std::vector<c10::IValue> inputs = copies_of(tensors);
    for (std::size_t i = first; i < model.defaults.size(); ++i)
      inputs.push_back(*model.defaults[i]);
    const auto got = output_tensors(run_graph(*model.graph, Schedule(*model.graph), inputs));
    return are_the_same(got, original.outputs(tensors));
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kResource) throw;
    return false;
  }
}

/// The artifact keeps the defaults with which the graph, made for data that gives these arguments,
/// computes what the model does: of the last arguments, as many as do.
void check_defaults(Model& model, const std::vector<at::Tensor>& batch) {
  const auto has_value = [](const auto& value) { return value.has_value(); };
  if (std::none_of(model.defaults.begin(), model.defaults.end(), has_value)) return;
  const at::NoGradGuard no_grad;
  const LoadedModel original({model.path, Form::kPortable}, *model.module);
  std::size_t first = model.defaults.size();
  while (first > 1 && model.defaults[first - 1] &&
         takes_defaults(model, original, first - 1, batch)) {
    --first;
  }
  std::string lost;
  for (std::size_t i = 0; i < first; ++i) {
    if (!model.defaults[i]) continue;
    lost += (lost.empty() ? "" : ", ") + model.argument_names[i];
    model.defaults[i].reset();
  }
  if (lost.empty()) return;
  model.notes.push_back(
      "arguments that have a default in the model have none in the artifact, made "
      "for data that gives them: " +
      lost);
}

/// The inputs that load_model() kept: all of them are needed.
ModelSignature signature_of(const PreparedRun& run) {
  return {
      .names = run.model.input_names, .required = run.model.input_names.size(), .past = run.past};
}

/// Throws Error kUsage for a model that keeps no keys and values.
void require_past(const PreparedRun& run) {
  if (!run.past.empty()) return;
  throw Error(ErrorKind::kUsage,
              {.what = "the model keeps no keys and values",
               .where = "`attention.cache_bits`",
               .expected = "a decoder that was exported with --cache",
               .got = run.model.path + " without " + kCacheFile,
               .hint = "leave the setting out, or export the model with --cache"});
}

/// A decoder's keys and values become codes: of the graph, and of samples that begin with a past.
void keep_cache_in_codes(PreparedRun& run, const Observer& observer) {
  require_past(run);
  const at::NoGradGuard no_grad;
  keep_codes(*run.model.graph, run.past.shapes, run.model.path);
  run.model.defaults.assign(run.model.defaults.size(), std::nullopt);  // of a past in float32
  const auto encode = [&](std::vector<at::Tensor>& batch) {
    for (std::size_t i = batch.size() - run.past.shapes.size(); i < batch.size(); ++i) {
      batch[i] = cache_codes(batch[i]);
    }
  };
  for (auto& batch : run.calibration.batches) encode(batch);
  encode(run.checked);
  run.observed = observe(run.model, run.checked).observed;
  observer.info(
      "keys and values of earlier tokens are kept in 8-bit codes, a scale and an offset for "
      "each token and head");
}

}  // namespace

PreparedRun prepare_structure(const PrepareOptions& options, const Recipe& recipe,
                              const Observer& observer, CalibrationCache& cache) {
  PreparedRun run;
  run.start = Clock::now();
  begin_phase(observer, "load", 0);
  if (options.samples) {
    run.source = cache.open({.samples = *options.samples,
                             .preset_file = options.preset,
                             .model = options.model,
                             .threads = options.threads});
  }
  check_model_fits(options.model);
  run.model = load_unquantized(options.model, run.source.given, options.trust);
  run.past = find_past(options.model);
  run.model_bytes = static_cast<std::int64_t>(std::filesystem::file_size(options.model));
  if (recipe.attention.cache_bits > 0) require_past(run);
  run.search = find_some_sites(run.model);
  run.bits = resolve_bits(run.search.sites, recipe);  // a bad pattern fails before the long work
  return run;
}

void prepare_samples(PreparedRun& run, const Recipe& recipe, const Observer& observer,
                     CalibrationCache& cache) {
  CalibrationRecipe calibration = recipe.calibration;
  const Pass one = try_pass(run.model, first_sample(run.source, calibration, signature_of(run)));
  run.any_number = !one.refused;
  if (calibration.batch_size == 0) calibration.batch_size = chosen_batch_size(one);
  run.batch_size = calibration.batch_size;
  run.calibration = cache.load(
      calibration, signature_of(run), observer, [&](const std::vector<at::Tensor>& batch) {
        run.checked = run.any_number ? samples_of(batch, 0, checked_samples(one.macs)) : batch;
        ObservedRun seen = check_normalized(run.model, run.checked);
        run.observed = std::move(seen.observed);
        warn_of_nan(seen.outputs, observer);
        if (run.any_number) {
          const auto outputs_of = [&](const auto& inputs) { return run_model(run.model, inputs); };
          check_not_mixed({run.model.path, run.model.input_names, outputs_of}, run.checked,
                          seen.outputs, observer);
        }
      });
  check_not_finite(run.model, run.calibration, observer);
  const Batches& batches = run.calibration.batches;
  const bool alike = std::all_of(batches.begin(), batches.end(), [&](const auto& batch) {
    return same_sample_shapes(batch, batches.front());
  });
  if (!alike) run.source.protocol += kOtherShapes;
  observer.info("calibration: " + run.source.protocol + "; " +
                std::to_string(run.calibration.samples) + " drawn");

  begin_phase(observer, "prove", 0);
  check_continued(run.model, run.checked);
  check_defaults(run.model, run.checked);
  run.model.module.reset();
  if (recipe.attention.cache_bits > 0) keep_cache_in_codes(run, observer);
  prove_sites(run.model, run.search, run.checked, run.observed);
  run.bits = resolve_bits(run.search.sites, recipe);  // the proof may have changed the sites
}

PreparedRun prepare(const PrepareOptions& options, const Recipe& recipe, const Observer& observer,
                    CalibrationCache& cache) {
  PreparedRun run = prepare_structure(options, recipe, observer, cache);
  if (options.samples) prepare_samples(run, recipe, observer, cache);
  return run;
}

namespace {

void split_samples(PreparedRun& run, const Batches& all, std::int64_t count) {
  HeldBack split = hold_back_samples(all, count);
  run.calibration.batches = std::move(split.fitted);
  run.calibration.samples = static_cast<int>(sample_count(run.calibration.batches));
  run.held_back = std::move(split.held_back);
}

/// Whether the model takes batches of all sizes that there are.
bool takes_batches(const PreparedRun& run) {
  std::set<std::int64_t> seen{sample_count(run.checked)};
  for (const Batches* batches : {&run.calibration.batches, &run.held_back}) {
    for (const auto& batch : *batches) {
      const bool fresh = seen.insert(sample_count(batch)).second;
      if (fresh && try_pass(run.model, batch).refused) return false;
    }
  }
  return true;
}

}  // namespace

void set_apart(PreparedRun& run, std::int64_t count, const Observer& observer) {
  const Batches all = run.calibration.batches;
  split_samples(run, all, count);
  if (run.any_number || takes_batches(run)) return;
  const std::int64_t pass = sample_count(run.checked);
  Batches whole;
  std::copy_if(all.begin(), all.end(), std::back_inserter(whole),
               [&](const auto& batch) { return sample_count(batch) == pass; });
  split_samples(run, whole, count == 0 ? 0 : std::max(pass, count / pass * pass));
  observer.info("the model takes " + counted(pass, "sample") +
                " at a time: " + std::to_string(run.calibration.samples) + " are fitted, " +
                std::to_string(sample_count(run.held_back)) + " judge");
}

void require_quantized(const SiteSearch& search, const std::vector<SiteBits>& bits) {
  const bool any =
      std::any_of(bits.begin(), bits.end(), [](const SiteBits& site) { return site.quantized; });
  if (any) return;
  throw Error(ErrorKind::kUsage,
              {.what = "the recipe leaves nothing to quantize",
               .got = counted(search.sites.size(), "site") + ", all of them excluded"});
}

void begin_phase(const Observer& observer, const char* name, std::size_t items) {
  observer.check_interrupt();
  observer.on_phase(name, items);
}

}  // namespace repquant
