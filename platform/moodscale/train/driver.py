"""The Ray Train driver: checks before it starts, owns the tracked run, and lets workers come and go.

Workers write to the run's directory (checkpoints, metric journal) and to nothing else. Whoever dies, what is in the
directory is whole, and submitting the same job again continues it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import SerializeAsAny
from upath import UPath

from moodscale.config import Config, ConfigError, by_kind, validate
from moodscale.models.lora import ADAPTER_FILE
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import Examples, Recipe, RecipeConfig
from moodscale.schema import Split
from moodscale.storage import Place, is_local, location, write_bytes
from moodscale.tracking.base import RunSpec, RunStatus, Tracker
from moodscale.tracking.journal import JournalView
from moodscale.tracking.sync import JournalSync
from moodscale.train import checkpoint
from moodscale.train.cluster import connect
from moodscale.train.config import OptimConfig, TrainConfig
from moodscale.train.failures import TrainingFailedError, describe
from moodscale.train.labels import open_labels
from moodscale.train.lock import alone

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
JOURNAL = "journal.jsonl"
JOB_FILE = "train.json"
LABELS = "labels.parquet"
"""The table of labels that a run learned from stays with it."""


class TrainJob(Config):
    """Everything a worker needs; goes to the workers as JSON and is validated there again."""

    name: str
    seed: int
    run_dir: str
    manifest: str
    recipe: Annotated[SerializeAsAny[RecipeConfig], by_kind("moodscale.recipes", RecipeConfig)]
    optim: OptimConfig
    train: TrainConfig
    labels: str | None = None
    """A table of labels (``train/labels.py``) to train on instead of the manifest's own; nobody else is trained on."""

    @property
    def directory(self) -> UPath:
        return location(self.run_dir)

    def store(self) -> checkpoint.CheckpointStore:
        settings = self.train.checkpoints
        metric = settings.metric or self.recipe.best_by
        return checkpoint.checkpoint_store(self.directory / CHECKPOINTS, settings.keep, metric)

    def is_finished(self) -> bool:
        newest = self.store().latest()
        return newest is not None and newest.position.phase >= len(self.train.phases)


@dataclass(frozen=True)
class TrainSummary:
    """What a finished job left behind."""

    run_id: str
    steps: int
    skipped_steps: int
    best_checkpoint: str
    best_metrics: dict[str, float]
    already_finished: bool

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def train(job: TrainJob, tracker: Tracker, spec: RunSpec) -> TrainSummary:
    """Run a training job to its end, from wherever an earlier submission left it.

    Raises:
        ConfigError: the run directory belongs to another configuration, or the cluster is too small.
        ValueError: the manifest is broken, or has one person in two splits.
        TrainingFailedError: the workers failed more often than ``train.max_failures``; names the first cause.
    """
    with alone(job.directory):
        return _train(job, tracker, spec)


def _train(job: TrainJob, tracker: Tracker, spec: RunSpec) -> TrainSummary:
    manifest = Manifest.open(job.manifest)
    manifest.check_people_disjoint()
    labels = None if job.labels is None else open_labels(location(job.labels), manifest)
    already = job.is_finished()
    _claim_directory(job, manifest.hash, None if labels is None else labels.hash)
    if job.labels is not None and not (job.directory / LABELS).is_file():
        write_bytes(job.directory / LABELS, location(job.labels).read_bytes())
    state = tracker.find(spec.run_key) if already else None
    if state is not None and state.status is RunStatus.FINISHED:
        logger.info("run %s is finished; nothing to do", job.name)
        tracker.attach(state.run_id)
        with _syncing(job, tracker):  # sends what a tracker that was away then did not get; nothing otherwise
            pass
        return _summary(job, state.run_id, already)
    run_id = tracker.start_or_resume(spec).run_id
    status = RunStatus.FAILED
    try:
        with _syncing(job, tracker):
            if not already:
                _fit(job)
        summary = _summary(job, run_id, already)
        with job.store().file(location(summary.best_checkpoint), ADAPTER_FILE) as adapter:
            tracker.log_artifact(adapter, "adapter")
        status = RunStatus.FINISHED
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, `ray job stop`: somebody wanted it
        status = RunStatus.KILLED
        raise
    finally:
        tracker.finish(status)
    return summary


