#include "evaluate/retrieval.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "base/text_table.h"
#include "data/labels.h"
#include "evaluate/embedding.h"
#include "evaluate/metrics.h"
#include "evaluate/tasks.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr std::array<int, 3> kTops{1, 5, 10};
constexpr std::int64_t kQueryBlock = 256;  // queries whose similarities are held at a time

/// Embeddings of one run, gathered over batches.
struct Towers {
  std::vector<at::Tensor> image_parts;
  std::vector<at::Tensor> text_parts;
  at::Tensor images;
  at::Tensor texts;
};

at::Tensor embedding_of(const at::Tensor& output) {
  require_finite(output);
  if (output.dim() == 2) return output.to(at::kDouble);
  throw Error(ErrorKind::kUsage, {.what = "an output of the model is no embedding",
                                  .expected = "[samples, width]",
                                  .got = counted(output.dim(), "dimension"),
                                  .hint = "`outputs` chooses the embeddings by position, from 0"});
}

void add_recalls(const std::string& direction, const at::Tensor& queries, const at::Tensor& keys,
                 std::span<const std::int64_t> matches, Retrieval& result) {
  const std::vector<std::int64_t> found = match_ranks(queries, keys, matches);
  for (const int k : kTops) {
    if (k > 1 && k >= keys.size(0)) continue;  // says nothing
    const auto hits =
        std::count_if(found.begin(), found.end(), [k](std::int64_t rank) { return rank < k; });
    result.recalls.push_back(
        {direction, k, proportion(hits, static_cast<std::int64_t>(found.size()))});
  }
}

void add_cosines(const at::Tensor& expected, const at::Tensor& actual, ClusterMean& mean) {
  for (const double cosine : cosines(expected, actual)) mean.add(cosine, 1.0);
}

/// For each image of the loop the row of its text among those of the loop.
std::vector<std::int64_t> choose_matches(Session& session) {
  const EvaluationOptions& options = *session.options;
  const Dataset& dataset = session.data.dataset;
  draw(session);
  std::vector<std::int64_t> matches(session.indices);
  if (is_labelled(options, dataset, session.texts)) {
    std::optional<std::filesystem::path> classes;
    if (!options.classes.empty()) classes = options.classes;
    const Dataset labelled = resolve_labels(dataset, session.texts->size(), classes);
    for (auto& match : matches) match = labelled.labels()[static_cast<std::size_t>(match)];
    return matches;
  }
  if (session.texts) session.text_indices = session.indices;
  std::iota(matches.begin(), matches.end(), std::int64_t{0});
  return matches;
}

}  // namespace

std::vector<std::int64_t> match_ranks(const at::Tensor& queries, const at::Tensor& keys,
                                      std::span<const std::int64_t> matches) {
  if (queries.size(1) != keys.size(1)) {
    throw Error(ErrorKind::kUsage, {.what = "the two embeddings differ in width",
                                    .expected = std::to_string(queries.size(1)),
                                    .got = std::to_string(keys.size(1))});
  }
  for (const std::int64_t match : matches) {
    if (match >= 0 && match < keys.size(0)) continue;
    throw Error(ErrorKind::kUsage, {.what = "a sample belongs to a text that is not there",
                                    .expected = "0 to " + std::to_string(keys.size(0) - 1),
                                    .got = std::to_string(match)});
  }
  const at::Tensor all = normalized(keys).t();
  std::vector<std::int64_t> result;
  for (std::int64_t begin = 0; begin < queries.size(0); begin += kQueryBlock) {
    const std::int64_t end = std::min(begin + kQueryBlock, queries.size(0));
    const at::Tensor similarity =
        at::matmul(normalized(queries.slice(0, begin, end)), all).contiguous();
    const double* row = similarity.const_data_ptr<double>();
    for (std::int64_t query = begin; query < end; ++query, row += keys.size(0)) {
      const std::int64_t match = matches[static_cast<std::size_t>(query)];
      std::int64_t rank = 0;
      for (std::int64_t key = 0; key < keys.size(0); ++key) {
        if (row[key] > row[match] || (row[key] == row[match] && key < match)) ++rank;
      }
      result.push_back(rank);
    }
  }
  return result;
}

EvaluationReport evaluate_retrieval(Session& session) {
  const std::vector<std::int64_t> matches = choose_matches(session);
  const bool labelled = is_labelled(*session.options, session.data.dataset, session.texts);
  const auto images = static_cast<std::int64_t>(session.indices.size());
  const auto texts =
      session.texts ? static_cast<std::int64_t>(session.text_indices.size()) : images;
  std::vector<Towers> towers(session.runs.size());
  const std::vector<std::int64_t> widths = embedding_widths(session);
  for_each_output(session, task_positions(*session.options), [&](const BatchOutputs& step) {
    check_widths(step.outputs, widths);
    towers[step.run].image_parts.push_back(embedding_of(step.outputs[0]));
    towers[step.run].text_parts.push_back(embedding_of(step.outputs[1]));
  });
  for (Towers& tower : towers) {  // what the shorter side gave again is left out
    tower.images = at::cat(tower.image_parts).slice(0, 0, images);
    tower.texts = at::cat(tower.text_parts).slice(0, 0, texts);
  }

  const std::string protocol =
      labelled ? counted(texts, "text") + ", one for each class, by cosine similarity"
               : counted(texts, "pair") + ", by cosine similarity";
  EvaluationReport report =
      make_report(session, protocol, [&](std::size_t run, ModelEvaluation& model) {
        const Towers& tower = towers[run];
        Retrieval result;
        add_recalls("image to text", tower.images, tower.texts, matches, result);
        if (!labelled) add_recalls("text to image", tower.texts, tower.images, matches, result);
        if (session.has_reference && !session.is_reference(run)) {
          ClusterMean mean;
          add_cosines(towers.front().images, tower.images, mean);
          add_cosines(towers.front().texts, tower.texts, mean);
          result.cosine = mean.mean();
        }
        model.retrieval = std::move(result);
      });
  report.labelled = labelled;
  return report;
}

}  // namespace repquant
