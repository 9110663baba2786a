"""The encoder on a clip's own length equals the padded one; the full size has the paper's parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from moodscale.models import qwen2_audio as architecture
from moodscale.models.log_mel import HALO_FRAMES, MAX_FRAMES, ClipLogMel, pad_with_silence
from moodscale.models.lora import LoraSettings, attach
from moodscale.models.qwen2_audio import ClipQwen2Audio
from moodscale.models.qwen2_audio_sizes import Qwen2AudioSizes, num_audio_tokens
from moodscale.models.source import ModelSource
from moodscale.recipes.qwen2_audio import TARGETS
from tiny import recipe_config

SIZES = Qwen2AudioSizes(
    audio_layers=3,
    audio_width=64,
    audio_heads=4,
    audio_ffn=128,
    text_layers=1,
    text_width=48,
    text_heads=4,
    text_kv_heads=2,
    text_ffn=64,
    vocab_size=300,
    num_mel_bins=32,
    init_std=0.125,
)
RANDOM = ModelSource(source="random")
AUDIO_TOKEN = {"audio_token_index": 299}


@pytest.fixture(scope="module")
def extractor() -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=32, sampling_rate=16_000, chunk_length=30)


@pytest.fixture(scope="module")
def model() -> ClipQwen2Audio:
    return architecture.load(RANDOM, SIZES, torch.float32, AUDIO_TOKEN, "sdpa").eval()


def waveform(num_samples: int, seed: int = 0) -> np.ndarray:
    """Noise whose loudness swells, so that no two frames are alike."""
    rng = np.random.default_rng([seed, num_samples])
    swell = 0.02 + 0.2 * np.abs(np.sin(np.linspace(0, 9, num_samples)))
    return (rng.normal(size=num_samples) * swell).astype(np.float32)


def padded_mel(extractor: WhisperFeatureExtractor, sound: np.ndarray) -> torch.Tensor:
    """The published input: the log-mel of the clip behind which silence fills 30 s."""
    mel = extractor(sound, sampling_rate=16_000, padding="max_length", return_tensors="np").input_features[0]
    assert mel.shape[-1] == MAX_FRAMES
    return torch.from_numpy(mel)


def published_encoding(model: ClipQwen2Audio, mels: torch.Tensor, num_frames: list[int]) -> torch.Tensor:
    """transformers' own encoder with the same weights on 30 s, with the mask that its own model gives it."""
    tower = model.model.audio_tower
    stock = Qwen2AudioEncoder(tower.config).eval()
    stock.load_state_dict(tower.state_dict())
    valid_B = torch.tensor([architecture.num_encoder_positions(frames) for frames in num_frames])
    padding_BT = torch.arange(MAX_FRAMES // 2)[None] >= valid_B[:, None]
    mask = torch.zeros(len(mels), 1, MAX_FRAMES // 2, MAX_FRAMES // 2)
    mask.masked_fill_(padding_BT[:, None, None, :], float("-inf"))
    encoded: torch.Tensor = stock(mels, attention_mask=mask).last_hidden_state
    return encoded


@torch.no_grad()
def trimmed_encoding(
    model: ClipQwen2Audio, transform: ClipLogMel, sounds: list[np.ndarray], num_frames: list[int]
) -> torch.Tensor:
    """The encoder as the recipe runs it: on the batch's longest clip and the halo behind it."""
    mels = [transform(sound) for sound in sounds]
    longest = max(mel.shape[1] for mel in mels)
    features = torch.from_numpy(np.stack([pad_with_silence(mel, longest) for mel in mels]))
    identity = nn.Identity()
    projector, model.model.multi_modal_projector = model.model.multi_modal_projector, identity
    try:
        return model.encode(features, torch.tensor(num_frames))
    finally:
        model.model.multi_modal_projector = projector


@torch.no_grad()
def compare(model: ClipQwen2Audio, extractor: WhisperFeatureExtractor, frame_counts: list[int]) -> None:
    sounds = [waveform(frames * 160, seed) for seed, frames in enumerate(frame_counts)]
    # A clip of 30 s fills the padded encoder; a halo behind it does not exist.
    num_frames = [min(frames, MAX_FRAMES - HALO_FRAMES) for frames in frame_counts]
    expected = published_encoding(model, torch.stack([padded_mel(extractor, sound) for sound in sounds]), num_frames)
    found = trimmed_encoding(model, ClipLogMel(extractor), sounds, num_frames)
    for row, frames in enumerate(num_frames):
        tokens = num_audio_tokens(frames)
        assert found.shape[1] >= tokens > 0
        torch.testing.assert_close(found[row, :tokens], expected[row, :tokens], rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_frames", [1000, 999, 1001, 998, 400, 37, 4, 3])
def test_a_clip_on_its_own_length_gives_the_padded_encoders_frames(
    model: ClipQwen2Audio, extractor: WhisperFeatureExtractor, num_frames: int
) -> None:
    compare(model, extractor, [num_frames])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_clips_of_mixed_lengths_in_one_batch_give_the_padded_encoders_frames(
    extractor: WhisperFeatureExtractor, attention: str
) -> None:
    model = architecture.load(RANDOM, SIZES, torch.float32, AUDIO_TOKEN, attention).eval()
    compare(model, extractor, [1000, 313, 999, 1001, 40])


@pytest.mark.parametrize("num_frames", [2996, 2997, 2998, 3000])
def test_clips_that_nearly_fill_30_s_do_not_run_over_it(
    model: ClipQwen2Audio, extractor: WhisperFeatureExtractor, num_frames: int
) -> None:
    compare(model, extractor, [num_frames, 1000])


@torch.no_grad()
def test_without_the_halo_the_last_frame_would_differ(
    model: ClipQwen2Audio, extractor: WhisperFeatureExtractor
) -> None:
    """Why the halo is there: were it superfluous, the equalities above would not show that it works."""
    tower, mel = model.model.audio_tower, padded_mel(extractor, waveform(160_000))[None]
    with_halo = tower.convolve(mel[..., : 1000 + HALO_FRAMES])
    cut_off = torch.cat([mel[..., :1000], torch.zeros_like(mel[..., :HALO_FRAMES])], dim=-1)
    without = tower.convolve(cut_off)
    torch.testing.assert_close(with_halo[:, :499], without[:, :499], rtol=0, atol=1e-6)
    assert (with_halo[:, 499] - without[:, 499]).abs().max() > 1e-3


@torch.no_grad()
def test_the_layers_run_on_the_clips_positions_alone(model: ClipQwen2Audio, extractor: WhisperFeatureExtractor) -> None:
    seen: list[int] = []
    hook = model.model.audio_tower.layers[0].register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0].shape[1])
    )
    mel = padded_mel(extractor, waveform(160_000))[None]
    model.encode(mel[..., :1002], torch.tensor([1000]))
    model.encode(mel, torch.tensor([1000]))
    hook.remove()
    assert seen == [500, 1500]


