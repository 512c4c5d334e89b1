/* Forms: multipart, queries, parameters of headers. */
#include "gateway/form.h"
#include "tests/fuzz/replay.h"
#include "text/utf8.h"

#include <stdlib.h>
#include <string.h>

#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }

const struct fuzz_seed fuzz_seeds[] = {
    SEED("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\n"
         "Content-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".wav\"\r\n"
         "Content-Type: audio/wav\r\n\r\nRIFF\r\n--b\r\n"
         "Content-Disposition: form-data; name=x\r\n\r\n\r\n--b--"),
    SEED("text=A%20b+c&text=%C3%A1&&empty=&flag&target_lang[]=pt"),
    SEED("audio/l16; rate=16000; channels=\"2\"; b=\"a\\\"b;c=d\"; boundary=b"),
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 200000;

static void check(const struct form *form, const uint8_t *bytes, size_t size)
{
    if (form->n > FORM_FIELDS_MAX)
        abort();
    for (size_t i = 0; i < form->n; i++) {
        const struct form_field *field = &form->fields[i];

        if (!field->name || !field->text == !field->data)
            abort();
        if (field->text && !utf8_valid(field->text, strlen(field->text)))
            abort();
        if (field->data && (field->data < bytes || field->data + field->size > bytes + size))
            abort();
    }
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    char error[FORM_ERROR_MAX] = "", value[32], *header = strndup((const char *)bytes, size);
    struct form form = {0};

    if (!header)
        return;
    form_add_multipart(&form, "multipart/form-data; boundary=b", bytes, size, error);
    check(&form, bytes, size);
    form_fini(&form);
    form_add_multipart(&form, header, bytes, size, error);
    form_fini(&form);
    if (!memchr(bytes, '\0', size)) {
        form_add_query(&form, (const char *)bytes, size, error);
        check(&form, bytes, size);
        form_fini(&form);
    }
    form_parameter(header, "rate", value, sizeof(value));
    form_parameter(header, "name", value, sizeof(value));
    free(header);
}
