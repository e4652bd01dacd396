/* Load for a Redis, over as many connections as wanted: generator NAME=VALUE ...
 *
 *   port, connections   where to, and how often
 *   work=push           LPUSH of a job to a queue
 *   work=job            whole jobs: LPUSH, RPOPLPUSH to a list of the connection's own, LREM of what came
 *   size, vary          bytes of a job; vary=1: from a half to three halves of it. No two jobs are equal
 *   key, queues         key, or KEY:0000:jobs ... where there are several, chosen anew for each command
 *   window              jobs that each connection holds all the time (work=job)
 *   rate=0              closed loop: each connection sends depth commands at once and waits for all replies
 *   rate=R              open loop: R commands a second, at times that a Poisson process gives. A command waits for an
 *                       idle connection, and its latency counts from when it was due, not from when it was sent
 *   commands, limit     how many are measured; a closed loop ends after so many milliseconds in any case (0: does not)
 *   seed                other ids than with another seed
 *
 * Connects, fills the windows, says "ready"; on a line from standard input it begins, then says what it measured as
 * JSON, and stays connected until its standard input ends: nothing but the load itself is between the two.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { PUSH, POP, ACK };
enum { POOL = 1 << 20, EVENTS = 256, READ = 64 * 1024 };

struct bytes {
    char *data;
    size_t size, room;
};

struct connection {
    int fd, number, phase, batch, awaited, writing;
    int64_t due;
    struct bytes in, out;
    size_t read;
    struct bytes *held; /* ring: what was popped and is to be removed */
    long first, count;
};

static long port, connections = 1, depth = 1, commands = 1, rate, size = 300, vary, queues = 1, window, limit, seed = 1;
static const char *work = "push", *key = "bench";
static int whole, filling, epoll, timer;
static struct connection *all;
static struct bytes built;
static char pool[POOL + 1];
static uint64_t state, ids;
static long units, issued, pushed, total, finished;
static int64_t *latencies, *waiting, over;
static long measured, waiting_first, waiting_last;
static int *idle;
static long idle_first, idle_last;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static uint64_t chance(void) { /* splitmix64 */
    uint64_t z = state += 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

static void reserve(struct bytes *bytes, size_t more) {
    if (bytes->size + more <= bytes->room) return;
    bytes->room = (bytes->size + more) * 3 / 2 + 256;
    bytes->data = realloc(bytes->data, bytes->room);
    if (!bytes->data) die("out of memory");
}

static void append(struct bytes *bytes, const char *data, size_t length) {
    reserve(bytes, length);
    memcpy(bytes->data + bytes->size, data, length);
    bytes->size += length;
}

static void format(struct bytes *bytes, const char *form, ...) {
    va_list arguments;
    reserve(bytes, 256);
    va_start(arguments, form);
    bytes->size += vsnprintf(bytes->data + bytes->size, 256, form, arguments);
    va_end(arguments);
}

static void argument(struct bytes *bytes, const char *data, size_t length) {
    format(bytes, "$%zu\r\n", length);
    append(bytes, data, length);
    append(bytes, "\r\n", 2);
}

static void queue(struct bytes *bytes) {
    char name[128];
    int length = queues > 1 ? snprintf(name, sizeof name, "%s:%04d:jobs", key, (int)(chance() % queues))
                            : snprintf(name, sizeof name, "%s", key);
    argument(bytes, name, length);
}

static void processing(struct bytes *bytes, int number) {
    char name[128];
    argument(bytes, name, snprintf(name, sizeof name, "%s:processing:%d", key, number));
}

static void job(struct bytes *bytes) {
    char head[128];
    ids++;
    int length = snprintf(head, sizeof head, "{\"id\": \"%06lx%010llx\", \"type\": \"send_email\", \"n\": %llu, \"args\": [\"",
                          seed & 0xFFFFFF, (unsigned long long)ids, 10000000 + (unsigned long long)(chance() % 90000000));
    long wanted = vary ? size / 2 + (long)(chance() % (size + 1)) : size;
    long filler = wanted - length - 3;
    if (filler < 0) filler = 0;
    format(bytes, "$%ld\r\n", length + filler + 3);
    append(bytes, head, length);
    append(bytes, pool + chance() % (POOL - filler), filler);
    append(bytes, "\"]}\r\n", 5);
}

static void build(struct connection *one) {
    if (one->phase == PUSH) {
        append(&built, "*3\r\n$5\r\nLPUSH\r\n", 15);
        queue(&built);
        job(&built);
        pushed++;
    } else if (one->phase == POP) {
        append(&built, "*3\r\n$9\r\nRPOPLPUSH\r\n", 19);
        argument(&built, key, strlen(key));
        processing(&built, one->number);
    } else {
        struct bytes *oldest = &one->held[one->first];
        append(&built, "*4\r\n$4\r\nLREM\r\n", 14);
        processing(&built, one->number);
        argument(&built, "-1", 2);
        argument(&built, oldest->data, oldest->size);
        one->first = (one->first + 1) % (window + depth);
        one->count--;
    }
}

static void interest(struct connection *one, int writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = one};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, one->fd, &event)) die("epoll_ctl: %s", strerror(errno));
    one->writing = writing;
}

