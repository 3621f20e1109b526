/* Ask the server on this device one question over HTTP, and print what it answers.
 *
 *   edgewright-ask HOST PORT [SECONDS [PROMPT]]
 *
 * Exit code 0: there was an answer, which is on standard output. 1: there was none in time, or the server refused.
 * 2: wrong arguments. Nothing but POSIX is needed; the probe of edgewright-slot is this program.
 */
#define _POSIX_C_SOURCE 200809L

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER = 65536, REQUEST = 4096, BODY = 3072, TOKENS = 16 };

/* Write text as the inside of a JSON string; -1 where it does not fit. */
static int quoted(const char *text, char *out, size_t room)
{
    size_t used = 0;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        int n = c == '"' || c == '\\' ? snprintf(out + used, room - used, "\\%c", c)
                : c < 0x20            ? snprintf(out + used, room - used, "\\u%04x", c)
                                      : snprintf(out + used, room - used, "%c", c);
        if (n < 0 || (size_t)n >= room - used)
            return -1;
        used += (size_t)n;
    }
    out[used] = '\0';
    return 0;
}

/* A connection, with a limit on each wait; -1 where there is none. */
static int connected(const char *host, const char *port, int seconds)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *all, *one;
    struct timeval limit = {.tv_sec = seconds};
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &all) != 0)
        return -1;
    for (one = all; one && fd < 0; one = one->ai_next) {
        fd = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (connect(fd, one->ai_addr, one->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(all);
    return fd;
}

static int sent(int fd, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t n = write(fd, text, left);
        if (n <= 0)
            return -1;
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

/* Everything until the server closes, or the time is over; -1 where it does not fit or breaks off. */
static int received(int fd, char *out, size_t room, int seconds)
{
    time_t until = time(NULL) + seconds;
    size_t used = 0;
    for (;;) {
        ssize_t n = read(fd, out + used, room - 1 - used);
        if (n < 0 || time(NULL) > until)
            return -1;
        if (n == 0)
            break;
        used += (size_t)n;
        if (used == room - 1)
            return -1;
    }
    out[used] = '\0';
    return 0;
}

/* Print the first "text" of the answer's body; the number of bytes that are more than white space. */
static long printed(const char *body)
{
    long count = 0;
    const char *at = strstr(body, "\"text\"");
    if (!at || !(at = strchr(at + 6, '"')))
        return 0;
    for (at++; *at && *at != '"'; at++) {
        char c = *at;
        if (c == '\\' && at[1]) {
            c = *++at;
            if (c == 'n' || c == 't' || c == 'r')
                c = ' ';
        }
        putchar(c);
        count += c != ' ';
    }
    putchar('\n');
    return count;
}

int main(int argc, char **argv)
{
    static char answer[ANSWER], request[REQUEST], body[BODY], prompt[BODY / 2];
    int seconds = argc > 3 ? atoi(argv[3]) : 30, fd, status = 0;
    const char *start;
    if (argc < 3 || argc > 5 || seconds < 1 || quoted(argc > 4 ? argv[4] : "The capital of France is", prompt, sizeof prompt)) {
        fprintf(stderr, "usage: %s HOST PORT [SECONDS [PROMPT]]\n", argv[0]);
        return 2;
    }
    snprintf(body, sizeof body, "{\"prompt\": \"%s\", \"max_tokens\": %d, \"temperature\": 0}", prompt, TOKENS);
    snprintf(request, sizeof request,
             "POST /v1/completions HTTP/1.1\r\nHost: %.200s\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
             argv[1], strlen(body), body);
    fd = connected(argv[1], argv[2], seconds);
    if (fd < 0 || sent(fd, request) != 0 || received(fd, answer, sizeof answer, seconds) != 0) {
        fprintf(stderr, "no answer from %s:%s within %d s\n", argv[1], argv[2], seconds);
        return 1;
    }
    close(fd);
    start = strstr(answer, "\r\n\r\n");
    if (sscanf(answer, "HTTP/1.%*d %d", &status) != 1 || status != 200 || !start) {
        fprintf(stderr, "the server answers %d\n", status);
        return 1;
    }
    return printed(start) > 0 ? 0 : 1;
}