def test_more_than_30_s_are_refused(model: ClipQwen2Audio) -> None:
    with pytest.raises(ValueError, match=r"3002 mel frames.*3000"):
        model.model.audio_tower(torch.zeros(1, 32, 3002))


@pytest.mark.parametrize(("num_frames", "tokens"), [(1000, 250), (999, 250), (997, 249), (3000, 750), (3, 1)])
def test_a_clips_audio_tokens_are_the_published_count(num_frames: int, tokens: int) -> None:
    assert num_audio_tokens(num_frames) == tokens


@torch.no_grad()
def test_audio_takes_the_place_of_the_audio_tokens_and_of_nothing_else(model: ClipQwen2Audio) -> None:
    frames = torch.tensor([40, 20])
    features = torch.randn(2, 32, 42)
    ids = torch.randint(0, 299, (2, 14))
    ids[0, 2:12] = 299
    ids[1, 1:6] = 299
    embedded = model.embed(ids, features, frames)
    audio = model.encode(features, frames)
    torch.testing.assert_close(embedded[0, 2:12], audio[0, :10])
    torch.testing.assert_close(embedded[1, 1:6], audio[1, :5])
    text = ids != 299
    torch.testing.assert_close(embedded[text], model.get_input_embeddings()(ids)[text])


def test_random_weights_follow_their_seed_and_leave_the_callers_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, same = (architecture.load(RANDOM, SIZES, torch.float32, AUDIO_TOKEN, "sdpa") for _ in range(2))
    other = architecture.load(ModelSource(source="random", init_seed=1), SIZES, torch.float32, AUDIO_TOKEN, "sdpa")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


def counts(model: nn.Module) -> tuple[int, int]:
    """(trainable, all)."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def test_the_full_size_has_exactly_the_papers_parameters() -> None:
    model = architecture.load_meta(RANDOM, Qwen2AudioSizes())
    assert counts(attach(model, LoraSettings(targets=TARGETS))) == (27_210_752, 8_424_305_664)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_without_the_head_it_would_have_what_pefts_all_linear_gives() -> None:
    model = architecture.load_meta(RANDOM, Qwen2AudioSizes())
    without_head = attach(model, LoraSettings(targets=tuple(target for target in TARGETS if target != "lm_head")))
    assert counts(without_head)[0] == 25_929_728


def test_every_linear_of_the_architecture_is_adapted() -> None:
    model = architecture.load_meta(RANDOM, SIZES)
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    adapted = attach(model, LoraSettings(targets=TARGETS))
    found = {name.removesuffix(".lora_A") for name, _ in adapted.named_modules() if name.endswith(".lora_A")}
    assert found == linear


def test_fused_kernels_without_a_cuda_device_leave_the_stock_modules_and_say_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plain = recipe_config().build().build_model(torch.float32)
    with caplog.at_level("WARNING", logger="moodscale"):
        fused = recipe_config(fused_kernels=True).build().build_model(torch.float32)
    assert "needs a CUDA device" in caplog.text
    assert [type(module) for module in fused.modules()] == [type(module) for module in plain.modules()]
