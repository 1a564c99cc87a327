#pragma once

// Copies maps between channels first and channels last, in tiles, so that both sides of the copy
// touch neighbouring addresses.

#include <cstdint>

namespace fgclip_det {

constexpr int kTranspose = 32;  // a tile is so many rows and columns
constexpr int kTransposeThreads = 256;

// Matrices in[b][i][j] whose j runs over rows of `width`: j = row * width + column.
template <typename bits_t>
struct Matrices {
  const bits_t* data;
  int64_t count, rows, columns;  // of b, i and j
  int64_t width;
  int64_t stride_b, stride_i, stride_row, stride_column;
};

// Reads along j, writes out[b][j][i] (dense) along i.
template <typename bits_t>
__global__ void __launch_bounds__(kTransposeThreads)
    transpose_kernel(Matrices<bits_t> in, bits_t* out) {
  __shared__ bits_t tile[kTranspose][kTranspose + 1];
  const int64_t down = (in.rows + kTranspose - 1) / kTranspose;
  const int64_t across = (in.columns + kTranspose - 1) / kTranspose;
  const int lane = threadIdx.x % kTranspose;
  for (int64_t item = blockIdx.x; item < in.count * down * across; item += gridDim.x) {
    const int64_t b = item / across / down;
    const int64_t first_i = item / across % down * kTranspose;
    const int64_t first_j = item % across * kTranspose;
    const int64_t j = first_j + lane;
    const int64_t at = j / in.width * in.stride_row + j % in.width * in.stride_column;
    for (int k = threadIdx.x / kTranspose; k < kTranspose; k += blockDim.x / kTranspose) {
      if (first_i + k < in.rows && j < in.columns) {
        tile[k][lane] = in.data[b * in.stride_b + (first_i + k) * in.stride_i + at];
      }
    }
    __syncthreads();
    for (int k = threadIdx.x / kTranspose; k < kTranspose; k += blockDim.x / kTranspose) {
      if (first_i + lane < in.rows && first_j + k < in.columns) {
        out[(b * in.columns + first_j + k) * in.rows + first_i + lane] = tile[lane][k];
      }
    }
    __syncthreads();
  }
}

}  // namespace fgclip_det