static size_t put(struct connection *one, const char *data, size_t length) {
    ssize_t done = write(one->fd, data, length);
    if (done < 0 && errno != EAGAIN) die("write: %s", strerror(errno));
    return done < 0 ? 0 : done;
}

static void request(struct connection *one) {
    built.size = 0;
    for (int at = 0; at < one->batch; at++) build(one);
    total += one->batch;
    one->awaited = one->batch;
    size_t done = put(one, built.data, built.size);
    if (done < built.size) {
        append(&one->out, built.data + done, built.size - done);
        interest(one, 1);
    }
}

static void resume(struct connection *one) {
    size_t done = put(one, one->out.data, one->out.size);
    memmove(one->out.data, one->out.data + done, one->out.size - done);
    one->out.size -= done;
    if (!one->out.size) interest(one, 0);
}

/* The next batch of a closed loop, unless this connection has nothing left to do. */
static void next(struct connection *one) {
    if (one->phase == PUSH) {
        if (filling ? one->count >= window : issued >= units || (limit && now() >= over)) {
            finished++;
            return;
        }
        long left = filling ? window - one->count : units - issued;
        one->batch = left < depth ? left : depth;
        if (!filling) issued += one->batch;
    }
    request(one);
}

static void assign(struct connection *one, int64_t due) {
    one->due = due;
    one->batch = 1;
    request(one);
}

static void answered(struct connection *one) {
    if (one->phase == PUSH) one->phase = whole ? POP : PUSH;
    else if (one->phase == POP) one->phase = filling ? PUSH : ACK;
    else one->phase = PUSH;
    if (!rate || filling) {
        next(one);
        return;
    }
    latencies[measured++] = now() - one->due;
    if (waiting_first < waiting_last) assign(one, waiting[waiting_first++]);
    else idle[idle_last++ % connections] = one->number;
}

static void check(struct connection *one, const char *reply, size_t length) {
    char kind = reply[0];
    if (kind == '-') die("Redis said: %.*s", (int)length, reply);
    if (kind != (one->phase == POP ? '$' : ':')) die("not what was expected: %.*s", (int)length, reply);
    if (one->phase == ACK && reply[1] != '1') die("a job was not where it had been put: LREM answered %.*s", (int)length, reply);
}

/* One reply from what was read, if it is whole. */
static int reply(struct connection *one) {
    char *begin = one->in.data + one->read;
    size_t left = one->in.size - one->read;
    char *line = left ? memchr(begin, '\n', left) : NULL;
    if (!line) return 0;
    size_t length = line + 1 - begin, body = 0;
    check(one, begin, length);
    if (begin[0] == '$') {
        long announced = atol(begin + 1);
        if (announced < 0) die("a queue was empty");
        body = announced + 2;
        if (left < length + body) {
            reserve(&one->in, length + body - left);
            return 0;
        }
        struct bytes *newest = &one->held[(one->first + one->count++) % (window + depth)];
        newest->size = 0;
        append(newest, begin + length, announced);
    }
    one->read += length + body;
    return 1;
}

static void readable(struct connection *one) {
    reserve(&one->in, READ);
    ssize_t got = read(one->fd, one->in.data + one->in.size, one->in.room - one->in.size);
    if (got == 0) die("the connection was closed");
    if (got < 0) {
        if (errno == EAGAIN) return;
        die("read: %s", strerror(errno));
    }
    one->in.size += got;
    int done = 0;
    while (one->awaited && reply(one)) done = !--one->awaited;
    if (one->read == one->in.size) {
        one->in.size = one->read = 0;
        if (connections > 500) {
            free(one->in.data);
            one->in.data = NULL;
            one->in.room = 0;
        }
    } else if (one->read) {
        memmove(one->in.data, one->in.data + one->read, one->in.size -= one->read);
        one->read = 0;
    }
    if (done) answered(one);
}

