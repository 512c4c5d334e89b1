#define FLOATS 8
#include "translate/marian/exact_body.h"

const struct exact exact_avx2 = EXACT_TABLE;
