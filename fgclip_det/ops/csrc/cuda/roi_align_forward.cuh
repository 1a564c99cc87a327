#pragma once

// Kernels of the forward pass.

#include <cstdint>

#include "roi_align_weights.cuh"

#if !defined(FGCLIP_DET_DYNAMIC_SHARED)
#define FGCLIP_DET_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

namespace fgclip_det {

constexpr int kLoads = 4;         // cells that a thread of pool_box_kernel has on their way
constexpr int kRowLoads = 4;      // the same in pool_bins_kernel
constexpr int kBinThreads = 224;  // of its blocks: 7 warps, since 7 rows of bins are usual

// Blocks of pool_bins_kernel on a multiprocessor: with 8 channels a thread, three of them would
// have to keep sums outside their registers.
template <int V>
constexpr int kBinBlocks = V == 8 ? 2 : 3;

// A walk over the cells of a window, row by row.
template <typename scalar_t, typename T>
struct Walk {
  const scalar_t* cell;
  const T *wy, *wx;
  int columns;
  int column;
  int64_t stride, jump;  // to the next column; on top of it, to the next row

  __device__ __forceinline__ void advance() {
    cell += stride;
    if (++column == columns) {
      column = 0;
      ++wy;
      cell += jump;
    }
  }
};

// Adds the next cells of a walk, all kLoads of them or fewer: first every load, then every use.
template <int V, bool kAll, typename scalar_t, typename T>
__device__ __forceinline__ void add_cells(Walk<scalar_t, T>& walk, int64_t cells, T (&sums)[V]) {
  Pack<scalar_t, V> packs[kLoads];
  T row_weights[kLoads], column_weights[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (kAll || i < cells) {
      packs[i] = load<V>(walk.cell);
      row_weights[i] = *walk.wy;
      column_weights[i] = walk.wx[walk.column];
      walk.advance();
    }
  }
  // The products too come after all loads: a thread waits for the first of them, once.
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (kAll || i < cells) {
      add(row_weights[i] * column_weights[i], packs[i], sums);
    }
  }
}

// One bin: a block for each (box, channel tile). The groups of the block share out the cells of the
// box, so that a box as large as the map keeps a whole multiprocessor busy, and their sums are
// added in the order of the groups. Weights are read through the first-level cache: a value that a
// warp shares costs one access there, as much as in shared memory.
//
// Not a matrix product: at 64 x 64 x 768, 1000 boxes, 16 bits, a box of area a (of the map) costs
// 6.3 MB * a of cached reads, all 1.1 ms * a on an H100. A GEMM is 13 GFLOP (weights in two halves,
// lest they round) and 40 MB, some 35 us, whatever a is: it would win above a = 3 %, on one image
// at a time, with NaN in one cell spoiling all boxes; in float32 (no TF32) above a = 6 % only.
template <typename scalar_t, typename T, int V>
__global__ void __launch_bounds__(kThreads, 3)
    pool_box_kernel(Boxes<T> boxes, Maps<scalar_t> features, Lanes lanes, scalar_t* pooled) {
  __shared__ T partial[V * kThreads];
  const int lane = lanes.lane(), group = lanes.group();
  for (int64_t item = blockIdx.x; item < boxes.count * lanes.tiles; item += gridDim.x) {
    const int64_t roi = item / lanes.tiles;
    if (!boxes.is_mine(roi)) {
      continue;  // all threads of the block
    }
    const int64_t channel = (item % lanes.tiles * lanes.count + lane) * V;
    const int64_t image = boxes.image(roi);
    const Span rows = boxes.wy.span(roi, 0), columns = boxes.wx.span(roi, 0);
    const int64_t cells = image < 0 ? 0 : static_cast<int64_t>(rows.count) * columns.count;
    const int64_t share = (cells + lanes.groups() - 1) / lanes.groups();
    const int64_t begin = group * share;
    T sums[V] = {};
    if (channel < lanes.channels && begin < cells) {
      const int64_t row = begin / columns.count;
      const int column = static_cast<int>(begin - row * columns.count);
      Walk<scalar_t, T> walk{features.at(image, rows.first + row, columns.first + column) + channel,
                             boxes.wy.of(roi, 0) + rows.first + row,
                             boxes.wx.of(roi, 0) + columns.first,
                             columns.count,
                             column,
                             features.stride_d,
                             features.stride_b - columns.count * features.stride_d};
      int64_t left = cells - begin < share ? cells - begin : share;
#pragma unroll 1
      for (; left >= kLoads; left -= kLoads) {
        add_cells<V, true>(walk, left, sums);
      }
      add_cells<V, false>(walk, left, sums);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
      partial[(group * V + v) * lanes.count + lane] = sums[v];
    }
    __syncthreads();
    if (group == 0 && channel < lanes.channels) {
      for (int other = 1; other < lanes.groups() && other * share < cells; ++other) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          sums[v] += partial[(other * V + v) * lanes.count + lane];
        }
      }
      store<V>(pooled + roi * lanes.channels + channel, sums);
    }
    __syncthreads();
  }
}

