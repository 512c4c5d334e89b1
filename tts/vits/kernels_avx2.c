/* Twelve sums, three runs of input and a weight fill the sixteen registers. */
#define KERNELS vits_kernels_avx2
#define KERNELS_NAME "avx2"
#define LANE 8
#define BLOCK 4
#define VECTORS 3
#include "tts/vits/kernels_body.h"
