#pragma once

// The forward pass for one bin and many boxes: a block holds a slab of one image's map, that is 32
// bytes of every cell's channels, in shared memory, and all boxes of the image stream through it.
//
// A box reads its cells from shared memory instead of the second-level cache, so the map leaves
// memory once for all boxes. A slab that exceeds shared memory is taken in bands of rows, one after
// the other; a box that lies in several keeps its sum so far in `partial` between them.
//
// A warp takes a box. Two lanes share a cell, 16 bytes each, so the warp reads a patch of 16 cells
// at once: 16 columns of a wide box, 4 x 4 cells of a narrow one. Which cell a lane adds, and in
// what order, depends on shapes and the bands alone: the same bits in every run.

#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_pipeline_primitives.h>
#endif

#include "roi_align_forward.cuh"
#include "roi_align_weights.cuh"

namespace fgclip_det {

constexpr int kSlabBytes = 32;              // of each cell: what memory delivers at the least
constexpr int kSlabThreads = 640;           // of a block, at most
constexpr int kCellLanes = 2;               // lanes for one cell
constexpr int kPatch = kWarp / kCellLanes;  // cells that a warp reads at once
constexpr int kPatches = 4;                 // patches that a warp has on their way
constexpr unsigned kAllLanes = 0xffffffffu;

// Rows [begin, end) of an image's map, whose slab is in shared memory.
struct Band {
  int begin, end;
};

// Copies the slab of a band, 16 bytes at a time; `from` is its first cell, at the slab's first
// channel. `channels` of it exist, at most a slab's.
template <int V, typename scalar_t>
__device__ __forceinline__ void copy_vectors(const scalar_t* from, int64_t stride_b,
                                             int64_t stride_d, int rows, int width, int channels,
                                             scalar_t* slab) {
  const int part = threadIdx.x % kCellLanes;
  const int step = blockDim.x / kCellLanes;
  const int step_rows = step / width, step_columns = step % width;
  int row = threadIdx.x / kCellLanes / width, column = threadIdx.x / kCellLanes % width;
  if (part * V < channels) {
    while (row < rows) {
      // Goes past the registers, so that a thread has all its copies on their way at once.
      __pipeline_memcpy_async(slab + ((row * width + column) * kCellLanes + part) * V,
                              from + row * stride_b + column * stride_d + part * V,
                              V * sizeof(scalar_t));
      row += step_rows;
      column += step_columns;
      if (column >= width) {
        column -= width;
        ++row;
      }
    }
  }
  __pipeline_commit();
  __pipeline_wait_prior(0);
}

// The same for maps that 16-byte accesses do not reach: channels first, or an odd number of them.
// Threads side by side take what lies side by side.
template <int V, typename scalar_t>
__device__ __forceinline__ void copy_values(const scalar_t* from, int64_t stride_b,
                                            int64_t stride_d, int64_t stride_c, int rows, int width,
                                            int channels, scalar_t* slab) {
  const int cells = rows * width;
  for (int i = threadIdx.x; i < cells * channels; i += blockDim.x) {
    const int cell = stride_c == 1 ? i / channels : i % cells;
    const int channel = stride_c == 1 ? i % channels : i / cells;
    slab[cell * kCellLanes * V + channel] =
        from[cell / width * stride_b + cell % width * stride_d + channel * stride_c];
  }
}

// The columns of a patch, a power of two, as the exponent: no more than a window needs.
__device__ __forceinline__ int patch_columns_log2(int columns) {
  return columns > 8 ? 4 : columns > 4 ? 3 : columns > 2 ? 2 : 1;
}

// Adds the weighted cells of a window to the sums of the lanes. `corner` is the window's first cell
// in the slab, for a lane's part of the channels; wy and wx are the weights of its rows and
// columns.
template <int V, typename scalar_t, typename T>
__device__ __forceinline__ void add_window(const scalar_t* corner, int width, const T* wy, int rows,
                                           const T* wx, int columns, T (&sums)[V]) {
  const int lane = threadIdx.x % kWarp;
  const int log2 = patch_columns_log2(columns);
  const int across = 1 << log2, down = kPatch >> log2;
  const int patch_x = lane / kCellLanes % across, patch_y = lane / kCellLanes >> log2;
  const int stride = width * kCellLanes * V;
  // Each lane keeps the weight of one row, and of the column that it reads.
  for (int top = 0; top < rows; top += kWarp) {
    const int height = rows - top < kWarp ? rows - top : kWarp;
    const T row_weight = lane < height ? wy[top + lane] : T(0);
    for (int left = 0; left < columns; left += across) {
      const int x = left + patch_x;
      const bool inside = x < columns;
      const T column_weight = inside ? wx[x] : T(0);
      const scalar_t* cell = corner + (top + patch_y) * stride + x * kCellLanes * V;
      // What a lane does not load stays 0, and 0 times 0 is added: a cell beside the window may
      // hold NaN.
      Pack<scalar_t, V> packs[kPatches] = {};
      int y = patch_y;
#pragma unroll 1
      for (; y - patch_y + kPatches * down <= height; y += kPatches * down) {
        if (inside) {
#pragma unroll
          for (int i = 0; i < kPatches; ++i) {
            packs[i] = load<V>(cell + i * down * stride);
          }
        }
#pragma unroll
        for (int i = 0; i < kPatches; ++i) {
          const T weight = __shfl_sync(kAllLanes, row_weight, y + i * down) * column_weight;
          add(weight, packs[i], sums);
        }
        cell += kPatches * down * stride;
      }
#pragma unroll 1
      for (; y - patch_y < height; y += down) {
        Pack<scalar_t, V> pack = {};
        if (inside && y < height) {
          pack = load<V>(cell);
        }
        const T weight = __shfl_sync(kAllLanes, row_weight, y) * column_weight;
        add(weight, pack, sums);
        cell += down * stride;
      }
    }
  }
}

// Adds up what the lanes of a warp hold of the same channel. Lanes trade halves of what they hold,
// so that each ends with one channel, after fewer trades than V whole sums would take. Returns the
// sum of that channel, which held_channel() names.
template <int V, typename T>
__device__ __forceinline__ T sum_over_lanes(T (&sums)[V]) {
  const int lane = threadIdx.x % kWarp;
  int reach = kCellLanes;
#pragma unroll
  for (int kept = V / 2; kept > 0; kept /= 2) {
    const bool upper = lane & reach;
#pragma unroll
    for (int v = 0; v < kept; ++v) {
      const T given = upper ? sums[v] : sums[v + kept];
      const T own = upper ? sums[v + kept] : sums[v];
      sums[v] = own + __shfl_xor_sync(kAllLanes, given, reach);
    }
    reach *= 2;
  }
#pragma unroll
  for (; reach < kWarp; reach *= 2) {
    sums[0] += __shfl_xor_sync(kAllLanes, sums[0], reach);
  }
  return sums[0];
}

// The channel of the slab that a lane ends with; the first kCellLanes * V lanes have one each.
template <int V>
__device__ __forceinline__ int held_channel(int lane) {
  int channel = lane % kCellLanes * V;
  int reach = kCellLanes;
  for (int kept = V / 2; kept > 0; kept /= 2, reach *= 2) {
    channel += lane & reach ? kept : 0;
  }
  return channel;
}

// A box as its warp sees it: first the lanes look at a box each, then all take them in turn.
struct BoxWindow {
  Span rows, columns;

