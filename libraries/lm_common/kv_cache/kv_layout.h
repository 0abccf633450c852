#pragma once

#include <vector>

#include "kernels/kv_store.h"

namespace mlxcpp {

// Where tokens go in a KV store, and which of them a step sees: integers only.
//
// A step of L tokens sees a list: tokens from before, oldest first, then its own; what each query
// sees of it goes by numbers in the list (mlx-lm's models/cache.py).
//   growing   the list is everything
//   rotating  of `size` tokens the first `keep` and the latest stay; the list is at most size - 1
//   of
//             them and the new ones, and each query sees the last `size` of what stands before it
//   chunked   positions fall into blocks of `size`; a query sees its own block
// A chunk of tokens may be larger than a rotating layout: then its last tokens are what stays.
class KvLayout {
 public:
  enum class Kind { growing, rotating, chunked };

  // Error unless size > keep >= 0 where there is a size.
  explicit KvLayout(Kind kind = Kind::growing, int size = 0, int keep = 0);

  Kind kind() const { return kind_; }
  int size() const { return size_; }
  int keep() const { return keep_; }
  int offset() const { return offset_; }  // tokens seen

  // Plans the next step of `count` tokens and counts them as seen; with none it only ends the tail.
  kernels::KvStep plan(int count);
  // The position of number 0 of the list that the next step sees.
  int first_listed() const;
  // How many keys the next step of `count` tokens sees.
  int listed(int count) const;

  bool has_tail() const { return !pending_.empty(); }
  // What would be kept of it all, oldest first. No tail.
  std::vector<kernels::KvRun> stored() const;
  int stored_count() const;

  // For contents read from a file: `count` stored tokens, the last of which is offset - 1, are
  // written as the returned copies say.
  std::vector<kernels::KvCopy> restore(int offset, int count);
  int capacity() const { return used_; }

  bool is_trimmable() const;
  int trim(int n);

 private:
  struct Range {
    int begin, end;
  };
  std::vector<Range> listed_ranges() const;
  std::vector<Range> stored_ranges() const;
  int slot(int position) const;
  int ring() const { return size_ - keep_; }
  // Slots of positions [begin, end) join `runs`.
  void add_runs(Range range, std::vector<kernels::KvRun>& runs) const;
  // Tokens at positions `range`, the first of them number `from`, go to their slots.
  void add_copies(Range range, int from, std::vector<kernels::KvCopy>& copies) const;
  void use(const std::vector<kernels::KvCopy>& copies);

  Kind kind_;
  int size_, keep_;
  int offset_ = 0;
  int used_ = 0;                          // main slots in use
  int oldest_ = 0;                        // chunked: positions before this one are overwritten
  std::vector<kernels::KvCopy> pending_;  // tail to main, at the next step
};

}  // namespace mlxcpp
