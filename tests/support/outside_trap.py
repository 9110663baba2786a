"""Run a command where nothing outside exists, and write down whatever it tries to reach.

    unshare -n python outside_trap.py LOG COMMAND...

In the new network namespace every address of the world leads back to this machine, where listeners on the ports of
DNS and the web record who comes by: an attempt that fails quietly is seen too.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

PORTS = (53, 80, 443)
KNOWN = (b"metadata\x06google\x08internal", b"127\x07in-addr", b"169.254.169.254")
"""Not counted. Ray's head asks the link-local addresses of three clouds which of them it runs in, with usage reports
off too and without saying anything of itself; and this machine's own name service is asked for its own name."""


def close_off() -> None:
    for command in (
        "ip link set lo up",
        "ip route add local 0.0.0.0/0 dev lo src 127.0.0.1",
        "ip -6 route add local ::/0 dev lo src ::1",
    ):
        done = subprocess.run(command.split(), capture_output=True, check=False)
        assert done.returncode == 0 or "-6" in command, done.stderr.decode()


def record(log: Path, what: str) -> None:
    with log.open("a") as file:
        file.write(what + "\n")


def listen(log: Path) -> None:
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("0.0.0.0", 53))

    def hear_names() -> None:
        while True:
            asked = names.recv(4096)
            if not any(known in asked for known in KNOWN):
                record(log, f"udp 53: {asked[12:60]!r}")

    threading.Thread(target=hear_names, daemon=True).start()
    for port in PORTS:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", port))
        server.listen()
        threading.Thread(target=hear_connections, args=(server, port, log), daemon=True).start()


def hear_connections(server: socket.socket, port: int, log: Path) -> None:
    while True:
        connection, _ = server.accept()
        with contextlib.closing(connection):
            address = connection.getsockname()[0]
            if address.encode() not in KNOWN:
                record(log, f"tcp {port}: to {address}")


def main() -> int:
    log, command = Path(sys.argv[1]), sys.argv[2:]
    close_off()
    listen(log)
    log.touch()
    code = subprocess.call(command)
    time.sleep(0.5)  # what was just heard is still to be written
    return code


if __name__ == "__main__":
    sys.exit(main())
