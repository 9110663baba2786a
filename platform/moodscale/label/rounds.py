"""Rounds of pseudo-labels: the teacher's, then those of models trained out of fold, each followed by a model.

Everything that a round makes lies in the experiment's folder, written whole, and is found there when the job is
submitted again; answers that a teacher was paid for are never asked for twice. The model of round N is an experiment of
its own beside the first, ``NAME-round-N``, that every other verb knows.

```
NAME/label/label.json                  the settings that all of it was made with
NAME/label/round-1/labels.parquet      what the round's model learns from (train/labels.py)
NAME/label/round-2/fold-0/             the model that labels fold 0 anew, and the labels it learned from
NAME/label/rounds.json                 what came of it, written last
```
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from upath import UPath

from moodscale.config import ConfigError
from moodscale.label import relabel
from moodscale.label.config import LabelConfig
from moodscale.label.teaching import Taught, teach
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import TRAINING_LABELS
from moodscale.schema import Provenance, Split, person_hash
from moodscale.storage import location, write_bytes
from moodscale.tracking.base import MetricPoint, RunSpec, RunStatus, Tracker
from moodscale.train.driver import LABELS, TrainJob, TrainSummary, train
from moodscale.train.labels import Labeller, open_labels, write_labels
from moodscale.train.lock import alone
from moodscale.train.predict_job import best_checkpoint, model_version, score_examples

logger = logging.getLogger(__name__)

FOLDER = "label"
ROUNDS_FILE = "rounds.json"

_CLAIM = "label.json"
_HIGHER_IS_BETTER = frozenset({"pearson_r"})
PARENT_TAG = "mlflow.parentRunId"
"""What MLflow's pages nest runs by."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Labelling:
    """What is to be labelled, and where its runs are tracked.

    Attributes:
        job: of the model that learned from true labels alone; it has been trained.
        answers: folder or URI of the teacher's answers.
        open_tracker: a tracker of its own for each run.
        spec_of: the tracked run of a job, by its name and folder, with further tags.
    """

    job: TrainJob
    config: LabelConfig
    answers: str
    open_tracker: Callable[[], Tracker]
    spec_of: Callable[[str, UPath, Mapping[str, str]], RunSpec]

    @property
    def directory(self) -> UPath:
        return self.job.directory / FOLDER

    def round_job(self, number: int) -> TrainJob:
        """The model of a round, an experiment beside the first."""
        name = f"{self.job.name}-round-{number}"
        labels = self.directory / f"round-{number}" / LABELS
        return self._job(name, self.job.directory.parent / name, labels)

    def fold_job(self, number: int, fold: int) -> TrainJob:
        folder = self.directory / f"round-{number}" / f"fold-{fold}"
        return self._job(f"{self.job.name}-round-{number}-fold-{fold}", folder, folder / LABELS)

    def _job(self, name: str, directory: UPath, labels: UPath) -> TrainJob:
        return self.job.model_copy(update={"name": name, "run_dir": str(directory), "labels": str(labels)})


@dataclass(frozen=True)
class LabelSummary:
    """What rounds came to.

    Attributes:
        rounds: one entry a round, with number 0 for the model of true labels.
        best_round: by validation; 0 where no round bettered the true labels' model.
        best_run: name of that round's experiment.
        teacher: what the teacher did, in counts; ``None`` until it was asked.
    """

    rounds: tuple[Mapping[str, Any], ...]
    best_round: int
    best_run: str
    stopped: str
    teacher: Mapping[str, Any] | None
    run_id: str
    already_finished: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "rounds": [dict(one) for one in self.rounds]}


def label(work: Labelling) -> LabelSummary:
    """Label in rounds, from wherever an earlier submission stopped.

    Raises:
        ConfigError: the first model is not trained, there is nobody to label, the folder holds other settings, or the
            teacher cannot be used.
        CorpusError: labels that somebody must not have, named; see ``train/labels.py``.
        TrainingFailedError: a model's workers failed too often.
    """
    with alone(work.directory):
        manifest = Manifest.open(work.job.manifest)
        manifest.check_people_disjoint()
        if not work.job.is_finished():
            raise ConfigError(f"{work.job.run_dir} is not trained yet: run `moodscale train` before `moodscale label`")
        _claim(work, manifest)
        done = work.directory / ROUNDS_FILE
        if done.is_file():
            logger.info("the rounds of %s are finished; nothing to do", work.job.name)
            return LabelSummary(**{**json.loads(done.read_text()), "already_finished": True})
        return _track(work, manifest)


def _claim(work: Labelling, manifest: Manifest) -> None:
    """One folder holds the rounds of one configuration."""
    path = work.directory / _CLAIM
    content: dict[str, Any] = {"label": _settings(work.config), "manifest": manifest.hash}
    try:
        before = json.loads(path.read_text())
    except FileNotFoundError:
        write_bytes(path, json.dumps(content, indent=1).encode())
        return
    if before != content:
        changed = sorted(key for key, value in content["label"].items() if value != before["label"].get(key)) or [
            "the manifest"
        ]
        raise ConfigError(
            f"{work.directory} holds rounds with other settings: label.{', label.'.join(changed)} differ. Choose "
            "another name, or remove that folder to label anew"
        )


