"""Reads a corpus by every public way, in a process of its own, and tells what came of it."""

from __future__ import annotations

import hashlib
import io
import logging
import multiprocessing
import resource
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from broken import BASES, CANARY, Broken, break_copy

MAX_GROWTH_BYTES = 200 * 2**20
DEADLINE_S = 240.0
_ADDRESS_SPACE_BYTES = 6 * 2**30
"""A bomb that goes off ends its own process and not the machine."""


@dataclass
class Outcome:
    """What came of reading one corpus.

    Attributes:
        lines, quarantined: of the ledger and the quarantine.
        refusals: messages of errors that are the reader's own.
        crash: the traceback of any other.
        content: what was read: a digest a thing.
        num_masked: frames of feature files without a value.
        told: everything that a person may come to see, and the words of turns not in it.
        took_s: seconds of processor time, whatever else the machine does.
    """

    lines: set[str] = field(default_factory=set)
    quarantined: set[str] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)
    crash: str = ""
    content: dict[str, str] = field(default_factory=dict)
    num_masked: int = 0
    told: str = ""
    growth_bytes: int = 0
    took_s: float = 0.0

    def kind(self, sound: Outcome) -> str:
        """``refused``, ``quarantined``, ``repaired``, ``harmless``; ``silent``: changed, and nobody says so."""
        if self.crash:
            return "crash"
        if self.refusals:
            return "refused"
        if self.quarantined - sound.quarantined:
            return "quarantined"
        if self.lines - sound.lines or self.num_masked > sound.num_masked:
            return "repaired"
        return "harmless" if self.content == sound.content and self.lines == sound.lines else "silent"

    def said(self, sound: Outcome) -> str:
        """What is told about the breakage."""
        return "\n".join(
            [*self.refusals, *sorted(self.quarantined - sound.quarantined), *sorted(self.lines - sound.lines)]
        )


class Readers:
    """Some processes that read broken corpora. One that hangs or dies is told from one that answers."""

    def __init__(self, bases: Path, scratch: Path, num: int = 2) -> None:
        self._bases, self._scratch, self._num = bases, scratch, num
        self._context = multiprocessing.get_context("spawn")

    def run(self, inputs: Sequence[Broken]) -> Iterator[tuple[Broken, Outcome]]:
        # A catalogue holds functions, which do not travel: a reader is told the place in it.
        waiting = list(enumerate(inputs))[::-1]
        busy: dict[Connection, tuple[Any, int | None, float]] = {}
        while waiting or busy:
            while waiting and len(busy) < self._num:
                connection, process = self._start([one.name for one in inputs])
                busy[connection] = (process, None, time.monotonic())
            ready = wait(list(busy), timeout=1.0)
            for connection in list(busy):
                process, place, since = busy[connection]
                if connection in ready:
                    try:
                        outcome = connection.recv()
                    except EOFError:
                        process.join()
                        outcome = Outcome(crash=f"the process died ({process.exitcode})")
                        del busy[connection]
                    if place is not None:
                        yield inputs[place], outcome
                    if connection in busy:
                        if waiting:
                            place, _ = waiting.pop()
                            connection.send(place)
                            busy[connection] = (process, place, time.monotonic())
                        else:
                            connection.send(None)
                            process.join()
                            del busy[connection]
                elif place is not None and time.monotonic() - since > DEADLINE_S:
                    process.kill()
                    process.join()
                    del busy[connection]
                    yield inputs[place], Outcome(crash=f"hangs: no answer in {DEADLINE_S:g} s")

    def _start(self, names: Sequence[str]) -> tuple[Connection, Any]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._bases, self._scratch, names), daemon=True)
        process.start()
        theirs.close()
        return ours, process


def sound(kind: str) -> Broken:
    """The base corpus as it is."""
    return Broken(f"sound: {kind}", kind, lambda _: None, "harmless")


def _serve(connection: Connection, bases: Path, scratch: Path, names: Sequence[str]) -> None:
    import datasets  # noqa: F401  imported before anything is measured
    import pyarrow.parquet  # noqa: F401

    from broken import catalogue

    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
    known = {one.name: one for one in [*catalogue(), *map(sound, BASES)]}
    connection.send(None)
    while (place := connection.recv()) is not None:
        one = known[names[place]]
        folder = scratch / str(place)
        folder.mkdir(parents=True)
        connection.send(observe(one.kind, break_copy(one, bases, folder), folder))


def observe(kind: str, root: Path, folder: Path) -> Outcome:
    """Read the corpus at ``root``; what is written goes to ``folder``."""
    from moodscale.config import ConfigError
    from moodscale.schema import CorpusError

    outcome = Outcome()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    before = _memory("VmRSS", reset=True)
    began = time.process_time()
    told: list[str] = []
    for step in (_read, _prepare):
        try:
            step(kind, root, folder, outcome, told)
        except (CorpusError, ConfigError) as error:
            outcome.refusals.append(str(error))
            told.append("".join(traceback.format_exception(error)))
        except Exception:
            outcome.crash = traceback.format_exc()
    outcome.took_s = time.process_time() - began
    outcome.growth_bytes = _memory("VmHWM") - before
    logging.getLogger().removeHandler(handler)
    outcome.told = "\n".join([*told, *outcome.lines, *outcome.quarantined, outcome.crash, stream.getvalue()])
    assert CANARY not in kind
    return outcome


