// Runs cases of RoIAlign through the CUDA kernels on the CPU: run_cases CASES RESULTS.
//
// A case is a Header, rois, their levels (where there are several maps), and the storage of the
// input (of the gradient, if backward), all packed; it is about one map of a pyramid. If planes is
// 1, the maps of the pyramid's other levels follow, each a MapHeader and its storage. A result is
// the number of failed assertions, that of bands of pool_slab_kernel (of rows of a tile, if
// backward), and whether pool_planes_kernel did it, as int64, then the dense output. What no kernel
// has written is NaN.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "cuda_on_cpu.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "cuda/roi_align_kernels.cuh"

using namespace fgclip_det;

struct Header {
  int64_t backward, dtype;                         // dtype: bytes of a value; 3 for bfloat16
  int64_t sizes[4], strides[4], offset, elements;  // of the input or of the gradient
  int64_t batch_size, channels, height, width, rois, pooled_height, pooled_width;
  int64_t sampling_ratio, aligned, channels_last, most_blocks, seed, num_levels, level;
  int64_t multiprocessors, shared_bytes;  // of the device that is acted
  int64_t planes;  // by pool_planes_kernel, all levels at once: 1; -1: not; 0: as the host decides
  double spatial_scale;
};

struct MapHeader {
  int64_t sizes[4], strides[4], offset, elements;
  double spatial_scale;
};

// Memory of exactly so many values, none of which is a number.
template <typename T>
struct Memory {
  std::unique_ptr<T[]> data;
  int64_t count;

  explicit Memory(int64_t count_) : data(new T[count_]), count(count_) {
    std::memset(static_cast<void*>(data.get()), 0xff, count * sizeof(T));
  }
  void read(std::FILE* file) {
    if (std::fread(static_cast<void*>(data.get()), sizeof(T), count, file) !=
        static_cast<size_t>(count)) {
      std::abort();
    }
  }
};

template <typename bits_t, typename scalar_t>
void transpose(const scalar_t* from, scalar_t* to, int64_t count, int64_t rows, int64_t columns,
               int64_t width, const int64_t (&strides)[4], const cuda_on_cpu::Launch& launch) {
  launch_transpose(Matrices<bits_t>{reinterpret_cast<const bits_t*>(from), count, rows, columns,
                                    width, strides[0], strides[1], strides[2], strides[3]},
                   reinterpret_cast<bits_t*>(to), launch);
}

template <typename scalar_t>
Plane<scalar_t> plane(const scalar_t* data, const int64_t (&strides)[4]) {
  return {data, strides[0], strides[1], strides[2], strides[3]};
}

// All levels in one launch; `boxes` and `input` are those of the first.
template <typename scalar_t, typename T>
void run_planes(const Header& h, Boxes<T> boxes, const Sampling<T>& sampling, const scalar_t* input,
                std::FILE* cases, scalar_t* result, const cuda_on_cpu::Launch& launch) {
  Scene<T> scene{{sampling}, {static_cast<int>(h.sizes[2])}, {static_cast<int>(h.sizes[3])}};
  Planes<scalar_t> maps{{plane(input, h.strides)}};
  std::vector<Memory<scalar_t>> storages;
  for (int64_t slot = 1; slot < h.num_levels; ++slot) {
    MapHeader map;
    if (std::fread(&map, sizeof(map), 1, cases) != 1) {
      std::abort();
    }
    storages.emplace_back(map.elements);
    storages.back().read(cases);
    scene.sampling[slot] = sampling;
    scene.sampling[slot].spatial_scale = static_cast<T>(map.spatial_scale);
    scene.heights[slot] = static_cast<int>(map.sizes[2]);
    scene.widths[slot] = static_cast<int>(map.sizes[3]);
    maps.levels[slot] = plane<scalar_t>(storages.back().data.get() + map.offset, map.strides);
  }
  boxes.launched = h.num_levels;
  launch_weights(boxes, scene, launch);
  launch_planes(boxes, maps, h.channels, result, launch);
}

