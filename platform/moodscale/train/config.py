"""Settings of training: optimizer, phases, batches, engine, sampling, checkpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from moodscale.config import Config


class OptimConfig(Config):
    """AdamW (Loshchilov & Hutter 2019)."""

    lr: float = Field(5e-5, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)


class PhaseConfig(Config):
    """A stretch of training with its own schedule; each begins with a fresh optimizer from the phase before."""

    schedule: Literal["linear", "cosine", "constant"]
    epochs: int = Field(1, ge=1)
    lr: float | None = Field(None, gt=0, description="peak learning rate; default optim.lr")
    warmup_fraction: float = Field(0.0, ge=0, lt=1)


class SamplingConfig(Config):
    """Which examples an epoch shows, planned from the manifest. The settings combine."""

    class_balanced: bool = False
    """All classes (depressed or not; severity bands) equally often."""
    speaker_balanced: bool = False
    """Every person (within a class, where classes are balanced) equally often."""
    max_clips_per_speaker: int | None = Field(None, ge=1)
    """A fresh draw of at most so many clips a person each epoch (2,481 of the paper's 9,044 clips is k ≈ 14)."""
    length_buckets: int | None = Field(None, ge=2)
    """Sort examples by length within pools of so many effective batches: less padding, order still random beyond."""


class ClassWeighting(Config):
    """Weights in the loss by class; they average to one over the training examples."""

    scheme: Literal["none", "inverse_frequency", "effective_number"] = "none"
    beta: float = Field(0.999, gt=0, lt=1)
    """Of the effective number (1 − βⁿ)/(1 − β), Cui et al. 2019."""


class EngineConfig(Config):
    """DeepSpeed's part."""

    zero_stage: Literal[0, 1, 2, 3] = 2
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    gradient_checkpointing: bool = False
    """Non-reentrant."""
    offload_optimizer: bool = False
    offload_parameters: bool = False

    @model_validator(mode="after")
    def _offload_needs_stage(self) -> EngineConfig:
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError("offload_parameters needs zero_stage: 3")
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer needs zero_stage of 1 or more")
        return self


class CheckpointConfig(Config):
    every_steps: int = Field(50, ge=1)
    """The most work a crash can lose."""
    keep: int = Field(2, ge=1)
    """Latest checkpoints kept; the best one is kept beside them."""
    metric: (
        Literal[
            "participant_auc",
            "participant_balanced_accuracy",
            "clip_auc",
            "clip_average_precision",
            "pearson_r",
            "mae",
            "rmse",
            "loss",
        ]
        | None
    ) = None
    """Validation metric that names the best checkpoint (of ``mae``, ``rmse`` and ``loss`` the lower the better); by
    default the recipe's own."""


class TrainConfig(Config):
    """A training job on one group of workers."""

    phases: tuple[PhaseConfig, ...] = Field(
        (PhaseConfig(schedule="linear"), PhaseConfig(schedule="cosine")), min_length=1
    )
    num_workers: int = Field(1, ge=1)
    use_gpu: bool = True
    cpus_per_worker: float = Field(4.0, gt=0)
    data_cpus: float = Field(2.0, gt=0)
    """CPUs kept for decoding beside the workers: training that takes every CPU starves its own data for ever."""
    effective_batch: int = Field(8, ge=1)
    """Examples an optimizer step, whatever the number of workers and the micro-batch."""
    micro_batch: int = Field(1, ge=1)
    engine: EngineConfig = EngineConfig()
    sampling: SamplingConfig = SamplingConfig()
    class_weighting: ClassWeighting = ClassWeighting()
    checkpoints: CheckpointConfig = CheckpointConfig()
    validate_every_epochs: int = Field(1, ge=1)
    eval_batch: int = Field(8, ge=1)
    cache_features: bool = False
    """Keep log-mel beside the manifest after the first epoch (fp16 costs 256 kB a 10 s clip)."""
    prefetch_batches: int = Field(4, ge=1)
    max_failures: int = Field(3, ge=0)
    """Restarts of the worker group before the job fails."""
    max_skipped_steps: int = Field(3, ge=0)
    """Steps with a non-finite loss that may be skipped, all in all, before the job stops."""
    log_every_s: float = Field(5.0, gt=0)

    @model_validator(mode="after")
    def _batch_divides(self) -> TrainConfig:
        share = self.num_workers * self.micro_batch
        if self.effective_batch % share:
            raise ValueError(
                f"effective_batch={self.effective_batch} is not a multiple of num_workers × micro_batch = {share}; "
                "change one of the three"
            )
        return self

    @property
    def accumulation(self) -> int:
        """Micro-batches a worker runs for one optimizer step."""
        return self.effective_batch // (self.num_workers * self.micro_batch)
