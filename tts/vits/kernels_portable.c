/* What every machine runs: vectors of four, which are SSE2 on x86-64 and NEON on ARM64. */
#define KERNELS vits_kernels_portable
#define KERNELS_NAME "portable"
#define LANE 4
#define BLOCK 4
#define VECTORS 3
#include "tts/vits/kernels_body.h"
