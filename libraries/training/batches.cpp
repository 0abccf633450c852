#include "training/batches.h"

#include <algorithm>
#include <numeric>
#include <sstream>

namespace mlxcpp::training {

std::vector<int> DataOrder::permutation(int n) {
  std::vector<int> order(n);
  std::iota(order.begin(), order.end(), 0);
  for (int i = n - 1; i >= 1; --i) {
    const auto most = static_cast<uint32_t>(i);
    uint32_t mask = most;
    for (const int shift : {1, 2, 4, 8, 16}) mask |= mask >> shift;
    uint32_t j;
    do j = static_cast<uint32_t>(engine_()) & mask;
    while (j > most);
    std::swap(order[static_cast<size_t>(i)], order[j]);
  }
  return order;
}

std::string DataOrder::state() const {
  std::ostringstream out;
  out << engine_;
  return out.str();
}

void DataOrder::set_state(const std::string& state) {
  std::istringstream in(state);
  std::mt19937 read;
  if (!(in >> read)) throw Error("the order of the data: no state of a random generator");
  engine_ = read;
}

Batch make_batch(const std::vector<Example>& examples, const std::vector<int>& which,
                 int max_seq_length) {
  constexpr int kPadTo = 32;
  int longest = 0, cut = 0;
  for (const int i : which) {
    const int length = static_cast<int>(examples[static_cast<size_t>(i)].tokens.size());
    longest = std::max(longest, length);
    cut += length > max_seq_length;
  }
  const int width = std::min(1 + (longest + kPadTo - 1) / kPadTo * kPadTo, max_seq_length);
  const int inputs = width - 1;
  std::vector<int> tokens, targets, rows;
  for (size_t b = 0; b < which.size(); ++b) {
    const Example& e = examples[static_cast<size_t>(which[b])];
    const int length = std::min(static_cast<int>(e.tokens.size()), max_seq_length);
    const auto at = [&](int i) { return i < length ? e.tokens[static_cast<size_t>(i)] : 0; };
    for (int i = 0; i < inputs; ++i) {
      tokens.push_back(at(i));
      if (i + 1 < e.prompt || i + 1 > length) continue;
      targets.push_back(at(i + 1));
      rows.push_back(static_cast<int>(b) * inputs + i);
    }
  }
  const int count = static_cast<int>(targets.size());
  return {mx::array(tokens.data(), {static_cast<int>(which.size()), inputs}, mx::int32),
          mx::array(targets.data(), {count}, mx::int32), mx::array(rows.data(), {count}, mx::int32),
          count, cut};
}

std::vector<std::vector<int>> batches_of(const std::vector<Example>& examples, int batch_size) {
  const int n = static_cast<int>(examples.size());
  if (n < batch_size)
    throw Error("expected at least {} examples, a batch, found {}", batch_size, n);
  std::vector<std::vector<int>> batches;
  for (int begin = 0; begin + batch_size <= n; begin += batch_size) {
    auto& batch = batches.emplace_back(batch_size);
    std::iota(batch.begin(), batch.end(), begin);
  }
  return batches;
}

}  // namespace mlxcpp::training
