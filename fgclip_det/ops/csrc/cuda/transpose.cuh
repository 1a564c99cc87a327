#pragma once

// Copies maps between channels first and channels last, in tiles, so that both sides of the copy
// touch neighbouring addresses. Every thread has all its loads on their way before it stores.

#include <cstdint>

namespace fgclip_det {

constexpr int kTranspose = 32;  // a tile is so many rows and columns, or so many words
constexpr int kTransposeThreads = 256;
constexpr int kTransposeGroups = kTransposeThreads / kTranspose;  // rows in flight
constexpr int kTransposeSteps = kTranspose / kTransposeGroups;    // of a group

// Matrices in[b][i][j] whose j runs over rows of `width`: j = row * width + column.
template <typename bits_t>
struct Matrices {
  const bits_t* data;
  int64_t count, rows, columns;  // of b, i and j
  int64_t width;
  int64_t stride_b, stride_i, stride_row, stride_column;

  // Whether values j and j + 1, for even j, are one aligned word.
  bool has_words() const {
    return reinterpret_cast<std::uintptr_t>(data) % (2 * sizeof(bits_t)) == 0 &&
           stride_column == 1 && columns % 2 == 0 && width % 2 == 0 && stride_row % 2 == 0 &&
           stride_i % 2 == 0 && stride_b % 2 == 0;
  }
};

// One tile of one matrix, at most kDown x kAcross values.
template <int kDown, int kAcross>
struct Piece {
  int64_t b, first_i, first_j;
  int down, across;  // values that there are

  template <typename bits_t>
  static __host__ __device__ __forceinline__ int64_t count(const Matrices<bits_t>& in) {
    return in.count * ((in.rows + kDown - 1) / kDown) * ((in.columns + kAcross - 1) / kAcross);
  }

  template <typename bits_t>
  __device__ __forceinline__ Piece(const Matrices<bits_t>& in, int64_t item) {
    const int64_t pieces_down = (in.rows + kDown - 1) / kDown;
    const int64_t pieces_across = (in.columns + kAcross - 1) / kAcross;
    const int64_t line = item / pieces_across;
    b = line / pieces_down;
    first_i = (line - b * pieces_down) * kDown;
    first_j = (item - line * pieces_across) * kAcross;
    down = static_cast<int>(in.rows - first_i < kDown ? in.rows - first_i : kDown);
    across = static_cast<int>(in.columns - first_j < kAcross ? in.columns - first_j : kAcross);
  }

  // Where value (i, j) of the piece lies.
  template <typename bits_t>
  __device__ __forceinline__ const bits_t* at(const Matrices<bits_t>& in, int i, int j) const {
    const int64_t row = (first_j + j) / in.width;
    return in.data + b * in.stride_b + (first_i + i) * in.stride_i + row * in.stride_row +
           (first_j + j - row * in.width) * in.stride_column;
  }

  // Where it goes to.
  template <typename bits_t>
  __device__ __forceinline__ bits_t* to(const Matrices<bits_t>& in, bits_t* out, int i,
                                        int j) const {
    return out + (b * in.columns + first_j + j) * in.rows + first_i + i;
  }
};

// Reads along j, writes out[b][j][i] (dense) along i.
template <typename bits_t>
__global__ void __launch_bounds__(kTransposeThreads)
    transpose_kernel(Matrices<bits_t> in, bits_t* out) {
  using Square = Piece<kTranspose, kTranspose>;
  __shared__ bits_t tile[kTranspose][kTranspose + 1];
  const int lane = threadIdx.x % kTranspose, group = threadIdx.x / kTranspose;
  for (int64_t item = blockIdx.x; item < Square::count(in); item += gridDim.x) {
    const Square piece(in, item);
    const bits_t* from = piece.at(in, group, lane);
    bits_t values[kTransposeSteps];
#pragma unroll
    for (int step = 0; step < kTransposeSteps; ++step, from += kTransposeGroups * in.stride_i) {
      if (group + step * kTransposeGroups < piece.down && lane < piece.across) {
        values[step] = *from;
      }
    }
#pragma unroll
    for (int step = 0; step < kTransposeSteps; ++step) {
      const int i = group + step * kTransposeGroups;
      if (i < piece.down && lane < piece.across) {
        tile[i][lane] = values[step];
      }
    }
    __syncthreads();
    bits_t* to = piece.to(in, out, lane, group);
#pragma unroll
    for (int step = 0; step < kTransposeSteps; ++step, to += kTransposeGroups * in.rows) {
      const int j = group + step * kTransposeGroups;
      if (lane < piece.down && j < piece.across) {
        *to = tile[lane][j];
      }
    }
    __syncthreads();
  }
}

// The same for values of 16 bits and an even number of rows: two values (i, i + 1) are written as
// one word. kWords of them, (j, j + 1), are read as one word too, or each by itself.
template <int kWords>
__global__ void __launch_bounds__(kTransposeThreads)
    transpose_pairs_kernel(Matrices<uint16_t> in, uint16_t* out) {
  using Part = Piece<2 * kTranspose, kWords * kTranspose>;
  // Of (i, i + 1): those of j = kWords * column + layer.
  __shared__ uint32_t tile[kWords][kTranspose][kTranspose + 1];
  const int lane = threadIdx.x % kTranspose, group = threadIdx.x / kTranspose;
  for (int64_t item = blockIdx.x; item < Part::count(in); item += gridDim.x) {
    const Part piece(in, item);
    const uint16_t* from = piece.at(in, 2 * group, kWords * lane);
    uint32_t first[kTransposeSteps], second[kTransposeSteps];
#pragma unroll
    for (int step = 0; step < kTransposeSteps; ++step) {
      if (2 * (group + step * kTransposeGroups) < piece.down && kWords * lane < piece.across) {
        if constexpr (kWords == 2) {
          first[step] = *reinterpret_cast<const uint32_t*>(from);
          second[step] = *reinterpret_cast<const uint32_t*>(from + in.stride_i);
        } else {
          first[step] = *from;
          second[step] = from[in.stride_i];
        }
      }
      from += 2 * kTransposeGroups * in.stride_i;
    }
#pragma unroll
    for (int step = 0; step < kTransposeSteps; ++step) {
      const int pair = group + step * kTransposeGroups;
      if (2 * pair < piece.down && kWords * lane < piece.across) {
        tile[0][pair][lane] = (first[step] & 0xffffu) | second[step] << 16;
        if constexpr (kWords == 2) {
          tile[1][pair][lane] = first[step] >> 16 | (second[step] & 0xffff0000u);
        }
      }
    }
    __syncthreads();
    uint16_t* to = piece.to(in, out, 2 * lane, kWords * group);
#pragma unroll
    for (int step = 0; step < kTransposeSteps; ++step) {
      const int column = group + step * kTransposeGroups;
#pragma unroll
      for (int layer = 0; layer < kWords; ++layer) {
        if (2 * lane < piece.down && kWords * column + layer < piece.across) {
          *reinterpret_cast<uint32_t*>(to + layer * in.rows) = tile[layer][lane][column];
        }
      }
      to += kWords * kTransposeGroups * in.rows;
    }
    __syncthreads();
  }
}

}  // namespace fgclip_det
