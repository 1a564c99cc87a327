#pragma once

namespace fgclip_det {

// Whether the processor runs what is compiled after avx2_begin.h.
inline bool runs_avx2() {
#if defined(__GNUC__) && defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

}  // namespace fgclip_det
