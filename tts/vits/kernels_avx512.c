/* 24 sums, three runs of input and a weight in 32 registers. */
#define KERNELS vits_kernels_avx512
#define KERNELS_NAME "avx512"
#define LANE 16
#define BLOCK 8
#define VECTORS 3
#include "tts/vits/kernels_body.h"
