// The reports of the commands, one file each.
#pragma once

#include "report/document.h"

namespace repquant {

Document quantize_document(const Json& result);
Document evaluate_document(const Json& result);
Document benchmark_document(const Json& result);
Document analyze_document(const Json& result);
Document run_document(const Json& result);

}  // namespace repquant
