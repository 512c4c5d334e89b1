#define FLOATS 16
#include "translate/marian/exact_body.h"

const struct exact exact_avx512 = EXACT_TABLE;
