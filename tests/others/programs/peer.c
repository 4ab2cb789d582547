// Sockets of czmq, driven by lines: see `tests/others/__init__.py`. Needs czmq 4 and libzmq 4.

#include <czmq.h>

enum { SOCKETS = 4096 };

static zsock_t *sockets[SOCKETS];

static const struct {
    const char *name;
    int number;
} TYPES[] = {
    {"PUB", ZMQ_PUB},       {"SUB", ZMQ_SUB},   {"XPUB", ZMQ_XPUB}, {"XSUB", ZMQ_XSUB}, {"REQ", ZMQ_REQ},
    {"REP", ZMQ_REP},       {"PUSH", ZMQ_PUSH}, {"PULL", ZMQ_PULL}, {"DEALER", ZMQ_DEALER},
    {"ROUTER", ZMQ_ROUTER},
};

static const struct {
    const char *name;
    void (*set)(void *, int);
} OPTIONS[] = {
    {"sndhwm", zsock_set_sndhwm},
    {"rcvhwm", zsock_set_rcvhwm},
    {"sndtimeo", zsock_set_sndtimeo},
    {"router_mandatory", zsock_set_router_mandatory},
};

static int digit_of (char letter)
{
    return letter <= '9' ? letter - '0' : (letter | 32) - 'a' + 10;
}

// The bytes of a word, written over its own letters. Returns how many there are.
static size_t bytes_of (char *word)
{
    if (streq (word, "-"))
        return 0;
    size_t size = strlen (word) / 2;
    for (size_t at = 0; at < size; at++)
        word[at] = (char) (digit_of (word[2 * at]) * 16 + digit_of (word[2 * at + 1]));
    return size;
}

static void say_frame (zframe_t *frame)
{
    const byte *data = zframe_data (frame);
    size_t size = zframe_size (frame);
    fputs (size ? " " : " -", stdout);
    for (size_t at = 0; at < size; at++) {
        putchar ("0123456789abcdef"[data[at] >> 4]);
        putchar ("0123456789abcdef"[data[at] & 15]);
    }
}

static const char *make (zsock_t **made)
{
    char *kind = strtok (NULL, " ");
    for (size_t at = 0; kind && at < sizeof TYPES / sizeof *TYPES; at++)
        if (streq (kind, TYPES[at].name))
            *made = zsock_new (TYPES[at].number);
    if (!*made)
        return "there is no such type of a socket";
    for (char *option; (option = strtok (NULL, " "));) {
        char *value = strchr (option, '=');
        bool known = false;
        for (size_t at = 0; value && at < sizeof OPTIONS / sizeof *OPTIONS; at++)
            if (strlen (OPTIONS[at].name) == (size_t) (value - option)
                && !strncmp (option, OPTIONS[at].name, (size_t) (value - option))) {
                OPTIONS[at].set (*made, atoi (value + 1));
                known = true;
            }
        if (!known)
            return "there is no such option";
    }
    puts ("ok");
    return NULL;
}

static const char *subscribe (zsock_t *self, int option)
{
    char *topic = strtok (NULL, " ");
    size_t size = bytes_of (topic);
    if (zmq_setsockopt (zsock_resolve (self), option, topic, size))
        return zmq_strerror (zmq_errno ());
    puts ("ok");
    return NULL;
}

static const char *send_message (zsock_t *self)
{
    zmsg_t *message = zmsg_new ();
    for (char *word; (word = strtok (NULL, " "));) {
        size_t size = bytes_of (word);
        zmsg_addmem (message, word, size);
    }
    if (!zmsg_send (&message, self)) {
        puts ("ok");
        return NULL;
    }
    int reason = zmq_errno ();
    zmsg_destroy (&message);
    if (reason != EAGAIN && reason != EHOSTUNREACH)
        return zmq_strerror (reason);
    puts ("no");
    return NULL;
}

static const char *receive (zsock_t *self)
{
    zsock_set_rcvtimeo (self, atoi (strtok (NULL, " ")));
    zmsg_t *message = zmsg_recv (self);
    if (!message) {
        if (zmq_errno () != EAGAIN)
            return zmq_strerror (zmq_errno ());
        puts ("no");
        return NULL;
    }
    fputs ("message", stdout);
    for (zframe_t *frame = zmsg_first (message); frame; frame = zmsg_next (message))
        say_frame (frame);
    putchar ('\n');
    zmsg_destroy (&message);
    return NULL;
}

// Carries a command out, and answers it. Returns what went wrong, or NULL.
static const char *carry_out (const char *command)
{
    if (streq (command, "version")) {
        int major, minor, patch;
        zmq_version (&major, &minor, &patch);
        printf ("version %d.%d.%d, libzmq %d.%d.%d\n", CZMQ_VERSION_MAJOR, CZMQ_VERSION_MINOR, CZMQ_VERSION_PATCH,
                major, minor, patch);
        return NULL;
    }
    const char *word = strtok (NULL, " ");
    int number = word ? atoi (word) : -1;
    if (number < 0)
        return "expected the number of a socket";
    zsock_t **self = &sockets[number % SOCKETS];
    if (streq (command, "socket"))
        return *self ? "there is a socket of this number" : make (self);
    if (!*self)
        return "there is no socket of this number";
    if (streq (command, "connect")) {
        if (zsock_connect (*self, "%s", strtok (NULL, " ")))
            return zmq_strerror (zmq_errno ());
        puts ("ok");
        return NULL;
    }
    if (streq (command, "subscribe"))
        return subscribe (*self, ZMQ_SUBSCRIBE);
    if (streq (command, "unsubscribe"))
        return subscribe (*self, ZMQ_UNSUBSCRIBE);
    if (streq (command, "send"))
        return send_message (*self);
    if (streq (command, "receive"))
        return receive (*self);
    if (streq (command, "close")) {
        zsock_set_linger (*self, atoi (strtok (NULL, " ")));
        zsock_destroy (self);
        puts ("ok");
        return NULL;
    }
    return "there is no such command";
}

int main (void)
{
    zsys_handler_set (NULL);
    zsys_set_max_sockets (0);
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    while ((size = getline (&line, &room, stdin)) > 0) {
        line[strcspn (line, "\n")] = 0;
        const char *command = strtok (line, " ");
        const char *wrong = command ? carry_out (command) : "expected a command";
        if (wrong)
            printf ("error %s\n", wrong);
        fflush (stdout);
    }
    free (line);
    for (size_t at = 0; at < SOCKETS; at++)
        if (sockets[at]) {
            zsock_set_linger (sockets[at], 0);
            zsock_destroy (&sockets[at]);
        }
    return 0;
}
