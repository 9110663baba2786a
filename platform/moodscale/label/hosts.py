"""Which hosts are outside, and what may be sent to them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from moodscale.config import ConfigError
from moodscale.label.transcript import Transcript


def external_host(url: str) -> str | None:
    """The host of a URL if it is outside: any of its addresses is public, or it has none that can be told."""
    host = urlsplit(url).hostname or ""
    try:
        addresses = [ipaddress.ip_address(host)]
    except ValueError:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return host
        addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    return None if addresses and all(_is_inside(address) for address in addresses) else host


def _is_inside(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return not address.is_global and not address.is_multicast


def check_allowed(host: str | None, allow_external: bool) -> None:
    """Hold that a teacher outside is one by decision.

    Raises:
        ConfigError: naming the setting.
    """
    if host is not None and not allow_external:
        raise ConfigError(
            f"label.teacher.allow_external=false: {host} is outside this network, and health data would leave it; set "
            "label.teacher.allow_external=true if it may, or take a teacher of your own (kind: vllm, or a base_url "
            "inside)"
        )


def check_deidentified(host: str | None, transcripts: Iterable[Transcript]) -> None:
    """Hold that nothing goes outside that tells who said it.

    Raises:
        ConfigError: naming the setting, with how many transcripts.
    """
    if host is None:
        return
    num_all = num_refused = 0
    for transcript in transcripts:
        num_all += 1
        num_refused += not transcript.deidentified
    if num_refused:
        raise ConfigError(
            f"prepare.transcripts: {num_refused} of {num_all} transcript(s) are not de-identified, and {host} is "
            "outside this network; prepare with prepare.transcripts=deidentified"
        )