// The host side of the operators, as cuda/roi_align_kernel.cu has it on tensors.
template <typename scalar_t, typename T, typename bits_t>
void run_case(const Header& h, const Memory<float>& rois, const Memory<int64_t>& levels,
              std::FILE* cases, std::FILE* results) {
  std::mt19937 random(static_cast<unsigned>(h.seed));
  constexpr int64_t kUsualShared = 48 * 1024;
  const cuda_on_cpu::Launch launch{random, static_cast<int>(h.most_blocks),
                                   std::max(kUsualShared, h.shared_bytes)};
  Memory<scalar_t> storage(h.elements);
  storage.read(cases);
  const scalar_t* input = storage.data.get() + h.offset;
  const auto stride = [&](int axis) { return h.sizes[axis] > 1 ? h.strides[axis] : 0; };
  Maps<scalar_t> maps{input, stride(0), stride(2), stride(3)};
  const int64_t cells = h.sizes[2] * h.sizes[3];
  const bool innermost = h.strides[1] == 1 || h.channels == 1;
  const bool planes =
      h.planes == 1 || (h.planes == 0 && !h.backward && !innermost && h.num_levels == 1 &&
                        takes_planes(h.pooled_height, h.pooled_width, h.rois, h.batch_size, cells,
                                     1, h.width, sizeof(T)));
  Memory<Span> y_spans(h.rois * h.pooled_height), x_spans(h.rois * h.pooled_width);
  // As in a pyramid whose largest map is larger by a row, and by two columns.
  const int height = static_cast<int>(h.height), width = static_cast<int>(h.width);
  Memory<T> y_weights(y_spans.count * (height + 1)), x_weights(x_spans.count * (width + 2));
  const Boxes<T> boxes{rois.data.get(),
                       h.rois,
                       h.batch_size,
                       {static_cast<int>(h.pooled_height), height, height + 1, y_spans.data.get(),
                        y_weights.data.get()},
                       {static_cast<int>(h.pooled_width), width, width + 2, x_spans.data.get(),
                        x_weights.data.get()},
                       levels.count > 0 ? levels.data.get() : nullptr,
                       h.num_levels,
                       h.level};
  // Before maps are copied, as the host does.
  const Slabs slabs = h.backward ? Slabs{}
                                 : plan_slabs(boxes, sizeof(scalar_t), h.channels,
                                              Device{h.multiprocessors, h.shared_bytes});
  Memory<scalar_t> copy(innermost || planes || slabs.bands > 0 ? 0
                                                               : h.sizes[0] * h.channels * cells);
  if (copy.count > 0) {
    transpose<bits_t>(input, copy.data.get(), h.sizes[0], h.channels, cells, h.sizes[3], h.strides,
                      launch);
    maps = {copy.data.get(), cells * h.channels, h.sizes[3] * h.channels, h.channels};
  }
  const Sampling<T> sampling{static_cast<T>(h.spatial_scale), static_cast<T>(h.sampling_ratio),
                             h.aligned != 0};
  // The other levels' maps are smaller, and only in the backward pass touched.
  Scene<T> scene{};
  for (int64_t slot = 0; slot < h.num_levels; ++slot) {
    const int less = static_cast<int>(slot > h.level ? slot - h.level : h.level - slot);
    scene.sampling[slot] = sampling;
    scene.heights[slot] = std::max(1, height - 4 * less);
    scene.widths[slot] = std::max(1, width - less);
  }
  Boxes<T> of_all_levels = boxes;
  of_all_levels.level = 0, of_all_levels.launched = h.num_levels;
  const int64_t map_cells = h.height * h.width;
  Memory<scalar_t> result(h.channels * (h.backward ? h.batch_size * map_cells
                                                   : h.rois * h.pooled_height * h.pooled_width));
  cuda_on_cpu::failed_assertions = 0;
  int64_t bands = 0;
  if (!planes && !h.backward && result.count > 0 && h.rois > 0) {
    launch_weights(of_all_levels, scene, launch);
  }
  if (planes && result.count > 0) {
    run_planes(h, boxes, sampling, input, cases, result.data.get(), launch);
  } else if (result.count > 0 && !h.backward) {
    if (slabs.bands == 0) {
      launch_forward(boxes, maps, h.channels, result.data.get(), h.channels_last != 0, launch);
    } else {
      bands = slabs.bands;
      constexpr bool kInPlace = std::is_same_v<T, scalar_t>;
      Memory<T> partial(bands > 1 && !kInPlace ? result.count : 0);
      T* sums = partial.data.get();
      if constexpr (kInPlace) {
        sums = result.data.get();
      }
      launch_slabs(boxes, maps, h.channels > 1 ? h.strides[1] : 1, h.channels, slabs, sums,
                   result.data.get(), launch);
    }
  } else if (result.count > 0 && h.rois == 0) {
    std::memset(static_cast<void*>(result.data.get()), 0, result.count * sizeof(scalar_t));
  } else if (result.count > 0) {
    // All levels in one launch; what becomes of the others is not asked.
    std::vector<Memory<scalar_t>> others;
    Targets<scalar_t> targets{};
    for (int64_t slot = 0; slot < h.num_levels; ++slot) {
      const int64_t cells_of_slot = static_cast<int64_t>(scene.heights[slot]) * scene.widths[slot];
      others.emplace_back(slot == h.level ? 0 : h.batch_size * h.channels * cells_of_slot);
      targets.data[slot] = slot == h.level ? result.data.get() : others.back().data.get();
      targets.channels_first[slot] = h.channels_last == 0 && writes_rows(scene.widths[slot]);
    }
    const bool first = targets.channels_first[h.level];
    const bool vectors = takes_vectors(maps, h.channels) && is_aligned(result.data.get());
    const SpreadPlan plan = plan_spreading<scalar_t>(of_all_levels, scene, h.channels, vectors);
    bands = plan.tilings.rows;
    Memory<uint32_t> words(plan.lines * mark_groups(h.rois));
    const Marks marks = launch_prepare(of_all_levels, scene, plan, words.data.get(), launch);
    launch_backward(of_all_levels, marks, plan, maps, h.channels, targets, launch);
    if (!first && !h.channels_last) {
      Memory<scalar_t> turned(result.count);
      transpose<bits_t>(result.data.get(), turned.data.get(), h.batch_size, map_cells, h.channels,
                        h.channels, {map_cells * h.channels, h.channels, 0, 1}, launch);
      std::swap(result.data, turned.data);
    }
  }
  const int64_t failed = cuda_on_cpu::failed_assertions;
  std::fwrite(&failed, sizeof(failed), 1, results);
  std::fwrite(&bands, sizeof(bands), 1, results);
  const int64_t as_planes = planes;
  std::fwrite(&as_planes, sizeof(as_planes), 1, results);
  std::fwrite(static_cast<void*>(result.data.get()), sizeof(scalar_t), result.count, results);
}

int main(int, char** arguments) {
  std::FILE* cases = std::fopen(arguments[1], "rb");
  std::FILE* results = std::fopen(arguments[2], "wb");
  if (cases == nullptr || results == nullptr) {
    return 2;
  }
  Header header;
  while (std::fread(&header, sizeof(header), 1, cases) == 1) {
    Memory<float> rois(header.rois * 5);
    rois.read(cases);
    Memory<int64_t> levels(header.num_levels > 1 ? header.rois : 0);
    levels.read(cases);
    switch (header.dtype) {
      case 2:
        run_case<c10::Half, float, uint16_t>(header, rois, levels, cases, results);
        break;
      case 3:
        run_case<c10::BFloat16, float, uint16_t>(header, rois, levels, cases, results);
        break;
      case 4:
        run_case<float, float, uint32_t>(header, rois, levels, cases, results);
        break;
      default:
        run_case<double, double, uint64_t>(header, rois, levels, cases, results);
    }
  }
  std::fclose(results);
  std::fclose(cases);
  return 0;
}
