#pragma once

// Slabs of channels, and their copies between a map in any layout and packed cells, in which the
// channels of a slab lie side by side. For roi_align_loops.h only.

#include <cstdint>

#include "roi_align_problem.h"
#include "roi_align_vector.h"

namespace fgclip_det {
namespace {

FGCLIP_DET_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
FGCLIP_DET_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// `vectors` vectors hold the channels [channel, channel + lanes) of a packed cell.
struct Slab {
  int64_t channel, lanes;
};

template <typename scalar_t>
FGCLIP_DET_INLINE Slab slab_at(const Problem<scalar_t>& problem, int64_t index) {
  const int64_t channel = index * problem.slab;
  return {channel, smaller(problem.slab, problem.channels - channel)};
}

// Where a vector begins that holds cell `begin` and no cell from `end` on. The last vector of a row
// overlaps the one before, since one that is cut short is slow; only a row that is shorter than a
// vector begins at 0 and is cut.
FGCLIP_DET_INLINE int64_t block_start(int64_t begin, int64_t end, int64_t lanes) {
  return larger(0, smaller(begin, end - lanes));
}

// Copies `count` cells, a slab each, to packed[cell][vectors]; channels beyond `lanes` become 0.
template <int kVectors, typename scalar_t>
FGCLIP_DET_INLINE void pack(const scalar_t* from, int64_t stride_c, int64_t stride_cell,
                            int64_t count, int64_t lanes, sum_t<scalar_t>* packed) {
  using T = sum_t<scalar_t>;
  constexpr int L = kLanes<T>;
  if (stride_c == 1) {
    for (int64_t cell = 0; cell < count; ++cell, from += stride_cell, packed += kVectors * L) {
      for (int i = 0; i < kVectors; ++i) {
        store<T>(load_some(from + i * L, lanes - i * L), packed + i * L);
      }
    }
    return;
  }
  for (int64_t block_begin = 0; block_begin < count; block_begin += L) {
    const int64_t cell = block_start(block_begin, count, L);
    const int64_t cells = smaller(L, count);
    for (int i = 0; i < kVectors; ++i) {
      Vector<T> block[L];
      for (int j = 0; j < L; ++j) {
        const int64_t c = i * L + j;
        block[j] = c < lanes ? load_some(from + c * stride_c + cell, cells) : Vector<T>{};
      }
      transpose(block);
      for (int64_t j = 0; j < cells; ++j) {
        store<T>(block[j], packed + ((cell + j) * kVectors + i) * L);
      }
    }
  }
}

// The reverse of pack().
template <int kVectors, typename scalar_t>
FGCLIP_DET_INLINE void unpack(const sum_t<scalar_t>* packed, int64_t count, int64_t lanes,
                              scalar_t* to, int64_t stride_c, int64_t stride_cell) {
  using T = sum_t<scalar_t>;
  constexpr int L = kLanes<T>;
  if (stride_c == 1) {
    for (int64_t cell = 0; cell < count; ++cell, to += stride_cell, packed += kVectors * L) {
      for (int i = 0; i < kVectors; ++i) {
        store_some<T>(load(packed + i * L), to + i * L, lanes - i * L);
      }
    }
    return;
  }
  for (int64_t block_begin = 0; block_begin < count; block_begin += L) {
    const int64_t cell = block_start(block_begin, count, L);
    const int64_t cells = smaller(L, count);
    for (int i = 0; i < kVectors; ++i) {
      Vector<T> block[L] = {};
      for (int64_t j = 0; j < cells; ++j) {
        block[j] = load(packed + ((cell + j) * kVectors + i) * L);
      }
      transpose(block);
      for (int64_t j = 0; j < smaller(L, lanes - i * L); ++j) {
        store_some<T>(block[j], to + (i * L + j) * stride_c + cell, cells);
      }
    }
  }
}

}  // namespace
}  // namespace fgclip_det
