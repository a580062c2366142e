// Coverage and the table of sites as JSON: in results of --json and in artifacts.
#pragma once

#include <string>
#include <vector>

#include "base/json_text.h"
#include "repquant/coverage.h"
#include "repquant/quantize.h"

namespace repquant {

inline constexpr int kResultSchemaVersion = 1;

/// {"schema_version": 1, "command": name}, to be filled in: what every result of --json begins
/// with.
Json result_object(const std::string& command);

Json coverage_json(const Coverage& coverage);
/// The inverse. Throws Error kFile, naming `source`, for missing keys and wrong types.
Coverage parse_coverage(const Json& json, const std::string& source);

Json bit_allocation_json(const BitAllocationReport& bit_allocation);
Json judgement_json(const HeldBackReport& judgement);
/// Throws Error kFile.
HeldBackReport parse_judgement(const Json& json, const std::string& source);

/// `errors`: with the columns that only a finished run can fill.
Json site_json(const SiteReport& site, bool errors);
Json sites_json(const std::vector<SiteReport>& sites, bool errors);
/// The inverse of site_json with errors. Throws Error kFile as parse_coverage.
SiteReport parse_site(const Json& json, const std::string& source);

/// The value of `key` as T; a number that is null reads as infinity (JSON has none).
/// Throws Error kFile, naming `source` and the key.
template <typename T>
T read_key(const Json& json, const char* key, const std::string& source);

}  // namespace repquant
