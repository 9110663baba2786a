"""The training loop: reads from top to bottom, knows torch and DeepSpeed's engine, knows neither Ray nor MLflow.

``run()`` → phases → epochs → ``_train_step()``. Runs in any process that is a member of a torch process group.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist

from moodscale.recipes.base import Batch, Examples, Recipe, Row
from moodscale.train import sampling
from moodscale.train.checkpoint import Checkpoint, CheckpointStore, Position, explain_write_error
from moodscale.train.config import OptimConfig, PhaseConfig, TrainConfig
from moodscale.train.engine import Engine
from moodscale.train.predict import score_rows
from moodscale.train.schedule import learning_rate
from moodscale.train.stream import Stream, iterate_rows

logger = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """More steps than allowed had a loss that is not a number. Names the last batch's examples."""


class Recorder(Protocol):
    """Where rank 0 writes metrics, one call a step."""

    def append(self, step: int, metrics: dict[str, float]) -> None: ...

    def commit(self) -> None: ...


@dataclass
class Job:
    """All that the loop needs; every rank builds the same one, but for ``recorder`` (rank 0's alone)."""

    recipe: Recipe
    train: TrainConfig
    optim: OptimConfig
    seed: int
    train_examples: Examples
    validation_examples: Examples
    stream: Stream
    store: CheckpointStore
    recorder: Recorder | None = None
    on_validation: Callable[[int, dict[str, float]], None] = lambda step, metrics: None
    """Called on every rank after a validation, with the step and the metrics."""
    on_step: Callable[[int, int, dict[str, float]], None] = lambda step, total, metrics: None
    """Called on every rank after a step, with the step, the run's steps and the metrics."""


@dataclass
class _State:
    """What changes while the loop runs."""

    position: Position
    metrics: dict[str, float] = field(default_factory=dict)


def run(job: Job, engine: Engine) -> Position:
    """Train all phases, from the newest usable checkpoint if there is one.

    Raises:
        NonFiniteLossError: see ``train.max_skipped_steps``.
        ValueError: an empty split, or a checkpoint of another plan.
    """
    return _Loop(job, engine).run()


