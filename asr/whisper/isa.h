/*
 * isa.h - one function body, compiled for several instruction sets
 *
 * Write the body once as an always_inline function, then a wrapper for each set; choose the wrapper
 * by compute_isa(). On other machines only the portable one exists.
 */
#ifndef ASR_WHISPER_ISA_H
#define ASR_WHISPER_ISA_H

#if defined(__x86_64__)
#define ISA_X86 1
#define ISA_AVX2 __attribute__((target("avx2,fma,f16c")))
#define ISA_AVX512                                                                                 \
    __attribute__((                                                                                \
        target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,prefer-vector-width=512")))
#endif

#endif
