"""What is cut from the interviews, and how people are split."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from moodscale.config import Config, by_kind
from moodscale.prepare.deidentify import DeidentifyConfig
from moodscale.prepare.splits.base import SplitConfig
from moodscale.prepare.splits.official import OfficialSplitConfig

_OPERATIONAL = frozenset({"num_cpus", "max_quarantined_fraction"})
_PRIVACY = frozenset({"deidentify", "pseudonymise"})


class PrepareConfig(Config):
    """Interviews → clips.

    ``speech: interviewer`` makes the control that must score at chance if a model listens to the participant only.
    """

    speech: Literal["participant", "interviewer", "everything"] = Field(
        default="participant", description="whose turns the clips are made of"
    )
    clip_s: float = Field(default=10.0, ge=0.5, le=30.0, description="length of a clip")
    tail: Literal["drop", "pad"] = Field(
        default="drop",
        description="what becomes of the last, shorter clip of an interview; 'pad' keeps it at its own length, to be "
        "padded under a mask when a batch is made",
    )
    min_tail_s: float = Field(default=1.0, gt=0, description="shortest last clip that 'pad' keeps")
    splits: Annotated[SerializeAsAny[SplitConfig], by_kind("moodscale.prepare.splits", SplitConfig)] = Field(
        default=OfficialSplitConfig(),
        description="a file of prepare/splits: official, stratified, kfold, leave_one_corpus_out, file, none",
    )
    transcripts: Literal["none", "as_is", "deidentified"] = Field(
        default="none",
        description="whether the manifest keeps what was said, and whether what tells who said it is taken out; by "
        "default it holds times only",
    )
    deidentify: DeidentifyConfig = Field(
        default=DeidentifyConfig(), description="how, where transcripts are deidentified"
    )
    pseudonymise: bool = Field(
        default=False,
        description="write keyed hashes for people and interviews, shift dates, copy recordings under neutral names; "
        "the key comes from the environment (MOODSCALE_PSEUDONYM_KEY or MOODSCALE_PSEUDONYM_KEY_FILE)",
    )
    max_quarantined_fraction: float = Field(
        default=0.05, ge=0, le=1, description="fail when a larger share of the interviews cannot be used"
    )
    num_cpus: int | None = Field(
        default=None, ge=1, description="CPUs the stage may use; all of the cluster's if unset"
    )

    @model_validator(mode="after")
    def _tail_fits(self) -> PrepareConfig:
        if self.min_tail_s > self.clip_s:
            raise ValueError(f"min_tail_s={self.min_tail_s:g} is longer than clip_s={self.clip_s:g}; lower it")
        return self

    def content(self) -> dict[str, Any]:
        """The settings that decide what a manifest holds, without those that only say how it is made."""
        kept = {key: value for key, value in self.to_json().items() if key not in _OPERATIONAL | _PRIVACY}
        kept |= {"splits": self.splits.content()}
        # Left out where they are not asked for: a manifest without them is the same as ever.
        kept |= {"deidentify": self.deidentify.content()} if self.transcripts == "deidentified" else {}
        return kept | ({"pseudonymise": True} if self.pseudonymise else {})
