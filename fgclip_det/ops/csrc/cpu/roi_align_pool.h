#pragma once

// The forward pass with several bins per box. For roi_align_loops.h only.

#include <cstdint>

#include "roi_align_pack.h"
#include "roi_align_problem.h"
#include "roi_align_vector.h"

namespace fgclip_det {
namespace {

// Sums the rows of a bin for all columns that the box touches, where channels lie side by side, in
// `slabs` slabs from `slab` on; packed[slab][column] counts from the first of each. A cell is read
// through all its channels before the next one: memory likes long reads. kWhole: the slabs fill
// their vectors.
template <int kVectors, bool kWhole, typename scalar_t, typename T>
FGCLIP_DET_INLINE void sum_rows_of_cells(const Problem<scalar_t>& problem, int64_t roi, int64_t p,
                                         Slab slab, int64_t slabs, T* packed) {
  constexpr int L = kLanes<T>;
  const Span rows = problem.wy.span(roi, p);
  const Span columns = problem.wx.reaches[roi];
  const T* wy = problem.wy.of(roi, p);
  const Maps<scalar_t>& map = problem.map;
  const scalar_t* cell = map.at(problem.image_of[roi], slab.channel, rows.first, columns.first);
  for (int64_t column = 0; column < columns.count; ++column, cell += map.stride_w) {
    for (int64_t s = 0; s < slabs; ++s) {
      Vector<T> sum[kVectors] = {};
      const scalar_t* from = cell + s * kVectors * L;
      for (int64_t row = 0; row < rows.count; ++row, from += map.stride_h) {
        for (int i = 0; i < kVectors; ++i) {
          const int64_t lanes = kWhole ? L : slab.lanes - i * L;
          sum[i] += wy[row] * load_some(from + i * L, lanes);
        }
      }
      for (int i = 0; i < kVectors; ++i) {
        store<T>(sum[i], packed + ((s * columns.count + column) * kVectors + i) * L);
      }
    }
  }
}

// The same where the cells of a row lie side by side: kBlocks vectors run along the row from column
// x on, and are transposed on their way to packed[x]. kCut: the row is shorter than a vector.
template <int kVectors, int kBlocks, bool kCut, typename scalar_t, typename T>
FGCLIP_DET_INLINE void sum_blocks(const Problem<scalar_t>& problem, int64_t roi, int64_t p,
                                  Slab slab, int64_t x, T* packed) {
  constexpr int L = kLanes<T>;
  const Span rows = problem.wy.span(roi, p);
  const T* wy = problem.wy.of(roi, p);
  const Maps<scalar_t>& map = problem.map;
  for (int i = 0; i < kVectors; ++i) {
    Vector<T> sums[kBlocks][L];
    for (int j = 0; j < L; ++j) {
      Vector<T> sum[kBlocks] = {};
      const int64_t channel = i * L + j;
      const int64_t count = channel < slab.lanes ? rows.count : 0;
      const scalar_t* from =
          map.at(problem.image_of[roi], slab.channel + (count ? channel : 0), rows.first, x);
      for (int64_t row = 0; row < count; ++row, from += map.stride_h) {
        for (int block = 0; block < kBlocks; ++block) {
          sum[block] += wy[row] * (kCut ? load_some(from, problem.width) : load(from + block * L));
        }
      }
      for (int block = 0; block < kBlocks; ++block) {
        sums[block][j] = sum[block];
      }
    }
    for (int block = 0; block < kBlocks; ++block) {
      transpose(sums[block]);
      for (int j = 0; j < L; ++j) {
        store<T>(sums[block][j], packed + ((block * L + j) * kVectors + i) * L);
      }
    }
  }
}

// packed[x] for the columns of a box, and up to kMargin columns beside them.
constexpr int kMaxBlocks = 4;
template <typename T>
constexpr int kMargin = kMaxBlocks * kLanes<T>;

template <int kVectors, typename scalar_t, typename T>
FGCLIP_DET_INLINE void sum_rows_of_planes(const Problem<scalar_t>& problem, int64_t roi, int64_t p,
                                          Slab slab, T* packed) {
  constexpr int L = kLanes<T>;
  constexpr int kCell = kVectors * L;
  const Span columns = problem.wx.reaches[roi];
  const int64_t end = static_cast<int64_t>(columns.first) + columns.count;
  if (problem.width < L) {
    sum_blocks<kVectors, 1, true>(problem, roi, p, slab, 0, packed - columns.first * kCell);
    return;
  }
  for (int64_t x = columns.first; x < end;) {
    const int64_t wanted = smaller((end - x + L - 1) / L, problem.width / L);
    const int64_t blocks = wanted > 2 ? 4 : wanted;
    if (blocks == 4 && problem.width >= 4 * L) {
      const int64_t start = block_start(x, problem.width, 4 * L);
      sum_blocks<kVectors, 4, false>(problem, roi, p, slab, start,
                                     packed + (start - columns.first) * kCell);
      x += 4 * L;
    } else if (blocks >= 2) {
      const int64_t start = block_start(x, problem.width, 2 * L);
      sum_blocks<kVectors, 2, false>(problem, roi, p, slab, start,
                                     packed + (start - columns.first) * kCell);
      x += 2 * L;
    } else {
      const int64_t start = block_start(x, problem.width, L);
      sum_blocks<kVectors, 1, false>(problem, roi, p, slab, start,
                                     packed + (start - columns.first) * kCell);
      x += L;
    }
  }
}

// Two stages per row of bins: the rows of the map are summed, then their columns for each bin.
// `slabs` slabs from `slab` on, several only where channels lie side by side.
template <int kVectors, bool kWhole, typename scalar_t, typename T>
FGCLIP_DET_INLINE void pool_slabs(const Problem<scalar_t>& problem, int64_t roi, Slab slab,
                                  int64_t slabs, T* scratch) {
  constexpr int L = kLanes<T>;
  constexpr int kCell = kVectors * L;
  const int64_t oh = problem.wy.bins, ow = problem.wx.bins;
  const Span reach = problem.wx.reaches[roi];
  const Maps<scalar_t>& pooled = problem.pooled;
  T* bins = scratch;
  T* summed = scratch + (oh * ow + kMargin<T>)*kCell;
  for (int64_t p = 0; p < oh; ++p) {
    if (problem.map.stride_c != 1) {
      sum_rows_of_planes<kVectors>(problem, roi, p, slab, summed);
    } else {
      sum_rows_of_cells<kVectors, kWhole>(problem, roi, p, slab, slabs, summed);
    }
    for (int64_t q = 0; q < ow; ++q) {
      const Span columns = problem.wx.span(roi, q);
      const T* wx = problem.wx.of(roi, q);
      for (int64_t s = 0; s < slabs; ++s) {
        const T* cell = summed + (s * reach.count + columns.first - reach.first) * kCell;
        Vector<T> sum[kVectors] = {};
        for (int64_t column = 0; column < columns.count; ++column, cell += kCell) {
          for (int i = 0; i < kVectors; ++i) {
            sum[i] += wx[column] * load(cell + i * L);
          }
        }
        if (pooled.stride_c == 1) {
          scalar_t* to = pooled.at(roi, slab.channel + s * kCell, p, q);
          for (int i = 0; i < kVectors; ++i) {
            store_some<T>(sum[i], to + i * L, kWhole ? L : slab.lanes - i * L);
          }
        } else {
          for (int i = 0; i < kVectors; ++i) {
            store<T>(sum[i], bins + ((p * ow + q) * kVectors + i) * L);
          }
        }
      }
    }
  }
  if (pooled.stride_c != 1) {
    unpack<kVectors>(bins, oh * ow, slab.lanes, pooled.at(roi, slab.channel, 0, 0), pooled.stride_c,
                     pooled.stride_w);
  }
}

}  // namespace
}  // namespace fgclip_det
