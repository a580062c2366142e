// Results of verify.
#include "base/text_table.h"
#include "cli/option_names.h"
#include "cli/render.h"

namespace repquant::cli {

std::string verify_text(const VerifyReport& report, const Layout& layout) {
  Table table({{"claim"}, {"holds"}, {"what was seen"}}, layout);
  for (const Claim& claim : report.claims) {
    table.add_row({claim.name, claim.holds ? "yes" : "NO", with_option_names(claim.sentence)});
  }
  std::string text = table.to_string();
  if (!report.holds()) return text;
  for (const auto& sentence : report.left_out) {
    text += wrapped("not looked at: " + with_option_names(sentence), layout.width, 2) + "\n";
  }
  return text;
}

Json verify_json(const std::string& path, const VerifyReport& report) {
  Json json = result_object("verify");
  json["artifact"] = path;
  json["holds"] = report.holds();
  json["claims"] = Json::array();
  for (const Claim& claim : report.claims) {
    json["claims"].push_back({{"name", claim.name},
                              {"holds", claim.holds},
                              {"sentence", with_option_names(claim.sentence)}});
  }
  json["not_looked_at"] = Json::array();
  for (const auto& sentence : report.left_out) {
    json["not_looked_at"].push_back(with_option_names(sentence));
  }
  json["seconds"] = report.seconds;
  return json;
}

}  // namespace repquant::cli
