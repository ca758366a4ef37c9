/* Readers of a Server-Sent Events stream, as cheap as they can be: one thread, epoll.
 *
 *   loadgen [-w warm_s] [-d window_s] [-s nth] [-t patience_s] [-f file] [-W opening] [-n total] [-l] [-z] [-i] PORT READERS PATH
 *
 * Opens READERS streams, then says so ("CONNECTED ..."). With -i it holds them until its standard input ends.
 * Otherwise it waits for the first event, warms up, says "MEASURE", counts events for the window and ends with
 * one line of JSON. An event is counted by the mark "t": in its data; the number behind that is the publisher's
 * CLOCK_MONOTONIC in ns, which gives the latency on every nth reader.
 * With -f each reader has a line of that file (round again at its end): what follows PATH, a blank, and a header.
 * With -W they come by WebSocket and send that text first, if it is not empty.
 * With -n it says MEASURE before it connects, and ends as soon as all readers together have that many events.
 * With -z it does not look into what comes: only bytes and reads are counted, from the first one on.
 * With -l the latency to the last reader of each event is told as well: events need numbers of their own then.
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

enum { CARRY = 32, BUFFER = 1 << 18, MAX_SAMPLES = 1 << 22, IN_FLIGHT = 256, BATCH = 512, MAX_EVENTS = 1 << 16 };
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
static int port, count, nth = 1, hold, last, opaque;
static const char *opening; /* not NULL: WebSocket */
static struct reader *readers;
static char request[4096], buffer[CARRY + BUFFER];
static const char *path;
static char **lines;
static int line_count;
static struct sockaddr_in address;
static int poller, opened, connected, failed, closed;
static uint64_t events, bytes, reads;
static int measuring;
static uint64_t total; /* of -n */
static uint32_t *samples_us;
static size_t sample_count;
/* The events of the window by their number, in a table of open addressing, for -l. */
static struct { uint64_t sent_ns, last_ns; uint32_t count; } table[MAX_EVENTS];
static size_t table_used;
static uint32_t last_us[MAX_EVENTS];
static size_t last_count;

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

/* A reader has got the event that was sent then; the last one of all makes a figure. */
static void note_last(uint64_t sent_ns, uint64_t read_ns) {
    size_t at = (sent_ns * 11400714819323198485ull) >> 48;
    while (table[at].sent_ns && table[at].sent_ns != sent_ns) at = (at + 1) % MAX_EVENTS;
    if (!table[at].sent_ns) {
        if (table_used++ > MAX_EVENTS / 2) {
            puts("{\"error\": \"too many events for -l\"}");
            exit(2);
        }
        table[at].sent_ns = sent_ns;
    }
    if (++table[at].count == (uint32_t)connected) last_us[last_count++] = (read_ns - sent_ns) / 1000;
}

