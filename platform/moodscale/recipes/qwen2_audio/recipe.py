"""The recipe's examples, model, loss and predictions.

Where the paper is silent the choice is named in the method that makes it. Shape suffixes as in
:mod:`moodscale.models.qwen2_audio`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import DynamicCache, Qwen2AudioProcessor

from moodscale.config import ConfigError
from moodscale.evaluate.selection import selection_metrics
from moodscale.models import qwen2_audio as architecture
from moodscale.models.cost import CostModel, qwen2_audio_cost
from moodscale.models.log_mel import HALO_FRAMES, HOP_SAMPLES, MAX_FRAMES, SAMPLE_RATE_HZ, ClipLogMel, pad_with_silence
from moodscale.models.lora import attach
from moodscale.models.processor import load_processor, special_token_ids
from moodscale.models.qwen2_audio_sizes import num_audio_tokens
from moodscale.models.source import RANDOM
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import Batch, Examples, Row, Score
from moodscale.recipes.clips import ClipLoader, clip_examples, clip_prediction
from moodscale.recipes.qwen2_audio import Qwen2AudioRecipeConfig
from moodscale.schema import Split

IGNORED = -100
DEPRESSED, NOT_DEPRESSED = 1, 0


class Qwen2AudioClassifier(nn.Module):
    """The adapted model as an engine wants it: tensors in, one loss an example out."""

    def __init__(self, model: architecture.ClipQwen2Audio) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, input_features: torch.Tensor, num_frames: torch.Tensor
    ) -> torch.Tensor:
        """Summed negative log-likelihood of each example's answer tokens, ``[B]``, fp32.

        Sequences are padded on the right: under a causal mask no valid position sees padding, so none is passed and
        the fast attention kernels apply. The head runs on the scored positions alone.
        """
        embeds_BSD = self.model.embed(input_ids, input_features, num_frames)
        hidden_BSD = self.model.model.language_model(inputs_embeds=embeds_BSD, use_cache=False).last_hidden_state
        targets_BS = labels[:, 1:]
        scored_BS = targets_BS != IGNORED
        logits_NV = self.model.lm_head(hidden_BSD[:, :-1][scored_BS]).float()
        losses_N = nn.functional.cross_entropy(logits_NV, targets_BS[scored_BS], reduction="none")
        example_N = torch.nonzero(scored_BS)[:, 0]
        return losses_N.new_zeros(len(labels)).index_add(0, example_N, losses_N)


class Qwen2AudioRecipe:
    """Implements :class:`moodscale.recipes.base.Recipe`."""

    unit = "clip"
    target = "depressed"

    def __init__(self, config: Qwen2AudioRecipeConfig) -> None:
        self.config = config

    @cached_property
    def processor(self) -> Any:
        texts = [self.config.system_prompt, self.config.question, *self.config.answers, " " + self.config.answers[1]]
        chat = ["system\n", "user\nAudio 1: ", "assistant\n"]
        return load_processor(self.config.model, self.config.sizes.num_mel_bins, texts + chat)

    def examples(
        self, manifest: Manifest, split: Split | str | None, reader: str = "", labels: pa.Table | None = None
    ) -> Examples:
        if split is None or labels is not None:
            raise ConfigError(
                "recipe.kind=qwen2_audio learns from the manifest's own labels and scores labelled people: pseudo-"
                "labels need a recipe that reads transcripts, such as transcript_severity"
            )
        return clip_examples(manifest, split, reader)

    def loader(self, manifest: Manifest, cache: str | None = None) -> ClipLoader:
        return ClipLoader(manifest.roots, self.features(), cache)

    def features(self) -> ClipLogMel:
        """Waveform → log-mel, as a registered model needs it too."""
        return ClipLogMel(self.processor.feature_extractor)

    def conversation(self, answer: str | None) -> list[dict[str, Any]]:
        """The paper's template (appendix)."""
        turns: list[dict[str, Any]] = [
            {"role": "system", "content": self.config.system_prompt},
            {
                "role": "user",
                "content": [{"type": "audio", "audio_url": "clip"}, {"type": "text", "text": self.config.question}],
            },
        ]
        return turns if answer is None else [*turns, {"role": "assistant", "content": answer}]

    def prompt_ids(self, num_frames: int) -> list[int]:
        """Token ids up to and with the assistant's header, the audio token repeated for the clip's length."""
        num_tokens = num_audio_tokens(num_frames)
        if num_tokens not in self._prompts:
            self._prompts[num_tokens] = self._tokenize_prompt(num_tokens)
        return self._prompts[num_tokens]

    @cached_property
    def _prompts(self) -> dict[int, list[int]]:
        """Prompts by their number of audio tokens: most clips have the same, and a template costs a millisecond."""
        return {}

    def _tokenize_prompt(self, num_audio_tokens: int) -> list[int]:
        text = self.processor.apply_chat_template(self.conversation(None), tokenize=False, add_generation_prompt=True)
        audio = self.processor.audio_token
        text = text.replace(audio, audio * num_audio_tokens)
        return cast("list[int]", self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def answer_ids(self) -> tuple[list[int], list[int]]:
        """Token ids of the two answers with the end-of-turn token, indexed by label (0, 1)."""
        tokenizer = self.processor.tokenizer
        end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        negative, positive = (
            [*tokenizer(answer, add_special_tokens=False)["input_ids"], end] for answer in self.config.answers
        )
        return negative, positive

    def num_targets(self, row: Row) -> int:
        return len(self.answer_ids[int(row["depressed"])])

    def collate(self, rows: Sequence[Row], features: Sequence[np.ndarray[Any, Any]]) -> Batch:
        batch = self._audio(features)
        prompts = [self.prompt_ids(int(frames)) for frames in batch["num_frames"]]
        answers = [self.answer_ids[int(row["depressed"])] for row in rows]
        longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
        ids = torch.full((len(rows), longest), self.processor.tokenizer.pad_token_id)
        labels = torch.full((len(rows), longest), IGNORED)
        for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            stop = len(prompt) + len(answer)
            ids[index, :stop] = torch.tensor(prompt + answer)
            labels[index, len(prompt) : stop] = torch.tensor(answer)
        return {**batch, "input_ids": ids, "labels": labels}

    def collate_prompts(self, features: Sequence[np.ndarray[Any, Any]]) -> Batch:
        """Padded on the left, so that every answer continues from the last position."""
        batch = self._audio(features)
        prompts = [self.prompt_ids(int(frames)) for frames in batch["num_frames"]]
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), self.processor.tokenizer.pad_token_id)
        mask = torch.zeros((len(prompts), longest), dtype=torch.long)
        for index, prompt in enumerate(prompts):
            ids[index, longest - len(prompt) :] = torch.tensor(prompt)
            mask[index, longest - len(prompt) :] = 1
        return {**batch, "input_ids": ids, "attention_mask": mask}

    def _audio(self, features: Sequence[np.ndarray[Any, Any]]) -> Batch:
        frames = [min(mel.shape[1], MAX_FRAMES) - HALO_FRAMES for mel in features]
        longest = MAX_FRAMES if self.config.pad_to_30_s else max(mel.shape[1] for mel in features)
        return {
            "input_features": torch.from_numpy(np.stack([pad_with_silence(mel, longest) for mel in features])),
            "num_frames": torch.tensor(frames, dtype=torch.long),
        }

    def build_model(self, dtype: torch.dtype, gradient_checkpointing: bool = False) -> nn.Module:
        config = self.config
        ids = special_token_ids(self.processor)
        if config.model.is_random and len(self.processor.tokenizer) > config.sizes.vocab_size:
            raise ConfigError(
                f"recipe.sizes.vocab_size={config.sizes.vocab_size} is smaller than the tokenizer's "
                f"{len(self.processor.tokenizer)} tokens; raise it"
            )
        base = architecture.load(config.model, config.sizes, dtype, ids, config.attention)
        if config.fused_kernels:
            architecture.fuse_kernels(base)
        with torch.random.fork_rng(devices=[]):
            # Every rank must draw the same adapter: DeepSpeed broadcasts it, a plain process has nobody to ask.
            torch.manual_seed(config.model.init_seed + 1)
            adapted = cast(architecture.ClipQwen2Audio, attach(base, config.lora))
        if gradient_checkpointing:
            adapted.gradient_checkpointing_enable({"use_reentrant": False})
        return Qwen2AudioClassifier(adapted)

    def build_meta(self) -> nn.Module:
        base = architecture.load_meta(self.config.model, self.config.sizes)
        return Qwen2AudioClassifier(cast(architecture.ClipQwen2Audio, attach(base, self.config.lora)))

    @torch.inference_mode()
    def predict(self, model: nn.Module, batch: Batch) -> list[Score]:
        """P(depressed) = softmax over the two answers' full-sequence log-likelihoods.

        The answers have different token counts, so the length-normalised variant is kept too. The prompt with its
        audio runs once; both answers and the greedy text continue from its cache.
        """
        inner = cast(Qwen2AudioClassifier, model).model
        embeds_BSD = inner.embed(batch["input_ids"], batch["input_features"], batch["num_frames"])
        session = _Continuation(inner, embeds_BSD, batch["attention_mask"])
        likelihoods, normalised = [], []
        for answer in self.answer_ids:
            total_B = session.log_likelihood(answer)
            likelihoods.append(total_B)
            normalised.append(total_B / len(answer))
        full_B = torch.stack(likelihoods).softmax(0)[DEPRESSED]
        normalised_B = torch.stack(normalised).softmax(0)[DEPRESSED]
        texts = session.greedy(self.config.greedy_tokens) if self.config.greedy_tokens else [None] * len(full_B)
        return [
            Score(float(full), float(short), None if ids is None else self._parse(ids))
            for full, short, ids in zip(full_B, normalised_B, texts, strict=True)
        ]

    def _parse(self, ids: list[int]) -> str:
        """The class a greedy answer names, and nothing else of its text."""
        end = self.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
        kept = ids[: ids.index(end)] if end in ids else ids
        text = self.processor.tokenizer.decode(kept, skip_special_tokens=True).strip().strip('."').lower()
        negative, positive = (answer.lower() for answer in self.config.answers)
        return {negative: "not_depressed", positive: "depressed"}.get(text, "unparsable")

    def predictions(self, row: Row, score: Score) -> list[dict[str, Any]]:
        return [clip_prediction(row, score)]

    def selection(self, table: pa.Table) -> dict[str, float]:
        return selection_metrics(table)

    def cost(self) -> CostModel:
        """Arithmetic alone. Nothing is fetched for a hub id: a tokenizer of the prompt's own words counts tokens."""
        config = self.config
        is_here = config.model.is_random or config.model.is_local
        local = config.model.model_copy(update={"source": RANDOM})
        wording = self if is_here else Qwen2AudioRecipe(config.model_copy(update={"model": local}))
        clip_frames = round(config.clip_s * SAMPLE_RATE_HZ) // HOP_SAMPLES
        audio_tokens = num_audio_tokens(clip_frames)
        prompt_text = len(wording.prompt_ids(clip_frames)) - audio_tokens
        answer = max(map(len, wording.answer_ids))
        return qwen2_audio_cost(
            config.sizes,
            config.lora.r,
            encoder_frames=MAX_FRAMES if config.pad_to_30_s else clip_frames,
            audio_tokens=audio_tokens,
            text_tokens=prompt_text + answer,
            scored_tokens=answer,
            lora_dropout=config.lora.dropout,
            fused_attention=config.attention != "eager",
        )

    def base_reference(self) -> dict[str, Any]:
        return {**self.config.model.to_json(), "sizes": self.config.sizes.to_json()}

    def save_assets(self, directory: Path) -> None:
        self.processor.save_pretrained(str(directory))

    def load_assets(self, directory: Path) -> None:
        # Over the cached property: an instance that has its processor never asks the source for one.
        self._prompts.clear()
        self.__dict__["processor"] = Qwen2AudioProcessor.from_pretrained(str(directory))


