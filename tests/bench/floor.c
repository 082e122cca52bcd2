/* The floor: what any HTTP server on this machine has to pay. One thread, level-triggered epoll; one read and one write per
 * request; it looks only for the end of a request's head and answers bytes made at start.
 *
 *   floor PORT BODY_BYTES
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, HEAD_MAX = 8192 };

struct client {
  int fd;
  size_t held;
  char bytes[HEAD_MAX];
};

static char* answer;
static size_t answer_size;

static void make_answer(size_t body_size) {
  static const char head[] =
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=36000\r\nContent-Length: %zu\r\n\r\n";
  answer = malloc(sizeof head + 32 + body_size);
  const size_t n = (size_t)sprintf(answer, head, body_size);
  memset(answer + n, 'x', body_size);
  answer_size = n + body_size;
}

static int listen_on(const char* port) {
  const int one = 1;
  struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr*)&where, sizeof where) != 0 || listen(fd, 4096) != 0) {
    perror("floor: listen");
    exit(1);
  }
  return fd;
}

static void accept_all(int set, int listener) {
  const int one = 1;
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct client* c = malloc(sizeof *c);
    c->fd = fd;
    c->held = 0;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
  }
}

/* 0: the client is gone, or does not read. */
static int serve(struct client* c) {
  const ssize_t n = read(c->fd, c->bytes + c->held, sizeof c->bytes - c->held);
  if (n <= 0) return n < 0 && errno == EAGAIN;
  c->held += (size_t)n;
  char* from = c->bytes;
  char* const end = from + c->held;
  for (char* at; (at = memmem(from, (size_t)(end - from), "\r\n\r\n", 4)) != NULL; from = at + 4)
    if (write(c->fd, answer, answer_size) != (ssize_t)answer_size) return 0;
  c->held = (size_t)(end - from);
  memmove(c->bytes, from, c->held);
  return c->held < sizeof c->bytes;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: floor PORT BODY_BYTES\n");
    return 2;
  }
  make_answer((size_t)atoi(argv[2]));
  const int listener = listen_on(argv[1]);
  const int set = epoll_create1(0);
  struct epoll_event events[EVENTS_MAX] = {{.events = EPOLLIN, .data.ptr = NULL}};
  epoll_ctl(set, EPOLL_CTL_ADD, listener, &events[0]);
  for (;;) {
    const int n = epoll_wait(set, events, EVENTS_MAX, -1);
    for (int i = 0; i < n; ++i) {
      struct client* c = events[i].data.ptr;
      if (c == NULL) {
        accept_all(set, listener);
      } else if (!serve(c)) {
        close(c->fd);
        free(c);
      }
    }
  }
}
