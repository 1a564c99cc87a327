#pragma once

// Kernels of the backward pass: each cell gathers from the bins that touch it, in the order of the
// boxes and of their bins. No atomics, hence the same bits in every run.

#include <climits>
#include <cstdint>

#include "roi_align_weights.cuh"

namespace fgclip_det {

constexpr int kItems = 64;    // bins whose weights lie in shared memory at a time
constexpr int kTileRows = 8;  // rows of the map in a tile, at most

// Columns of the map in a tile: a thread holds the sums of so many cells of V channels.
template <int V>
constexpr int kTileColumns = V == 8 ? 4 : 8;

// The cells that any bin of a box touches, and its map and image; -1 where it names none.
struct Window {
  int32_t level, image;
  int32_t row_begin, row_end, column_begin, column_end;
};

template <typename T>
__global__ void __launch_bounds__(kThreads) windows_kernel(Boxes<T> boxes, Window* windows) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  int64_t roi = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; roi < boxes.count; roi += step) {
    Window window{-1, -1, 0, 0, 0, 0};
    const int slot = boxes.slot(roi);
    if (slot >= 0) {
      window.level = static_cast<int32_t>(boxes.level + slot);
      window.image = static_cast<int32_t>(boxes.image(roi));
      cover(boxes.wy, roi, window.row_begin, window.row_end);
      cover(boxes.wx, roi, window.column_begin, window.column_end);
    }
    windows[roi] = window;
  }
}

// A tile of one image's map, which a block owns.
struct Tile {
  int64_t level, image;
  int row_begin, row_end, column_begin, column_end;

  __device__ __forceinline__ bool meets(const Window& window) const {
    return window.level == level && window.image == image && window.row_begin < row_end &&
           window.row_end > row_begin && window.column_begin < column_end &&
           window.column_end > column_begin;
  }
};

// Bins [first, end) of an axis hold all that touch cells [cell_begin, cell_end).
template <typename T>
__device__ __forceinline__ void bins_touching(const AxisWeights<T>& weights, int64_t roi,
                                              int cell_begin, int cell_end, int& first, int& end) {
  first = weights.bins;
  end = 0;
  for (int bin = 0; bin < weights.bins; ++bin) {
    const Span span = weights.span(roi, bin);
    if (span.first < cell_end && span.first + span.count > cell_begin) {
      first = bin < first ? bin : first;
      end = bin + 1;
    }
  }
}

// The bins of blockDim.x successive boxes that touch a tile, as a list that is never written out:
// entry m belongs to the first box whose `ends` exceeds m. In shared memory.
struct BinList {
  int64_t ends[2][kThreads];  // numbers of bins, added up over the boxes
  int first_p[kThreads], first_q[kThreads], width[kThreads];
  int side;  // which of the two `ends` is final

  __device__ __forceinline__ void find(int64_t entry, int& box, int& p, int& q) const {
    box = 0;
    for (int end = blockDim.x; box < end;) {
      const int middle = (box + end) / 2;
      if (ends[side][middle] <= entry) {
        box = middle + 1;
      } else {
        end = middle;
      }
    }
    const int64_t rank = entry - (box == 0 ? 0 : ends[side][box - 1]);
    p = first_p[box] + static_cast<int>(rank / width[box]);
    q = first_q[box] + static_cast<int>(rank % width[box]);
  }
};

// Lists the bins of boxes first_roi, first_roi + 1, ...; returns how many these are.
template <typename T>
__device__ __forceinline__ int64_t list_bins(const Boxes<T>& boxes, const Window* windows,
                                             const Tile& tile, int64_t first_roi, BinList& list) {
  const int self = threadIdx.x;
  const int64_t roi = first_roi + self;
  int64_t bins = 0;
  if (roi < boxes.count && tile.meets(windows[roi])) {
    int p, p_end, q, q_end;
    bins_touching(boxes.wy, roi, tile.row_begin, tile.row_end, p, p_end);
    bins_touching(boxes.wx, roi, tile.column_begin, tile.column_end, q, q_end);
    if (p < p_end && q < q_end) {
      bins = static_cast<int64_t>(p_end - p) * (q_end - q);
      list.first_p[self] = p;
      list.first_q[self] = q;
      list.width[self] = q_end - q;
    }
  }
  if (!__syncthreads_or(bins > 0)) {
    return 0;
  }
  list.ends[0][self] = bins;
  int side = 0;
  for (int reach = 1; reach < static_cast<int>(blockDim.x); reach *= 2, side = 1 - side) {
    __syncthreads();
    const int64_t before = self < reach ? 0 : list.ends[side][self - reach];
    list.ends[1 - side][self] = list.ends[side][self] + before;
  }
  if (self == 0) {
    list.side = side;
  }
  __syncthreads();
  return list.ends[side][blockDim.x - 1];
}

// Up to kItems bins of a list with their weights in the tile, 0 for cells that they do not touch.
template <typename T, int kColumns>
struct Items {
  int box[kItems], p[kItems], q[kItems];
  T rows[kItems][kTileRows];
  T columns[kItems][kColumns];
};

