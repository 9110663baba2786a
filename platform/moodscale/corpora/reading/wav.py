"""What a recording's header says, checked against the file it stands in. No samples are read here."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

import soundfile

from moodscale.corpora.reading.paths import AnyPath, why
from moodscale.corpora.reading.streams import open_file
from moodscale.schema import CorpusError

MAX_CHANNELS = 8
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_HOURS = 12
"""No interview is longer; a header that says so is damaged or hostile, and scanning it would take for ever."""

_MAX_CHUNKS = 1_000
_FORMATS = {1: "PCM", 3: "float", 6: "A-law", 7: "µ-law", 0xFFFE: "extensible"}


@dataclass(frozen=True)
class WavFacts:
    """What there is to know of a recording before it is decoded.

    Attributes:
        num_samples: samples a channel.
        encoding: soundfile's name, e.g. ``PCM_16``.
        container: soundfile's name, e.g. ``WAV``; ``FLAC`` for a mislabelled file.
    """

    sample_rate_hz: int
    num_samples: int
    num_channels: int
    encoding: str
    container: str


def probe(path: AnyPath) -> WavFacts:
    """Check a recording's header; see :func:`probe_stream`."""
    try:
        with open_file(path) as stream:
            return probe_stream(stream, path.name)
    except OSError as error:
        raise CorpusError(f"{path.name}: cannot be read ({why(error)})") from None


def probe_stream(stream: BinaryIO, name: str) -> WavFacts:
    """Check a recording's header in bounded memory, whatever it claims.

    A file that is not a RIFF wav in spite of its name is accepted where soundfile can decode it all the same; the
    caller sees it by ``container``.

    Args:
        stream: seekable.
        name: the file's, for messages.
    Raises:
        CorpusError: missing, empty, truncated (the header claims more than the file holds), not a recording, or
            with a rate, channel count or length that no interview has.
        OSError: the stream cannot be read.
    """
    size = stream.seek(0, 2)
    if size == 0:
        raise CorpusError(f"{name}: is empty (0 bytes); fetch it again")
    stream.seek(0)
    if stream.read(4) == b"RIFF":
        _check_riff(stream, name, size)
    stream.seek(0)
    try:
        with soundfile.SoundFile(stream) as file:
            facts = WavFacts(file.samplerate, file.frames, file.channels, file.subtype, file.format)
    except (soundfile.SoundFileError, RuntimeError):
        raise CorpusError(f"{name}: is not a recording that can be decoded; fetch it again") from None
    _check_plausible(facts, name)
    return facts


def _check_plausible(facts: WavFacts, name: str) -> None:
    if not MIN_RATE_HZ <= facts.sample_rate_hz <= MAX_RATE_HZ:
        raise CorpusError(f"{name}: sample rate {facts.sample_rate_hz} Hz is outside {MIN_RATE_HZ}-{MAX_RATE_HZ} Hz")
    if not 1 <= facts.num_channels <= MAX_CHANNELS:
        raise CorpusError(f"{name}: {facts.num_channels} channels; 1 to {MAX_CHANNELS} can be used")
    if facts.num_samples <= 0:
        raise CorpusError(f"{name}: holds no samples; fetch it again")
    if facts.num_samples > MAX_HOURS * 3600 * facts.sample_rate_hz:
        raise CorpusError(f"{name}: claims more than {MAX_HOURS} hours; no interview is that long")


def _check_riff(file: BinaryIO, name: str, size: int) -> None:
    """Walk the chunks up to ``data`` and compare its claimed size with what the file really holds."""
    if size < 12 or file.seek(8) != 8 or file.read(4) != b"WAVE":
        raise CorpusError(f"{name}: starts like a wav but has no wav header; fetch it again")
    at, block_bytes = 12, 0
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            raise CorpusError(f"{name}: has no samples (the file ends before its 'data' chunk); fetch it again")
        kind, length = struct.unpack("<4sI", head)
        if kind == b"fmt ":
            block_bytes = _block_bytes(file.read(min(length, 40)), name)
        if kind == b"data":
            _check_data(name, block_bytes, claimed=length, held=size - at - 8)
            return
        at += 8 + length + length % 2
    raise CorpusError(f"{name}: more than {_MAX_CHUNKS} chunks before its samples: refused")


def _check_data(name: str, block_bytes: int, claimed: int, held: int) -> None:
    if block_bytes == 0:
        raise CorpusError(f"{name}: its samples come before their format; fetch it again")
    if claimed == 0:
        raise CorpusError(f"{name}: holds no samples; fetch it again")
    if claimed > held:
        raise CorpusError(
            f"{name}: truncated: header claims {claimed:,} bytes of samples, the file holds {held:,}; fetch it again"
        )


def _block_bytes(chunk: bytes, name: str) -> int:
    if len(chunk) < 16:
        raise CorpusError(f"{name}: its format chunk is cut off; fetch it again")
    code, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if code in (1, 3) and (bits == 0 or block != channels * ((bits + 7) // 8)):
        raise CorpusError(
            f"{name}: its header contradicts itself ({_FORMATS[code]}, {channels} channels, {bits} bits, "
            f"{block} bytes a sample, {rate} Hz)"
        )
    return max(int(block), 1)
