#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "support/child.h"
#include "support/report.h"

namespace mlxcpp::bench {

// One side of a comparison: how its processes are started.
struct Side {
  std::string name;
  std::vector<std::string> command;
};

// Ours (the first side) and peers, asked in turns, so that whatever else the machine does meets all
// of them alike. A fault of ours is thrown; a peer's is one line on stderr, and it is left out from
// then on. Not thread-safe.
class Comparison {
 public:
  using Values = std::vector<std::vector<double>>;  // [side][run]; none of a side that is out

  Comparison(std::vector<Side> sides, Child::Seconds limit);  // of one answer

  // "value" of the answers to one request, of processes that live on; one more run before the
  // others is a warm-up. A peer that answers "at_least": true as well broke off what took it too
  // long: that value is its only one, and it is not asked for more runs.
  Values ask(const std::string& request, int runs);
  // The same of a fresh process for each run, from which `measure` takes what it wants by name.
  using Measure = std::function<std::map<std::string, double>(Child&)>;
  std::map<std::string, Values> in_fresh_processes(int runs, const Measure& measure);

  // `row` with ours, and beside it the peer whose median is best at this point.
  Row with_best(const Row& row, const Values& values) const;
  // The same row for each peer; one without, when there is none.
  std::vector<Row> with_each(const Row& row, const Values& values) const;
  bool peers_failed() const { return peers_failed_; }

 private:
  // Runs f for a side unless that is out.
  void guarded(size_t side, const std::function<void()>& f);

  std::vector<Side> sides_;
  Child::Seconds limit_;
  std::vector<std::unique_ptr<Child>> children_;  // one a side, none of one that is out
  std::vector<bool> out_, broken_off_;
  bool peers_failed_ = false;
};

// The whole of a benchmark's point: `request` of all sides in turns, then each one's peak memory in
// MB, printed as tables or JSON lines, a row for each peer. `row` says what is measured, without
// values. False: a peer failed.
bool measure_with_peak(Row row, const std::string& request, int runs, std::vector<Side> sides,
                       Child::Seconds limit, bool json);

}  // namespace mlxcpp::bench
