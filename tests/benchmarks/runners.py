"""The programs that race each other: a bare torch loop, our loop, and a plain Hugging Face Trainer script."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import EFFECTIVE_BATCH, LEARNING_RATE, SEED, Corpus, Laps, recipe_config


@dataclass(frozen=True)
class Training:
    """What a runner trains."""

    checkpoint: Path
    corpus: Corpus
    scratch: Path
    quick: bool
    stream: str = "ray"
    """``ray`` or ``local``: where our loop's features are made."""
    micro_batch: int = 1

    def recipe(self) -> Any:
        return recipe_config(str(self.checkpoint), self.quick).build()


def planned_batches(corpus: Corpus, epochs: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of each effective batch, in the order in which our loop shows them."""
    from moodscale.train import sampling
    from moodscale.train.config import SamplingConfig

    table = corpus.clips
    index = sampling.ExampleIndex(np.array(table["person"].to_pylist()), table["depressed"].to_numpy())
    rows = table.to_pylist()
    for epoch in range(epochs):
        plan = sampling.plan_epoch(index, SamplingConfig(), SEED, epoch)
        for first in range(0, len(plan), EFFECTIVE_BATCH):
            yield [rows[i] for i in plan[first : first + EFFECTIVE_BATCH]]


def bare_loop(laps: Laps, turns: int, training: Training) -> None:
    """Forward, backward, clip, AdamW: tensors ready in memory, no engine, no plan, no records."""
    from moodscale.recipes.clips import ClipLoader

    recipe = training.recipe()
    model = recipe.build_model(torch.float32).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    loader = ClipLoader(training.corpus.roots, recipe.features())
    kept = {row["clip_id"]: loader(row) for row in training.corpus.clips.to_pylist()}
    steps = []
    for rows in planned_batches(training.corpus, turns):
        micro_batches = [rows[i : i + training.micro_batch] for i in range(0, len(rows), training.micro_batch)]
        steps.append([recipe.collate(micro, [kept[row["clip_id"]] for row in micro]) for micro in micro_batches])
    laps.ready()
    for step in steps:
        num_targets = sum(int((batch["labels"] != -100).sum()) for batch in step)
        total = 0.0
        for batch in step:
            loss = model(**batch).sum() / num_targets
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        laps.step(total)


def our_loop(laps: Laps, turns: int, training: Training) -> None:
    """The platform's loop as a worker runs it: DeepSpeed engine, stream, journal, checkpoints. A turn is an epoch."""
    import os

    import torch.distributed as dist

    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
    from moodscale.recipes.clips import ClipLoader, examples_of
    from moodscale.tracking.console import Progress
    from moodscale.tracking.journal import JournalWriter
    from moodscale.train import loop
    from moodscale.train.checkpoint import CheckpointStore
    from moodscale.train.config import OptimConfig, TrainConfig
    from moodscale.train.engine import Engine
    from moodscale.train.stream import LocalStream, RayStream

    dist.init_process_group("gloo", rank=0, world_size=1)
    recipe = training.recipe()
    config = TrainConfig.model_validate(
        {
            "use_gpu": False,
            "effective_batch": EFFECTIVE_BATCH,
            "micro_batch": training.micro_batch,
            "phases": [{"schedule": "constant", "epochs": turns}],
            "engine": {"precision": "fp32", "zero_stage": 2},
        }
    )
    optim = OptimConfig(lr=LEARNING_RATE)
    loader = ClipLoader(training.corpus.roots, recipe.features())
    stream: Any
    if training.stream == "ray":
        start_ray()
        stream = RayStream(loader, cpus=1.0, prefetch_batches=config.prefetch_batches)
    else:
        stream = LocalStream(loader)
    directory = training.scratch / f"ours-{training.stream}"
    shutil.rmtree(directory, ignore_errors=True)
    progress = Progress(every_s=5.0)

    def on_step(step: int, total: int, metrics: dict[str, float]) -> None:
        progress(step, total, metrics)
        laps.step(metrics["train/loss"])

    job = loop.Job(
        recipe=recipe,
        train=config,
        optim=optim,
        seed=SEED,
        train_examples=examples_of(training.corpus.clips),
        validation_examples=examples_of(training.corpus.clips.slice(0, 0)),
        stream=stream,
        store=CheckpointStore(directory / "checkpoints", config.checkpoints.keep, config.checkpoints.metric),
        recorder=JournalWriter(directory / "journal.jsonl"),
        on_step=on_step,
    )
    engine = Engine(recipe.build_model(torch.float32), config, optim)
    laps.ready()
    loop.run(job, engine)
    dist.destroy_process_group()


def trainer_script(laps: Laps, turns: int, training: Training) -> None:
    """What a script would do with the paper's settings: stock classes, 30 s padding, checkpointing, 1 × 8.

    One thing is not stock: the loss. Trainer divides each micro-batch's mean by the number of micro-batches, which
    is another loss than the mean over the step's scored tokens; ``compute_loss_func`` gets the latter.
    """
    from transformers import (
        AutoProcessor,
        Qwen2AudioForConditionalGeneration,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from moodscale.models.lora import attach
    from moodscale.prepare.audio import read_clip
    from moodscale.recipes.qwen2_audio.recipe import IGNORED

    recipe = training.recipe()
    processor = AutoProcessor.from_pretrained(str(training.checkpoint))
    model = Qwen2AudioForConditionalGeneration.from_pretrained(str(training.checkpoint), dtype=torch.float32)
    torch.manual_seed(recipe.config.model.init_seed + 1)
    model = attach(model, recipe.config.lora)
    prompt = processor.apply_chat_template(recipe.conversation(None), tokenize=False, add_generation_prompt=True)

    rows = [row for batch in planned_batches(training.corpus, turns) for row in batch]

    class Clips(torch.utils.data.Dataset[dict[str, Any]]):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, Any]:
            row = rows[index]
            return {"audio": read_clip(training.corpus.roots, row), "answer": recipe.config.answers[row["depressed"]]}

    def collate(examples: list[dict[str, Any]]) -> Any:
        texts = [prompt + example["answer"] + "<|im_end|>" for example in examples]
        inputs = processor(
            text=texts,
            audio=[example["audio"] for example in examples],
            sampling_rate=16_000,
            padding=True,
            return_tensors="pt",
        )
        labels = torch.full_like(inputs["input_ids"], IGNORED)
        for index, example in enumerate(examples):
            answer = processor.tokenizer(example["answer"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
            labels[index, -len(answer) :] = inputs["input_ids"][index, -len(answer) :]
        return {**inputs, "labels": labels}

    shares: list[float] = []

    def token_mean(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"][:, :-1].float()
        total = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        loss = total / num_items_in_batch
        shares.append(loss.item())
        return loss

    class TakeTurns(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            laps.step(sum(shares))
            shares.clear()

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(training.scratch / "trainer"),
            per_device_train_batch_size=1,
            gradient_accumulation_steps=EFFECTIVE_BATCH,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            max_grad_norm=1.0,
            num_train_epochs=1,
            train_sampling_strategy="sequential",
            use_cpu=True,
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            dataloader_pin_memory=False,
        ),
        train_dataset=Clips(),
        data_collator=collate,
        compute_loss_func=token_mean,
        callbacks=[TakeTurns()],
    )
    laps.ready()
    trainer.train()


def start_ray() -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=512 * 2**20,
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