def _summary(job: TrainJob, run_id: str, already: bool) -> TrainSummary:
    store = job.store()
    latest = store.latest()
    assert latest is not None, "a finished job has a checkpoint"
    best = store.best() or latest
    return TrainSummary(
        run_id=run_id,
        steps=latest.position.step,
        skipped_steps=latest.position.skipped_steps,
        best_checkpoint=str(best.path),
        best_metrics=best.metrics,
        already_finished=already,
    )


def _claim_directory(job: TrainJob, manifest_hash: str, labels_hash: str | None = None) -> None:
    """A run directory holds one configuration; another one under the same name is refused with what differs."""
    path = job.directory / JOB_FILE
    content: dict[str, Any] = {"job": _identity(job), "manifest": manifest_hash}
    if labels_hash is not None:
        content["labels"] = labels_hash
    try:
        before = json.loads(path.read_text())
    except FileNotFoundError:  # and not is_file(), which takes storage that does not answer for an empty one
        write_bytes(path, json.dumps(content, indent=1).encode())
        return
    changed = sorted(_differences(before, content))
    if changed:
        raise ConfigError(
            f"{job.run_dir} holds a run with other settings: {', '.join(changed[:5])} differ. "
            "Choose another name, or remove the directory to start over"
        )


def _identity(job: TrainJob) -> dict[str, Any]:
    """What must not change under a run. Workers, retries and paths may: results do not depend on them."""
    content = job.to_json()
    for key in ("run_dir", "manifest", "labels"):
        content.pop(key)
    for key in ("num_workers", "use_gpu", "cpus_per_worker", "data_cpus", "micro_batch", "max_failures", "log_every_s"):
        content["train"].pop(key)
    return content


