# cmake -DIN=FILE -DOUT=FILE.c -DNAME=symbol -P embed.cmake: a file's bytes as a C array.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "((0x..,){16})" "\\1\n    " bytes "${bytes}")
file(WRITE ${OUT} "#include <stddef.h>

extern const char ${NAME}[];
extern const size_t ${NAME}_size;

const char ${NAME}[] = {
    ${bytes}
    0x00 /* so that it may be taken for a string */
};
const size_t ${NAME}_size = sizeof(${NAME}) - 1;
")
