#include "cli/report_option.h"

#include <filesystem>

#include "base/atomic_file.h"
#include "base/overwrite.h"
#include "report/report.h"
#include "repquant/error.h"

namespace repquant::cli {
namespace {

bool is_page(const std::string& path) { return std::filesystem::path(path).extension() == ".html"; }

}  // namespace

std::shared_ptr<std::string> add_report_option(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  app.add_option("--report", *path,
                 "write the result as one page that needs nothing else (.html), or as Markdown "
                 "(.md)")
      ->type_name("FILE");
  return path;
}

void check_report(const std::string& path) {
  if (path.empty()) return;
  if (!is_page(path) && std::filesystem::path(path).extension() != ".md") {
    throw Error(ErrorKind::kUsage, {.what = "no report has this ending",
                                    .where = "--report",
                                    .expected = "a name that ends in .html or .md",
                                    .got = path});
  }
  check_own_output(path, is_page(path) ? kPageBeginning : kMarkdownReportBeginning);
}

void write_report(const std::string& path, const Json& result) {
  if (path.empty()) return;
  write_file(path, is_page(path) ? report_page(result) : report_markdown(result), true);
}

}  // namespace repquant::cli
