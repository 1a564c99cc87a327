#pragma once

// The inner loops of RoIAlign on the CPU. A task works on one slab of channels, whose sums stay in
// registers.
//
// roi_align_loops_*.cpp compile this file once for each instruction set, and the operator chooses
// when it runs, so that one build serves every processor. No header with inline functions may be
// included: the linker could keep the one copy that older processors cannot run.

#include <cstdint>

#include "roi_align_pack.h"
#include "roi_align_pool.h"
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
    if (slab.lanes == kVectors * kLanes<sum_t<scalar_t>>) {
      pool_slabs<kVectors, true>(problem, roi, slab, 1, scratch);
    } else {
      pool_slabs<kVectors, false>(problem, roi, slab, 1, scratch);
    }
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
  using T = sum_t<scalar_t>;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t part = problem.slabs_first ? task / problem.num_rois : task % problem.parts();
    const int64_t index = problem.slabs_first ? task % problem.num_rois : task / problem.parts();
    const int64_t roi = problem.order[index];
    const int64_t last = smaller(problem.slabs(), (part + 1) * problem.part);
    int64_t first = part * problem.part;
    if (problem.part > 1 && first < problem.channels / kSlab<T>) {
      // The slabs that are full go together.
      const int64_t full = smaller(last, problem.channels / kSlab<T>);
      pool_slabs<8, true>(problem, roi, slab_at(problem, first), full - first, scratch);
      first = full;
    }
    for (; first < last; ++first) {
      const Slab slab = slab_at(problem, first);
      with_vectors<T>(slab, Pool<scalar_t>{problem, roi, slab, scratch});
    }
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
