/* Handshakes of NULL and PLAIN, with and without an authenticator, whose verdicts are drawn. Peers keep to the protocol until
 * they send something else. What must be true: nobody is let in with another mechanism, or without the verdict that is due;
 * the authenticator is told what the peer has said; nothing is read from a peer that is asked about; and a peer that keeps to
 * the protocol is let in, if the verdict is that it should be. */
#include "simulation.h"

#include "frame.h"

#include <string.h>

enum { GREETING_SIZE = 64, MECHANISM_AT = 12, LOGINS_MAX = 8, USER_ID_SIZES = 4 };

static const size_t SIZES[USER_ID_SIZES] = {0, 1, 255, USER_ID_MAX};

struct login {
    struct remote *remote;
    bool honest;         /* it has sent nothing but what it should */
    bool has_left;       /* or was slow */
    int step;            /* what it says next */
    struct bytes sent;   /* all of that */
    struct credential username, password;
    uint64_t question;   /* that is about it; 0: none yet */
    bool answered;
    enum verdict verdict;
    size_t user_id_size;
};

static struct {
    struct simulation simulation;
    struct login logins[LOGINS_MAX];
    int count;
    bool memory_fails;
} model;

static const uint8_t USER_ID[USER_ID_MAX] = "somebody";

static struct port *the_port(void)
{
    return &model.simulation.ports[0];
}

static bool asks(void)
{
    const struct options *options = &the_port()->options;

    return options->mechanism == MECHANISM_PLAIN_SERVER || (options->mechanism == MECHANISM_NULL && options->has_zap_domain);
}

static void say(struct login *login, const void *bytes, size_t count)
{
    bytes_append(&login->remote->out, bytes, count);
    bytes_append(&login->sent, bytes, count);
}

static void say_command(struct login *login, const char *name, const void *body, size_t size)
{
    uint8_t header[FRAME_LONG_HEADER], name_size = (uint8_t) strlen(name);

    say(login, header, frame_write_header(header, FRAME_COMMAND, 1 + name_size + size));
    say(login, &name_size, 1);
    say(login, name, name_size);
    say(login, body, size);
}

static void say_metadata(struct login *login, const char *name)
{
    bool pulls = the_port()->type == TYPE_PUSH;

    say_command(login, name, pulls ? "\13Socket-Type\0\0\0\4PULL" : "\13Socket-Type\0\0\0\4PUSH", 20);
}

/* A command that the port has sent, by its number; NULL if it has not come. */
static const uint8_t *command_of(const struct login *login, int number, size_t *size)
{
    const struct bytes *in = &login->remote->in;
    size_t at = GREETING_SIZE;

    while (at < bytes_left(in)) {
        unsigned flags;
        uint64_t length = 0;
        int header = frame_header(in->all + in->start + at, bytes_left(in) - at, &flags, &length);
        CHECK(header >= 0, "a frame is malformed");
        if (!header || bytes_left(in) - at - (size_t) header < length)
            return NULL;
        if (!number--) {
            CHECK(flags & FRAME_COMMAND, "a command was expected");
            *size = length;
            return in->all + in->start + at + header;
        }
        at += (size_t) header + length;
    }
    return NULL;
}

static bool has_command(const struct login *login, int number, const char *name, size_t name_size)
{
    size_t size = 0;
    const uint8_t *body = command_of(login, number, &size);

    return body && size >= name_size && !memcmp(body, name, name_size);
}

static void check_hello(const struct login *login)
{
    const struct options *options = &the_port()->options;
    size_t size = 0, username = 1u + options->plain_username.size, password = 1u + options->plain_password.size;
    const uint8_t *body = command_of(login, 0, &size);

    CHECK(size == 6 + username + password && !memcmp(body, "\5HELLO", 6), "HELLO");
    CHECK(!memcmp(body + 6, &options->plain_username, username), "the name of the user");
    CHECK(!memcmp(body + 6 + username, &options->plain_password, password), "the password");
}

static void say_greeting(struct login *login, const char *mechanism, bool as_server)
{
    uint8_t greeting[GREETING_SIZE] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1};

    memcpy(greeting + MECHANISM_AT, mechanism, strlen(mechanism));
    greeting[MECHANISM_AT + 20] = as_server;
    say(login, greeting, sizeof greeting);
}

