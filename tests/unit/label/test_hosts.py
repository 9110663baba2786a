"""What is outside."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from moodscale.config import ConfigError
from moodscale.label.hosts import check_allowed, check_deidentified, external_host
from spoken import transcript

KNOWN = {
    "inside.example": ["10.0.0.7", "fd00::7"], "outside.example": ["93.184.216.34"],
    "both.example": ["10.0.0.7", "93.184.216.34"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        if host not in KNOWN:
            raise socket.gaierror
        return [(None, None, None, "", (address, 0)) for address in KNOWN[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "10.1.2.3", "192.168.0.4", "172.16.9.9", "100.64.0.1", "[fd00::1]", "inside.example"]
)
def test_hosts_of_this_network_are_inside(host: str) -> None:
    assert external_host(f"http://{host}:8000/v1") is None


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "[2001:4860:4860::8888]", "[::ffff:8.8.8.8]", "outside.example", "both.example", "unknown.example"],
)
def test_everything_else_is_outside(host: str) -> None:
    assert external_host(f"https://{host}/v1") == host.strip("[]")


def test_a_host_outside_is_refused_until_it_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"allow_external=false: api\.example"):
        check_allowed("api.example", False)
    check_allowed("api.example", True)
    check_allowed(None, False)


def test_what_is_not_deidentified_stays_here() -> None:
    plain, safe = transcript("u1"), transcript("u2", deidentified=True)
    with pytest.raises(ConfigError, match=r"prepare.transcripts: 1 of 2 .* prepare.transcripts=deidentified"):
        check_deidentified("api.example", [plain, safe])
    check_deidentified("api.example", [safe])
    check_deidentified(None, [plain])
