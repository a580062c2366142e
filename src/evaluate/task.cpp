// Names of the tasks.
#include <array>
#include <utility>

#include "repquant/error.h"
#include "repquant/evaluate.h"

namespace repquant {
namespace {

constexpr std::array<std::pair<Task, const char*>, 4> kTasks{
    {{Task::kClassification, "classification"},
     {Task::kPerplexity, "perplexity"},
     {Task::kEmbedding, "embedding"},
     {Task::kRetrieval, "retrieval"}}};

}  // namespace

std::string name_of(Task task) {
  for (const auto& [value, name] : kTasks) {
    if (value == task) return name;
  }
  throw Error(ErrorKind::kInternal, {.what = "a task without a name"});
}

Task parse_task(const std::string& name, const std::string& where) {
  std::string expected;
  for (const auto& [value, known] : kTasks) {
    if (name == known) return value;
    expected += (expected.empty() ? "" : ", ") + std::string(known);
  }
  throw Error(ErrorKind::kUsage,
              {.what = "unknown task", .where = where, .expected = expected, .got = name});
}

}  // namespace repquant