/* Say what is due. Return false if there is nothing. */
static bool say_what_is_due(struct login *login)
{
    enum mechanism mechanism = the_port()->options.mechanism;

    if (login->remote->finished)
        return false;
    if (login->step == 0) {
        say_greeting(login, mechanism ? "PLAIN" : "NULL", mechanism == MECHANISM_PLAIN_CLIENT);
    } else if (login->step == 1 && mechanism == MECHANISM_NULL) {
        say_metadata(login, "READY");
        login->step = 2;
    } else if (login->step == 1 && mechanism == MECHANISM_PLAIN_SERVER) {
        uint8_t body[2 + 2 * CREDENTIAL_MAX];
        memcpy(body, &login->username, 1u + login->username.size);
        memcpy(body + 1 + login->username.size, &login->password, 1u + login->password.size);
        say_command(login, "HELLO", body, 2u + login->username.size + login->password.size);
    } else if (login->step == 2 && mechanism == MECHANISM_PLAIN_SERVER && has_command(login, 0, "\7WELCOME", 8)) {
        say_metadata(login, "INITIATE");
    } else if (login->step == 1 && mechanism == MECHANISM_PLAIN_CLIENT && has_command(login, 0, "\5HELLO", 6)) {
        check_hello(login);
        say_command(login, "WELCOME", "", 0);
    } else if (login->step == 2 && mechanism == MECHANISM_PLAIN_CLIENT && has_command(login, 1, "\10INITIATE", 9)) {
        say_metadata(login, "READY");
    } else {
        return false;
    }
    login->step++;
    return true;
}

static void say_something_else(struct input *input, struct login *login)
{
    static const char *const NAMES[] = {"HELLO", "WELCOME", "INITIATE", "READY", "ERROR", "PING", "X"};
    static uint8_t zeros[READY_MAX_BYTES + 100];
    size_t count;

    if (login->remote->finished)
        return;
    login->honest = false;
    switch (draw(input, 6)) {
    case 0: /* any bytes */
        count = draw(input, 40);
        if (count > (size_t) (input->end - input->at))
            count = (size_t) (input->end - input->at);
        say(login, input->at, count);
        input->at += count;
        break;
    case 1: /* a greeting of another mechanism, or for another role */
        login->step += !login->step;
        say_greeting(login, (const char *[]){"NULL", "PLAIN", "CURVE", "PLAINER", ""}[draw(input, 5)], draw(input, 2));
        break;
    case 2:
        say(login, "\xff\0\0\0\0\0\0\0\1\x7f\1\7\0\0", 14); /* ZMTP 2 */
        break;
    case 3: /* a command out of turn, with any body */
        count = draw(input, 3) ? draw(input, 30) : draw(input, sizeof zeros);
        say_command(login, NAMES[draw(input, 7)], zeros, count);
        break;
    case 4:
        say(login, "\0\1x", 3); /* a message */
        break;
    default:
        login->username.size = (uint8_t) draw(input, 256);
        say_command(login, "HELLO", &login->username, 1 + draw(input, 256));
        break;
    }
}

static struct login *login_of(const struct peer *peer)
{
    for (int i = 0; i < model.count; i++)
        if (model.logins[i].remote->peer == peer)
            return &model.logins[i];
    FAIL("a question is about nobody");
}

static void ask(void)
{
    struct peer *peer;

    while ((peer = wire_next_question(&model.simulation.wire))) {
        struct login *login = login_of(peer);
        CHECK(asks(), "nobody is to be asked");
        CHECK(!login->question, "the same is asked again");
        login->question = peer->handshake->question->number;
        if (login->honest && the_port()->options.mechanism) {
            const struct handshake *said = peer->handshake;
            CHECK(!memcmp(&said->username, &login->username, 1u + login->username.size), "another name is told");
            CHECK(!memcmp(&said->password, &login->password, 1u + login->password.size), "another password is told");
        }
    }
}

static void answer(struct login *login, enum verdict verdict, size_t user_id_size)
{
    struct remote *remote = login->remote;
    bool was_there = remote->peer && peer_is_asking(remote->peer);

    if (was_there) {
        CHECK(!login->answered, "it is asked for again");
        login->answered = true;
        login->verdict = verdict;
        login->user_id_size = user_id_size;
    }
    port_answer(the_port(), login->question, verdict, USER_ID, user_id_size);
    if (!was_there || verdict == VERDICT_ACCEPTED)
        return;
    CHECK(!remote->peer, "it was refused, and is still there");
    if (remote->window > SIZE_MAX / 4 && !remote->gone && !model.memory_fails) {
        const char *error = the_port()->options.mechanism ? "^RROR\3" : "\5ERROR\3";
        bool is_told = has_command(login, 0, error, strlen(error));
        CHECK(is_told == (verdict == VERDICT_REFUSED || verdict == VERDICT_FAILED), "ERROR is sent: %d", is_told);
    }
}

static void check_login(const struct login *login)
{
    static const uint8_t MECHANISMS[][20] = {"NULL", "PLAIN", "PLAIN"};
    const struct port *port = the_port();
    const struct peer *peer = login->remote->peer;
    const uint8_t *sent = login->sent.all;

    if (!peer)
        return;
    if (peer_is_asking(peer)) {
        CHECK(!peer->handshake->out_size && !peer->attached, "it is let in while it is asked about");
        CHECK(!login->remote->finished, "it has left, and nobody will find that out");
    }
    if (!peer->attached)
        return;
    CHECK(!asks() || (login->answered && login->verdict == VERDICT_ACCEPTED), "nobody has said that it may come in");
    size_t user_id_size = peer->user_id ? peer->user_id->size : 0;
    CHECK(user_id_size == login->user_id_size, "another user id");
    CHECK(!user_id_size || !memcmp(peer->user_id->bytes, USER_ID, user_id_size), "another user id");
    if (sent[10] < 3)
        CHECK(!port->options.mechanism && !port->options.has_zap_domain, "a peer of ZMTP 2 is let in");
    else
        CHECK(!memcmp(sent + MECHANISM_AT, MECHANISMS[port->options.mechanism], 20), "another mechanism is let in");
}

