// Connected components of runs of pixels, by union-find from row to row.
#pragma once

#include <cstdint>
#include <vector>

#include "bits.h"

namespace anatomy {

struct Run {
  int row, start, end;  // columns [start, end)
};

struct Components {
  std::vector<Run> runs;              // in order of rows, then columns
  std::vector<int> root;              // of each run: the first run of its component
  std::vector<std::int64_t> area;     // of each root
  std::vector<int> first;             // of each row looked at: its first run
  std::int64_t total = 0, largest = 0;
  int count = 0;

  // Of the set pixels, or of the others; with 4 or 8 neighbours; in rows [top, bottom).
  void find(const Bits& bits, bool complement, bool eight, int top, int bottom) {
    collect(bits, complement, top, bottom);
    link(bottom - top, eight ? 1 : 0);
    measure();
  }

  // The runs alone.
  void collect(const Bits& bits, bool complement, int top, int bottom) {
    runs.clear();
    first.resize(bottom - top + 1);
    const Word flip = complement ? ~Word{0} : 0;
    for (int r = top; r < bottom; ++r) {
      first[r - top] = static_cast<int>(runs.size());
      const Word* row = bits.row(r);
      Word before = 0;
      bool open = false;
      int start = 0;
      for (int k = 0; k < bits.words; ++k) {
        const Word word = (row[k] ^ flip) & bits.valid(k);
        for (Word changes = word ^ (word << 1 | before); changes; changes &= changes - 1) {
          const int at = 64 * k + std::countr_zero(changes);
          if (open) runs.push_back({r, start, at});
          start = at, open = !open;
        }
        before = word >> 63;
      }
      if (open) runs.push_back({r, start, bits.width});
    }
    first[bottom - top] = static_cast<int>(runs.size());
  }

  // Calls use(run, root) for every run.
  template <typename Use>
  void each(Use use) const {
    for (std::size_t i = 0; i < runs.size(); ++i) use(runs[i], root[i]);
  }

 private:
  void link(int rows, int reach) {
    root.resize(runs.size());
    for (std::size_t i = 0; i < root.size(); ++i) root[i] = static_cast<int>(i);
    for (int r = 1; r < rows; ++r) {
      int above = first[r - 1], here = first[r];
      const int above_end = first[r], here_end = first[r + 1];
      while (above < above_end && here < here_end) {
        if (runs[above].start < runs[here].end + reach && runs[here].start < runs[above].end + reach) join(above, here);
        if (runs[above].end < runs[here].end)
          ++above;
        else
          ++here;
      }
    }
  }

  int find_root(int i) {
    while (root[i] != i) i = root[i] = root[root[i]];
    return i;
  }

  void join(int a, int b) {
    a = find_root(a), b = find_root(b);
    if (a < b)
      root[b] = a;
    else
      root[a] = b;
  }

  void measure() {
    area.assign(runs.size(), 0);
    total = largest = count = 0;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      root[i] = root[root[i]];  // roots come before what they lead, so this one is final
      count += root[i] == static_cast<int>(i);
      area[root[i]] += runs[i].end - runs[i].start;
    }
    for (const std::int64_t size : area) total += size, largest = std::max(largest, size);
  }
};

}  // namespace anatomy
