#include "hosts.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

struct host host_of(const struct sockaddr_storage *address)
{
    struct host host = {.size = 0};

    if (address->ss_family == AF_INET) {
        host.size = 4;
        memcpy(host.bytes, &((const struct sockaddr_in *) address)->sin_addr, host.size);
    } else if (address->ss_family == AF_INET6) {
        host.size = 16;
        memcpy(host.bytes, &((const struct sockaddr_in6 *) address)->sin6_addr, host.size);
    }
    return host;
}

void host_describe(char text[HOST_TEXT_MAX], const struct sockaddr_storage *address)
{
    char host[INET6_ADDRSTRLEN];

    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *) address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, HOST_TEXT_MAX, "tcp://%s:%u", host, ntohs(in->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *) address;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        snprintf(text, HOST_TEXT_MAX, "tcp://[%s]:%u", host, ntohs(in->sin6_port));
    } else {
        snprintf(text, HOST_TEXT_MAX, "ipc");
    }
}
