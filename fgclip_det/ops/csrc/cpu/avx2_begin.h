// From here to avx2_end.h, functions are compiled for x86-64 processors since 2013; what is built
// for other processors stays as it is.

#if defined(__GNUC__) && defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define FGCLIP_DET_F16C
#endif
