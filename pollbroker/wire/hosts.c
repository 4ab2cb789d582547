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

struct other_end other_end_of(const struct sockaddr_storage *address)
{
    struct host host = host_of(address);
    struct other_end other_end = {.size = (uint8_t) host.size};

    memcpy(other_end.bytes, host.bytes, host.size);
    if (address->ss_family == AF_INET)
        other_end.port = ntohs(((const struct sockaddr_in *) address)->sin_port);
    else if (address->ss_family == AF_INET6)
        other_end.port = ntohs(((const struct sockaddr_in6 *) address)->sin6_port);
    return other_end;
}

void other_end_describe(char text[HOST_TEXT_MAX], const struct other_end *other_end)
{
    char host[INET6_ADDRSTRLEN];

    if (!other_end->size) {
        snprintf(text, HOST_TEXT_MAX, "ipc");
        return;
    }
    inet_ntop(other_end->size == 4 ? AF_INET : AF_INET6, other_end->bytes, host, sizeof host);
    snprintf(text, HOST_TEXT_MAX, other_end->size == 4 ? "tcp://%s:%u" : "tcp://[%s]:%u", host, other_end->port);
}
