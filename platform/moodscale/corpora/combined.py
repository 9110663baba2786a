"""Several corpora as one: ``corpora: [{kind: daic_woz, path: …}, {kind: edaic, path: …}]``.

Each keeps its own name in every row; interview ids, roots and input names say which corpus they belong to. One person
in two corpora has one person key, so that splits keep them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, SerializeAsAny, field_validator
from upath import UPath

from moodscale.config import by_kind
from moodscale.corpora.base import MANIFEST_ROOT, Corpus, CorpusConfig, InputFile, Reading
from moodscale.schema import DEPRESSED_FROM, AudioFile, CorpusError, FeatureFile, Interview, Quarantined, Repair

NAME = "combined"

F = TypeVar("F", AudioFile, FeatureFile)
L = TypeVar("L", Repair, Quarantined)

_MIXED = (
    f"Combined corpora share one cut-off, a total of {DEPRESSED_FROM} or more, and nothing else: totals of PHQ-8 "
    "(0-24) and PHQ-9 (0-27) are never mixed, and figures over totals or items hold for one instrument only.",
    "Combined corpora may differ in language, recording, setting and share of depressed people: a model can tell them "
    "apart by these alone. Compare figures corpus by corpus, and hold one corpus out to see what carries over.",
)
_SAME_PEOPLE = (
    "DAIC-WOZ and E-DAIC share people 300-492 (one person key, one split): neither is an external test set for the "
    "other, and a person in both counts once among people and twice among interviews."
)


class CombinedConfig(CorpusConfig):
    kind: Literal["combined"] = "combined"
    corpora: tuple[Annotated[SerializeAsAny[CorpusConfig], by_kind("moodscale.corpora", CorpusConfig)], ...] = Field(
        min_length=2, description="the corpora, each with its kind and settings, each kind once"
    )

    @field_validator("corpora")
    @classmethod
    def _each_kind_once(cls, corpora: tuple[CorpusConfig, ...]) -> tuple[CorpusConfig, ...]:
        kinds = [corpus.kind for corpus in corpora]
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"{twice[0]} is in it {kinds.count(twice[0])} times; each kind can be combined once")
        if NAME in kinds:
            raise ValueError("combined corpora cannot be combined again; list their corpora here")
        return corpora

    @property
    def sorted_corpora(self) -> list[CorpusConfig]:
        """In the order of their kinds: the order that somebody wrote them in changes nothing."""
        return sorted(self.corpora, key=lambda corpus: corpus.kind)

    def open(self, unpack_to: UPath | None = None) -> Combined:
        return Combined(self, unpack_to)

    def absolute(self) -> Self:
        return self.model_copy(update={"corpora": tuple(corpus.absolute() for corpus in self.corpora)})

    def content(self) -> dict[str, Any]:
        return {"kind": self.kind, "corpora": [corpus.content() for corpus in self.sorted_corpora]}


class Combined:
    """Opened corpora, by their names."""

    name = NAME

    def __init__(self, config: CombinedConfig, unpack_to: UPath | None = None) -> None:
        self._unpack_to = unpack_to
        self._corpora: dict[str, Corpus] = {}
        for part in config.sorted_corpora:
            # A part writes to a folder of its own: sessions of two corpora may have one number.
            opened = part.open(None if unpack_to is None else unpack_to / part.kind.replace(".", "_"))
            if opened.name in self._corpora:
                raise CorpusError(f"corpus.corpora: two corpora call themselves {opened.name}; combine one of them")
            self._corpora[opened.name] = opened

    @property
    def roots(self) -> Mapping[str, UPath]:
        return {
            _root(name, root): path
            for name, corpus in self._corpora.items()
            for root, path in corpus.roots.items()
            if root != MANIFEST_ROOT
        }

    def interview_ids(self) -> Sequence[str]:
        return [f"{name}:{id_}" for name, corpus in self._corpora.items() for id_ in corpus.interview_ids()]

    def read(self, interview_id: str) -> Reading:
        name, _, own_id = interview_id.partition(":")
        if name not in self._corpora:
            raise CorpusError(f"interview {interview_id!r} is of none of the corpora {', '.join(self._corpora)}")
        reading = self._corpora[name].read(own_id)
        return Reading(
            None if reading.interview is None else self._interview(name, reading.interview),
            tuple(_of(name, line) for line in reading.repairs),
            tuple(_of(name, line) for line in reading.quarantined),
        )

    def absent(self) -> Sequence[Repair]:
        return [_of(name, line) for name, corpus in self._corpora.items() for line in corpus.absent()]

    def inputs(self) -> Iterator[InputFile]:
        for name, corpus in self._corpora.items():
            for file in corpus.inputs():
                yield replace(file, name=f"{name}/{file.name}")

    def approximations(self) -> Sequence[str]:
        said = [
            sentence if sentence.lower().startswith(name.lower()) else f"{name}: {sentence}"
            for name, corpus in self._corpora.items()
            for sentence in corpus.approximations()
        ]
        return [*said, *_MIXED, *([_SAME_PEOPLE] if {"daic_woz", "edaic"} <= self._corpora.keys() else [])]

    def _interview(self, name: str, interview: Interview) -> Interview:
        return replace(
            interview,
            interview_id=f"{name}:{interview.interview_id}",
            recordings=tuple(self._file(name, audio) for audio in interview.recordings),
            features=tuple(self._file(name, feature) for feature in interview.features),
        )

    def _file(self, name: str, file: F) -> F:
        if file.root != MANIFEST_ROOT:
            return replace(file, root=_root(name, file.root))
        # What a corpus unpacks has the name of its folder before it, and that folder lies in this one's.
        assert self._unpack_to is not None
        return replace(file, path=f"{self._unpack_to.name}/{file.path}")


def _root(name: str, root: str) -> str:
    """``corpus.daic_woz``."""
    return f"{root}.{name}"


def _of(name: str, line: L) -> L:
    """A line about an interview under its id here; a line about the whole corpus stays."""
    return replace(line, interview_id=f"{name}:{line.interview_id}") if line.interview_id else line
