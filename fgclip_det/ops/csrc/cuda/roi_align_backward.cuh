#pragma once

// Kernels of the backward pass: each cell gathers from the bins that touch it, in the order of the
// boxes and of their bins. No atomics, hence the same bits in every run.

#include <cstdint>

#include "roi_align_marks.cuh"
#include "roi_align_weights.cuh"

namespace fgclip_det {

constexpr int kItems = 64;     // bins whose weights lie in shared memory at a time
constexpr int kTileRows = 8;   // rows of the map in a tile, at most
constexpr int kRowValues = 4;  // cells of a row that are written at once, where channels come first

// Columns of the map in a tile: a thread holds the sums of so many cells of V channels.
template <int V>
constexpr int kTileColumns = V == 8 ? 4 : 8;

// Where the gradient of each map of a launch goes; dense.
template <typename scalar_t>
struct Targets {
  scalar_t* data[kMaxLevels];
  bool channels_first[kMaxLevels];  // (N, C, h, w) in memory; otherwise (N, h, w, C)
};

// A tile of one image's map, which a block owns.
struct Tile {
  int slot;                     // of the map
  int64_t image, down, across;  // the image, and where in it the tile is
  int row_begin, row_end, column_begin, column_end;

  __device__ __forceinline__ Tile(const Tilings& tilings, int64_t maps, int64_t index) {
    slot = 0;
    while (slot + 1 < maps && index >= tilings.maps[slot + 1].first_tile) {
      ++slot;
    }
    const Tiling& tiling = tilings.maps[slot];
    const int64_t place = index - tiling.first_tile, line = place / tiling.across;
    image = line / tiling.down;
    down = line - image * tiling.down;
    across = place - line * tiling.across;
    row_begin = static_cast<int>(down * tilings.rows);
    row_end = end_of(row_begin, tilings.rows, tiling.height);
    column_begin = static_cast<int>(across * tilings.columns);
    column_end = end_of(column_begin, tilings.columns, tiling.width);
  }