class _Continuation:
    """Several continuations of one prompt, which is computed once."""

    def __init__(self, model: architecture.ClipQwen2Audio, embeds_BSD: torch.Tensor, mask_BS: torch.Tensor) -> None:
        self.model = model
        self.mask_BS = mask_BS
        self.cache = DynamicCache(config=model.config.text_config)
        self.length = embeds_BSD.shape[1]
        positions_BS = (mask_BS.cumsum(-1) - 1).clamp(min=0)
        self.next_B1 = positions_BS[:, -1:] + 1
        hidden = model.model.language_model(
            inputs_embeds=embeds_BSD,
            attention_mask=mask_BS,
            position_ids=positions_BS,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        self.first_logits_BV = model.lm_head(hidden[:, -1]).float()

    def log_likelihood(self, answer: Sequence[int]) -> torch.Tensor:
        """log P(answer | prompt), ``[B]``."""
        ids_BK = torch.tensor(answer, device=self.mask_BS.device).expand(len(self.mask_BS), -1)
        total_B: torch.Tensor = self.first_logits_BV.log_softmax(-1)[:, answer[0]]
        if len(answer) > 1:
            logits_BKV = self._extend(ids_BK[:, :-1], 0)
            chosen = logits_BKV.log_softmax(-1).gather(-1, ids_BK[:, 1:, None])[..., 0]
            total_B = total_B + chosen.sum(-1)
        self._rewind()
        return total_B

    def greedy(self, num_tokens: int) -> list[list[int]]:
        """The most likely continuation, always ``num_tokens`` long (ranks must make equally many calls)."""
        chosen = [self.first_logits_BV.argmax(-1)]
        for step in range(num_tokens - 1):
            chosen.append(self._extend(chosen[-1][:, None], step)[:, -1].argmax(-1))
        self._rewind()
        return cast("list[list[int]]", torch.stack(chosen, dim=1).tolist())

    def _rewind(self) -> None:
        added = self.cache.get_seq_length() - self.length
        if added:
            self.cache.crop(-added)

    def _extend(self, ids_BK: torch.Tensor, offset: int) -> torch.Tensor:
        steps = torch.arange(ids_BK.shape[1], device=ids_BK.device) + offset
        seen = offset + ids_BK.shape[1]
        mask = torch.cat([self.mask_BS, self.mask_BS.new_ones(len(self.mask_BS), seen)], dim=1)
        hidden = self.model.model.language_model(
            inputs_embeds=self.model.get_input_embeddings()(ids_BK),
            attention_mask=mask,
            position_ids=self.next_B1 + steps,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        logits: torch.Tensor = self.model.lm_head(hidden).float()
        return logits
