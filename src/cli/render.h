// Results as text tables and JSON.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "base/json_text.h"
#include "cli/layout.h"
#include "evaluate/gates.h"
#include "format/report_json.h"
#include "nightly/run_nightly.h"
#include "repquant/analyze.h"
#include "repquant/artifact.h"
#include "repquant/benchmark.h"
#include "repquant/coverage.h"
#include "repquant/error.h"
#include "repquant/evaluate.h"
#include "repquant/quantize.h"
#include "repquant/verify.h"

namespace repquant::cli {

/// {"schema_version": 1, "error": {kind, exit_code, what, where, expected, got, hint}}; parts that
/// an error does not have are null.
Json error_json(const Error& error);

/// Indented, with a newline. Text that is not UTF-8 (paths) has its bad bytes replaced; numbers
/// that are not finite become null.
void write_json(std::ostream& out, const Json& json);

/// 1234567 as "1.23 M": counts of parameters and operations.
std::string count_text(std::int64_t count);

/// "w4a8", "w4a16" for weight-only, "a4" for products of activations, "-" for neither.
std::string bits_text(int weight_bits, int activation_bits);

/// A word as a shell takes it: in quotes where it has to be.
std::string shell_word(const std::string& word);

/// "next: repquant ..." as the last line of a result; `words` are quoted where a shell needs it.
std::string next_command(const std::vector<std::string>& words, const Layout& layout);

std::string coverage_text(const Coverage& coverage, const Layout& layout);

/// `errors`: with the columns that only a finished run can fill.
std::string sites_text(const std::vector<SiteReport>& sites, bool errors, const Layout& layout);

/// "min-top1 0.9500: 0.9712, met".
std::string gate_text(const GateResult& gate);

std::string evaluation_text(const EvaluationReport& report, const Layout& layout);

/// "model.pt", with " (fused)" behind it for the fused form.
std::string with_form(const std::string& model, Form form);

std::string benchmark_text(const BenchmarkReport& report, const Layout& layout);
Json benchmark_json(const BenchmarkReport& report);

/// "target 4.5: weights 4.50 (by element), activations 4.49 (by multiply-add)".
std::string bit_allocation_text(const BitAllocationReport& bit_allocation);

std::string quantize_text(const QuantizeReport& report, const Layout& layout);

std::string analyze_text(const AnalyzeReport& report, const Layout& layout);
Json analyze_json(const AnalyzeReport& report);

/// What an artifact holds and what of it runs in integers here; verbose: with the whole recipe.
std::string artifact_report_text(const std::string& path, const ArtifactReport& report,
                                 const Layout& layout);
Json artifact_report_json(const std::string& path, const ArtifactReport& report);

/// What runs where in the fused form.
std::string fused_text(const FusedReport& report, const Layout& layout);
Json fused_json(const FusedReport& report);

std::string verify_text(const VerifyReport& report, const Layout& layout);
Json verify_json(const std::string& path, const VerifyReport& report);

/// What summaries of a run begin with, as Markdown and as JUnit XML.
inline constexpr const char* kMarkdownBeginning = "| model | row |";
inline constexpr const char* kJunitBeginning =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"repquant\"";

std::string nightly_text(const NightlyReport& report, const Layout& layout);
std::string nightly_markdown(const NightlyReport& report);
std::string nightly_junit(const NightlyReport& report);
Json nightly_json(const NightlyReport& report);

}  // namespace repquant::cli
