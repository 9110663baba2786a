"""What every corpus offers to the stages after it.

A corpus is one module with one subclass of :class:`CorpusConfig`; ``kind: daic_woz`` finds it by its file name. What
several corpora share (archives, tables, turns, wav headers, label arithmetic) lies in ``corpora/reading/``.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from pydantic import Field
from upath import UPath

from moodscale.config import Component
from moodscale.schema import Interview, Quarantined, Repair
from moodscale.storage import location

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

    path: UPath
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
    def roots(self) -> Mapping[str, UPath]:
        """The folders that paths are relative to, by the name of the root; ``corpus`` where there is one."""
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

    def approximations(self) -> Sequence[str]:
        """What a reader of any figure made from this corpus must know: a sentence each, for reports."""
        ...


class CorpusConfig(Component, abc.ABC):
    """What a corpus is made of and how it is read."""

    @abc.abstractmethod
    def open(self, unpack_to: UPath | None = None) -> Corpus:
        """Open the corpus.

        Args:
            unpack_to: a folder for recordings that lie in archives and cannot be read there; they become files of
                root ``manifest``, under the folder's own name. Without it such a session is quarantined.
        Raises:
            CorpusError: the folder or its label tables cannot be used.
        """

    @abc.abstractmethod
    def absolute(self) -> Self:
        """The same with absolute paths: workers may run in another folder."""

    @abc.abstractmethod
    def content(self) -> dict[str, Any]:
        """The settings apart from where the corpus lies: the same data give the same hash on every machine."""

    def expected_num_clips(self, num_interviews: int) -> int | None:
        """How many 10 s clips of participant speech the complete corpus is known to give, where that is known."""
        return None


class FolderCorpusConfig(CorpusConfig):
    """A corpus that lies in one folder."""

    path: str = Field(description="folder of the corpus: a path or a URI such as s3://bucket/daic_woz")

    def absolute(self) -> Self:
        return self.model_copy(update={"path": str(location(self.path))})

    def content(self) -> dict[str, Any]:
        return {key: value for key, value in self.to_json().items() if key != "path"}