def _settings(config: LabelConfig) -> dict[str, Any]:
    """What decides labels; where answers are kept and how fast a teacher is asked does not."""
    kept = {key: value for key, value in config.to_json().items() if key != "answers"}
    kept["teacher"] = {key: value for key, value in kept["teacher"].items() if key not in ("policy", "cost")}
    return kept


def _track(work: Labelling, manifest: Manifest) -> LabelSummary:
    """All rounds under one parent run."""
    tracker = work.open_tracker()
    spec = work.spec_of(f"{work.job.name}-rounds", work.directory, {"moodscale.rounds": "parent"})
    run_id = tracker.start_or_resume(spec).run_id
    status = RunStatus.FAILED
    try:
        summary = _Rounds(work, manifest, run_id, tracker).run()
        tracker.log_dict(summary.to_json(), ROUNDS_FILE)
        write_bytes(work.directory / ROUNDS_FILE, json.dumps(summary.to_json(), indent=1).encode())
        status = RunStatus.FINISHED
    except (KeyboardInterrupt, SystemExit):
        status = RunStatus.KILLED
        raise
    finally:
        tracker.finish(status)
    return summary


@dataclass
class _Rounds:
    """The rounds of one call."""

    work: Labelling
    manifest: Manifest
    run_id: str
    tracker: Tracker
    entries: list[Row] = field(default_factory=list)
    labellers: dict[str, Labeller] = field(default_factory=dict)
    teacher: Mapping[str, Any] | None = None

    def run(self) -> LabelSummary:
        work = self.work
        truth = [relabel.true_row(row) for row in self.manifest.interviews(Split.TRAIN).to_pylist()]
        base = work.job.store().best() or work.job.store().latest()
        assert base is not None, "a finished job has a checkpoint"
        self._add(0, "questionnaires", truth, 0, None, None, dict(base.metrics))
        taught = teach(work.config, work.answers, self.manifest, work.job.seed)
        self.teacher = taught.summary
        self.labellers[taught.name] = taught.labeller
        labels, stopped, worse = [*truth, *taught.rows], f"after label.rounds={work.config.rounds}", 0
        for number in range(1, work.config.rounds + 1):
            before = labels
            if number > 1:
                labels = self._relabel(number, labels)
            improved = self._round(number, before if number > 1 else [], labels, taught)
            worse = 0 if improved else worse + 1
            if worse >= work.config.patience and number < work.config.rounds:
                stopped = f"round {number} did not better validation {work.config.metric} (label.patience={worse})"
                break
        best = self._best()
        return LabelSummary(
            rounds=tuple(self.entries),
            best_round=best,
            best_run=work.job.name if best == 0 else work.round_job(best).name,
            stopped=stopped,
            teacher=self.teacher,
            run_id=self.run_id,
        )

    def _round(self, number: int, before: Sequence[Row], labels: Sequence[Row], taught: Taught) -> bool:
        """Write the round's labels, train its model, say what came of it."""
        job = self.work.round_job(number)
        kept, num_left_out = relabel.weighted(labels, self.work.config)
        self._write(job, kept)
        summary = self._train(job, number, fold=None)
        shift = relabel.label_shift(before, labels) if before else None
        agreement = taught.agreement if number == 1 else self._fold_agreement
        labeller = taught.name if number == 1 else f"{self.work.config.folds} models out of fold"
        if number == 1:
            num_left_out += taught.num_unanswered
        return self._add(number, labeller, kept, num_left_out, shift, agreement, summary.best_metrics)

    def _relabel(self, number: int, labels: Sequence[Row]) -> list[Row]:
        """Every pseudo-label anew, by a model that has not seen its person."""
        config = self.work.config
        taught = frozenset(row["person"] for row in labels if row["provenance"] == Provenance.PSEUDO)
        folds = relabel.folds_of([row["person"] for row in labels], taught, config.folds, self.work.job.seed)
        found: dict[tuple[str, str], Row] = {}
        metrics = []
        for fold in range(config.folds):
            own = [row for row in labels if folds[row["person"]] == fold and row["provenance"] == Provenance.PSEUDO]
            others = [row for row in labels if folds[row["person"]] != fold]
            if not own:
                continue
            job = self.work.fold_job(number, fold)
            kept, _ = relabel.weighted(others, config)
            self._write(job, kept)
            metrics.append(self._train(job, number, fold).best_metrics)
            found |= self._label_with(job, own, number, fold, kept)
        num = len(self.manifest.people(Split.VALIDATION))
        self._fold_agreement: Row | None = {"num": num, **_mean(metrics, ("mae", "pearson_r"))}
        return [found.get((row["corpus"], row["interview_id"]), row) for row in labels]

    def _label_with(
        self, job: TrainJob, rows: Sequence[Row], number: int, fold: int, learned_from: Iterable[Row]
    ) -> dict[tuple[str, str], Row]:
        """Rows with the label that a fold's model blends in; one whose interview holds no words for it stays."""
        version = model_version(job.name, best_checkpoint(job).path)
        name = f"round {number} fold {fold}"
        seen = frozenset(person_hash(row["person"]) for row in learned_from)
        self.labellers[name] = Labeller("fold", version, seen)
        wanted = pa.Table.from_pylist(
            [{key: row[key] for key in TRAINING_LABELS.names} for row in rows], TRAINING_LABELS
        )
        examples = job.recipe.build().examples(self.manifest, None, labels=wanted)
        scores = score_examples(job, examples, self.manifest)
        keys = zip(examples.table["corpus"].to_pylist(), examples.table["interview_id"].to_pylist(), strict=True)
        by_key = dict(zip(keys, scores, strict=True))
        logger.info("round %d, fold %d: %d of %d interviews labelled anew", number, fold, len(by_key), len(rows))
        return {
            (row["corpus"], row["interview_id"]): relabel.relabelled_row(
                row, score.score, score.items, name, number, self.work.config
            )
            for row in rows
            if (score := by_key.get((row["corpus"], row["interview_id"]))) is not None
        }

    def _write(self, job: TrainJob, rows: Sequence[Row]) -> None:
        """The labels that a job learns from; where they are there already they must be the very same."""
        assert job.labels is not None
        path = location(job.labels)
        if path.is_file():
            there = open_labels(path, self.manifest)
            expected = sorted((row["corpus"], row["interview_id"], row["total"], row["weight"]) for row in rows)
            columns = (there.rows[name].to_pylist() for name in ("corpus", "interview_id", "total", "weight"))
            if expected == sorted(zip(*columns, strict=True)):
                return
            raise ConfigError(
                f"{path} holds other labels than this run comes to; remove {self.work.directory} to label anew"
            )
        write_labels(path, rows, self.labellers, self.manifest)

    def _train(self, job: TrainJob, number: int, fold: int | None) -> TrainSummary:
        tags = {PARENT_TAG: self.run_id, "moodscale.round": str(number)}
        if fold is not None:
            tags["moodscale.fold"] = str(fold)
        logger.info("round %d: training %s", number, job.name)
        return train(job, self.work.open_tracker(), self.work.spec_of(job.name, job.directory, tags))

    def _add(
        self,
        number: int,
        labeller: str,
        rows: Sequence[Row],
        num_left_out: int,
        shift: Row | None,
        agreement: Mapping[str, Any] | None,
        metrics: Mapping[str, float],
    ) -> bool:
        """An entry of the summary, and the parent run's metrics; whether the round is the best so far."""
        validation = {name: metrics.get(name) for name in ("mae", "rmse", "pearson_r")}
        num_pseudo = sum(row["provenance"] == Provenance.PSEUDO for row in rows)
        best_before = self._figure(self._best()) if self.entries else None
        self.entries.append(
            {
                "round": number,
                "labeller": labeller,
                "num_true": len(rows) - num_pseudo,
                "num_pseudo": num_pseudo,
                "num_left_out": num_left_out,
                "label_shift": shift,
                "agreement": None if agreement is None else dict(agreement),
                "validation": validation,
                "improved": None,
            }
        )
        improved = number > 0 and self._best() == number and self._figure(number) != best_before
        self.entries[-1]["improved"] = improved if number else None
        figures = {f"validation/{name}": value for name, value in validation.items() if value is not None}
        figures["label/num_pseudo"] = float(num_pseudo)
        if shift is not None and shift["mean_abs"] is not None:
            figures["label/shift_mean_abs"] = shift["mean_abs"]
        self._log(number, figures)
        return improved

    def _log(self, number: int, figures: Mapping[str, float]) -> None:
        held = self.tracker.logged_steps(figures)
        fresh = {name: value for name, value in figures.items() if number not in held.get(name, ())}
        if fresh:
            self.tracker.log_points([MetricPoint(number, time.time_ns() // 1_000_000, fresh)])

    def _best(self) -> int:
        """The round with the best validation figure; of equals the earlier one."""
        return min(range(len(self.entries)), key=lambda number: (self._figure(number), number))

    def _figure(self, number: int) -> float:
        """The figure that rounds are judged by, the lower the better."""
        value = self.entries[number]["validation"][self.work.config.metric]
        if value is None:
            return float("inf")
        return -value if self.work.config.metric in _HIGHER_IS_BETTER else float(value)


def _mean(metrics: Sequence[Mapping[str, float]], names: Iterable[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in names:
        values = [one[name] for one in metrics if name in one]
        found[name] = sum(values) / len(values) if values else None
    return found
