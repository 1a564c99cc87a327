#pragma once

// Which boxes touch which tiles of the maps, found once for all blocks of the backward pass. It is
// separable, as the weights are: a line of bits, one for each box, for every row of tiles and for
// every column of tiles; a tile's boxes are those in both of its lines. That is tiles down + across
// bits for a box, where a list for every tile would take down * across.

#include <climits>
#include <cstdint>

#include "roi_align_weights.cuh"

namespace fgclip_det {

constexpr int kHelpers = kThreads / kWarp;  // threads that look at the bins of one box

// How one map is cut into tiles.
struct Tiling {
  int height = 0, width = 0;     // of the map, in cells
  int64_t down = 0, across = 0;  // tiles of an image
  int64_t first_line = 0;        // of the rows of tiles; those of columns follow
  int64_t first_tile = 0;        // among those of the launch, all images of a map after another
};

// The maps of a launch.
struct Tilings {
  Tiling maps[kMaxLevels];
  int rows = 0, columns = 0;  // of a tile, in cells
  int64_t tiles = 0;
};

// In device memory. The first lines tell the images of a batch apart: line d holds the binary digit
// d of every box's image. A box that names no image, or no map of the launch, is in no row of
// tiles.
struct Marks {
  uint32_t* words;  // (lines, groups): bit i of word g is box 32 g + i
  int64_t groups;
  int digits;  // lines of images

  // By a whole warp, each lane of which knows of one box.
  __device__ __forceinline__ void set(int64_t line, int64_t group, bool bit) const {
    const uint32_t word = __ballot_sync(0xffffffffu, bit);
    if (threadIdx.x % kWarp == 0) {
      words[line * groups + group] = word;
    }
  }

  // Of 32 boxes, those that touch a tile.
  __device__ __forceinline__ uint32_t touching(const Tiling& tiling, int64_t image, int64_t row,
                                               int64_t column, int64_t group) const {
    const uint32_t* lines_of_map = words + tiling.first_line * groups + group;
    uint32_t word = lines_of_map[row * groups] & lines_of_map[(tiling.down + column) * groups];
#pragma unroll 1
    for (int digit = 0; digit < digits; ++digit) {
      const uint32_t line = words[digit * groups + group];
      word &= (image >> digit & 1) != 0 ? line : ~line;
    }
    return word;
  }
};

// The cells that bins of a box touch along one axis; begin lies past end where there are none.
struct Reach {
  int begin, end;

  __device__ __forceinline__ void add(int other_begin, int other_end) {
    begin = other_begin < begin ? other_begin : begin;
    end = other_end > end ? other_end : end;
  }

  // Joins those of kHelpers threads side by side.
  __device__ __forceinline__ void gather() {
#pragma unroll
    for (int apart = 1; apart < kHelpers; apart *= 2) {
      const int other_begin = __shfl_xor_sync(0xffffffffu, begin, apart);
      const int other_end = __shfl_xor_sync(0xffffffffu, end, apart);
      add(other_begin, other_end);
    }
  }

  // Lines of one axis of a map, whose tiles are of so many cells: each warp takes every eighth.
  __device__ __forceinline__ void mark(const Marks& marks, int64_t first_line, int64_t tiles,
                                       int cells, bool of_map, int64_t group) const {
    for (int64_t tile = threadIdx.x / kWarp; tile < tiles; tile += kHelpers) {
      const int64_t low = tile * cells;
      marks.set(first_line + tile, group, of_map && begin < low + cells && end > low);
    }
  }
};

// 32 boxes, in shared memory.
struct Noted {
  Reach rows[kWarp], columns[kWarp];
  int slots[kWarp], images[kWarp];  // slot -1: no map of the launch, or no image
};

// By a block of kThreads: kHelpers threads look at each of 32 boxes, then warps share out the
// lines. It needs no weights: which cells a bin touches is found without them.
template <typename T>
__device__ __forceinline__ void mark_boxes(const Boxes<T>& boxes, const Scene<T>& scene,
                                           const Marks& marks, const Tilings& tilings,
                                           int64_t group, Noted& noted) {
  const int box = threadIdx.x / kHelpers, helper = threadIdx.x % kHelpers;
  const int64_t roi = group * kWarp + box;
  int slot = roi < boxes.count ? boxes.slot(roi) : -1;
  const int64_t image = slot >= 0 ? boxes.image(roi) : -1;
  slot = image >= 0 ? slot : -1;
  Reach rows{INT_MAX, 0}, columns{INT_MAX, 0};
  for (int64_t rank = helper; slot >= 0 && rank < boxes.bins(); rank += kHelpers) {
    const Span span = Bin<T>(boxes, scene, roi, slot, rank).span;
    const int begin = span.count > 0 ? span.first : INT_MAX, end = span.first + span.count;
    const bool vertical = rank < boxes.wy.bins;
    rows.add(vertical ? begin : INT_MAX, vertical ? end : 0);
    columns.add(vertical ? INT_MAX : begin, vertical ? 0 : end);
  }
  rows.gather();
  columns.gather();
  if (helper == 0) {
    noted.rows[box] = rows;
    noted.columns[box] = columns;
    noted.slots[box] = slot;
    noted.images[box] = static_cast<int>(image);
  }
  __syncthreads();
  const int lane = threadIdx.x % kWarp;
#pragma unroll 1
  for (int digit = threadIdx.x / kWarp; digit < marks.digits; digit += kHelpers) {
    marks.set(digit, group, (noted.images[lane] >> digit & 1) != 0);
  }
  for (int map = 0; map < boxes.launched; ++map) {
    const Tiling& tiling = tilings.maps[map];
    const bool of_map = noted.slots[lane] == map;
    noted.rows[lane].mark(marks, tiling.first_line, tiling.down, tilings.rows, of_map, group);
    noted.columns[lane].mark(marks, tiling.first_line + tiling.down, tiling.across, tilings.columns,
                             of_map, group);
  }
  __syncthreads();
}

// Weights and marks in one launch, since neither needs the other. Marks come first: they take
// longer. `lanes` threads for each bin of each axis of each box.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    prepare_kernel(Boxes<T> boxes, const __grid_constant__ Scene<T> scene, int lanes, Marks marks,
                   const __grid_constant__ Tilings tilings) {
  __shared__ Noted noted;
  const int64_t items = marks.groups + weight_blocks(boxes, lanes);
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    if (item < marks.groups) {
      mark_boxes(boxes, scene, marks, tilings, item, noted);
    } else {
      write_weights(boxes, scene, lanes, item - marks.groups);
    }
  }
}

}  // namespace fgclip_det
