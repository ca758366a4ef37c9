/* Readers that check what they get, for the soak.
 *
 *   follower PORT READERS PATH SECONDS RECONNECTS_PER_S
 *
 * Each follows the whole feed and expects every event to have the next number. So many a second, drawn at random,
 * are cut off and come back with their cursor; so does whoever is closed by the server. Every ten seconds, and at
 * the end, a line of JSON tells what was seen since the beginning.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 2048, BUFFER = 1 << 18, BATCH = 512, REPORT_S = 10, RETRY_S = 1 };
enum state { WAITING, CONNECTING, REQUESTED, STREAMING };

struct reader {
    int fd, length;
    enum state state;
    double since_s;
    char epoch[9], event[32], line[LINE];
    uint64_t seq, id;
    int has_id;
};

static int port, count, poller;
static const char *path;
static struct reader *readers;
static struct sockaddr_in address;
static char buffer[BUFFER];
static uint64_t events, missed, repeated, resets, goodbyes, cuts, refused, closed;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void open_reader(struct reader *r) {
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (r->fd < 0) {
        perror("socket (ulimit -n?)");
        exit(1);
    }
    connect(r->fd, (void *)&address, sizeof address);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = r};
    epoll_ctl(poller, EPOLL_CTL_ADD, r->fd, &e);
    r->state = CONNECTING;
    r->length = r->has_id = 0;
    r->event[0] = 0;
}

static void drop(struct reader *r, uint64_t *why) {
    (*why)++;
    close(r->fd);
    r->state = WAITING;
    r->since_s = now_s();
}

static void ask(struct reader *r) {
    char request[1024], cursor[64] = "";
    if (r->epoch[0]) snprintf(cursor, sizeof cursor, "Last-Event-ID: %s.%lu\r\n", r->epoch, r->seq);
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n", path, port, cursor);
    if (write(r->fd, request, length) != length) {
        drop(r, &refused);
        return;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = r};
    epoll_ctl(poller, EPOLL_CTL_MOD, r->fd, &e);
    r->state = REQUESTED;
}

/* A block has ended: is it the one that was due? */
static void dispatch(struct reader *r) {
    if (!strcmp(r->event, "stage_change") && r->has_id) {
        events++;
        if (r->id > r->seq + 1) missed += r->id - r->seq - 1;
        if (r->id <= r->seq) repeated++;
        else r->seq = r->id;
    } else if (!strcmp(r->event, "reset")) {
        resets++;
        r->seq = r->id;
    } else if (!strcmp(r->event, "goodbye")) {
        goodbyes++;
    } else if (r->has_id) { /* connected, caught_up, heartbeat: nothing is hidden from these readers */
        if (r->epoch[0] && r->seq && r->id > r->seq) missed += r->id - r->seq;
        r->seq = r->id;
    }
    r->event[0] = r->has_id = 0;
}

static void on_line(struct reader *r) {
    if (r->length && r->line[r->length - 1] == '\r') r->length--;
    r->line[r->length] = 0;
    if (!r->length) {
        if (r->event[0]) dispatch(r);
    } else if (!strncmp(r->line, "event: ", 7)) {
        snprintf(r->event, sizeof r->event, "%s", r->line + 7);
    } else if (!strncmp(r->line, "id: ", 4) && r->length > 13) {
        memcpy(r->epoch, r->line + 4, 8);
        r->id = strtoull(r->line + 13, NULL, 10);
        r->has_id = 1;
    }
    r->length = 0;
}

static void on_readable(struct reader *r) {
    ssize_t length = read(r->fd, buffer, BUFFER);
    if (length < 0 && errno == EAGAIN) return;
    if (length <= 0) {
        drop(r, r->state == REQUESTED ? &refused : &closed);
        return;
    }
    if (r->state == REQUESTED) {
        if (!memmem(buffer, length > 40 ? 40 : length, " 200", 4)) {
            drop(r, &refused);
            return;
        }
        r->state = STREAMING;
    }
    uint64_t before = goodbyes;
    for (ssize_t i = 0; i < length; i++) {
        if (buffer[i] == '\n') on_line(r);
        else if (r->length < LINE - 1) r->line[r->length++] = buffer[i];
    }
    if (goodbyes > before) drop(r, &closed); /* the connection itself stays open for another request */
}

static void report(double started_s) {
    int streaming = 0;
    uint64_t low = UINT64_MAX, high = 0;
    for (int i = 0; i < count; i++) {
        streaming += readers[i].state == STREAMING;
        if (readers[i].seq < low) low = readers[i].seq;
        if (readers[i].seq > high) high = readers[i].seq;
    }
    printf("{\"seconds\": %.0f, \"streaming\": %d, \"events\": %lu, \"missed\": %lu, \"repeated\": %lu, \"resets\": %lu, "
           "\"goodbyes\": %lu, \"cuts\": %lu, \"refused\": %lu, \"closed\": %lu, \"lag\": %lu, \"cpu_share\": %.3f}\n",
           now_s() - started_s, streaming, events, missed, repeated, resets, goodbyes, cuts, refused, closed, high - low,
           cpu_s() / (now_s() - started_s));
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 6) return fprintf(stderr, "usage: follower PORT READERS PATH SECONDS RECONNECTS_PER_S\n"), 2;
    port = atoi(argv[1]);
    count = atoi(argv[2]);
    path = argv[3];
    double length_s = atof(argv[4]), churn = atof(argv[5]);
    readers = calloc(count, sizeof *readers);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    poller = epoll_create1(0);
    srandom(1);
    double started_s = now_s(), report_s = started_s + REPORT_S, cut_s = started_s + 5;
    while (now_s() - started_s < length_s) {
        struct epoll_event ready[BATCH];
        int n = epoll_wait(poller, ready, BATCH, 20);
        for (int i = 0; i < n; i++) {
            struct reader *r = ready[i].data.ptr;
            int error = 0;
            socklen_t size = sizeof error;
            if (r->state == CONNECTING) {
                getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &size);
                if (error) drop(r, &refused);
                else ask(r);
            } else if (r->state != WAITING) {
                on_readable(r);
            }
        }
        double at_s = now_s();
        for (; churn > 0 && cut_s < at_s; cut_s += 1 / churn) {
            struct reader *r = &readers[random() % count];
            if (r->state == STREAMING) drop(r, &cuts);
        }
        for (int i = 0, opened = 0; i < count && opened < 100; i++) {
            struct reader *r = &readers[i];
            if (r->state == WAITING && at_s >= r->since_s + (r->since_s ? RETRY_S : 0)) open_reader(r), opened++;
        }
        if (at_s >= report_s) report(started_s), report_s += REPORT_S;
    }
    report(started_s);
    return 0;
}
