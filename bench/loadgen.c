/* Readers of a Server-Sent Events stream, as cheap as they can be: one thread, epoll.
 *
 *   loadgen [-w warm_s] [-d window_s] [-s nth] [-t patience_s] [-i] PORT READERS PATH
 *
 * Opens READERS streams, then says so ("CONNECTED ..."). With -i it holds them until its standard input ends.
 * Otherwise it waits for the first event, warms up, says "MEASURE", counts events for the window and ends with
 * one line of JSON. An event is counted by the mark "t": in its data; the number behind that is the publisher's
 * CLOCK_MONOTONIC in ns, which gives the latency on every nth reader.
 * Its own share of a CPU (cpu_share) near 1.0 means that it, and not the server, was the limit.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
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

enum { CARRY = 32, BUFFER = 1 << 18, MAX_SAMPLES = 1 << 22, IN_FLIGHT = 256, BATCH = 512 };
enum state { CONNECTING, REQUESTED, STREAMING, CLOSED };

static const char MARK[] = "\"t\":";
enum { MARK_LENGTH = sizeof MARK - 1 };

struct reader {
    int fd, index, carried;
    enum state state;
    uint64_t events;
    char carry[CARRY]; /* the end of the last read, where a mark may have been cut */
};

static double warm_s = 1, window_s = 3, patience_s = 20;
static int port, count, nth = 1, hold;
static struct reader *readers;
static char request[1024], buffer[CARRY + BUFFER];
static struct sockaddr_in address;
static int poller, opened, connected, failed, closed;
static uint64_t events, bytes, reads;
static int measuring;
static uint32_t *samples_us;
static size_t sample_count;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static double now_s(void) { return now_ns() * 1e-9; }

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* Count the marks in data, which has room for the carry before it. */
static void scan(struct reader *r, char *data, size_t length) {
    char *at = data - r->carried, *end = data + length, *mark;
    uint64_t read_ns = 0;
    memcpy(at, r->carry, r->carried);
    while ((mark = memmem(at, end - at, MARK, MARK_LENGTH))) {
        char *digit = mark + MARK_LENGTH;
        uint64_t sent_ns = 0;
        while (digit < end && *digit >= '0' && *digit <= '9') sent_ns = sent_ns * 10 + (*digit++ - '0');
        if (digit == end && end - mark < CARRY) break; /* the number may go on in the next read */
        events++;
        r->events++;
        at = digit;
        if (measuring && r->index % nth == 0 && sample_count < MAX_SAMPLES) {
            if (!read_ns) read_ns = now_ns();
            samples_us[sample_count++] = read_ns > sent_ns ? (read_ns - sent_ns) / 1000 : 0;
        }
    }
    size_t keep = mark ? (size_t)(end - mark) : (size_t)(end - at);
    if (!mark && keep > MARK_LENGTH - 1) keep = MARK_LENGTH - 1;
    memcpy(r->carry, end - keep, keep);
    r->carried = keep;
}

static void watch(struct reader *r, int operation, uint32_t wanted) {
    struct epoll_event e = {.events = wanted, .data.ptr = r};
    epoll_ctl(poller, operation, r->fd, &e);
}

static void drop(struct reader *r, int *counter) {
    (*counter)++;
    r->state = CLOSED;
    close(r->fd);
}

static void open_next(void) {
    struct reader *r = &readers[opened];
    r->index = opened++;
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (r->fd < 0) {
        perror("socket (ulimit -n?)");
        exit(1);
    }
    connect(r->fd, (void *)&address, sizeof address);
    watch(r, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void on_connected(struct reader *r) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error || write(r->fd, request, strlen(request)) != (ssize_t)strlen(request)) {
        drop(r, &failed);
        return;
    }
    r->state = REQUESTED;
    watch(r, EPOLL_CTL_MOD, EPOLLIN);
}