static void turn(void) {
    static struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, -1);
    if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    for (int at = 0; at < count; at++) {
        struct connection *one = events[at].data.ptr;
        if (!one) {
            uint64_t expirations;
            if (read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN) die("timer: %s", strerror(errno));
            continue;
        }
        if (events[at].events & EPOLLOUT) resume(one);
        if (events[at].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(one);
    }
}

static void closed_loop(void) {
    finished = 0;
    for (long at = 0; at < connections; at++) next(&all[at]);
    while (finished < connections) turn();
}

static void open_loop(void) {
    double due = now();
    long arrived = 0;
    for (long at = 0; at < connections; at++) idle[idle_last++ % connections] = at;
    while (measured < commands) {
        while (arrived < commands && due <= now()) {
            if (idle_first < idle_last) assign(&all[idle[idle_first++ % connections]], due);
            else waiting[waiting_last++] = due;
            arrived++;
            due += -log((chance() >> 11 | 1) * 0x1p-53) * 1e9 / rate;
        }
        if (arrived < commands) {
            int64_t at = due;
            struct itimerspec when = {.it_value = {at / 1000000000, at % 1000000000}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        }
        turn();
    }
}

static int by_value(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static double percentile(double share) { return latencies[(long)(share * (measured - 1))] / 1e3; }

static void introduce(struct connection *one) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    char pong[16];
    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (one->fd < 0 || connect(one->fd, (struct sockaddr *)&address, sizeof address)) die("connect: %s", strerror(errno));
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* Through to Redis, not only to the proxy. */
    if (write(one->fd, "*1\r\n$4\r\nPING\r\n", 14) != 14 || read(one->fd, pong, 7) != 7 || memcmp(pong, "+PONG\r\n", 7))
        die("no answer to PING on connection %d", one->number);
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
    total++;
    one->held = calloc(window + depth, sizeof *one->held);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    if (!one->held || epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &event)) die("connection %d: %s", one->number, strerror(errno));
}

static void read_arguments(int count, char **words) {
    struct { const char *name; long *number; const char **text; } known[] = {
        {"port", &port, 0}, {"connections", &connections, 0}, {"depth", &depth, 0}, {"commands", &commands, 0},
        {"rate", &rate, 0}, {"size", &size, 0}, {"vary", &vary, 0}, {"queues", &queues, 0}, {"window", &window, 0},
        {"limit", &limit, 0}, {"seed", &seed, 0}, {"work", 0, &work}, {"key", 0, &key},
    };
    for (int at = 1; at < count; at++) {
        char *value = strchr(words[at], '=');
        size_t found = 0, each = sizeof known / sizeof *known;
        if (!value) die("NAME=VALUE, not %s", words[at]);
        *value++ = 0;
        while (found < each && strcmp(known[found].name, words[at])) found++;
        if (found == each) die("no such setting: %s", words[at]);
        if (known[found].number) *known[found].number = atol(value);
        else *known[found].text = value;
    }
    whole = !strcmp(work, "job");
    if (connections < 1 || depth < 1 || (rate && depth > 1) || (whole && queues > 1) || size * 2 > POOL) die("cannot do that");
    units = whole ? commands / 3 : commands;
}

int main(int count, char **words) {
    read_arguments(count, words);
    state = seed * 0x9E3779B97F4A7C15ULL;
    for (int at = 0; at < POOL; at++) pool[at] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789  "[chance() & 63];
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event);
    all = calloc(connections, sizeof *all);
    idle = calloc(connections, sizeof *idle);
    latencies = calloc(rate ? commands : 1, sizeof *latencies);
    waiting = calloc(rate ? commands : 1, sizeof *waiting);
    if (!all || !idle || !latencies || !waiting) die("out of memory");
    for (long at = 0; at < connections; at++) {
        all[at].number = at;
        introduce(&all[at]);
    }
    filling = 1;
    if (window) closed_loop();
    filling = 0;
    puts("ready");
    fflush(stdout);
    if (getchar() != '\n') return 0;
    int64_t began = now();
    over = began + limit * 1000000;
    if (rate) open_loop();
    else closed_loop();
    double seconds = (now() - began) / 1e9;
    long sent = rate ? measured : whole ? 3 * issued : issued;
    printf("{\"commands\": %ld, \"pushed\": %ld, \"total\": %ld, \"seconds\": %.6f", sent, pushed, total, seconds);
    if (rate) {
        qsort(latencies, measured, sizeof *latencies, by_value);
        printf(", \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f", percentile(0.5), percentile(0.99),
               percentile(0.999), percentile(1));
    }
    puts("}");
    fflush(stdout);
    while (getchar() != EOF) {}
    return 0;
}
