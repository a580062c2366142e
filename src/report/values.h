// Values of a result in words. A key that is missing, or null, which stands for a number that is
// not finite, reads as "-".
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json_text.h"
#include "report/document.h"

namespace repquant {

/// The value at a path of keys such as "top1.value"; null if there is none.
const Json& value_at(const Json& json, std::string_view path);

/// A finite number, or nothing.
std::optional<double> number_at(const Json& json, std::string_view path);
/// A text, or an empty one.
std::string text_at(const Json& json, std::string_view path);
/// The elements of an array; none if there is none.
const std::vector<Json>& items_at(const Json& json, std::string_view path);

std::string number_text(const Json& json, std::string_view path, int decimals);
/// "1 sample", "3 samples".
std::string counted_text(const Json& json, std::string_view path, std::string_view one);
/// A share, 0..1, as "82.5 %".
std::string share_text(const Json& json, std::string_view path, int decimals = 1);
/// An interval [lower, upper] times `factor` as "80.1 - 84.9".
std::string interval_text(const Json& json, std::string_view path, double factor, int decimals);
std::optional<std::pair<double, double>> interval_at(const Json& json, std::string_view path);
std::string bytes_text(const Json& json, std::string_view path);
std::string seconds_text(const Json& json, std::string_view path);
/// 1234567 as "1.23 M".
std::string amount_text(const Json& json, std::string_view path);
/// "w4a8", "a4", "-".
std::string bits_of_site(const Json& site);
/// The file's name without its folders, with " (fused)" behind it in that form.
std::string model_name(const std::string& path, const std::string& form);

/// The whole recipe, which the key "settings" holds; without blocks if there is none.
ReportSection recipe_section(const Json& result);

/// Coverage as tables: what is quantized, what is not and why.
ReportSection coverage_section(const Json& coverage);

}  // namespace repquant