static void on_readable(struct reader *r) {
    char *data = buffer + CARRY;
    ssize_t length = read(r->fd, data, BUFFER);
    if (length < 0 && errno == EAGAIN) return;
    if (length <= 0) {
        drop(r, r->state == REQUESTED ? &failed : &closed);
        return;
    }
    reads++;
    bytes += length;
    if (r->state == REQUESTED) {
        if (!memmem(data, length > 40 ? 40 : length, " 200", 4)) {
            if (!failed) fprintf(stderr, "refused: %.*s\n", (int)(length > 300 ? 300 : length), data);
            drop(r, &failed);
            return;
        }
        r->state = STREAMING;
        connected++;
    }
    scan(r, data, length);
}

static void turn(void) {
    struct epoll_event ready[BATCH];
    while (opened < count && opened - connected - failed < IN_FLIGHT) open_next();
    int n = epoll_wait(poller, ready, BATCH, 20);
    for (int i = 0; i < n; i++) {
        struct reader *r = ready[i].data.ptr;
        if (r->state == CONNECTING) on_connected(r);
        else if (r->state != CLOSED) on_readable(r);
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_ms(double share) {
    return sample_count ? samples_us[(size_t)((sample_count - 1) * share)] / 1e3 : -1;
}

static void measure(double connect_s) {
    double started_s = now_s();
    while (!events) {
        turn();
        if (now_s() - started_s > patience_s) {
            puts("{\"error\": \"no events came\"}");
            exit(2);
        }
    }
    started_s = now_s();
    while (now_s() - started_s < warm_s) turn();
    puts("MEASURE");
    measuring = 1;
    uint64_t events_before = events, bytes_before = bytes, reads_before = reads;
    double cpu_before_s = cpu_s();
    started_s = now_s();
    while (now_s() - started_s < window_s) turn();
    double took_s = now_s() - started_s, used_s = cpu_s() - cpu_before_s;
    uint64_t least = UINT64_MAX, most = 0;
    for (int i = 0; i < count; i++) {
        if (readers[i].state != STREAMING) continue;
        if (readers[i].events < least) least = readers[i].events;
        if (readers[i].events > most) most = readers[i].events;
    }
    qsort(samples_us, sample_count, sizeof *samples_us, ascending);
    printf("{\"connected\": %d, \"failed\": %d, \"closed\": %d, \"connect_s\": %.3f, \"window_s\": %.3f, "
           "\"deliveries\": %lu, \"bytes\": %lu, \"reads\": %lu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"max_ms\": %.3f, \"samples\": %zu, \"least_events\": %lu, \"most_events\": %lu, \"cpu_share\": %.3f}\n",
           connected, failed, closed, connect_s, took_s, events - events_before, bytes - bytes_before,
           reads - reads_before, percentile_ms(.5), percentile_ms(.99), percentile_ms(1), sample_count,
           least, most, used_s / took_s);
}

int main(int argc, char **argv) {
    for (int option; (option = getopt(argc, argv, "w:d:s:t:i")) != -1;) switch (option) {
        case 'w': warm_s = atof(optarg); break;
        case 'd': window_s = atof(optarg); break;
        case 's': nth = atoi(optarg); break;
        case 't': patience_s = atof(optarg); break;
        case 'i': hold = 1; break;
        default: return 2;
    }
    if (argc - optind != 3) return fprintf(stderr, "usage: loadgen [options] PORT READERS PATH\n"), 2;
    port = atoi(argv[optind]);
    count = atoi(argv[optind + 1]);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n",
             argv[optind + 2], port);
    setvbuf(stdout, NULL, _IOLBF, 0);
    readers = calloc(count, sizeof *readers);
    samples_us = malloc(MAX_SAMPLES * sizeof *samples_us);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    poller = epoll_create1(0);
    double started_s = now_s();
    while (connected + failed < count) {
        turn();
        if (now_s() - started_s > patience_s * 3) {
            puts("{\"error\": \"not all readers could connect\"}");
            return 2;
        }
    }
    double connect_s = now_s() - started_s;
    printf("CONNECTED {\"connected\": %d, \"failed\": %d, \"connect_s\": %.3f}\n", connected, failed, connect_s);
    if (hold) {
        char byte;
        while (read(0, &byte, 1) > 0) {}
    } else {
        measure(connect_s);
    }
    return 0;
}
