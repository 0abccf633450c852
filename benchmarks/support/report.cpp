#include "support/report.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/json.h"

namespace mlxcpp::bench {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

bool is_better(Better better, double a, double b) {
  return better == Better::higher ? a > b : a < b;
}

double Row::value() const { return median(values); }
double Row::peer_value() const { return median(peer_values); }

std::optional<double> Row::ratio() const {
  if (peer_values.empty() || value() <= 0 || peer_value() <= 0) return std::nullopt;
  return better == Better::higher ? value() / peer_value() : peer_value() / value();
}

std::string json_line(const Row& r) {
  Json j = {{"bench", r.bench},
            {"model", r.model},
            {"point", r.point},
            {"threads", r.threads},
            {"unit", r.unit},
            {"value", r.value()},
            {"min", *std::min_element(r.values.begin(), r.values.end())},
            {"max", *std::max_element(r.values.begin(), r.values.end())},
            {"runs", r.values.size()},
            {"peer", nullptr},
            {"peer_value", nullptr},
            {"ratio", nullptr}};
  if (const auto ratio = r.ratio()) {
    j["peer"] = r.peer;
    j["peer_value"] = r.peer_value();
    j["ratio"] = *ratio;
    if (r.peer_broken_off) j["peer_at_least"] = true;
  }
  return j.dump();
}

std::string table_header() {
  return fmt::format("{:<14} {:<13} {:>7} {:>10} {:>19} {:>10} {:>7}  {}\n", "model", "point",
                     "threads", "median", "min .. max", "peer", "ratio", "unit, peer's setting");
}

std::string table_line(const Row& r) {
  const auto [low, high] = std::minmax_element(r.values.begin(), r.values.end());
  const auto number = [](double v) {
    return v < 10 ? fmt::format("{:.3f}", v) : fmt::format("{:.1f}", v);
  };
  const auto ratio = r.ratio();
  const char* const least = r.peer_broken_off ? ">" : "";
  return fmt::format("{:<14} {:<13} {:>7} {:>10} {:>19} {:>10} {:>7}  {}{}\n", r.model, r.point,
                     r.threads, number(r.value()), number(*low) + " .. " + number(*high),
                     ratio ? fmt::format("{}{}", least, number(r.peer_value())) : "-",
                     ratio ? fmt::format("{}{:.2f}", least, *ratio) : "-", r.unit,
                     ratio ? ", " + r.peer : "");
}

}  // namespace mlxcpp::bench
