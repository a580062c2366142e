// Coverage and the table of sites.
#include "base/text_table.h"
#include "cli/render.h"

namespace repquant::cli {
namespace {

constexpr std::size_t kShownGaps = 20;

std::string share_text(std::int64_t part, std::int64_t whole) {
  if (whole <= 0) return "-";
  return format_percent(static_cast<double>(part) / static_cast<double>(whole));
}

}  // namespace

std::string coverage_text(const Coverage& coverage, const Layout& layout) {
  Table table({{"kind"},
               {"bits"},
               {"sites", Align::kRight},
               {"parameters", Align::kRight, 2},
               {"share", Align::kRight},
               {"multiply-adds", Align::kRight},
               {"share", Align::kRight},
               {"bytes", Align::kRight, 3}},
              layout);
  const auto bytes_text = [&](std::int64_t parameters) {
    return share_text(Coverage::kFloatBytes * parameters,
                      Coverage::kFloatBytes * coverage.parameters + coverage.other_bytes);
  };
  const auto add = [&](const std::string& kind, const std::string& bits, std::size_t sites,
                       std::int64_t parameters, std::int64_t macs) {
    table.add_row({kind, bits, std::to_string(sites), parameters > 0 ? count_text(parameters) : "-",
                   parameters > 0 ? share_text(parameters, coverage.parameters) : "-",
                   coverage.macs > 0 ? count_text(macs) : "-", share_text(macs, coverage.macs),
                   parameters > 0 ? bytes_text(parameters) : "-"});
  };
  std::size_t sites = 0;
  for (const auto& row : coverage.rows) {
    add(row.kind, bits_text(row.weight_bits, row.activation_bits),
        static_cast<std::size_t>(row.sites), row.parameters, row.macs);
    sites += static_cast<std::size_t>(row.sites);
  }
  std::int64_t gap_parameters = 0;
  for (const auto& gap : coverage.gaps) gap_parameters += gap.parameters;
  if (!coverage.gaps.empty()) {
    add("not quantized", "fp32", coverage.gaps.size(), gap_parameters,
        coverage.macs - coverage.quantized_macs);
  }
  const std::int64_t rest = coverage.parameters - coverage.quantized_parameters - gap_parameters;
  if (rest > 0) {
    table.add_row({"norms, biases, tables", "fp32", "-", count_text(rest),
                   share_text(rest, coverage.parameters), "-", "-", bytes_text(rest)});
  }
  table.add_rule();
  add("quantized", format_number(coverage.average_bits, 2) + " avg", sites,
      coverage.quantized_parameters, coverage.quantized_macs);

  std::string text = table.to_string();
  for (const auto& note : coverage.notes) text += "note: " + note + "\n";
  if (coverage.unread_parameters > 0) {
    text += count_text(coverage.unread_parameters) +
            " parameters of the file are never read by forward() and left out\n";
  }
  for (std::size_t i = 0; i < std::min(coverage.gaps.size(), kShownGaps); ++i) {
    const auto& gap = coverage.gaps[i];
    text += wrapped("not quantized: " + gap.path + " (" + gap.op + "): " + gap.reason, layout.width,
                    2) +
            "\n";
  }
  if (coverage.gaps.size() > kShownGaps) {
    text += "not quantized: " + std::to_string(coverage.gaps.size() - kShownGaps) +
            " more (--json lists all)\n";
  }
  return text;
}

std::string sites_text(const std::vector<SiteReport>& sites, bool errors, const Layout& layout) {
  std::vector<Column> columns{{"site"},
                              {"kind"},
                              {"bits"},
                              {"form", Align::kLeft, 6},
                              {"parameters", Align::kRight, 4},
                              {"multiply-adds", Align::kRight, 3}};
  if (errors) {
    columns.push_back({"own SQNR dB", Align::kRight});
    columns.push_back({"total SQNR dB", Align::kRight});
    columns.push_back({"rounding", Align::kLeft, 5});
  }
  columns.push_back({"note", Align::kLeft, 2});
  Table table(columns, layout);
  for (const auto& site : sites) {
    std::string grids = site.grids;
    if (site.side_columns > 0) {
      grids += ", " + counted(site.side_columns, "side column");
    }
    std::vector<std::string> cells{site.path,
                                   site.kind,
                                   bits_text(site.weight_bits, site.activation_bits),
                                   grids,
                                   site.parameters > 0 ? count_text(site.parameters) : "-",
                                   site.macs > 0 ? count_text(site.macs) : "-"};
    if (errors) {
      const bool quantized = site.weight_bits != 0 || site.activation_bits != 0;
      for (const double sqnr_db : {site.own_sqnr_db, site.output_sqnr_db}) {
        cells.push_back(quantized ? format_number(sqnr_db, 1) : "-");
      }
      cells.push_back(site.rounding.empty() ? "-" : site.rounding);
    }
    cells.push_back(site.note);
    table.add_row(std::move(cells));
  }
  return table.to_string();
}

}  // namespace repquant::cli
