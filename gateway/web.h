/*
 * web.h - the page's files, inside the program: gateway/web/ as embed.cmake found it
 */
#ifndef GATEWAY_WEB_H
#define GATEWAY_WEB_H

#include <stddef.h>

struct web_file {
    const char *path; /* "/page.css" */
    const char *type;
    const unsigned char *data;
    size_t size;
};

extern const struct web_file web_files[]; /* ended by a NULL path */

#endif