  template <typename T>
  __device__ __forceinline__ BoxWindow(const Boxes<T>& boxes, int64_t roi, bool exists)
      : rows{0, 0}, columns{0, 0} {
    if (exists) {
      rows = boxes.wy.span(roi, 0);
      columns = boxes.wx.span(roi, 0);
      if (rows.count == 0 || columns.count == 0) {
        rows = columns = {0, 0};
      }
    }
  }
  // The window that a lane of the warp looks at.
  __device__ __forceinline__ BoxWindow(const BoxWindow& other, int lane)
      : rows{__shfl_sync(kAllLanes, other.rows.first, lane),
             __shfl_sync(kAllLanes, other.rows.count, lane)},
        columns{__shfl_sync(kAllLanes, other.columns.first, lane),
                __shfl_sync(kAllLanes, other.columns.count, lane)} {}

  __device__ __forceinline__ bool is_empty() const { return rows.count == 0; }

  // Empty windows, whose result is 0, belong to the first band.
  __device__ __forceinline__ bool meets(const Band& band) const {
    return is_empty() ? band.begin == 0
                      : rows.first < band.end && rows.first + rows.count > band.begin;
  }
};

// Of the boxes of an image, those of one warp of one block: every step-th.
struct Share {
  int image, first, step;
};

// Pools what lies in a band. `channel` is the slab's first, and `partial` (K, C). plan_slabs() sees
// to it that 32 bits number what is addressed here: of each small box, addresses are half the work.
template <int V, typename scalar_t, typename T>
__device__ __forceinline__ void pool_band(const Boxes<T>& boxes, const Share& share,
                                          const Band& band, const scalar_t* slab, int channel,
                                          int channels, T* partial, scalar_t* pooled) {
  const int lane = threadIdx.x % kWarp;
  const int count = static_cast<int>(boxes.count), width = boxes.wx.size;
  const int out = channel + held_channel<V>(lane);
  const bool writes = lane < kCellLanes * V && out < channels;
  for (int base = share.first; base < count; base += share.step * kWarp) {
    const int looked_at = base + lane * share.step;
    bool mine = looked_at < count && boxes.is_mine(looked_at);
    bool named = false;
    if (mine) {
      const int64_t image = boxes.image(looked_at);
      named = image >= 0;
      mine = (named ? image : 0) == share.image;  // somebody has to write the zeros
    }
    const BoxWindow seen(boxes, looked_at, mine && named);
    unsigned left = __ballot_sync(kAllLanes, mine && seen.meets(band));
    while (left != 0) {
      const int next = __ffs(left) - 1;
      left &= left - 1;
      const int roi = base + next * share.step;
      const BoxWindow window(seen, next);
      const int end = window.rows.first + window.rows.count;
      const int first_row = window.rows.first < band.begin ? band.begin : window.rows.first;
      const int rows = (end < band.end ? end : band.end) - first_row;  // none of an empty window
      const int corner = (first_row - band.begin) * width + window.columns.first;
      T sums[V] = {};
      add_window(slab + (corner * kCellLanes + lane % kCellLanes) * V, width,
                 boxes.wy.weights + (roi * boxes.wy.pitch + first_row), rows,
                 boxes.wx.weights + (roi * boxes.wx.pitch + window.columns.first),
                 window.columns.count, sums);
      T sum = sum_over_lanes(sums);
      if (writes) {
        const int at = roi * channels + out;
        if (!window.is_empty() && window.rows.first < band.begin) {
          sum += partial[at];
        }
        if (end <= band.end) {
          pooled[at] = static_cast<scalar_t>(sum);
        } else {
          partial[at] = sum;
        }
      }
    }
  }
}

// A block for each (image, slab, part of the boxes). The parts of a slab share nothing. vectors:
// whether 16-byte accesses reach all of the maps.
template <typename scalar_t, typename T, int V>
__global__ void __launch_bounds__(kSlabThreads)
    pool_slab_kernel(Boxes<T> boxes, Maps<scalar_t> features, int64_t stride_c, bool vectors,
                     int channels, int band_rows, int parts, T* partial, scalar_t* pooled) {
  FGCLIP_DET_DYNAMIC_SHARED(shared);
  scalar_t* slab = reinterpret_cast<scalar_t*>(shared);
  constexpr int kChannels = kCellLanes * V;
  const int height = boxes.wy.size;
  const int slabs = (channels + kChannels - 1) / kChannels;
  const int64_t total = boxes.batch_size * slabs * parts;
  for (int64_t item = blockIdx.x; item < total; item += gridDim.x) {
    const int warps = blockDim.x / kWarp;
    const Share share{static_cast<int>(item / parts / slabs),
                      static_cast<int>(item % parts * warps + threadIdx.x / kWarp), parts * warps};
    const int channel = static_cast<int>(item / parts % slabs) * kChannels;
    for (int begin = 0; begin < height; begin += band_rows) {
      const Band band{begin, height - begin < band_rows ? height : begin + band_rows};
      const scalar_t* from = features.at(share.image, begin, 0) + channel * stride_c;
      const int rows = band.end - begin, left = channels - channel;
      const int present = left < kChannels ? left : kChannels;
      if (vectors) {
        copy_vectors<V>(from, features.stride_b, features.stride_d, rows, boxes.wx.size, present,
                        slab);
      } else {
        copy_values<V>(from, features.stride_b, features.stride_d, stride_c, rows, boxes.wx.size,
                       present, slab);
      }
      __syncthreads();
      pool_band<V>(boxes, share, band, slab, channel, channels, partial, pooled);
      __syncthreads();
    }
  }
}

}  // namespace fgclip_det
