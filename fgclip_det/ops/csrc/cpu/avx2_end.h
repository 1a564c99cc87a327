// Ends what avx2_begin.h began; GCC does so at the end of the file.

#if defined(__clang__) && defined(__x86_64__)
#pragma clang attribute pop
#endif
