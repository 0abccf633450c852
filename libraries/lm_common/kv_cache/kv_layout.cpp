#include "lm_common/kv_cache/kv_layout.h"

#include <algorithm>

#include "core/error.h"

namespace mlxcpp {

using kernels::KvCopy;
using kernels::KvRun;
using kernels::KvStep;

KvLayout::KvLayout(Kind kind, int size, int keep) : kind_(kind), size_(size), keep_(keep) {
  if (kind == Kind::growing) return;
  if (keep < 0 || size <= keep)
    throw Error(
        "KV cache: a size of {} tokens is too small; it must be more than the {} that are "
        "always kept",
        size, keep);
}

int KvLayout::slot(int position) const {
  if (kind_ == Kind::growing || position < keep_) return position;
  return keep_ + (position - keep_) % ring();
}

std::vector<KvLayout::Range> KvLayout::listed_ranges() const {
  const int n = offset_;
  if (kind_ == Kind::chunked) return {{n / size_ * size_, n}};
  if (kind_ == Kind::growing || n < size_) return {{0, n}};
  return {{0, keep_}, {n - (size_ - 1 - keep_), n}};
}

std::vector<KvLayout::Range> KvLayout::stored_ranges() const {
  const int n = offset_;
  if (kind_ == Kind::chunked) return {{std::min(n, std::max(oldest_, n - size_)), n}};
  if (kind_ == Kind::growing || n <= size_) return {{0, n}};
  return {{0, keep_}, {n - ring(), n}};
}

void KvLayout::add_runs(Range range, std::vector<KvRun>& runs) const {
  std::vector<KvCopy> copies;
  add_copies(range, 0, copies);
  for (const KvCopy& c : copies) {
    if (!runs.empty() && !runs.back().tail && runs.back().begin + runs.back().count == c.to)
      runs.back().count += c.count;
    else
      runs.push_back({false, c.to, c.count});
  }
}

void KvLayout::add_copies(Range range, int from, std::vector<KvCopy>& copies) const {
  for (int p = range.begin; p < range.end;) {
    int n = range.end - p;
    if (kind_ != Kind::growing)
      n = std::min(n, p < keep_ ? keep_ - p : ring() - (p - keep_) % ring());
    copies.push_back({from + p - range.begin, slot(p), n});
    p += n;
  }
}

void KvLayout::use(const std::vector<KvCopy>& copies) {
  for (const KvCopy& c : copies) used_ = std::max(used_, c.to + c.count);
}

KvStep KvLayout::plan(int count) {
  const int n = offset_;
  KvStep step;
  step.used = used_;
  step.limit = kind_ == Kind::growing ? 0 : size_;
  step.settle = std::move(pending_);
  pending_.clear();
  use(step.settle);

  int listed_in_ring = 0;
  for (const Range& r : listed_ranges()) {
    add_runs(r, step.view.runs);
    listed_in_ring += std::max(0, r.end - std::max(r.begin, keep_));
  }
  if (kind_ == Kind::chunked) {
    step.view.chunk = size_;
    step.view.base = first_listed();
  }

  const Range fresh{n, n + count};
  const int fresh_in_ring = std::max(0, fresh.end - std::max(fresh.begin, keep_));
  if (kind_ == Kind::growing || listed_in_ring + fresh_in_ring <= ring()) {
    add_copies(fresh, 0, step.write);
    add_runs(fresh, step.view.runs);
    use(step.write);
  } else {  // would overwrite what the step's first queries see
    step.tail = count;
    step.write = {{0, 0, count}};
    step.view.runs.push_back({true, 0, count});
    const int first_kept = std::max({n, keep_, fresh.end - ring()});
    if (n < keep_) add_copies({n, keep_}, 0, pending_);
    add_copies({first_kept, fresh.end}, first_kept - n, pending_);
  }
  step.capacity = used_;
  offset_ += count;
  oldest_ = std::max(oldest_, kind_ == Kind::chunked ? offset_ - size_ : 0);
  return step;
}

int KvLayout::first_listed() const {
  for (const Range& r : listed_ranges())
    if (r.begin < r.end) return r.begin;
  return offset_;
}

int KvLayout::listed(int count) const {
  for (const Range& r : listed_ranges()) count += r.end - r.begin;
  return count;
}

std::vector<KvRun> KvLayout::stored() const {
  std::vector<KvRun> runs;
  for (const Range& r : stored_ranges()) add_runs(r, runs);
  return runs;
}

int KvLayout::stored_count() const {
  int n = 0;
  for (const Range& r : stored_ranges()) n += r.end - r.begin;
  return n;
}

std::vector<KvCopy> KvLayout::restore(int offset, int count) {
  offset_ = offset;
  used_ = 0;
  pending_.clear();
  if (kind_ == Kind::chunked) oldest_ = offset - std::min(count, size_);
  std::vector<KvCopy> copies;
  // From the end: the latest tokens are the last of the contents, the kept ones the first.
  const auto ranges = stored_ranges();
  if (offset < 0 || stored_count() > count || offset < count)
    throw Error("KV cache: {} tokens seen, but {} of them stored (expected {})", offset, count,
                stored_count());
  if (ranges.size() == 2) add_copies(ranges.front(), 0, copies);
  const Range latest = ranges.back();
  add_copies(latest, count - (latest.end - latest.begin), copies);
  use(copies);
  return copies;
}

bool KvLayout::is_trimmable() const { return kind_ != Kind::rotating || offset_ < size_; }

int KvLayout::trim(int n) {
  if (n <= 0 || !is_trimmable() || has_tail()) return 0;
  n = std::min(n, offset_);
  // The block of the position that comes next must still be there.
  if (kind_ == Kind::chunked && (offset_ - n) / size_ * size_ < oldest_)
    n = std::min(n, offset_ % size_);
  offset_ -= n;
  return n;
}

}  // namespace mlxcpp