class _Loop:
    def __init__(self, job: Job, engine: Engine) -> None:
        self.job, self.engine = job, engine
        examples = job.train_examples
        self.index = sampling.ExampleIndex(
            np.array(examples.persons), examples.strata, examples.num_strata, examples.lengths
        )
        classes = np.array(sampling.class_weights(self.index, job.train.class_weighting))
        self.num_targets = self._count_targets()
        self.weights = (classes[examples.strata] * examples.weights).tolist()
        self.epoch_steps = sampling.num_steps(len(self._plan(0)), job.train.effective_batch)
        self.total_steps = self.epoch_steps * sum(phase.epochs for phase in job.train.phases)

    def _plan(self, epoch: int) -> sampling.Indices:
        train = self.job.train
        return sampling.plan_epoch(self.index, train.sampling, self.job.seed, epoch, train.effective_batch)

    def run(self) -> Position:
        state = self._resume()
        while state.position.phase < len(self.job.train.phases):
            phase = self.job.train.phases[state.position.phase]
            while state.position.epoch < phase.epochs:
                self._run_epoch(state, phase)
            self._begin_next_phase(state)
        return state.position

    def _resume(self) -> _State:
        checkpoint = self._agreed_latest()
        if checkpoint is None:
            position = Position(0, 0, 0, 0, self.job.seed, self.engine.world_size)
            return _State(position)
        position = checkpoint.position
        if position.plan_seed != self.job.seed:
            raise ValueError(
                f"{checkpoint.path}: made with seed={position.plan_seed}, this job has seed={self.job.seed}; "
                "use another name for another run"
            )
        if position.world_size == self.engine.world_size:
            self.engine.load(self.job.store.fetch(checkpoint))
        else:
            logger.warning(
                "checkpoint of %d workers, now %d: weights are kept, the optimizer starts fresh",
                position.world_size,
                self.engine.world_size,
            )
            self.engine.load_adapter(self.job.store.fetch(checkpoint))
            position = replace(position, world_size=self.engine.world_size)
        logger.info("resuming after step %d of %d", position.step, self.total_steps)
        return _State(position, dict(checkpoint.metrics))

    def _agreed_latest(self) -> Checkpoint | None:
        """Rank 0 verifies, all take its answer: ranks that chose for themselves could disagree."""
        chosen: list[Any] = [self.job.store.latest() if self.engine.rank == 0 else None]
        dist.broadcast_object_list(chosen, src=0)
        checkpoint: Checkpoint | None = chosen[0]
        return checkpoint

    def _begin_next_phase(self, state: _State) -> None:
        state.position = replace(state.position, phase=state.position.phase + 1, epoch=0, step_in_epoch=0)
        if state.position.phase < len(self.job.train.phases):
            self.engine.reset_optimizer()
        self._checkpoint(state)

    def _run_epoch(self, state: _State, phase: PhaseConfig) -> None:
        job, position = self.job, state.position
        first_epoch = sum(p.epochs for p in job.train.phases[: position.phase])
        plan = self._plan(first_epoch + position.epoch)
        steps = sampling.num_steps(len(plan), job.train.effective_batch)
        assert steps == self.epoch_steps, "an epoch's length must not depend on its draw"
        rows, features = self._stream(plan, position.step_in_epoch)
        for step_in_epoch in range(position.step_in_epoch, steps):
            phase_step = position.epoch * steps + step_in_epoch
            lr = learning_rate(phase, job.optim, phase_step, phase.epochs * steps)
            self._train_step(state, plan, step_in_epoch, rows, features, lr)
            if state.position.step % job.train.checkpoints.every_steps == 0 and step_in_epoch + 1 < steps:
                self._checkpoint(state)
        next(features, None)  # lets the stream close its data stage
        state.position = replace(state.position, epoch=position.epoch + 1, step_in_epoch=0)
        if (position.epoch + 1) % job.train.validate_every_epochs == 0 or position.epoch + 1 == phase.epochs:
            self._validate(state)
        if state.position.epoch < phase.epochs:
            self._checkpoint(state)

    def _stream(self, plan: sampling.Indices, first_step: int) -> tuple[Iterator[Row], Iterator[Any]]:
        """This rank's rows from ``first_step`` to the epoch's end, and their features."""
        wanted = [
            index
            for step in range(first_step, self.epoch_steps)
            for micro in self._micro_batches(self._batch_of(plan, step))
            for index, _ in micro
        ]
        table = self.job.train_examples.table.take(wanted)
        return iterate_rows(table), self.job.stream.features(table)

    def _batch_of(self, plan: sampling.Indices, step: int) -> sampling.Indices:
        size = self.job.train.effective_batch
        return plan[step * size : (step + 1) * size]

    def _micro_batches(self, batch: sampling.Indices) -> list[list[tuple[int, float]]]:
        """This rank's micro-batches of (row, weight); an epoch's last batch is filled up with weight zero."""
        train = self.job.train
        ranges = sampling.rank_slice(
            len(batch), self.engine.rank, self.engine.world_size, train.micro_batch, train.accumulation
        )
        return [
            [self._weighted(batch[p]) if p < len(batch) else (int(batch[0]), 0.0) for p in positions]
            for positions in ranges
        ]

    def _weighted(self, row: np.int64) -> tuple[int, float]:
        return int(row), self.weights[int(row)]

    def _train_step(
        self,
        state: _State,
        plan: sampling.Indices,
        step_in_epoch: int,
        rows: Iterator[Row],
        features: Iterator[Any],
        lr: float,
    ) -> None:
        batch = self._batch_of(plan, step_in_epoch)
        loss, padding = self._forward_backward(state.position.step, batch, rows, features)
        finite = math.isfinite(loss)
        norm = self.engine.step(lr, discard=not finite)
        skipped = state.position.skipped_steps
        if not finite:
            skipped += 1
            self._report_skip(batch, skipped)
        state.position = replace(
            state.position, step=state.position.step + 1, step_in_epoch=step_in_epoch + 1, skipped_steps=skipped
        )
        state.metrics = {}  # a validation speaks of the weights it saw
        metrics = {"train/lr": lr, "train/skipped_steps": float(skipped)}
        if finite:
            metrics["train/loss"] = loss
        if norm is not None and math.isfinite(norm):
            metrics["train/grad_norm"] = norm
        if padding is not None:
            metrics["train/padding_share"] = padding
        if self.job.recorder is not None:
            self.job.recorder.append(state.position.step, metrics)
        self.job.on_step(state.position.step, self.total_steps, metrics)

    def _forward_backward(
        self, step: int, batch: sampling.Indices, rows: Iterator[Row], features: Iterator[Any]
    ) -> tuple[float, float | None]:
        """Gradients of one effective batch; returns its loss and its share of padding, equal on every rank.

        The loss is the weighted mean over the scored parts of the whole effective batch: its denominator follows
        from the plan, so no rank has to ask another and no split into micro-batches changes it.
        """
        recipe, engine = self.job.recipe, self.engine
        denominator = sum(weight * self.num_targets[row] for row, weight in map(self._weighted, batch))
        micro_batches = self._micro_batches(batch)
        # Dropout depends on (seed, step, rank) alone: a resumed run draws what an uninterrupted one would have.
        torch.manual_seed(hash((self.job.seed, step, engine.rank)) & 0x7FFF_FFFF_FFFF_FFFF)
        sums = torch.zeros(3, dtype=torch.float64, device=engine.device)  # loss, valid positions, all positions
        for number, micro in enumerate(micro_batches):
            inputs = recipe.collate([next(rows) for _ in micro], [next(features) for _ in micro])
            weights_B = torch.tensor([weight for _, weight in micro], dtype=torch.float32)
            if (mask := inputs.get("attention_mask")) is not None:
                sums[1:] += torch.tensor([float(mask.sum()), float(mask.numel())], device=engine.device)
            sums[0] += self._accumulate(inputs, weights_B, denominator).double()
            if number + 1 < len(micro_batches):
                engine.advance()
        dist.all_reduce(sums)
        loss, valid, positions = sums.tolist()
        return loss, 1 - valid / positions if positions else None

    def _count_targets(self) -> list[int]:
        """Scored parts of every example. What is nested (windows, turns) is heavy, and says nothing of it."""
        table = self.job.train_examples.table
        plain = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
        return [self.job.recipe.num_targets(row) for row in iterate_rows(table.select(plain))]

    def _accumulate(self, inputs: Batch, weights_B: torch.Tensor, denominator: float) -> torch.Tensor:
        try:
            return self.engine.accumulate(inputs, weights_B, denominator)
        except torch.OutOfMemoryError as error:
            raise RuntimeError(
                f"GPU out of memory at train.micro_batch={self.job.train.micro_batch}: halve it (effective batch and "
                "losses stay the same), or see what `moodscale plan` advises for this GPU"
            ) from error

    def _report_skip(self, batch: sampling.Indices, skipped: int) -> None:
        ids = [self.job.train_examples.unit_ids[int(index)] for index in batch]
        logger.error("loss is not finite: step skipped on all ranks (%d so far); examples %s", skipped, ", ".join(ids))
        if skipped > self.job.train.max_skipped_steps:
            raise NonFiniteLossError(
                f"{skipped} steps had a non-finite loss, train.max_skipped_steps={self.job.train.max_skipped_steps}; "
                f"the last with examples {', '.join(ids)}. Lower optim.lr, or use bf16 or fp32 instead of fp16"
            )

    def _validate(self, state: _State) -> None:
        job = self.job
        if len(job.validation_examples) == 0:
            return
        with self.engine.predicting():
            table = score_rows(job.recipe, self.engine, job.validation_examples, job.stream, job.train.eval_batch)
        metrics = job.recipe.selection(table)
        state.metrics = metrics
        named = {f"validation/{name}": value for name, value in metrics.items()}
        if job.recorder is not None:
            job.recorder.append(state.position.step, named)
        job.on_validation(state.position.step, named)
        if self.engine.rank == 0:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            logger.info("step %d/%d  validation: %s", state.position.step, self.total_steps, shown)

    def _checkpoint(self, state: _State) -> None:
        store, position = self.job.store, state.position
        published: list[Any] = [None] * self.engine.world_size
        try:
            if self.job.recorder is not None:
                self.job.recorder.commit()
            if self.engine.rank == 0:
                store.prepare(position.step)
            dist.barrier()
            self.engine.save(store.staging(position.step))
            dist.all_gather_object(published, store.publish(position.step))  # also waits until every rank has written
            if self.engine.rank == 0:
                files = {name: facts for part in published for name, facts in part.items()}
                store.commit(position, state.metrics, files)
        except OSError as error:
            raise explain_write_error(error, store.written_to) from None
        dist.barrier()