/* Count the marks in data, which has room for the carry before it. */
static void scan(struct reader *r, char *data, size_t length) {
    char *at = data - r->carried, *end = data + length, *mark;
    uint64_t read_ns = 0;
    memcpy(at, r->carry, r->carried);
    while ((mark = memmem(at, end - at, MARK, MARK_LENGTH))) {
        char *digit = mark + MARK_LENGTH;
        uint64_t sent_ns = 0;
        while (digit < end && *digit == ' ') digit++;
        while (digit < end && *digit >= '0' && *digit <= '9') sent_ns = sent_ns * 10 + (*digit++ - '0');
        if (digit == end && end - mark < CARRY) break; /* the number may go on in the next read */
        events++;
        r->events++;
        at = digit;
        if (measuring && !read_ns && (last || r->index % nth == 0)) read_ns = now_ns();
        if (measuring && last) note_last(sent_ns, read_ns);
        if (measuring && r->index % nth == 0 && sample_count < MAX_SAMPLES) {
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
    const char *line = line_count ? lines[r->index % line_count] : " ", *blank = strchr(line, ' ');
    const char *kind = opening ? "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                               : "Accept: text/event-stream\r\n";
    int length = snprintf(request, sizeof request, "GET %s%.*s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s%s\r\n", path,
                          (int)(blank - line), line, port, kind, blank + 1, blank[1] ? "\r\n" : "");
    if (error || write(r->fd, request, length) != length) {
        drop(r, &failed);
        return;
    }
    r->state = REQUESTED;
    watch(r, EPOLL_CTL_MOD, EPOLLIN);
}

/* A text frame with the mask 0, which leaves the text as it is. */
static void send_opening(struct reader *r) {
    size_t length = strlen(opening);
    char frame[6 + 125] = {(char)0x81, (char)(0x80 | length)};
    memcpy(frame + 6, opening, length);
    if (write(r->fd, frame, 6 + length) != (ssize_t)(6 + length)) drop(r, &closed);
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
        if (!memmem(data, length > 40 ? 40 : length, opening ? " 101" : " 200", 4)) {
            if (!failed) fprintf(stderr, "refused: %.*s\n", (int)(length > 300 ? 300 : length), data);
            drop(r, &failed);
            return;
        }
        r->state = STREAMING;
        connected++;
        if (opening && *opening) send_opening(r);
    }
    if (!opaque) scan(r, data, length);
}

static void read_lines(const char *name) {
    FILE *file = fopen(name, "r");
    char *line = NULL;
    size_t size = 0;
    if (!file) {
        perror(name);
        exit(2);
    }
    while (getline(&line, &size, file) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (!strchr(line, ' ') || strlen(line) > sizeof request - 1024) {
            fprintf(stderr, "%s: a line has no blank, or is too long\n", name);
            exit(2);
        }
        lines = realloc(lines, (line_count + 1) * sizeof *lines);
        lines[line_count++] = strdup(line);
    }
    free(line);
    fclose(file);
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

/* Of sorted figures; -1 if there are none. */
static double percentile_ms(const uint32_t *sorted, size_t figures, double share) {
    return figures ? sorted[(size_t)((figures - 1) * share)] / 1e3 : -1;
}

/* Until all have what they lack. */
static void catch_up(void) {
    double started_s = now_s(), cpu_before_s = cpu_s();
    puts("MEASURE");
    while (events < total) {
        turn();
        if (failed || closed || now_s() - started_s > patience_s) {
            printf("{\"error\": \"%d refused, %d closed, %lu of %lu events came\"}\n", failed, closed, events, total);
            exit(2);
        }
    }
    double took_s = now_s() - started_s;
    printf("{\"connected\": %d, \"took_s\": %.3f, \"deliveries\": %lu, \"bytes\": %lu, \"reads\": %lu, "
           "\"cpu_share\": %.3f}\n", connected, took_s, events, bytes, reads, (cpu_s() - cpu_before_s) / took_s);
}

static void measure(double connect_s) {
    double started_s = now_s();
    while (!events && !opaque) {
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
    qsort(last_us, last_count, sizeof *last_us, ascending);
    printf("{\"connected\": %d, \"failed\": %d, \"closed\": %d, \"connect_s\": %.3f, \"window_s\": %.3f, "
           "\"deliveries\": %lu, \"bytes\": %lu, \"reads\": %lu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"max_ms\": %.3f, \"samples\": %zu, \"last_p50_ms\": %.3f, \"last_p99_ms\": %.3f, \"to_all\": %zu, "
           "\"least_events\": %lu, \"most_events\": %lu, \"cpu_share\": %.3f}\n",
           connected, failed, closed, connect_s, took_s, events - events_before, bytes - bytes_before,
           reads - reads_before, percentile_ms(samples_us, sample_count, .5),
           percentile_ms(samples_us, sample_count, .99), percentile_ms(samples_us, sample_count, 1), sample_count,
           percentile_ms(last_us, last_count, .5), percentile_ms(last_us, last_count, .99), last_count,
           least, most, used_s / took_s);
}

int main(int argc, char **argv) {
    for (int option; (option = getopt(argc, argv, "w:d:s:t:f:W:n:lzi")) != -1;) switch (option) {
        case 'w': warm_s = atof(optarg); break;
        case 'd': window_s = atof(optarg); break;
        case 's': nth = atoi(optarg); break;
        case 't': patience_s = atof(optarg); break;
        case 'f': read_lines(optarg); break;
        case 'W': opening = strlen(optarg) < 126 ? optarg : ""; break;
        case 'n': total = strtoull(optarg, NULL, 10); break;
        case 'l': last = 1; break;
        case 'z': opaque = 1; break;
        case 'i': hold = 1; break;
        default: return 2;
    }
    if (argc - optind != 3) return fprintf(stderr, "usage: loadgen [options] PORT READERS PATH\n"), 2;
    port = atoi(argv[optind]);
    count = atoi(argv[optind + 1]);
    path = argv[optind + 2];
    setvbuf(stdout, NULL, _IOLBF, 0);
    readers = calloc(count, sizeof *readers);
    samples_us = malloc(MAX_SAMPLES * sizeof *samples_us);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    poller = epoll_create1(0);
    if (total) return catch_up(), 0;
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
