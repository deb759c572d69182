"""Tries to get out: every way one can think of, each told as one line `name<TAB>what came of it`.

Run by sandbox.rs inside a sandbox, where every way must be closed, and outside, where those with a sink must be open:
a check that cannot fail is none. Its argument is a JSON object that says where the sinks are.
"""
import array, ctypes, errno, fcntl, json, os, socket, sys, time

libc = ctypes.CDLL(None, use_errno=True)
AT = json.loads(sys.argv[1])
INSIDE = AT["inside"]


def said(call):
    """The name of the error of a raw system call, or what it gave."""
    result = call()
    return "OPEN" if result != -1 else errno.errorcode.get(ctypes.get_errno(), "?")


def syscall(number, *arguments):
    return said(lambda: libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]))


def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as s:
        s.settimeout(5)
        s.connect(address)
        s.send(b"out")
    return "OPEN"


def look_up(host, port):
    for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        return connect(family, address)


def read(path):
    with open(path, "rb") as f:
        f.read(1)
    return "OPEN"


def write(path, text=b"0"):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)
    return "OPEN"


def through_proxy(request):
    with socket.create_connection(("127.0.0.1", 3128), 10) as s:
        s.sendall(request.encode())
        head = s.recv(65536).split(b"\r\n")[0].decode()
    return "OPEN" if " 200" in head else head.replace("\t", " ")