  static __device__ __forceinline__ int end_of(int begin, int cells, int size) {
    return size - begin < cells ? size : begin + cells;
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

// Sums up `value` over the threads of a block, in their order, in shared memory.
template <typename Number>
struct Sums {
  Number ends[2][kThreads];  // up to each thread, its own value included
  int side;                  // which of the two is final

  // Returns the whole sum.
  __device__ __forceinline__ Number add_up(Number value) {
    const int self = threadIdx.x;
    __syncthreads();  // the sum before may still be read
    ends[0][self] = value;
    int now = 0;
    for (int reach = 1; reach < static_cast<int>(blockDim.x); reach *= 2, now = 1 - now) {
      __syncthreads();
      const Number before = self < reach ? Number(0) : ends[now][self - reach];
      ends[1 - now][self] = ends[now][self] + before;
    }
    if (self == 0) {
      side = now;
    }
    __syncthreads();
    return ends[now][blockDim.x - 1];
  }

  // The thread whose share entry `rank` is of; sets `rank` to its place among them.
  __device__ __forceinline__ int owner(Number& rank) const {
    int thread = 0;
    for (int end = blockDim.x; thread < end;) {
      const int middle = (thread + end) / 2;
      if (ends[side][middle] <= rank) {
        thread = middle + 1;
      } else {
        end = middle;
      }
    }
    rank -= thread == 0 ? Number(0) : ends[side][thread - 1];
    return thread;
  }
};

// The boxes that touch a tile among 32 * blockDim.x successive ones. In shared memory.
struct BoxList {
  uint32_t words[kThreads];
  Sums<int> sums;

  // Those of groups first_group, first_group + 1, ... of 32; returns how many touch.
  __device__ __forceinline__ int list(const Marks& marks, const Tilings& tilings, const Tile& tile,
                                      int64_t first_group) {
    const Tiling& tiling = tilings.maps[tile.slot];
    const int64_t group = first_group + threadIdx.x;
    const uint32_t word = group < marks.groups
                              ? marks.touching(tiling, tile.image, tile.down, tile.across, group)
                              : 0u;
    if (!__syncthreads_or(word != 0)) {
      return 0;
    }
    words[threadIdx.x] = word;
    return sums.add_up(__popc(word));
  }

  // Box number `rank` of the list, counted from box 32 * first_group.
  __device__ __forceinline__ int find(int rank) const {
    const int thread = sums.owner(rank);
    uint32_t word = words[thread];
    int bit = 0;
#pragma unroll
    for (int half = kWarp / 2; half > 0; half /= 2) {
      const int below = __popc(word & ((1u << half) - 1u));
      if (rank >= below) {
        rank -= below;
        word >>= half;
        bit += half;
      }
    }
    return thread * kWarp + bit;
  }
};

// The bins of up to blockDim.x boxes that touch a tile, as a list that is never written out. In
// shared memory.
struct BinList {
  Sums<int64_t> sums;  // of numbers of bins
  int box[kThreads], first_p[kThreads], first_q[kThreads], width[kThreads];

  __device__ __forceinline__ void find(int64_t entry, int& which, int& p, int& q) const {
    const int thread = sums.owner(entry);
    which = box[thread];
    p = first_p[thread] + static_cast<int>(entry / width[thread]);
    q = first_q[thread] + static_cast<int>(entry % width[thread]);
  }
};

// Lists the bins of boxes first, first + 1, ... of `found`, which are counted from box first_roi
// on; returns how many bins these are.
template <typename T>
__device__ __forceinline__ int64_t list_bins(const Boxes<T>& boxes, const Tile& tile,
                                             const BoxList& found, int64_t first_roi, int first,
                                             int count, BinList& list) {
  const int self = threadIdx.x;
  int64_t bins = 0;
  if (first + self < count) {
    const int box = found.find(first + self);
    int p, p_end, q, q_end;
    bins_touching(boxes.wy, first_roi + box, tile.row_begin, tile.row_end, p, p_end);
    bins_touching(boxes.wx, first_roi + box, tile.column_begin, tile.column_end, q, q_end);
    if (p < p_end && q < q_end) {
      bins = static_cast<int64_t>(p_end - p) * (q_end - q);
      list.box[self] = box;
      list.first_p[self] = p;
      list.first_q[self] = q;
      list.width[self] = q_end - q;
    }
  }
  return list.sums.add_up(bins);
}

// Up to kItems bins of a list with their weights in the tile, 0 for cells that they do not touch.
template <typename T, int kColumns>
struct Items {
  int64_t offsets[kItems];  // of their gradients; a pointer would hide that these lie in memory
  int box[kItems], p[kItems], q[kItems];
  T rows[kItems][kTileRows];
  T columns[kItems][kColumns];
};

template <typename scalar_t, typename T, int kColumns>
__device__ __forceinline__ void stage_items(const Boxes<T>& boxes, const Tile& tile,
                                            const BinList& list, const Maps<scalar_t>& gradient,
                                            int64_t first_roi, int64_t first_entry, int count,
                                            Items<T, kColumns>& items) {
  for (int item = threadIdx.x; item < count; item += blockDim.x) {
    list.find(first_entry + item, items.box[item], items.p[item], items.q[item]);
    items.offsets[item] =
        gradient.offset(first_roi + items.box[item], items.p[item], items.q[item]);
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
                                          int row, const scalar_t* gradient,
                                          T (&sums)[kColumns][V]) {
  constexpr int kLoads = 2;
  Pack<scalar_t, V> packs[kLoads];
  T weights[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int item = first + i;
    weights[i] = item < count ? items.rows[item][row] : T(0);
    if (weights[i] != T(0)) {
      packs[i] = load<V>(gradient + items.offsets[item]);
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

// Writes one channel of the cells of a row, of which `count` exist, a multiple of kRowValues.
template <int V, typename scalar_t, typename T, int kColumns>
__device__ __forceinline__ void store_row(scalar_t* to, const T (&sums)[kColumns][V], int v,
                                          int count) {
#pragma unroll
  for (int x = 0; x < kColumns; x += kRowValues) {
    if (x < count) {
      T values[kRowValues];
#pragma unroll
      for (int i = 0; i < kRowValues; ++i) {
        values[i] = sums[x + i][v];
      }
      store<kRowValues>(to + x, values);
    }
  }
}

// Writes V channels of the cells of one row of a tile.
template <int V, typename scalar_t, typename T, int kColumns>
__device__ __forceinline__ void store_tile_row(const Tiling& map, const Tile& tile, int row,
                                               int64_t channels, int64_t channel,
                                               bool channels_first, scalar_t* data,
                                               const T (&sums)[kColumns][V]) {
  const int64_t down = tile.row_begin + row;
  const int columns = tile.column_end - tile.column_begin;
  if (channels_first) {
    scalar_t* to = data + ((tile.image * channels + channel) * map.height + down) * map.width +
                   tile.column_begin;
#pragma unroll
    for (int v = 0; v < V; ++v, to += static_cast<int64_t>(map.height) * map.width) {
      store_row(to, sums, v, columns);
    }
  } else {
    scalar_t* to = data +
                   ((tile.image * map.height + down) * map.width + tile.column_begin) * channels +
                   channel;
#pragma unroll
    for (int x = 0; x < kColumns; ++x, to += channels) {
      if (x < columns) {
        store<V>(to, sums[x]);
      }
    }
  }
}

// A block for each (tile, channel tile), of all maps: each of its first groups of lanes owns a row;
// where channels are few, there are more groups, to list boxes. The block goes through the boxes
// that touch its tile in their order, blockDim.x of them at a time, lists their bins, and adds them
// up.
template <typename scalar_t, typename T, int V>
__global__ void __launch_bounds__(kThreads, 2)
    spread_kernel(Boxes<T> boxes, Marks marks, const __grid_constant__ Tilings tilings,
                  Maps<scalar_t> gradient, Lanes lanes,
                  const __grid_constant__ Targets<scalar_t> targets) {
  constexpr int kColumns = kTileColumns<V>;
  __shared__ BoxList found;
  __shared__ BinList list;
  __shared__ Items<T, kColumns> items;
  for (int64_t index = blockIdx.x; index < tilings.tiles * lanes.tiles; index += gridDim.x) {
    const int64_t place = index / lanes.tiles;
    const int64_t channel = ((index - place * lanes.tiles) * lanes.count + lanes.lane()) * V;
    const Tile tile(tilings, boxes.launched, place);
    const int row = lanes.group();
    const bool mine =
        row < tilings.rows && tile.row_begin + row < tile.row_end && channel < lanes.channels;
    T sums[kColumns][V] = {};
    for (int64_t group = 0; group < marks.groups; group += blockDim.x) {
      const int64_t first_roi = group * kWarp;
      const int count = found.list(marks, tilings, tile, group);
      for (int first = 0; first < count; first += blockDim.x) {
        const int64_t entries = list_bins(boxes, tile, found, first_roi, first, count, list);
        for (int64_t entry = 0; entry < entries; entry += kItems) {
          const int some = static_cast<int>(entries - entry < kItems ? entries - entry : kItems);
          stage_items(boxes, tile, list, gradient, first_roi, entry, some, items);
          for (int item = 0; mine && item < some; item += 2) {
            add_items(items, item, some, row, gradient.data + channel, sums);
          }
          __syncthreads();
        }
      }
    }
    if (mine) {
      store_tile_row(tilings.maps[tile.slot], tile, row, lanes.channels, channel,
                     targets.channels_first[tile.slot], targets.data[tile.slot], sums);
    }
  }
}

}  // namespace fgclip_det
