#include "report/document.h"

#include <algorithm>
#include <cmath>

#include "report/documents.h"
#include "report/values.h"
#include "repquant/error.h"

namespace repquant {

int level_of_db(double sqnr_db) {
  if (std::isnan(sqnr_db)) return kNoLevel;
  const auto above = std::upper_bound(kLevelDb.begin(), kLevelDb.end(), sqnr_db);
  return static_cast<int>(above - kLevelDb.begin());
}

Document document_of(const Json& result) {
  const std::string command = text_at(result, "command");
  if (command == "quantize") return quantize_document(result);
  if (command == "evaluate") return evaluate_document(result);
  if (command == "benchmark") return benchmark_document(result);
  if (command == "analyze") return analyze_document(result);
  if (command == "run") return run_document(result);
  throw Error(ErrorKind::kUsage,
              {.what = "there is no report of this result",
               .expected = "a result of quantize, evaluate, benchmark, analyze or run",
               .got = command.empty() ? "no result of repquant" : "one of " + command});
}

}  // namespace repquant
