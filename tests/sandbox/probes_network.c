/* Ways out over the network of a sandbox that has none. What a proxy lets through and refuses has
 * its own table, where the proxy is. */
#include "probes.h"

#define SOCKET(family, type)                                                                       \
    PY "import socket\ntry: socket.socket(" family "," type ")\nexcept OSError as e: "             \
       "print(e.strerror)'"
#define NO_FAMILY "Address family not supported by protocol"

static const struct probe rows[] = {
    {"net_interfaces", "use an interface of the host",
     "ls /proc/sys/net/ipv4/conf | tr '\\n' ' '; ls /proc/net/dev_snmp6 | tr '\\n' ' '",
     "all default lo lo ", NULL},
    {"net_routes", "use a route",
     "wc -l < /proc/net/route; grep -vc ' lo$' /proc/net/ipv6_route; true", "1\n0", NULL},
    {"net_connect_address", "connect to a public address",
     "(echo > /dev/tcp/1.1.1.1/53) 2>&1 | grep -qiE 'unreachable|not permitted' && echo none",
     "none", NULL},
    {"net_connect_v6", "connect to a public address by IPv6",
     "(echo > /dev/tcp/2606:4700:4700::1111/53) 2>&1 | grep -qiE "
     "'unreachable|not permitted|cannot assign' && echo none",
     "none", NULL},
    {"net_metadata", "ask the cloud's metadata service",
     "(echo > /dev/tcp/169.254.169.254/80) 2>&1 | grep -qiE 'unreachable|not permitted' && "
     "echo none",
     "none", NULL},
    {"net_host_loopback", "connect to a service on the host's loopback",
     "(echo > /dev/tcp/127.0.0.1/22) 2>&1 | grep -q refused && echo alone", "alone", NULL},
    {"net_udp", "send a datagram",
     PY "import socket\ns=socket.socket(2,2)\ntry: s.sendto(b\"x\",(\"8.8.8.8\",53))\n"
        "except OSError as e: print(\"none\")'",
     "none", NULL},
    {"net_broadcast", "find neighbours",
     PY "import socket\ns=socket.socket(2,2); s.setsockopt(1,6,1)\n"
        "try: s.sendto(b\"x\",(\"255.255.255.255\",67))\nexcept OSError as e: print(\"none\")'",
     "none", NULL},
    {"dns_resolver", "resolve a name", "getent hosts example.com || echo none", "none", NULL},
    {"dns_query", "send a query past the resolver's settings",
     PY
     "import "
     "socket\nq=bytes.fromhex(\"000101000001000000000000076578616d706c6503636f6d0000010001\")\n"
     "n=0\nfor a in (\"1.1.1.1\",\"8.8.8.8\",\"10.0.0.2\",\"169.254.169.253\",\"192.168.1.1\"):\n"
     " s=socket.socket(2,2)\n try: n+=s.sendto(q,(a,53))\n except OSError: pass\nprint(n)'",
     "0", NULL},
    {"dns_no_server", "find a resolver of the host",
     "grep -c ^nameserver /etc/resolv.conf; ls /run/systemd/resolve /run/nscd 2>&1 | grep -c 'No "
     "such'",
     "0\n2", NULL},
    {"net_raw", "send packets of one's own making",
     PY "import socket\ntry: socket.socket(2,3,1)\nexcept OSError as e: print(\"refused\")'",
     "refused", NULL},
    {"net_packet", "listen to the wire", SOCKET("17", "3"), NO_FAMILY, NULL},
    {"net_vsock", "talk to the hypervisor", SOCKET("40", "1"), NO_FAMILY, NULL},
    {"net_alg", "reach the kernel's crypto", SOCKET("38", "5"), NO_FAMILY, NULL},
    {"net_bluetooth", "use the radio", SOCKET("31", "1"), NO_FAMILY, NULL},
    {"net_netlink", "ask the kernel by netlink",
     PY "import socket\nsocket.socket(16,3,0)\ntry: socket.socket(16,3,12)\n"
        "except OSError as e: print(e.strerror)'",
     NO_FAMILY, NULL},
    {"net_configure", "bring up an interface",
     "ip link add dummy0 type dummy 2>&1; ip addr add 10.0.0.1/8 dev lo 2>&1; true", "!success",
     NULL},
    {"net_own_loopback", "(a server on the sandbox's loopback works)",
     PY "import socket,threading; s=socket.socket(); s.bind((\"127.0.0.1\",0)); s.listen(1)\n"
        "t=threading.Thread(target=lambda: s.accept()[0].send(b\"ok\")); t.start()\n"
        "c=socket.create_connection(s.getsockname()); print(c.recv(2).decode())'",
     "ok", NULL},
};
PROBE_TABLE(probes_network);
