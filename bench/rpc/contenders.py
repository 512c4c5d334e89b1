"""contenders.py - who takes part in bench/rpc: how each is started, and how its client is called.

A contender is one server, perhaps something in the middle, and a client. All are started once and stay; a
server that nobody calls costs nothing.
"""
import os
import subprocess
import time

SERVICE = "dragoman.bench.v1.Echo"


class Failed(Exception):
    pass


class Site:
    """Where programs lie and sockets go, and how processes are started: pinned to one core, or free."""

    def __init__(self, ours, peers, folder, core):
        self.ours, self.peers, self.folder, self.core = ours, peers, folder, core
        self.processes = []

    def command(self, args):
        return (["taskset", "-c", str(self.core)] if self.core is not None else []) + args

    def start(self, *args, line=True):
        """Start it, wait for its first line when it prints one. Gives its process and that line."""
        process = subprocess.Popen(self.command(list(args)), stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        first = process.stdout.readline().strip() if line else ""
        if line and not first:
            raise Failed(f"{args[0]} did not start")
        return process, first

    def wait_for(self, path):
        for _ in range(500):
            if os.path.exists(path):
                return
            time.sleep(0.01)
        raise Failed(f"nothing listens at {path}")

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []

    def path(self, name):
        return os.path.join(self.folder, name)


class Contender:
    def __init__(self, name, client, pids):
        self.name = name
        self.client = client  # the command, without size and so on
        self.pids = pids  # {"broker": pid, "server": pid}


def ours_brokered(site, name, front, back, mode="quick", broker_flags=(), server_flags=(), client_flags=()):
    """A broker process, a worker process, and calls through them."""
    broker, _ = site.start(f"{site.ours}/broker/dragoman-broker", "--front", front, "--back", back,
                           "--log-level", "warn", *broker_flags, line=False)
    for endpoint in (front, back):
        if endpoint.startswith("ipc://"):
            site.wait_for(endpoint.removeprefix("ipc://"))
    server, _ = site.start(f"{site.ours}/bench/rpc/echo_server", "--endpoint", back, *server_flags, line=False)
    client = [f"{site.ours}/bench/rpc/echo_client", "--endpoint", front, "--mode", mode, *client_flags]
    return Contender(name, client, {"broker": broker.pid, "server": server.pid})


def ours_ipc(site):
    return ours_brokered(site, "ours ipc", f"ipc://{site.path('front')}", f"ipc://{site.path('back')}")


def free_ports(n):
    import socket
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def ours_tcp(site):
    front, back = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    return ours_brokered(site, "ours tcp", front, back)


def ours_chat(site):
    return ours_brokered(site, "ours ipc stream", f"ipc://{site.path('chat-front')}",
                         f"ipc://{site.path('chat-back')}", "chat")


def ours_curve(site):
    """Encrypted, and each side knows the other's key."""
    subprocess.run([f"{site.ours}/bench/rpc/make_keys", site.folder], check=True)
    key, certificate, allowed = site.path("echo.key"), site.path("broker.cert"), site.path("allowed")
    front, back = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    return ours_brokered(site, "ours-curve", front, back,
                         broker_flags=("--key", site.path("broker.key"), "--callers", allowed, "--workers", allowed),
                         server_flags=("--key", key, "--broker-key", certificate),
                         client_flags=("--extra", f"{key},{certificate}"))


def ours_inproc(site):
    return Contender("ours inproc", [f"{site.ours}/bench/rpc/echo_client", "--endpoint", "-", "--mode", "inproc"], {})


def ours_inproc_broker(site):
    return Contender("ours inproc broker",
                     [f"{site.ours}/bench/rpc/echo_client", "--endpoint", "-", "--mode", "inproc-broker"], {})


def ours_direct(site):
    server, endpoint = site.start(f"{site.ours}/bench/rpc/echo_server", "--bind", "--endpoint",
                                  f"ipc://{site.path('direct')}")
    client = [f"{site.ours}/bench/rpc/echo_client", "--endpoint", endpoint, "--mode", "quick"]
    return Contender("ours ipc direct", client, {"server": server.pid})


def grpc(site, name, address, mode="unary", target=None, extra=(), server_extra=()):
    server, port = site.start(f"{site.peers}/grpc_server", address, *server_extra)
    target = target or f"127.0.0.1:{port}"
    return Contender(name, [f"{site.peers}/grpc_client", "--endpoint", target, "--mode", mode, *extra],
                     {"server": server.pid})


def grpc_tcp(site):
    return grpc(site, "gRPC C++", "127.0.0.1:0")


def grpc_stream(site):
    return grpc(site, "gRPC C++ stream", "127.0.0.1:0", "chat")


def grpc_unix(site):
    address = f"unix:{site.path('grpc')}"
    return grpc(site, "gRPC C++ unix", address, target=address)


def grpc_tls(site):
    key, certificate = site.path("key.pem"), site.path("certificate.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return grpc(site, "gRPC C++ TLS", "127.0.0.1:0", extra=("--extra", certificate),
                server_extra=(certificate, key))


HAPROXY = """
global
    nbthread 1
    tune.h2.initial-window-size 1048576
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend front
    bind 127.0.0.1:{front} proto h2
    default_backend back
backend back
    server one 127.0.0.1:{back} proto h2
"""


def grpc_haproxy(site):
    contender = grpc(site, "gRPC C++ HAProxy", "127.0.0.1:0")
    back = contender.client[2].rpartition(":")[2]
    front = free_ports(1)[0]
    config = site.path("haproxy.cfg")
    with open(config, "w", encoding="utf-8") as file:
        file.write(HAPROXY.format(front=front, back=back))
    haproxy, _ = site.start("haproxy", "-db", "-f", config, line=False)
    contender.client[2] = f"127.0.0.1:{front}"
    contender.pids["broker"] = haproxy.pid
    return contender


def go_grpc(site, name, mode):
    server, port = site.start(f"{site.peers}/peers", "grpc-server", "127.0.0.1:0")
    return Contender(name, [f"{site.peers}/peers", "grpc-client", "--endpoint", f"127.0.0.1:{port}", "--mode", mode],
                     {"server": server.pid})


def go_stream(site):
    return go_grpc(site, "gRPC Go stream", "chat")


def go_streams(site):
    return go_grpc(site, "gRPC Go streams", "chats")


def go_unary(site):
    return go_grpc(site, "gRPC Go", "unary")


def nats(site, name, server, client):
    broker, url = site.start(f"{site.peers}/peers", "nats-broker")
    server, _ = site.start(*server, url)
    return Contender(name, [*client, "--endpoint", url], {"broker": broker.pid, "server": server.pid})


def nats_go(site):
    return nats(site, "NATS Go", [f"{site.peers}/peers", "nats-server"], [f"{site.peers}/peers", "nats-client"])


def nats_c(site):
    return nats(site, "NATS C", [f"{site.peers}/nats_client", "server"], [f"{site.peers}/nats_client", "client"])


def floor(site, name, front, back):
    program = f"{site.peers}/zmq_floor"
    broker, front = site.start(program, "broker", front, back)
    back = broker.stdout.readline().strip()
    server, _ = site.start(program, "server", back, line=False)
    return Contender(name, [program, "client", "--endpoint", front], {"broker": broker.pid, "server": server.pid})


def floor_ipc(site):
    return floor(site, "zmq_proxy ipc", f"ipc://{site.path('floor-front')}", f"ipc://{site.path('floor-back')}")


def floor_tcp(site):
    return floor(site, "zmq_proxy tcp", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*")


ALL = {
    "ours-ipc": ours_ipc, "ours-tcp": ours_tcp, "ours-stream": ours_chat, "ours-direct": ours_direct,
    "ours-curve": ours_curve, "ours-inproc": ours_inproc,
    "ours-inproc-broker": ours_inproc_broker,
    "grpc": grpc_tcp, "grpc-stream": grpc_stream, "grpc-unix": grpc_unix, "grpc-tls": grpc_tls,
    "grpc-haproxy": grpc_haproxy,
    "go": go_unary, "go-stream": go_stream, "go-streams": go_streams, "nats-go": nats_go, "nats-c": nats_c,
    "floor-ipc": floor_ipc, "floor-tcp": floor_tcp,
}
