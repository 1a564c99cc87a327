#pragma once

// Vectors of 32 bytes through the compiler's own vector types (GCC and Clang, every processor), and
// the conversions between what is stored and what is summed. For the loops of the operators only,
// which say by FGCLIP_DET_F16C that the processor converts float16: GCC reads a whole file before
// it defines the macros of a target that a pragma in it has chosen.

#include <cstdint>
#include <type_traits>

#include "roi_align_problem.h"

#if defined(FGCLIP_DET_F16C)
#include <immintrin.h>
#endif

// All functions here are inlined, so nothing is called with vectors as arguments.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#define FGCLIP_DET_INLINE inline __attribute__((always_inline))

namespace fgclip_det {
namespace {

constexpr int kVectorBytes = 32;

// Not aligned beyond its elements, so that it can be loaded from anywhere.
template <typename T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
};
template <typename T>
using Vector = typename VectorOf<T>::type;

template <typename T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <typename To, typename From>
FGCLIP_DET_INLINE To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

FGCLIP_DET_INLINE float widen(float value) { return value; }
FGCLIP_DET_INLINE double widen(double value) { return value; }
FGCLIP_DET_INLINE float widen(BFloat16 value) {
  return bits_as<float>(static_cast<uint32_t>(value.bits) << 16);
}
FGCLIP_DET_INLINE float widen(Half value) {
#if defined(FGCLIP_DET_F16C)
  return _cvtsh_ss(value.bits);
#else
  // Exponent and mantissa shifted into place make a number 2^112 times too small; infinities and
  // NaN need all bits of the exponent.
  const uint32_t magnitude = (value.bits & 0x7fffu) << 13;
  uint32_t bits = bits_as<uint32_t>(bits_as<float>(magnitude) * 0x1p112f);
  bits |= magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return bits_as<float>(bits | (value.bits & 0x8000u) << 16);
#endif
}

FGCLIP_DET_INLINE void narrow(float value, float* to) { *to = value; }
FGCLIP_DET_INLINE void narrow(double value, double* to) { *to = value; }
FGCLIP_DET_INLINE void narrow(float value, BFloat16* to) {
  const uint32_t bits = bits_as<uint32_t>(value);
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);  // to nearest, ties to even
  to->bits = static_cast<uint16_t>(value == value ? rounded >> 16 : 0x7fc0u);
}
FGCLIP_DET_INLINE void narrow(float value, Half* to) {
#if defined(FGCLIP_DET_F16C)
  to->bits = _cvtss_sh(value, 0);  // to nearest, ties to even
#else
  const uint32_t bits = bits_as<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t result;
  if (magnitude > 0x7f800000u) {
    result = 0x7e00u;  // NaN
  } else if (magnitude >= 0x477ff000u) {
    result = 0x7c00u;  // rounds to infinity
  } else if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 leaves the rounded result in the last bits.
    result = bits_as<uint32_t>(bits_as<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    result = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  }
  to->bits = static_cast<uint16_t>((bits >> 16 & 0x8000u) | result);
#endif
}

FGCLIP_DET_INLINE Vector<float> load(const float* from) {
  return *reinterpret_cast<const Vector<float>*>(from);
}
FGCLIP_DET_INLINE Vector<double> load(const double* from) {
  return *reinterpret_cast<const Vector<double>*>(from);
}
FGCLIP_DET_INLINE Vector<float> load(const BFloat16* from) {
  typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));
  typedef uint32_t Wide __attribute__((vector_size(kVectorBytes)));
  const Narrow bits = *reinterpret_cast<const Narrow*>(from);
  return bits_as<Vector<float>>(__builtin_convertvector(bits, Wide) << 16);
}
FGCLIP_DET_INLINE Vector<float> load(const Half* from) {
#if defined(FGCLIP_DET_F16C)
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return bits_as<Vector<float>>(_mm256_cvtph_ps(bits));
#else
  Vector<float> result = {};
  for (int i = 0; i < kLanes<float>; ++i) {
    result[i] = widen(from[i]);
  }
  return result;
#endif
}

// The first `count` values, at most a vector of them; the other lanes are zero and their memory is
// not read.
template <typename scalar_t>
FGCLIP_DET_INLINE Vector<sum_t<scalar_t>> load_some(const scalar_t* from, int64_t count) {
  constexpr int kCount = kLanes<sum_t<scalar_t>>;
  if (count >= kCount) {
    return load(from);
  }
  Vector<sum_t<scalar_t>> result = {};
  for (int i = 0; i < count; ++i) {
    result[i] = widen(from[i]);
  }
  return result;
}

template <typename T, typename scalar_t>
FGCLIP_DET_INLINE void store(const Vector<T>& value, scalar_t* to) {
  if constexpr (sizeof(T) == sizeof(scalar_t)) {
    *reinterpret_cast<Vector<T>*>(to) = value;
#if defined(FGCLIP_DET_F16C)
  } else if constexpr (std::is_same_v<scalar_t, Half>) {
    __m256 values;
    __builtin_memcpy(&values, &value, sizeof(values));
    // To nearest, ties to even.
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(values, 0));
#endif
  } else {
    for (int i = 0; i < kLanes<T>; ++i) {
      narrow(value[i], to + i);
    }
  }
}

template <typename T, typename scalar_t>
FGCLIP_DET_INLINE void store_some(const Vector<T>& value, scalar_t* to, int64_t count) {
  if (count >= kLanes<T>) {
    store<T>(value, to);
  } else {
    for (int i = 0; i < count; ++i) {
      narrow(value[i], to + i);
    }
  }
}

// Exchanges the rows and the columns of a square block.
FGCLIP_DET_INLINE void transpose(Vector<double> (&rows)[4]) {
  const Vector<double> a = rows[0], b = rows[1], c = rows[2], d = rows[3];
  for (int i = 0; i < 4; ++i) {
    rows[i] = Vector<double>{a[i], b[i], c[i], d[i]};
  }
}

FGCLIP_DET_INLINE void transpose(Vector<float> (&rows)[8]) {
#if defined(__clang__) || __GNUC__ >= 12
  // Blocks of 1, 2 and 4 change places across the diagonal.
  Vector<float> a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = __builtin_shufflevector(rows[i], rows[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    a[i + 1] = __builtin_shufflevector(rows[i], rows[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < 8; i += i % 4 == 1 ? 3 : 1) {
    b[i] = __builtin_shufflevector(a[i], a[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    b[i + 2] = __builtin_shufflevector(a[i], a[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = __builtin_shufflevector(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    rows[i + 4] = __builtin_shufflevector(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#else
  Vector<float> result[8] = {};
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j) {
      result[i][j] = rows[j][i];
    }
  }
  for (int i = 0; i < 8; ++i) {
    rows[i] = result[i];
  }
#endif
}

}  // namespace
}  // namespace fgclip_det