def datagram(address, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.sendto(b"out", address)
    # Nobody says whether it arrived, but the sink would.
    return "sent" if INSIDE else "OPEN"


def ping():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as s:
        s.sendto(b"\x08\x00\x00\x00\x00\x00\x00\x00", ("192.0.2.1", 0))
    return "OPEN"


def dns_question(server):
    question = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04leak\x07example\x00\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(question, (server, 53))
    return "OPEN"


def listing(path, allowed):
    extra = sorted(set(os.listdir(path)) - set(allowed))
    return "OPEN " + ",".join(extra) if extra else "only its own"


def tty(request):
    text = array.array("B", [10])
    fcntl.ioctl(0, request, text)
    return "OPEN"


port, home = AT["port"], AT["home"]
NETWORK = {
    "tcp to the host's loopback": lambda: connect(socket.AF_INET, ("127.0.0.1", port)),
    "udp to the host's loopback": lambda: datagram(("127.0.0.1", AT["udp"])),
    "tcp, address in hexadecimal": lambda: look_up("0x7f000001", port),
    "tcp, address as one number": lambda: look_up("2130706433", port),
    "tcp, address with two parts": lambda: look_up("127.1", port),
    "tcp to 0.0.0.0": lambda: connect(socket.AF_INET, ("0.0.0.0", port)),
    "tcp to a mapped address": lambda: connect(socket.AF_INET6, ("::ffff:127.0.0.1", port)),
    "abstract socket": lambda: connect(socket.AF_UNIX, "\0" + AT["abstract"]),
    "an agent's socket": lambda: connect(socket.AF_UNIX, AT["agent_socket"]),
}
INSIDE_ONLY = {
    "tcp to the internet": lambda: connect(socket.AF_INET, ("192.0.2.1", 443)),
    "tcp to the metadata service": lambda: connect(socket.AF_INET, ("169.254.169.254", 80)),
    "tcp over IPv6": lambda: connect(socket.AF_INET6, ("2001:db8::1", 443)),
    "udp to the internet": lambda: datagram(("192.0.2.1", 53)),
    "udp over IPv6": lambda: datagram(("2001:db8::1", 53), socket.AF_INET6),
    "dns to a resolver": lambda: dns_question("192.0.2.53"),
    "dns over the stub of systemd": lambda: read("/run/systemd/resolve/stub-resolv.conf"),
    "nscd": lambda: connect(socket.AF_UNIX, "/run/nscd/socket"),
    "resolved": lambda: connect(socket.AF_UNIX, "/run/systemd/resolve/io.systemd.Resolve"),
    "broadcast": lambda: datagram(("255.255.255.255", 9)),
    "ping": ping,
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) and "OPEN",
    "raw IPv6 socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58) and "OPEN",
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) and "OPEN",
    "vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) and "OPEN",
    "bluetooth": lambda: socket.socket(31, socket.SOCK_RAW, 1) and "OPEN",
    "alg socket": lambda: socket.socket(38, socket.SOCK_SEQPACKET) and "OPEN",
    "netlink beyond routing": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) and "OPEN",
    "docker.sock": lambda: connect(socket.AF_UNIX, "/var/run/docker.sock"),
    "the daemon's control socket": lambda: connect(socket.AF_UNIX, home + "/control.sock"),
    "the daemon's API through the proxy": lambda: through_proxy(
        f"GET http://127.0.0.1:{AT['api']}/v1/sessions HTTP/1.1\r\nHost: 127.0.0.1:{AT['api']}\r\n\r\n"),
    "the daemon's API in origin form": lambda: through_proxy("GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "the host's loopback through the proxy": lambda: through_proxy(
        f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"),
    "the host's loopback by CONNECT": lambda: through_proxy(
        f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        .replace("OPEN", "a tunnel that ends in the proxy"),
    "the CA's key": lambda: read(home + "/proxy-ca-key.pem"),
    "the secrets": lambda: listing(home + "/secrets", []),
    "the api token": lambda: read(home + "/api-token"),
    "the database": lambda: read(home + "/db.sqlite"),
    "the audit log": lambda: read(home + "/audit.jsonl"),
    "other sessions": lambda: listing(home + "/sessions", [os.environ["CLAUDERON_SESSION_ID"]]),
    "the host's files": lambda: read(AT["host_file"]),
    "the host's passwords": lambda: read("/etc/shadow"),
    "replacing a program": lambda: write("/usr/bin/env"),
    "the host's processes": lambda: listing("/proc", [str(p) for p in range(1, 100)] + PROC_FILES),
    "the first process's environment": lambda: read("/proc/1/environ"),
    "the first process's memory": lambda: read("/proc/1/mem"),
    "the first process's root": lambda: os.listdir("/proc/1/root") and "OPEN",
    "the first process's program": lambda: os.open("/proc/1/exe", os.O_RDONLY) and "OPEN",
    "core_pattern": lambda: write("/proc/sys/kernel/core_pattern"),
    "network settings": lambda: write("/proc/sys/net/ipv4/ip_forward"),
    "sysrq": lambda: write("/proc/sysrq-trigger"),
    "the way's directory": lambda: os.rename(AT["way"], AT["way"] + "2") or "OPEN",
    "unshare": lambda: said(lambda: libc.unshare(0x10000000)),
    "unshare of the network": lambda: said(lambda: libc.unshare(0x40000000)),
    "clone3": lambda: syscall(435, 0, 0),
    "clone with a new user namespace": lambda: syscall(56, 0x10000000 | 17, 0, 0, 0, 0) if X86 else "EPERM",
    "setns": lambda: syscall(308 if X86 else 268, 0, 0),
    "mount": lambda: said(lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "umount": lambda: said(lambda: libc.umount2(b"/proc/sys", 2)),
    "the new mount calls": lambda: syscall(428, -100, b"/", 1),
    "pivot_root": lambda: syscall(155 if X86 else 41, b"/tmp", b"/tmp"),
    "chroot": lambda: said(lambda: libc.chroot(b"/tmp")),
    "ptrace": lambda: said(lambda: libc.ptrace(16, os.getppid(), 0, 0)),
    "process_vm_readv": lambda: syscall(310 if X86 else 270, os.getppid(), 0, 0, 0, 0, 0),
    "io_uring": lambda: syscall(425, 1, ctypes.create_string_buffer(256)),
    "bpf": lambda: syscall(321 if X86 else 280, 0, 0, 0),
    "perf": lambda: syscall(298 if X86 else 241, 0, 0, -1, -1, 0),
    "userfaultfd": lambda: syscall(323 if X86 else 282, 0),
    "keyctl": lambda: syscall(250 if X86 else 219, 0, -3, 0),
    "add_key": lambda: syscall(248 if X86 else 217, b"user", b"x", b"x", 1, -3),
    "open_by_handle_at": lambda: syscall(304 if X86 else 265, -100, 0, 0),
    "the second numbering": lambda: syscall(0x40000000 | 41, 2, 1, 0),
    "typing into the terminal": lambda: tty(0x5412),
    "typing, upper half set": lambda: syscall(16 if X86 else 29, 0, 0x1_0000_5412, b"\n"),
    "pasting into the console": lambda: tty(0x541C),
    "a device node": lambda: os.mknod("/tmp/sda", 0o60600, os.makedev(8, 0)) or "OPEN",
    "becoming root": lambda: os.setuid(0) or "OPEN",
    "killing the relay": lambda: os.kill(1, 9) or "sent",
}
X86 = os.uname().machine == "x86_64"
PROC_FILES = []


def attempt(way):
    try:
        return way() or "OPEN"
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__) if error.errno else type(error).__name__


if INSIDE:
    PROC_FILES = [name for name in os.listdir("/proc") if not name.isdigit()]
for name, way in {**NETWORK, **(INSIDE_ONLY if INSIDE else {})}.items():
    print(f"{name}\t{attempt(way)}", flush=True)
if INSIDE:
    if os.fork() == 0:
        time.sleep(600)
    os.kill(-1, 9)
    print("the relay after killing everything\t" + attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", 3128))), flush=True)