def _differences(before: Any, after: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            yield from _differences(before.get(key), after.get(key), f"{prefix}.{key}" if prefix else str(key))
    elif before != after:
        yield prefix


@contextmanager
def _syncing(job: TrainJob, tracker: Tracker) -> Iterator[None]:
    """Metrics go to the tracker up to the last committed checkpoint, in the background."""
    journal = JournalView(job.directory / JOURNAL)
    step = _committed(job)
    journal.refresh()
    sync = JournalSync(tracker, journal.path, committed_step=step).start()
    done = threading.Event()

    def follow() -> None:
        seen: int | None = step
        while not done.wait(2.0):
            seen = _publish(job, journal, sync, seen)

    follower = threading.Thread(target=follow, name="committed-steps", daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()
        _publish(job, journal, sync, seen=None)
        sync.stop()


def _publish(job: TrainJob, journal: JournalView, sync: JournalSync, seen: int | None) -> int | None:
    """Let points up to the newest checkpoint pass; returns that checkpoint's step."""
    try:
        step = _committed(job)
        if step != seen:
            journal.refresh()  # after the look at the checkpoints: it then holds at least what they cover
        sync.commit(step)
        return step
    except Exception as error:
        # Storage that is away for a while must not end a run that needs it no earlier than its next checkpoint.
        logger.warning("metrics wait in the journal: %s", type(error).__name__)
        return None


def _committed(job: TrainJob) -> int:
    return job.store().newest_step()


def _fit(job: TrainJob) -> None:
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchConfig, TorchTrainer

    from moodscale.train.callbacks import SayWhy

    train_config = job.train
    connect(train_config)
    resources: dict[str, float] = {"CPU": train_config.cpus_per_worker}
    if train_config.use_gpu:
        resources["GPU"] = 1
    trainer = TorchTrainer(
        worker_main,
        train_loop_config=job.to_json(),
        scaling_config=ScalingConfig(
            num_workers=train_config.num_workers, use_gpu=train_config.use_gpu, resources_per_worker=resources
        ),
        torch_config=TorchConfig(backend="nccl" if train_config.use_gpu else "gloo"),
        run_config=RunConfig(
            name=f"{job.name}-workers",
            **_ray_storage(job.directory / "ray"),
            failure_config=FailureConfig(max_failures=train_config.max_failures),
            logging_config=LoggingConfig(log_level="WARNING"),
            callbacks=[SayWhy()],
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        cause = describe(error.worker_failures)
    else:
        return
    # Raised outside the handler: Ray's error holds every rank's traceback as text and would be printed as context.
    raise TrainingFailedError(
        f"the workers failed {train_config.max_failures + 1} time(s), train.max_failures={train_config.max_failures}; "
        f"the last time: {cause}. What was committed is in {job.directory / CHECKPOINTS}; submitted again, the job "
        "continues there"
    )


def _ray_storage(directory: Place) -> dict[str, Any]:
    """Where Ray Train keeps its own books: beside the run, through the same file system and its credentials."""
    if is_local(directory):
        return {"storage_path": str(directory)}
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    assert isinstance(directory, UPath)
    return {"storage_path": directory.path, "storage_filesystem": PyFileSystem(FSSpecHandler(directory.fs))}


def training_examples(job: TrainJob, recipe: Recipe, manifest: Manifest) -> Examples:
    """What a job trains on: the training split's own labels, or those of the job's table."""
    if job.labels is None:
        return recipe.examples(manifest, Split.TRAIN)
    labels = open_labels(location(job.labels), manifest).for_training()
    return recipe.examples(manifest, Split.TRAIN, labels=labels)


def worker_main(config: dict[str, Any]) -> None:
    """One rank: build, resume, run."""
    import ray.train
    import torch

    from moodscale.tracking.console import Progress
    from moodscale.tracking.journal import open_journal
    from moodscale.train import loop
    from moodscale.train.engine import DTYPES, Engine
    from moodscale.train.stream import RayStream

    job = validate(TrainJob, config, source="train_loop_config")
    context = ray.train.get_context()
    rank = context.get_world_rank()
    _quiet(rank)
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    manifest = Manifest.open(job.manifest)
    recipe = job.recipe.build()
    model = recipe.build_model(DTYPES[job.train.engine.precision], job.train.engine.gradient_checkpointing)
    cache = str(manifest.path / "features" / job.recipe.fingerprint()) if job.train.cache_features else None
    stream = RayStream(
        recipe.loader(manifest, cache),
        cpus=job.train.data_cpus / job.train.num_workers,
        prefetch_batches=job.train.prefetch_batches,
    )
    store = job.store()
    recorder = None
    if rank == 0:
        newest = store.latest()
        recorder = open_journal(job.directory / JOURNAL, after_step=newest.position.step if newest else -1)
    progress = Progress(every_s=job.train.log_every_s) if rank == 0 else None
    loop.run(
        loop.Job(
            recipe=recipe,
            train=job.train,
            optim=job.optim,
            seed=job.seed,
            train_examples=training_examples(job, recipe, manifest),
            validation_examples=recipe.examples(manifest, Split.VALIDATION),
            stream=stream,
            store=store,
            recorder=recorder,
            on_validation=lambda step, metrics: ray.train.report({"step": step, **metrics}),
            on_step=progress if progress is not None else lambda step, total, metrics: None,
        ),
        Engine(model, job.train, job.optim),
    )


def _quiet(rank: int) -> None:
    """Progress from rank 0; warnings from the others, of which nobody here can act on a library's deprecations."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|transformers|peft|deepspeed)\b")
    # Ray Train has given the root logger a handler and INFO, and writes some of its own lines under a file's name.
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("moodscale").setLevel(logging.INFO if rank == 0 else logging.WARNING)
    for library in ("DeepSpeed", "ray.train"):
        logging.getLogger(library).setLevel(logging.WARNING)
