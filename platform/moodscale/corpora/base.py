"""What every corpus offers to the stages after it.

A corpus is one module with one subclass of :class:`CorpusConfig`; ``kind: daic_woz`` finds it by its file name. What
several corpora share (archives, tables, turns, wav headers, label arithmetic) lies in ``corpora/reading/``.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import Field

from moodscale.config import Component
from moodscale.schema import Interview, Quarantined, Repair

CORPUS_ROOT = "corpus"
"""Root of recordings that lie in the corpus itself."""
MANIFEST_ROOT = "manifest"
"""Root of recordings that were unpacked beside the manifest."""


@dataclass(frozen=True)
class InputFile:
    """A file that a manifest is made from.

    Attributes:
        content: whether a change is told by the content (small label tables) instead of size and time of change.
    """

    path: Path
    name: str
    content: bool = False


@dataclass(frozen=True)
class Reading:
    """What came of reading one session. ``interview`` is ``None`` where the session cannot be used at all."""

    interview: Interview | None
    repairs: tuple[Repair, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()


class Corpus(Protocol):
    """An opened corpus. Cheap to open: every worker process opens its own."""

    @property
    def name(self) -> str:
        """The corpus' short name in tables, e.g. ``daic_woz``."""
        ...

    @property
    def root(self) -> Path:
        """The folder that ``AudioFile.path`` is relative to where its root is ``corpus``."""
        ...

    def interview_ids(self) -> Sequence[str]:
        """Every session that is present, sorted; one whose person's label is unusable too."""
        ...

    def read(self, interview_id: str) -> Reading:
        """Read one session. Defects of the session end in the reading, not in an exception.

        Raises:
            CorpusError: ``interview_id`` is none of ``interview_ids()``.
        """
        ...

    def absent(self) -> Sequence[Repair]:
        """Ledger lines for what the corpus lacks as a whole: people in a label table without a session."""
        ...

    def inputs(self) -> Iterator[InputFile]:
        """The files that ``read`` looks at, for telling whether a manifest is still current."""
        ...


class CorpusConfig(Component, abc.ABC):
    """Where a corpus lies and how it is read."""

    path: str = Field(description="folder of the corpus")

    @abc.abstractmethod
    def open(self, unpack_to: Path | None = None) -> Corpus:
        """Open the corpus.

        Args:
            unpack_to: a folder for recordings that lie in archives; they become files of root ``manifest``, under
                the folder's own name. Without it such a session is quarantined.
        Raises:
            CorpusError: the folder or its label tables cannot be used.
        """

    def expected_num_clips(self, num_interviews: int) -> int | None:
        """How many 10 s clips of participant speech the complete corpus is known to give, where that is known."""
        return None
