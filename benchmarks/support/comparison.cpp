#include "support/comparison.h"

#include <iostream>

#include <algorithm>
#include <cstdio>

namespace mlxcpp::bench {

Comparison::Comparison(std::vector<Side> sides, Child::Seconds limit)
    : sides_(std::move(sides)), limit_(limit), out_(sides_.size()), broken_off_(sides_.size()) {}

void Comparison::guarded(size_t side, const std::function<void()>& f) {
  if (out_[side]) return;
  try {
    f();
  } catch (const Error& e) {
    if (side == 0) throw;
    fmt::print(stderr, "left out from here on: {}\n", e.what());
    out_[side] = peers_failed_ = true;
    if (side < children_.size()) children_[side].reset();
  }
}

Comparison::Values Comparison::ask(const std::string& request, int runs) {
  if (children_.empty()) {
    children_.resize(sides_.size());
    for (size_t s = 0; s < sides_.size(); ++s)
      guarded(s, [&] {
        children_[s] = std::make_unique<Child>(sides_[s].name, sides_[s].command, limit_);
      });
  }
  Values out(sides_.size());
  std::vector<bool> enough(sides_.size());
  for (int run = -1; run < runs; ++run)
    for (size_t s = 0; s < sides_.size(); ++s)
      guarded(s, [&] {
        if (enough[s]) return;
        const Json answer = children_[s]->ask(request);
        enough[s] = s > 0 && answer.value("at_least", false);
        if (enough[s]) {
          broken_off_[s] = true;
          out[s].clear();
        }
        if (run >= 0 || enough[s]) out[s].push_back(answer.at("value"));
      });
  return out;
}

std::map<std::string, Comparison::Values> Comparison::in_fresh_processes(int runs,
                                                                         const Measure& measure) {
  std::map<std::string, Values> out;
  for (int run = 0; run < runs; ++run)
    for (size_t s = 0; s < sides_.size(); ++s)
      guarded(s, [&] {
        Child child(sides_[s].name, sides_[s].command, limit_);
        for (const auto& [point, value] : measure(child)) {
          Values& values = out.try_emplace(point, sides_.size()).first->second;
          values[s].push_back(value);
        }
      });
  return out;
}

std::vector<Row> Comparison::with_each(const Row& row, const Values& values) const {
  std::vector<Row> rows;
  for (size_t s = 1; s < sides_.size(); ++s) {
    if (out_[s] || values[s].empty()) continue;
    rows.push_back(row);
    rows.back().peer = sides_[s].name;
    rows.back().peer_values = values[s];
    rows.back().peer_broken_off = broken_off_[s];
  }
  if (rows.empty()) rows.push_back(row);
  for (Row& r : rows) r.values = values.at(0);
  return rows;
}

Row Comparison::with_best(const Row& row, const Values& values) const {
  const auto rows = with_each(row, values);
  return *std::max_element(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return is_better(a.better, b.peer_value(), a.peer_value());
  });
}

bool measure_with_peak(Row row, const std::string& request, int runs, std::vector<Side> sides,
                       Child::Seconds limit, bool json) {
  Comparison comparison(std::move(sides), limit);
  const auto report = [&](const Comparison::Values& values) {
    for (const Row& r : comparison.with_each(row, values))
      std::cout << (json ? json_line(r) + "\n" : table_line(r)) << std::flush;
  };
  report(comparison.ask(request, runs));
  row.point += " peak";
  row.unit = "MB";
  row.better = Better::lower;
  report(comparison.ask("peak_memory", 1));
  return !comparison.peers_failed();
}

}  // namespace mlxcpp::bench