// The rows of one bin, summed in one column of the map.
template <int V, typename scalar_t, typename T>
__device__ __forceinline__ void sum_column(const scalar_t* cell, int64_t stride, const T* wy,
                                           int rows, T (&sums)[V]) {
#pragma unroll
  for (int v = 0; v < V; ++v) {
    sums[v] = T(0);
  }
#pragma unroll 1
  for (int row = 0; row < rows; row += kRowLoads) {
    Pack<scalar_t, V> packs[kRowLoads];
    T weights[kRowLoads];
#pragma unroll
    for (int i = 0; i < kRowLoads; ++i) {
      if (row + i < rows) {
        packs[i] = load<V>(cell + i * stride);
        weights[i] = wy[row + i];
      }
    }
#pragma unroll
    for (int i = 0; i < kRowLoads; ++i) {
      if (row + i < rows) {
        add(weights[i], packs[i], sums);
      }
    }
    cell += kRowLoads * stride;
  }
}

// Where pool_bins_kernel leaves its sums.
template <typename scalar_t>
struct Pooled {
  scalar_t* data;      // dense
  bool channels_last;  // (K, oh, ow, C) in memory; otherwise (K, C, oh, ow)
  bool staged;         // the latter collected in shared memory, then written side by side
};

// Successive bins of a row, V channels of each.
template <typename scalar_t>
struct Outlet {
  scalar_t* to;
  int64_t next_bin, next_channel;

  template <int V, typename T>
  __device__ __forceinline__ void put(const T (&sums)[V]) {
    if (next_channel == 1) {
      store<V>(to, sums);
    } else {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        to[v * next_channel] = static_cast<scalar_t>(sums[v]);
      }
    }
    to += next_bin;
  }
};

// Some bins of one row of bins, V channels. A column of the map is summed once although
// neighbouring bins share up to two: bins go from left to right, so the last two sums are kept.
template <int V, typename scalar_t, typename T>
__device__ __forceinline__ void pool_bin_row(const scalar_t* corner, int64_t stride_b,
                                             int64_t stride_d, const T* wy, int rows,
                                             const Span* spans, const T* wx, int pitch, int bins,
                                             Outlet<scalar_t> outlet) {
  T newer[V] = {}, older[V] = {};
  int newer_x = -1, older_x = -1;
#pragma unroll 1
  for (; bins > 0; --bins, ++spans, wx += pitch) {
    const int end = rows > 0 ? spans->first + spans->count : 0;
    T sums[V] = {};
#pragma unroll 1
    for (int x = spans->first; x < end; ++x) {
      const T weight = wx[x];
      if (x == older_x) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          sums[v] = multiply_add(weight, older[v], sums[v]);
        }
        continue;
      }
      if (x != newer_x) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          older[v] = newer[v];
        }
        older_x = newer_x;
        newer_x = x;
        sum_column(corner + x * stride_d, stride_b, wy, rows, newer);
      }
#pragma unroll
      for (int v = 0; v < V; ++v) {
        sums[v] = multiply_add(weight, newer[v], sums[v]);
      }
    }
    outlet.put(sums);
  }
}

// Several bins: a block for each (box, channel tile), whose groups share out the rows of bins, each
// row cut into `parts`.
template <typename scalar_t, typename T, int V>
__global__ void __launch_bounds__(kBinThreads, kBinBlocks<V>)
    pool_bins_kernel(Boxes<T> boxes, Maps<scalar_t> features, Lanes lanes, int parts,
                     Pooled<scalar_t> pooled) {
  FGCLIP_DET_DYNAMIC_SHARED(shared);
  scalar_t* staging = reinterpret_cast<scalar_t*>(shared);
  const int64_t width = boxes.wx.bins, bins = boxes.wy.bins * width;
  const int lane = lanes.lane();
  for (int64_t item = blockIdx.x; item < boxes.count * lanes.tiles; item += gridDim.x) {
    const int64_t roi = item / lanes.tiles;
    if (!boxes.is_mine(roi)) {
      continue;  // all threads of the block
    }
    const int64_t tile_begin = item % lanes.tiles * lanes.count * V;
    const int64_t channel = tile_begin + lane * V;
    const int64_t image = boxes.image(roi);
    for (int64_t task = lanes.group();
         task < static_cast<int64_t>(boxes.wy.bins) * parts && channel < lanes.channels;
         task += lanes.groups()) {
      const int64_t p = task / parts, part = task % parts;
      const int64_t q = width * part / parts, q_end = width * (part + 1) / parts;
      const Span rows = image < 0 ? Span{0, 0} : boxes.wy.span(roi, p);
      const int64_t bin = p * width + q;
      Outlet<scalar_t> outlet{pooled.data + (roi * lanes.channels + channel) * bins + bin, 1, bins};
      if (pooled.channels_last) {
        outlet = {pooled.data + (roi * bins + bin) * lanes.channels + channel, lanes.channels, 1};
      } else if (pooled.staged) {
        outlet.to = staging + lane * V * bins + bin;
      }
      pool_bin_row<V>(image < 0 ? nullptr : features.at(image, rows.first, 0) + channel,
                      features.stride_b, features.stride_d, boxes.wy.of(roi, p) + rows.first,
                      rows.count, boxes.wx.spans + roi * width + q, boxes.wx.of(roi, q),
                      boxes.wx.pitch, static_cast<int>(q_end - q), outlet);
    }
    if (pooled.staged) {
      const int64_t tile = static_cast<int64_t>(lanes.count) * V;
      const int64_t rest = lanes.channels - tile_begin;
      const int64_t values = (rest < tile ? rest : tile) * bins;
      scalar_t* to = pooled.data + (roi * lanes.channels + tile_begin) * bins;
      __syncthreads();
      for (int64_t i = threadIdx.x; i < values; i += blockDim.x) {
        to[i] = staging[i];
      }
      __syncthreads();
    }
  }
}

}  // namespace fgclip_det
