#include "models/failure.h"

#include <stdarg.h>
#include <stdio.h>

int failure_set(struct failure *failure, int err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(failure->text, sizeof(failure->text), fmt, args);
    va_end(args);
    return err;
}
