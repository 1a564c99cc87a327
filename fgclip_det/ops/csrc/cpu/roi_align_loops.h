#pragma once

// The inner loops of RoIAlign on the CPU. A task works on one slab of channels, whose sums stay in
// registers.
//
// roi_align_loops_*.cpp compile this file once for each instruction set, and the operator chooses
// when it runs, so that one build serves every processor. No header with inline functions may be
// included: the linker could keep the one copy that older processors cannot run.

#include <cstdint>

#include "roi_align_pack.h"
#include "roi_align_problem.h"
#include "roi_align_vector.h"

namespace fgclip_det {
namespace {

// --- Forward, one bin per box --------------------------------------------------------------------

// Adds rows [begin, end) of the map, packed in `band`, to the sum of a box.
template <int kVectors, typename scalar_t, typename T>
FGCLIP_DET_INLINE void add_rows(const Problem<scalar_t>& problem, int64_t roi, int64_t begin,
                                int64_t end, const T* band, T* sum_of_box) {
  constexpr int L = kLanes<T>;
  const Span rows = problem.wy.span(roi, 0);
  const Span columns = problem.wx.span(roi, 0);
  const int64_t first = larger(begin, rows.first);
  const int64_t last = smaller(end, static_cast<int64_t>(rows.first) + rows.count);
  if (first >= last || columns.count == 0) {
    return;
  }
  const T* wy = problem.wy.of(roi, 0) - rows.first;
  const T* wx = problem.wx.of(roi, 0);
  Vector<T> total[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    total[i] = load(sum_of_box + i * L);
  }
  for (int64_t row = first; row < last; ++row) {
    const T* cell = band + ((row - begin) * problem.width + columns.first) * kVectors * L;
    Vector<T> sum[kVectors] = {};
    for (int64_t column = 0; column < columns.count; ++column, cell += kVectors * L) {
      for (int i = 0; i < kVectors; ++i) {
        sum[i] += wx[column] * load(cell + i * L);
      }
    }
    for (int i = 0; i < kVectors; ++i) {
      total[i] += wy[row] * sum[i];
    }
  }
  for (int i = 0; i < kVectors; ++i) {
    store<T>(total[i], sum_of_box + i * L);
  }
}

// The rows of the map go by, a few at a time and packed into the innermost cache; each box takes
// its share of them. So the map is read once per slab, however many boxes there are.
template <int kVectors, typename scalar_t, typename T>
FGCLIP_DET_INLINE void sweep_slab(const Problem<scalar_t>& problem, int64_t image, Slab slab,
                                  int64_t group, T* scratch) {
  constexpr int kCell = kVectors * kLanes<T>;
  const int64_t begin = problem.group_begin(image, group);
  const int64_t end = problem.group_begin(image, group + 1);
  const Maps<scalar_t>& map = problem.map;
  T* sums = scratch;
  T* band = scratch + (end - begin) * kCell;
  for (int64_t i = 0; i < (end - begin) * kCell; ++i) {
    sums[i] = 0;
  }
  for (int64_t top = 0; top < problem.height && begin < end; top += problem.band) {
    const int64_t bottom = smaller(problem.height, top + problem.band);
    for (int64_t row = top; row < bottom; ++row) {
      pack<kVectors>(map.at(image, slab.channel, row, 0), map.stride_c, map.stride_w, problem.width,
                     slab.lanes, band + (row - top) * problem.width * kCell);
    }
    for (int64_t i = begin; i < end; ++i) {
      add_rows<kVectors>(problem, problem.order[i], top, bottom, band, sums + (i - begin) * kCell);
    }
  }
  for (int64_t i = begin; i < end; ++i) {
    unpack<kVectors>(sums + (i - begin) * kCell, 1, slab.lanes,
                     problem.pooled.at(problem.order[i], slab.channel, 0, 0),
                     problem.pooled.stride_c, 0);
  }
}

// --- Forward, several bins per box ---------------------------------------------------------------

// Sums the rows of a bin for all columns that the box touches, where channels lie side by side;
// packed[column] counts from the first of them. kWhole: the slab fills its vectors.
template <int kVectors, bool kWhole, typename scalar_t, typename T>
FGCLIP_DET_INLINE void sum_rows_of_cells(const Problem<scalar_t>& problem, int64_t roi, int64_t p,
                                         Slab slab, T* packed) {
  constexpr int L = kLanes<T>;
  const Span rows = problem.wy.span(roi, p);
  const Span columns = problem.wx.reaches[roi];
  const T* wy = problem.wy.of(roi, p);
  const Maps<scalar_t>& map = problem.map;
  const scalar_t* cell = map.at(problem.image_of[roi], slab.channel, rows.first, columns.first);
  for (int64_t column = 0; column < columns.count; ++column, cell += map.stride_w) {
    Vector<T> sum[kVectors] = {};
    const scalar_t* from = cell;
    for (int64_t row = 0; row < rows.count; ++row, from += map.stride_h) {
      for (int i = 0; i < kVectors; ++i) {
        const int64_t lanes = kWhole ? L : slab.lanes - i * L;
        sum[i] += wy[row] * load_some(from + i * L, lanes);
      }
    }
    for (int i = 0; i < kVectors; ++i) {
      store<T>(sum[i], packed + (column * kVectors + i) * L);
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
template <int kVectors, typename scalar_t, typename T>
FGCLIP_DET_INLINE void pool_slab(const Problem<scalar_t>& problem, int64_t roi, Slab slab,
                                 T* scratch) {
  constexpr int L = kLanes<T>;
  const int64_t oh = problem.wy.bins, ow = problem.wx.bins;
  const Span reach = problem.wx.reaches[roi];
  T* bins = scratch;
  T* summed = scratch + (oh * ow + kMargin<T>)*kVectors * L;
  for (int64_t p = 0; p < oh; ++p) {
    if (problem.map.stride_c != 1) {
      sum_rows_of_planes<kVectors>(problem, roi, p, slab, summed);
    } else if (slab.lanes == kVectors * L) {
      sum_rows_of_cells<kVectors, true>(problem, roi, p, slab, summed);
    } else {
      sum_rows_of_cells<kVectors, false>(problem, roi, p, slab, summed);
    }
    for (int64_t q = 0; q < ow; ++q) {
      const Span columns = problem.wx.span(roi, q);
      const T* wx = problem.wx.of(roi, q);
      const T* cell = summed + (columns.first - reach.first) * kVectors * L;
      Vector<T> sum[kVectors] = {};
      for (int64_t column = 0; column < columns.count; ++column, cell += kVectors * L) {
        for (int i = 0; i < kVectors; ++i) {
          sum[i] += wx[column] * load(cell + i * L);
        }
      }
      for (int i = 0; i < kVectors; ++i) {
        store<T>(sum[i], bins + ((p * ow + q) * kVectors + i) * L);
      }
    }
  }
  const Maps<scalar_t>& pooled = problem.pooled;
  unpack<kVectors>(bins, oh * ow, slab.lanes, pooled.at(roi, slab.channel, 0, 0), pooled.stride_c,
                   pooled.stride_w);
}

// --- Backward ------------------------------------------------------------------------------------

// Adds to the rows [begin, end) of the map, packed in `band`, what the bins of a box send there.
template <int kVectors, typename scalar_t, typename T>
FGCLIP_DET_INLINE void spread_box(const Problem<scalar_t>& problem, int64_t roi, Slab slab,
                                  int64_t begin, int64_t end, T* band, T* packed) {
  constexpr int L = kLanes<T>;
  const int64_t oh = problem.wy.bins, ow = problem.wx.bins;
  const Span reach = problem.wy.reaches[roi];
  begin = larger(begin, reach.first);
  end = smaller(end, static_cast<int64_t>(reach.first) + reach.count);
  if (begin >= end || problem.wx.reaches[roi].count == 0) {
    return;
  }
  int64_t p_begin = oh, p_end = 0;
  for (int64_t p = 0; p < oh; ++p) {
    const Span rows = problem.wy.span(roi, p);
    if (rows.first < end && rows.first + rows.count > begin) {
      p_begin = smaller(p_begin, p);
      p_end = p + 1;
    }
  }
  const Maps<scalar_t>& pooled = problem.pooled;
  const int64_t bins = p_begin < p_end ? (p_end - p_begin) * ow : 0;
  pack<kVectors>(pooled.at(roi, slab.channel, p_begin, 0), pooled.stride_c, pooled.stride_w, bins,
                 slab.lanes, packed);
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t q = 0; q < ow; ++q) {
      Vector<T> sum[kVectors] = {};
      for (int64_t p = p_begin; p < p_end; ++p) {
        const Span rows = problem.wy.span(roi, p);
        if (!rows.contains(row)) {
          continue;
        }
        const T weight = problem.wy.of(roi, p)[row - rows.first];
        const T* gradient = packed + ((p - p_begin) * ow + q) * kVectors * L;
        for (int i = 0; i < kVectors; ++i) {
          sum[i] += weight * load(gradient + i * L);
        }
      }
      const Span columns = problem.wx.span(roi, q);
      const T* wx = problem.wx.of(roi, q);
      T* cell = band + (row * problem.width + columns.first) * kVectors * L;
      for (int64_t column = 0; column < columns.count; ++column, cell += kVectors * L) {
        for (int i = 0; i < kVectors; ++i) {
          store<T>(load(cell + i * L) + wx[column] * sum[i], cell + i * L);
        }
      }
    }
  }
}

// A task owns its rows of the map and visits the boxes in their order: no atomics, and the sums do
// not depend on the number of threads. Every cell is written once.
template <int kVectors, typename scalar_t, typename T>
FGCLIP_DET_INLINE void spread_slab(const Problem<scalar_t>& problem, int64_t image, Slab slab,
                                   int64_t band_index, T* scratch) {
  constexpr int kCell = kVectors * kLanes<T>;
  const int64_t top = band_index * problem.band;
  const int64_t bottom = smaller(problem.height, top + problem.band);
  T* band = scratch;
  T* packed = scratch + problem.band * problem.width * kCell;
  for (int64_t i = 0; i < (bottom - top) * problem.width * kCell; ++i) {
    band[i] = 0;
  }
  for (int64_t i = problem.image_begin[image]; i < problem.image_begin[image + 1]; ++i) {
    spread_box<kVectors>(problem, problem.order[i], slab, top, bottom,
                         band - top * problem.width * kCell, packed);
  }
  const Maps<scalar_t>& map = problem.map;
  unpack<kVectors>(band, (bottom - top) * problem.width, slab.lanes,
                   map.at(image, slab.channel, top, 0), map.stride_c, map.stride_w);
}

// --- Tasks ---------------------------------------------------------------------------------------

// Calls work.template run<kVectors>() with as many vectors as the slab needs, rounded up to a power
// of two.
template <typename T, typename Work>
FGCLIP_DET_INLINE void with_vectors(const Slab& slab, const Work& work) {
  constexpr int L = kLanes<T>;
  static_assert(kSlab<T> == 8 * L);
  if (slab.lanes > 4 * L) {
    work.template run<8>();
  } else if (slab.lanes > 2 * L) {
    work.template run<4>();
  } else if (slab.lanes > L) {
    work.template run<2>();
  } else {
    work.template run<1>();
  }
}

template <typename scalar_t>
struct Sweep {
  const Problem<scalar_t>& problem;
  int64_t image, group;
  Slab slab;
  sum_t<scalar_t>* scratch;
  template <int kVectors>
  FGCLIP_DET_INLINE void run() const {
    sweep_slab<kVectors>(problem, image, slab, group, scratch);
  }
};

template <typename scalar_t>
struct Pool {
  const Problem<scalar_t>& problem;
  int64_t roi;
  Slab slab;
  sum_t<scalar_t>* scratch;
  template <int kVectors>
  FGCLIP_DET_INLINE void run() const {
    pool_slab<kVectors>(problem, roi, slab, scratch);
  }
};

template <typename scalar_t>
struct Spread {
  const Problem<scalar_t>& problem;
  int64_t image, band;
  Slab slab;
  sum_t<scalar_t>* scratch;
  template <int kVectors>
  FGCLIP_DET_INLINE void run() const {
    spread_slab<kVectors>(problem, image, slab, band, scratch);
  }
};

template <typename scalar_t>
void sweep(const Problem<scalar_t>& problem, int64_t begin, int64_t end, sum_t<scalar_t>* scratch) {
  for (int64_t task = begin; task < end; ++task) {
    const int64_t group = task % problem.groups;
    const Slab slab = slab_at(problem, task / problem.groups % problem.slabs());
    const int64_t image = task / problem.groups / problem.slabs();
    with_vectors<sum_t<scalar_t>>(slab, Sweep<scalar_t>{problem, image, group, slab, scratch});
  }
}

template <typename scalar_t>
void pool(const Problem<scalar_t>& problem, int64_t begin, int64_t end, sum_t<scalar_t>* scratch) {
  for (int64_t task = begin; task < end; ++task) {
    const int64_t roi = problem.slabs_first ? task % problem.num_rois : task / problem.slabs();
    const Slab slab =
        slab_at(problem, problem.slabs_first ? task / problem.num_rois : task % problem.slabs());
    with_vectors<sum_t<scalar_t>>(slab, Pool<scalar_t>{problem, problem.order[roi], slab, scratch});
  }
}

template <typename scalar_t>
void spread(const Problem<scalar_t>& problem, int64_t begin, int64_t end,
            sum_t<scalar_t>* scratch) {
  for (int64_t task = begin; task < end; ++task) {
    const int64_t band = task % problem.bands();
    const Slab slab = slab_at(problem, task / problem.bands() % problem.slabs());
    const int64_t image = task / problem.bands() / problem.slabs();
    with_vectors<sum_t<scalar_t>>(slab, Spread<scalar_t>{problem, image, band, slab, scratch});
  }
}

template <typename scalar_t>
constexpr Loops<scalar_t> kLoops{sweep<scalar_t>, pool<scalar_t>, spread<scalar_t>};

}  // namespace
}  // namespace fgclip_det
