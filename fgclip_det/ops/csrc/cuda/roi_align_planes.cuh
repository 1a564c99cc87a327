#pragma once

// The forward pass for several bins of maps with channels first, read as they are: no copy with
// channels last, and all maps of a pyramid in one launch.
//
// Along a row of such a map neighbouring threads read neighbouring cells. For each row of bins a
// thread sums one column of the box's window over rows, for one channel; from these sums, which lie
// in shared memory, the bins of the row are added up.

#include <cstdint>

#include "roi_align_forward.cuh"
#include "roi_align_weights.cuh"

namespace fgclip_det {

constexpr int kPlaneThreads = 256;
constexpr int kPlaneChannels = 32;     // of a block, at most
constexpr int kPlaneBytes = 32768;     // shared memory for sums of columns
constexpr int kMostPlaneBins = 32768;  // in a row: what a block works on is numbered with 32 bits

// A (N, C, h, w) map of any strides.
template <typename scalar_t>
struct Plane {
  const scalar_t* data;
  int64_t stride_n, stride_c, stride_y, stride_x;
};

template <typename scalar_t>
struct Planes {
  Plane<scalar_t> levels[kMaxLevels];
};

// What a block works on between two barriers: some rows of bins of some channels, over the columns
// of the box's window.
struct Patch {
  int64_t roi, channel;
  unsigned channels, first_p, rows, first_x, columns;
};

// sums[p][c][x]: column x of the window summed over the rows of bin row p, in channel c.
template <typename scalar_t, typename T>
__device__ __forceinline__ void sum_columns(const Boxes<T>& boxes, const Plane<scalar_t>& map,
                                            int64_t image, const Patch& patch, T* sums) {
  const unsigned count = patch.rows * patch.channels * patch.columns;
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) {
    const unsigned x = i % patch.columns, rest = i / patch.columns;
    const unsigned c = rest % patch.channels, p = patch.first_p + rest / patch.channels;
    const Span rows = boxes.wy.span(patch.roi, p);
    const scalar_t* cell = map.data + image * map.stride_n + (patch.channel + c) * map.stride_c +
                           rows.first * map.stride_y + (patch.first_x + x) * map.stride_x;
    T sum[1];
    sum_column(cell, map.stride_y, boxes.wy.of(patch.roi, p) + rows.first, rows.count, sum);
    sums[i] = sum[0];
  }
}

template <typename scalar_t, typename T>
__device__ __forceinline__ void add_columns(const Boxes<T>& boxes, const Patch& patch,
                                            const T* sums, int64_t channels, scalar_t* pooled) {
  const unsigned bins = boxes.wx.bins;
  const unsigned count = patch.rows * patch.channels * bins;
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) {
    // In the order of the result.
    const unsigned q = i % bins, rest = i / bins;
    const unsigned p = rest % patch.rows, c = rest / patch.rows;
    const Span span = boxes.wx.span(patch.roi, q);
    const T* weights = boxes.wx.of(patch.roi, q) + span.first;
    const unsigned first = (p * patch.channels + c) * patch.columns + span.first - patch.first_x;
    T sum = T(0);
    for (int x = 0; patch.columns > 0 && x < span.count; ++x) {
      sum = multiply_add(weights[x], sums[first + x], sum);
    }
    pooled[((patch.roi * channels + patch.channel + c) * boxes.wy.bins + patch.first_p + p) * bins +
           q] = static_cast<scalar_t>(sum);
  }
}

// A block for each (box, kPlaneChannels channels); `pooled` is dense, (K, C, oh, ow).
template <typename scalar_t, typename T>
__global__ void __launch_bounds__(kPlaneThreads)
    pool_planes_kernel(Boxes<T> boxes, const __grid_constant__ Planes<scalar_t> maps,
                       int64_t channels, scalar_t* pooled) {
  constexpr unsigned kRoom = kPlaneBytes / sizeof(T);
  __shared__ T sums[kRoom];
  const int64_t chunks = (channels + kPlaneChannels - 1) / kPlaneChannels;
  const unsigned bin_rows = boxes.wy.bins;
  for (int64_t item = blockIdx.x; item < boxes.count * chunks; item += gridDim.x) {
    Patch patch;
    patch.roi = item / chunks;
    const int slot = boxes.slot(patch.roi);
    if (slot < 0) {
      continue;  // all threads of the block
    }
    const int64_t image = boxes.image(patch.roi);
    int begin, end;
    cover(boxes.wx, patch.roi, begin, end);
    patch.first_x = begin;
    patch.columns = image >= 0 && begin < end ? end - begin : 0;
    // As many channels, then as many rows of bins, as there is room for.
    const unsigned room = patch.columns > 0 ? kRoom / patch.columns : kRoom;
    const unsigned most_channels = room < kPlaneChannels ? room : kPlaneChannels;
    const unsigned most_rows = room / most_channels;
    const int64_t first = item % chunks * kPlaneChannels;
    const int64_t last = channels - first < kPlaneChannels ? channels : first + kPlaneChannels;
    for (patch.channel = first; patch.channel < last; patch.channel += most_channels) {
      const int64_t left = last - patch.channel;
      patch.channels = left < most_channels ? static_cast<unsigned>(left) : most_channels;
      for (patch.first_p = 0; patch.first_p < bin_rows; patch.first_p += most_rows) {
        const unsigned left_rows = bin_rows - patch.first_p;
        patch.rows = left_rows < most_rows ? left_rows : most_rows;
        sum_columns(boxes, maps.levels[slot], image, patch, sums);
        __syncthreads();
        add_columns(boxes, patch, sums, channels, pooled);
        __syncthreads();
      }
    }
  }
}

}  // namespace fgclip_det
