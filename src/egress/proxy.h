/* proxy: the egress proxy's process: listeners handed over by the server, a connection for each
 * client, decisions back. Everything it says goes through the control socket.
 *
 * Main thread of its own process.
 */
#ifndef OSTLER_EGRESS_PROXY_H
#define OSTLER_EGRESS_PROXY_H

/* Gives up what it does not need, serves until the control socket closes or says so; 0, or 1 when
 * it cannot start (said on stderr). */
int proxy_main(int socket_fd, int config_fd);

#endif