template <typename T, int kColumns>
__device__ __forceinline__ void stage_items(const Boxes<T>& boxes, const Tile& tile,
                                            const BinList& list, int64_t first_roi,
                                            int64_t first_entry, int count,
                                            Items<T, kColumns>& items) {
  for (int item = threadIdx.x; item < count; item += blockDim.x) {
    list.find(first_entry + item, items.box[item], items.p[item], items.q[item]);
  }
  __syncthreads();
  constexpr int kSlots = kTileRows + kColumns;
  for (int i = threadIdx.x; i < count * kSlots; i += blockDim.x) {
    const int item = i / kSlots, slot = i % kSlots;
    const bool vertical = slot < kTileRows;
    const AxisWeights<T> axis = vertical ? boxes.wy : boxes.wx;
    const int64_t roi = first_roi + items.box[item];
    const int bin = vertical ? items.p[item] : items.q[item];
    const int cell = vertical ? tile.row_begin + slot : tile.column_begin + slot - kTileRows;
    const T weight = axis.span(roi, bin).contains(cell) ? axis.of(roi, bin)[cell] : T(0);
    (vertical ? items.rows[item][slot] : items.columns[item][slot - kTileRows]) = weight;
  }
  __syncthreads();
}

// Adds what two items send to one row of the tile: first both loads, then their use.
template <int V, typename scalar_t, typename T, int kColumns>
__device__ __forceinline__ void add_items(const Items<T, kColumns>& items, int first, int count,
                                          int row, const Maps<scalar_t>& gradient,
                                          int64_t first_roi, int64_t channel,
                                          T (&sums)[kColumns][V]) {
  constexpr int kLoads = 2;
  Pack<scalar_t, V> packs[kLoads];
  T weights[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int item = first + i;
    weights[i] = item < count ? items.rows[item][row] : T(0);
    if (weights[i] != T(0)) {
      packs[i] =
          load<V>(gradient.at(first_roi + items.box[item], items.p[item], items.q[item]) + channel);
    }
  }
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (weights[i] != T(0)) {
      T scaled[V] = {};
      add(weights[i], packs[i], scaled);
#pragma unroll
      for (int x = 0; x < kColumns; ++x) {
        const T weight = items.columns[first + i][x];
        // Adding nothing is not adding 0 times a gradient, which may be infinite.
        if (weight != T(0)) {
#pragma unroll
          for (int v = 0; v < V; ++v) {
            sums[x][v] = multiply_add(weight, scaled[v], sums[x][v]);
          }
        }
      }
    }
  }
}

// A block for each (tile of `rows` x kTileColumns cells, channel tile): each of its first groups of
// lanes owns a row; where channels are few, there are more groups, to list boxes. The block goes
// through the boxes in their order, blockDim.x of them at a time, lists the bins that touch its
// tile, and adds them up. `result` is dense, (N, h, w, C) in memory.
template <typename scalar_t, typename T, int V>
__global__ void __launch_bounds__(kThreads, 2)
    spread_kernel(Boxes<T> boxes, const Window* windows, Maps<scalar_t> gradient, Lanes lanes,
                  int rows, scalar_t* result) {
  constexpr int kColumns = kTileColumns<V>;
  __shared__ BinList list;
  __shared__ Items<T, kColumns> items;
  const int height = boxes.wy.size, width = boxes.wx.size;
  const int64_t down = (static_cast<int64_t>(height) + rows - 1) / rows;
  const int64_t across = (static_cast<int64_t>(width) + kColumns - 1) / kColumns;
  const int64_t total = boxes.batch_size * down * across * lanes.tiles;
  for (int64_t index = blockIdx.x; index < total; index += gridDim.x) {
    const int64_t channel = (index % lanes.tiles * lanes.count + lanes.lane()) * V;
    const int64_t place = index / lanes.tiles;
    Tile tile;
    tile.level = boxes.level;
    tile.image = place / across / down;
    tile.row_begin = static_cast<int>(place / across % down * rows);
    tile.row_end = height - tile.row_begin < rows ? height : tile.row_begin + rows;
    tile.column_begin = static_cast<int>(place % across * kColumns);
    tile.column_end = width - tile.column_begin < kColumns ? width : tile.column_begin + kColumns;
    const int row = lanes.group();
    const bool mine = row < rows && tile.row_begin + row < tile.row_end && channel < lanes.channels;
    T sums[kColumns][V] = {};
    for (int64_t first_roi = 0; first_roi < boxes.count; first_roi += blockDim.x) {
      const int64_t entries = list_bins(boxes, windows, tile, first_roi, list);
      for (int64_t entry = 0; entry < entries; entry += kItems) {
        const int count = static_cast<int>(entries - entry < kItems ? entries - entry : kItems);
        stage_items(boxes, tile, list, first_roi, entry, count, items);
        for (int item = 0; mine && item < count; item += 2) {
          add_items(items, item, count, row, gradient, first_roi, channel, sums);
        }
        __syncthreads();
      }
    }
    if (mine) {
      scalar_t* to = result +
                     ((tile.image * height + tile.row_begin + row) * width + tile.column_begin) *
                         lanes.channels +
                     channel;
#pragma unroll
      for (int x = 0; x < kColumns; ++x) {
        if (tile.column_begin + x < tile.column_end) {
          store<V>(to + x * lanes.channels, sums[x]);
        }
      }
    }
  }
}

}  // namespace fgclip_det
