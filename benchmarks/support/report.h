#pragma once

#include <optional>
#include <string>
#include <vector>

// The form that all benchmarks print.
namespace mlxcpp::bench {

enum class Better { higher, lower };

// What was measured at one point, ours and the peer's, in the same run.
struct Row {
  std::string bench, model, point;
  int threads = 0;
  std::string unit;  // "tokens/s", "s", "MB"
  Better better = Better::higher;
  std::vector<double> values;  // of ours, one a run
  std::string peer;            // with its setting that was best; empty: none
  std::vector<double> peer_values;
  bool peer_broken_off =
      false;  // the peer's value is what it took until then, and so at least that

  double value() const;                 // median
  double peer_value() const;            // median
  std::optional<double> ratio() const;  // above 1: we are better
};

double median(std::vector<double> values);
// Which of the medians is better.
bool is_better(Better better, double a, double b);

// One JSON object: {bench, model, point, threads, unit, value, min, max, runs, peer, peer_value,
// ratio}, and peer_at_least: true where the peer was broken off.
std::string json_line(const Row& row);
std::string table_header();
std::string table_line(const Row& row);

}  // namespace mlxcpp::bench
