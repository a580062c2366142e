// Documents as one HTML file.
#include <algorithm>
#include <cmath>
#include <span>

#include "base/embedded_file.h"
#include "base/markup.h"
#include "base/text_table.h"
#include "report/document.h"
#include "report/report.h"
#include "repquant/error.h"

namespace repquant {

std::span<const EmbeddedFile> report_templates();

namespace {

std::string element(const std::string& name, const std::string& text,
                    const std::string& attributes = "") {
  return "<" + name + attributes + ">" + markup_text(text) + "</" + name + ">";
}

std::string class_of(int level) { return level == kNoLevel ? "qn" : "q" + std::to_string(level); }

/// A position or length in a drawing that is 1000 wide.
std::string drawn(double share) {
  return format_number(1000.0 * std::clamp(std::isfinite(share) ? share : 0.0, 0.0, 1.0), 1);
}

std::string html_of(const ReportText& text) { return element("p", text.text) + "\n"; }

std::string html_of(const ReportTable& table) {
  std::string html = "<div class=\"scroll\"><table>\n<thead><tr>";
  const auto attributes = [&](std::size_t i) {
    return std::string(table.columns[i].align == Align::kRight ? " class=\"n\"" : "");
  };
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    html += element("th", table.columns[i].title, attributes(i) + " scope=\"col\"");
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    html += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) html += element("td", row[i], attributes(i));
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string bar_drawing(const ReportBar& bar, double from, double largest) {
  const auto share = [&](double value) {
    return largest > from ? (value - from) / (largest - from) : 0.0;
  };
  std::string svg = "<svg viewBox=\"0 0 1000 16\" preserveAspectRatio=\"none\" role=\"img\">";
  svg += element("title", bar.label + ": " + bar.text);
  const std::string end = drawn(share(bar.value));
  if (from == 0.0) {
    svg += "<rect x=\"0\" y=\"2\" height=\"12\" width=\"" + end + "\" class=\"" +
           (bar.level == kNoLevel ? "b" : class_of(bar.level)) + "\"/>";
  } else {
    svg += "<line class=\"p\" y1=\"1\" y2=\"15\" x1=\"" + end + "\" x2=\"" + end + "\"/>";
  }
  if (bar.interval) {
    svg += "<line class=\"w\" y1=\"8\" y2=\"8\" x1=\"" + drawn(share(bar.interval->first)) +
           "\" x2=\"" + drawn(share(bar.interval->second)) + "\"/>";
  }
  return svg + "</svg>";
}

std::string html_of(const ReportBars& bars) {
  double largest = 0.0;
  for (const ReportBar& bar : bars.bars) {
    largest = std::max({largest, bar.value, bar.interval ? bar.interval->second : 0.0});
  }
  std::string html =
      element("p", bars.drawn.empty() ? bars.caption : bars.caption + "; " + bars.drawn,
              " class=\"caption\"") +
      "\n<div class=\"bars\">\n";
  for (const ReportBar& bar : bars.bars) {
    html += "<div class=\"bar\">" + element("span", bar.label) +
            bar_drawing(bar, bars.from, largest) + element("span", bar.text, " class=\"t\"") +
            "</div>\n";
  }
  return html + "</div>\n";
}

/// The area under a histogram in a drawing of 100 units a bin and 100 high. Heights are
/// logarithmic, from a share of 1e-5 on: the tails are what clipping is about.
std::string area_of(const std::vector<double>& shares, const char* name) {
  constexpr double kDecades = 5.0;
  std::string path = "M0 100";
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const double height =
        shares[i] > 0 ? std::clamp(1.0 + std::log10(shares[i]) / kDecades, 0.0, 1.0) : 0.0;
    path += "V" + format_number(100.0 - 100.0 * height, 1) + "H" + std::to_string(i + 1) + "00";
  }
  return "<path class=\"" + std::string(name) + "\" d=\"" + path + "V100Z\"/>";
}

std::string html_of(const ReportHistograms& all) {
  std::string html = "<div class=\"hists\">\n";
  for (const ReportHistogram& histogram : all.histograms) {
    const double width = 100.0 * static_cast<double>(histogram.before.size());
    html += "<figure><svg viewBox=\"0 0 " + format_number(width, 0) +
            " 100\" preserveAspectRatio=\"none\" role=\"img\">" +
            element("title", histogram.label + ": " + histogram.text) +
            area_of(histogram.before, "hb") + area_of(histogram.after, "ha");
    if (histogram.marks) {
      for (const double mark : {histogram.marks->first, histogram.marks->second}) {
        if (!(mark >= 0.0 && mark <= 1.0)) continue;
        const std::string at = format_number(width * mark, 1);
        html += "<line class=\"w\" y1=\"0\" y2=\"100\" x1=\"" + at + "\" x2=\"" + at + "\"/>";
      }
    }
    html += "</svg><figcaption>" + element("strong", histogram.label) + " " +
            markup_text(histogram.text) + "</figcaption></figure>\n";
  }
  return html + "</div>\n";
}

std::string legend() {
  std::string html = "<div class=\"legend\">";
  for (int level = kNoLevel; level < kLevels; ++level) {
    std::string text = "not quantized";
    if (level == 0) text = "below " + format_number(kLevelDb.front(), 0) + " dB";
    if (level > 0) {
      text = "from " + format_number(kLevelDb[static_cast<std::size_t>(level - 1)], 0) + " dB";
    }
    html += "<span><svg viewBox=\"0 0 1 1\"><rect width=\"1\" height=\"1\" class=\"" +
            class_of(level) + "\"/></svg>" + markup_text(text) + "</span>";
  }
  return html + "</div>\n";
}

std::string html_of(const ReportStrip& strip) {
  std::string html = "<div class=\"strip\">\n";
  for (const auto& row : strip.rows) {
    html += element("span", row.name) +
            "<svg preserveAspectRatio=\"none\" role=\"img\" viewBox=\"0 0 " +
            std::to_string(std::max<std::size_t>(1, row.cells.size())) + " 1\">" +
            element("title", row.name + " SQNR of " + counted(row.cells.size(), "site"));
    for (std::size_t i = 0; i < row.cells.size(); ++i) {
      html += "<rect x=\"" + std::to_string(i) + "\" y=\"0\" width=\"0.92\" height=\"1\" class=\"" +
              class_of(row.cells[i].level) + "\">" + element("title", row.cells[i].text) +
              "</rect>";
    }
    html += "</svg>\n";
  }
  return html + "</div>\n" + legend();
}

std::string html_of(const ReportCode& code) { return element("pre", code.text) + "\n"; }

std::string content_of(const Document& document) {
  std::string html = element("h1", document.title) + "\n<dl class=\"facts\">\n";
  for (const ReportFact& fact : document.headline) {
    html += "<div>" + element("dt", fact.meaning) + element("dd", fact.value) + "</div>\n";
  }
  html += "</dl>\n";
  for (const ReportSection& section : document.sections) {
    if (section.blocks.empty()) continue;
    html += "<section>\n" + element("h2", section.title) + "\n";
    for (const ReportBlock& block : section.blocks) {
      html += std::visit([](const auto& part) { return html_of(part); }, block);
    }
    html += "</section>\n";
  }
  return html;
}

/// Replaces the only occurrence of a place holder; what is put in is not looked at again.
std::string filled(std::string page, std::string_view place, const std::string& text) {
  const std::size_t at = page.find(place);
  if (at == page.npos) throw Error(ErrorKind::kInternal, {.what = "a template without its place"});
  return page.replace(at, place.size(), text);
}

}  // namespace

std::string report_page(const Json& result) {
  const Document document = document_of(result);
  // The content first: a title could hold the name of its place.
  const std::string page =
      filled(std::string(report_templates().front().text), "{{content}}", content_of(document));
  return filled(page, "{{title}}", markup_text(document.title));
}

}  // namespace repquant
