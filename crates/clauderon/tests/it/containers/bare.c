/* The only program of an image: asks the relay for argv[1] and prints the answer. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_in relay = {.sin_family = AF_INET, .sin_port = htons(3128)};
    relay.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 3 || connect(s, (struct sockaddr *)&relay, sizeof relay))
        return 9;
    dprintf(s, "GET http://%s%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", argv[1], argv[2], argv[1]);
    char piece[4096];
    ssize_t got;
    while ((got = read(s, piece, sizeof piece)) > 0)
        fwrite(piece, 1, got, stdout);
    return 0;
}