static void serve(void)
{
    simulation_serve(&model.simulation);
    ask();
    for (int i = 0; i < model.count; i++)
        check_login(&model.logins[i]);
    simulation_check(&model.simulation);
}

static void add_login(struct input *input)
{
    static const uint8_t COUNTS[] = {0, 1, 8, 255};
    struct remote *remote = model.count < LOGINS_MAX ? remote_new(&model.simulation, 0, TYPE_PUSH, ZMTP_31) : NULL;

    if (!remote)
        return;
    struct login *login = &model.logins[model.count];
    *login = (struct login){.remote = remote, .honest = true};
    login->username.size = COUNTS[draw(input, 4)];
    login->password.size = COUNTS[draw(input, 4)];
    memset(login->username.bytes, 'A' + model.count, login->username.size);
    memset(login->password.bytes, 'a' + model.count, login->password.size);
    model.count++;
}

static enum verdict draw_verdict(struct input *input)
{
    static const enum verdict VERDICTS[] = {VERDICT_REFUSED, VERDICT_NOT_NOW, VERDICT_FAILED, NO_VERDICT};

    return draw(input, 2) ? VERDICT_ACCEPTED : VERDICTS[draw(input, 4)];
}

/* Let everybody say what is left. Who has kept to the protocol is let in, or was refused. */
static void finish(void)
{
    for (int round = 0; round < 12; round++)
        for (int i = 0; i < model.count; i++) {
            struct login *login = &model.logins[i];
            while (login->honest && say_what_is_due(login))
                continue;
            remote_deliver(login->remote, SIZE_MAX);
            remote_accept(login->remote, SIZE_MAX / 4);
            serve();
            if (login->question && !login->answered)
                answer(login, VERDICT_ACCEPTED, 1);
            serve();
        }
    for (int i = 0; i < model.count; i++) {
        const struct login *login = &model.logins[i];
        bool refused = login->answered && login->verdict != VERDICT_ACCEPTED;
        if (!login->honest || login->has_left || model.memory_fails)
            continue;
        CHECK(refused == !login->remote->peer, "login %d was refused: %d", i, refused);
        CHECK(refused || login->remote->peer->attached, "login %d was not let in", i);
    }
}

void run_login(struct input *input)
{
    struct simulation *simulation = &model.simulation;
    static const size_t COUNTS[] = {1, 2, 9, 11, 64, 100, 1000, SIZE_MAX};

    model.count = 0;
    model.memory_fails = memory_is_to_fail(input, 8);
    simulation_begin(simulation);
    struct options *options = &simulation_add_port(simulation, draw(input, 2) ? TYPE_PULL : TYPE_PUSH)->options;
    options->mechanism = (enum mechanism) draw(input, 3);
    options->has_zap_domain = draw(input, 2);
    options->handshake_ivl = draw(input, 2) ? 1000 : 0;
    options->plain_username.size = (uint8_t) draw(input, 256);
    options->plain_password.size = (uint8_t) draw(input, 256);
    memset(options->plain_username.bytes, 'n', options->plain_username.size);
    memset(options->plain_password.bytes, 'p', options->plain_password.size);
    if (model.memory_fails)
        memory_fail(input, 60);
    add_login(input);
    for (int step = 0; step < 200 && !input_is_empty(input) && model.count; step++) {
        struct login *login = &model.logins[draw(input, (unsigned) model.count)];
        unsigned what = draw(input, 16);
        if (what < 6) {
            if (say_what_is_due(login) && draw(input, 2))
                remote_deliver(login->remote, SIZE_MAX);
        } else if (what < 9) {
            remote_deliver(login->remote, COUNTS[draw(input, 8)]);
        } else if (what < 11) {
            if (login->question)
                answer(login, draw_verdict(input), SIZES[draw(input, USER_ID_SIZES)]);
            else
                port_answer(the_port(), 1000 + draw(input, 3), VERDICT_ACCEPTED, USER_ID, 3);
        } else if (what == 11) {
            say_something_else(input, login);
        } else if (what == 12) {
            if (!draw(input, 3) && !login->remote->finished) {
                login->has_left = true;
                remote_leave(login->remote, draw(input, 2));
            }
        } else if (what == 13) {
            simulation->wire.now_s += draw(input, 4) * 0.25;
            for (int i = 0; i < model.count; i++) /* the handshake may take too long */
                model.logins[i].has_left |= options->handshake_ivl != 0;
        } else if (what == 14) {
            if (!draw(input, 4))
                login->remote->window = draw(input, 100);
        } else {
            add_login(input);
        }
        serve();
    }
    memory.fail_in = 0;
    finish();
    for (int i = 0; i < model.count; i++)
        bytes_free(&model.logins[i].sent);
    simulation_end(simulation);
}
