/* The floor: the least a server can do for one HTTP request, as one epoll loop in C.
 *
 * It finds where each head ends, counts them, and sends one constant answer of the size kaserve's has.  It checks
 * nothing, keeps no deadline, and has no handler: nothing that really is a server can be cheaper, so the CPU time
 * a request costs here is the price of the system calls, and what the others need beyond it is their own.
 *
 *     cc -O2 -o floor floor.c && ./floor PORT
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

enum { BACKLOG = 2048, EVENTS = 256, READ_SIZE = 16384, MOST_ANSWERS = 256, ANSWER_SIZE = 512 };

/* What stays of a head that has not ended yet; NULL in the usual case, so an idle connection costs a pointer. */
struct rest {
    size_t size;
    char bytes[READ_SIZE];
};

static struct rest **rests;              /* by descriptor */
static char answers[MOST_ANSWERS * ANSWER_SIZE]; /* the same answer over and over: one send for a whole pipeline */
static size_t answer_size;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Write the answers anew when the second changes: as for every server, Date costs something once a second. */
static void refresh_answers(void)
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

    answer_size = (size_t)snprintf(answers, ANSWER_SIZE,
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Date: %s\r\n"
        "Content-Length: 5\r\n"
        "Connection: keep-alive\r\n"
        "Keep-Alive: timeout=120, max=999\r\n"
        "\r\n"
        "hello", date);
    for (int i = 1; i < MOST_ANSWERS; i++)
        memcpy(answers + (size_t)i * answer_size, answers, answer_size);
}

static void drop(int fd)
{
    free(rests[fd]);
    rests[fd] = NULL;
    close(fd);
}

/* Send `count` answers.  A client that does not take them at once is dropped: the floor has no send buffer. */
static int answer(int fd, size_t count)
{
    while (count > 0) {
        size_t now = count < MOST_ANSWERS ? count : MOST_ANSWERS;
        if (send(fd, answers, now * answer_size, MSG_NOSIGNAL) != (ssize_t)(now * answer_size))
            return -1;
        count -= now;
    }
    return 0;
}

/* Keep the unfinished head for the next read. */
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

/* Read once, answer every head that has ended.  -1: the connection is over. */
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
    return answer(fd, heads);
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
        limit.rlim_cur = 1 << 20; /* "unlimited" would be a table without end */
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
        refresh_answers();
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(listener, poll, limit.rlim_cur);
            else if (serve(fd) < 0)
                drop(fd);
        }
    }
}