def corpus_config(kind: str, root: Path) -> Any:
    import importlib

    from moodscale.config import validate

    settings = BASES[kind][1]
    module = importlib.import_module(f"moodscale.corpora.{settings['kind']}")
    wanted = {
        "daic_woz": "DaicWozConfig",
        "edaic": "EdaicConfig",
        "cmdc": "CmdcConfig",
        "conversations": "ConversationsConfig",
    }
    return validate(getattr(module, wanted[settings["kind"]]), {**settings, "path": str(root)})


def _read(kind: str, root: Path, folder: Path, outcome: Outcome, told: list[str]) -> None:
    """Open, read every interview, and every frame of its feature files."""
    from upath import UPath

    from moodscale.corpora.base import MANIFEST_ROOT
    from moodscale.corpora.reading.features import check_features, read_frames
    from moodscale.corpora.reading.members import open_input
    from moodscale.corpora.reading.paths import why
    from moodscale.schema import CorpusError

    corpus = corpus_config(kind, root).open(unpack_to=UPath(folder / "read" / "audio"))
    roots = {**corpus.roots, MANIFEST_ROOT: UPath(folder / "read")}
    outcome.lines |= {_shown(one) for one in corpus.absent()}
    told += [*corpus.approximations(), *(file.name for file in corpus.inputs())]
    for id_ in corpus.interview_ids():
        reading = corpus.read(id_)
        told.append(repr(reading))
        outcome.lines |= {_shown(one) for one in reading.repairs}
        outcome.quarantined |= {_shown(one) for one in reading.quarantined}
        outcome.content[f"interview {id_}"] = _digest(_facts(reading.interview))
        for feature in reading.interview.features if reading.interview else ():
            name = feature.path.rpartition("/")[2]
            try:
                with open_input(roots, feature.root, feature.path) as stream:
                    facts = check_features(stream, feature.format, name)
                    blocks = list(read_frames(stream, feature.format, name=name, duration_s=12.0))
            except (
                CorpusError,
                OSError,
            ) as error:  # OSError as prepare does: with the file's name, and not its message
                reason = error if isinstance(error, CorpusError) else f"{name}: {why(error)}"
                outcome.quarantined.add(f"features of {id_}: {reason}")
                told.append("".join(traceback.format_exception(error)))
                continue
            assert all(block.values.shape[1] == facts.num_columns for block in blocks)
            outcome.num_masked += sum(int((~block.valid).sum()) for block in blocks)
            digest = hashlib.sha256(b"".join(block.values.tobytes() + block.times_s.tobytes() for block in blocks))
            outcome.content[f"frames {id_} {feature.kind}"] = digest.hexdigest()


def _prepare(kind: str, root: Path, folder: Path, outcome: Outcome, told: list[str]) -> None:
    """Make a manifest and decode every clip of it."""
    import pyarrow.parquet as pq
    from upath import UPath

    from moodscale.config import validate
    from moodscale.prepare.audio import read_clip
    from moodscale.prepare.build import build_manifest
    from moodscale.prepare.config import PrepareConfig
    from moodscale.prepare.manifest import Manifest

    settings = {"clip_s": 1.0, "transcripts": "as_is", "max_quarantined_fraction": 1.0, **BASES[kind][2]}
    out = UPath(folder / "manifest")
    summary = build_manifest(corpus_config(kind, root), validate(PrepareConfig, settings), out)
    told += [repr(summary), (out / "summary.html").read_text(), (out / "manifest.json").read_text()]
    tables = {path.stem: pq.read_table(str(path)) for path in out.iterdir() if path.suffix == ".parquet"}
    for name, lines in (("ledger", outcome.lines), ("quarantine", outcome.quarantined)):
        lines |= {" | ".join(str(value) for value in row.values()) for row in tables[name].to_pylist()}
    for name in ("clips", "interviews", "turns"):
        outcome.content[name] = _digest(tables[name].to_pylist())
    roots = Manifest.open(out).roots
    for row in tables["clips"].to_pylist():
        assert len(read_clip(roots, row)) == round(row["duration_s"] * 16_000)


def _facts(interview: Any) -> Any:
    if interview is None:
        return None
    turns = [(turn.speaker, turn.start_s, turn.stop_s, turn.text, turn.recording) for turn in interview.turns]
    return [
        turns,
        interview.label,
        interview.gender,
        interview.split,
        interview.recordings,
        interview.features,
        interview.missing,
    ]


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()


def _shown(line: Any) -> str:
    return " | ".join(str(value) for value in vars(line).values())


def _memory(what: str, reset: bool = False) -> int:
    """Bytes of this process; ``VmHWM`` is the most since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    text = Path("/proc/self/status").read_text()
    return 1024 * int(next(entry.split()[1] for entry in text.splitlines() if entry.startswith(f"{what}:")))
