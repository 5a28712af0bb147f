/* The lower bound: the least a server can do for one HTTP request, as one epoll loop in C.
 *
 * It finds where each head ends, counts them, and sends one constant response of the size of kaserve's.  It checks
 * nothing, keeps no deadline, and has no handler: no real server can be cheaper.  So the CPU time of a request
 * here is that of the system calls, and what the others need beyond that is their own.
 *
 *     cc -O2 -o c_loop c_loop.c && ./c_loop PORT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 2048, EVENTS = 256, READ_SIZE = 16384, MAX_RESPONSES = 256, RESPONSE_SIZE = 512 };

/* The beginning of an incomplete head.  Usually there is none (NULL), so an idle connection costs one pointer. */
struct rest {
    size_t size;
    char bytes[READ_SIZE];
};

static struct rest **rests; /* by descriptor */
static char responses[MAX_RESPONSES * RESPONSE_SIZE]; /* copies of one response: a single send for a whole pipeline */
static size_t response_size;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Writes the responses again once a second, because of Date: every server has this cost. */
static void refresh_responses(void)
{
    static time_t written_at;
    time_t now = time(NULL);
    if (now == written_at)
        return;
    written_at = now;

    char date[64];
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &utc);

    response_size = (size_t)snprintf(responses, RESPONSE_SIZE,
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Date: %s\r\n"
        "Content-Length: 5\r\n"
        "Connection: keep-alive\r\n"
        "Keep-Alive: timeout=120, max=999\r\n"
        "\r\n"
        "hello", date);
    for (int i = 1; i < MAX_RESPONSES; i++)
        memcpy(responses + (size_t)i * response_size, responses, response_size);
}

static void drop(int fd)
{
    free(rests[fd]);
    rests[fd] = NULL;
    close(fd);
}

/* Sends `count` responses.  A client that does not receive them at once is dropped: there is no send buffer. */
static int respond(int fd, size_t count)
{
    while (count > 0) {
        size_t now = count < MAX_RESPONSES ? count : MAX_RESPONSES;
        if (send(fd, responses, now * response_size, MSG_NOSIGNAL) != (ssize_t)(now * response_size))
            return -1;
        count -= now;
    }
    return 0;
}

/* Keeps the incomplete head for the next read. */
static int keep_rest(int fd, const char *bytes, size_t size)
{
    if (size == READ_SIZE)
        return -1; /* a head that will never fit */
    if (rests[fd] == NULL && (rests[fd] = malloc(sizeof **rests)) == NULL)
        return -1;
    memcpy(rests[fd]->bytes, bytes, size);
    rests[fd]->size = size;
    return 0;
}

/* Reads once and responds to every complete head.  Returns -1 if the connection has ended. */
static int serve(int fd)
{
    static char buffer[READ_SIZE];
    size_t held = 0;
    if (rests[fd] != NULL) {
        held = rests[fd]->size;
        memcpy(buffer, rests[fd]->bytes, held);
        free(rests[fd]);
        rests[fd] = NULL;
    }

    ssize_t got = recv(fd, buffer + held, sizeof buffer - held, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return held > 0 ? keep_rest(fd, buffer, held) : 0;
    if (got <= 0)
        return -1;

    size_t heads = 0;
    const char *next = buffer, *end = buffer + held + (size_t)got, *found;
    while ((found = memmem(next, (size_t)(end - next), "\r\n\r\n", 4)) != NULL) {
        heads++;
        next = found + 4;
    }
    if (next < end && keep_rest(fd, next, (size_t)(end - next)) < 0)
        return -1;
    return respond(fd, heads);
}

static void accept_all(int listener, int poll, size_t most_descriptors)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return; /* EAGAIN, or no descriptor left: the next turn tries again */
        if ((size_t)fd >= most_descriptors) {
            close(fd);
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0)
            close(fd);
    }
}

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("bind");
    if (listen(fd, BACKLOG) < 0)
        die("listen");
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        die("getrlimit");
    if (limit.rlim_cur > 1 << 20)
        limit.rlim_cur = 1 << 20; /* "unlimited" would be an endless table */
    rests = calloc(limit.rlim_cur, sizeof *rests);
    if (rests == NULL)
        die("calloc");

    int listener = listen_on(atoi(argv[1]));
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event first = {.events = EPOLLIN, .data.fd = listener};
    if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &first) < 0)
        die("epoll");

    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, -1);
        refresh_responses();
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(listener, poll, limit.rlim_cur);
            else if (serve(fd) < 0)
                drop(fd);
        }
    }
}
