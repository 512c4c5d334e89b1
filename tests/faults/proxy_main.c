/* The test's proxy as a process: "faults_proxy LISTEN TARGET", told what to do by lines on its input. */
#include "tests/mesh/proxy.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

int main(int argc, char **argv)
{
    struct proxy_options options = {0};
    struct proxy *proxy = NULL;
    char line[64];

    if (argc != 3) {
        fprintf(stderr, "usage: %s LISTEN-PORT TARGET-PORT < pass|hole|refuse|cut lines\n",
                argv[0]);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    options.listen = (uint16_t)strtol(argv[1], NULL, 10);
    options.target = (uint16_t)strtol(argv[2], NULL, 10);
    if (proxy_start(&options, &proxy) < 0) {
        perror("cannot listen");
        return 1;
    }
    while (fgets(line, sizeof(line), stdin)) {
        if (strcmp(line, "pass\n") == 0)
            proxy_set(proxy, PROXY_PASS);
        else if (strcmp(line, "hole\n") == 0)
            proxy_set(proxy, PROXY_HOLE);
        else if (strcmp(line, "refuse\n") == 0)
            proxy_set(proxy, PROXY_REFUSE);
        else if (strcmp(line, "cut\n") == 0)
            proxy_cut(proxy);
    }
    proxy_stop(&proxy);
    return 0;
}
