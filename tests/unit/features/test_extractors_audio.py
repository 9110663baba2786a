"""Audio extractors: the models' own values, the same in any batch, and keys that name what decides them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from moodscale.config import ConfigError, validate
from moodscale.features.audio import decode_window
from moodscale.features.config import ExtractConfig
from moodscale.features.extractors.log_mel import LogMel, LogMelConfig
from moodscale.features.extractors.transformers_audio import (
    PIECE_FRAMES,
    TransformersAudio,
    TransformersAudioConfig,
    hash_weights,
)
from moodscale.features.plan import Windowing
from moodscale.features.sources import read_sources
from moodscale.schema import Split
from tiny_features import HUBERT, TinyManifest, noise, tiny_hubert

FAMILIES = {"hubert": (HubertConfig, HubertModel), "wavlm": (WavLMConfig, WavLMModel)}
FAMILIES["wav2vec2"] = (Wav2Vec2Config, Wav2Vec2Model)
TOLERANCE = 2e-5
LENGTHS = (16_000, 9_000, 16_000, 12_345)


def build(family: str, norm: str) -> Any:
    config_class, model_class = FAMILIES[family]
    torch.manual_seed(0)
    return model_class(config_class(**HUBERT, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer")).eval()


def extractor(model: Any, normalise: bool = True, **settings: Any) -> TransformersAudio:
    return TransformersAudio(model, Wav2Vec2FeatureExtractor(do_normalize=normalise), **settings)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_window_has_the_same_features_in_a_batch_as_alone(family: str, norm: str) -> None:
    model = build(family, norm)
    waveforms = [noise(length, seed) for seed, length in enumerate(LENGTHS)]
    together = extractor(model, batch=True).extract(waveforms)
    alone = extractor(model).extract(waveforms)
    for one, other, length in zip(together, alone, LENGTHS, strict=True):
        assert one.shape == other.shape == (model._get_feat_extract_output_lengths(length), 16)
        np.testing.assert_allclose(one, other, atol=TOLERANCE)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_padding_a_group_norm_model_would_change_its_features_so_it_is_never_padded(family: str) -> None:
    model = build(family, "group")
    careful = extractor(model, batch=True)
    waveforms = [noise(length, seed) for seed, length in enumerate(LENGTHS)]
    alone = careful.extract([waveforms[1]])[0]
    careful.pads = True
    padded = careful.extract(waveforms)[1]
    assert np.abs(padded - alone).max() > 100 * TOLERANCE


@pytest.mark.parametrize("normalise", [True, False])
def test_normalising_is_left_to_the_models_own_extractor(normalise: bool) -> None:
    model = build("hubert", "layer")
    waveform = noise(16_000) + np.float32(0.2)
    given = Wav2Vec2FeatureExtractor(do_normalize=normalise)(waveform, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        expected = model(given.input_values).last_hidden_state[0].numpy()
    np.testing.assert_allclose(extractor(model, normalise).extract([waveform])[0], expected, atol=TOLERANCE)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("num_samples", [400, 64_079, 64_080, 64_400, 200_000])
def test_a_long_window_convolved_in_pieces_is_the_one_convolved_whole(family: str, num_samples: int) -> None:
    assert PIECE_FRAMES * 320 + 80 == 64_080, "the lengths lie around a piece's edge"
    model = build(family, "layer")
    waveform = noise(num_samples)
    with torch.no_grad():
        expected = model(torch.from_numpy(waveform)[None]).last_hidden_state[0].numpy()
    found = extractor(model, normalise=False).extract([waveform])[0]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("layer", [0, 1, 2, (1.0, 0.0, 3.0)])
def test_a_layer_is_a_hidden_state_or_a_weighted_mean_of_them(layer: Any) -> None:
    model = build("wavlm", "layer")
    waveform = noise(8_000)
    with torch.no_grad():
        states = model(torch.from_numpy(waveform)[None], output_hidden_states=True).hidden_states
    expected = (states[0] + 3 * states[2]) / 4 if isinstance(layer, tuple) else states[layer]
    found = extractor(model, normalise=False, layer=layer).extract([waveform])[0]
    np.testing.assert_allclose(found, expected[0].numpy(), atol=TOLERANCE)


@pytest.mark.parametrize("layer", [3, (1.0, 1.0)])
def test_a_layer_that_the_model_lacks_is_refused_with_what_it_has(layer: Any) -> None:
    with pytest.raises(ConfigError, match=r"features\.extractors\.layer.*hidden states"):
        extractor(build("hubert", "layer"), layer=layer)


def test_a_window_too_short_for_a_frame_has_none() -> None:
    for features in (
        extractor(build("hubert", "group")).extract([noise(100), noise(4_000)]),
        LogMel(80, True).extract([noise(100)]),
    ):
        assert features[0].shape[0] == 0


def test_whisper_hears_thirty_seconds_and_gives_frames_for_the_window_alone() -> None:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    sizes |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 64}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    model = WhisperModel(WhisperConfig(**sizes, **ids)).eval()
    own = WhisperFeatureExtractor()
    waveforms = [noise(32_000), noise(20_001, 1)]
    found = TransformersAudio(model, own, batch=True).extract(waveforms)
    inputs = own(waveforms, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = model.encoder(inputs).last_hidden_state.numpy()
    assert [len(one) for one in found] == [100, 63]
    np.testing.assert_allclose(found[1], expected[1, :63], atol=TOLERANCE)
    config = validate(TransformersAudioConfig, tiny_hubert(architecture="whisper", sizes=sizes))
    with pytest.raises(ConfigError, match=r"window_s.*30 s"):
        config.check_windows(Windowing.of(30.0, 1.0))


def test_log_mel_is_whispers_own() -> None:
    waveform = noise(30 * 16_000)
    expected = WhisperFeatureExtractor()(waveform, sampling_rate=16_000, return_tensors="np").input_features[0]
    np.testing.assert_allclose(LogMel(80, clamp=True).extract([waveform])[0], expected.T, atol=1e-4)


def test_log_mel_frames_of_windows_are_those_of_the_whole_recording(manifest: TinyManifest) -> None:
    manifest.add(5.3)
    recording = read_sources(manifest, [Split.TRAIN]).recordings[0]
    engine_windows = Windowing.of(2.0, 0.4).windows(recording)
    mel = LogMel(80, clamp=False)
    whole_window = Windowing.of(60.0, 0.04).windows(recording)[0]
    whole = mel.extract([decode_window(manifest.roots, whole_window)])[0]
    for window in engine_windows:
        frames = mel.extract([decode_window(manifest.roots, window)])[0]
        first = (window.start - window.input_start) // 160
        core = frames[first : first + (window.stop - window.start) // 160]
        start = window.start // 160
        np.testing.assert_allclose(core, whole[start : start + len(core)], atol=1e-4)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100])
def test_a_window_of_a_recording_at_another_rate_is_that_of_the_resampled_whole(
    manifest: TinyManifest, rate_hz: int
) -> None:
    manifest.add(5.3, rate_hz=rate_hz)
    recording = read_sources(manifest, [Split.TRAIN]).recordings[0]
    whole = decode_window(manifest.roots, Windowing.of(60.0, 0.04).windows(recording)[0])
    for window in Windowing.of(2.0, 0.4).windows(recording):
        own = decode_window(manifest.roots, window)
        assert len(own) == window.num_input_samples
        np.testing.assert_allclose(own, whole[window.input_start : window.input_stop], atol=2e-3)


def key(**changes: Any) -> str:
    from moodscale.features.extractors.base import key_of

    return key_of(validate(TransformersAudioConfig, tiny_hubert(**changes)).identity())


def test_whatever_decides_a_value_changes_the_key() -> None:
    base = key()
    assert base == key()
    changed = [
        key(layer=1),
        key(layer=[1.0, 0.0, 1.0]),
        key(dtype="bfloat16"),
        key(model={"source": "random", "init_seed": 1}),
    ]
    changed += [key(sizes={**HUBERT, "feat_extract_norm": "group"}), key(architecture="wavlm")]
    assert len({base, *changed}) == 1 + len(changed)
    assert validate(LogMelConfig, {"clamp": False}).identity() != validate(LogMelConfig, {}).identity()


def test_a_local_models_key_is_its_weights_and_not_where_they_lie(tmp_path: Path) -> None:
    model = build("hubert", "layer")
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name)
        Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / name)
    configs = [
        validate(TransformersAudioConfig, {"model": {"source": str(tmp_path / name)}}) for name in ("one", "two")
    ]
    first, second = (config.identity() for config in configs)
    assert first == second
    loaded = configs[0].load("cpu", first).extract([noise(8_000)])[0]
    np.testing.assert_allclose(loaded, extractor(model).extract([noise(8_000)])[0], atol=TOLERANCE)

    weights = tmp_path / "two" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert configs[1].identity() != first
    with pytest.raises(ConfigError, match="other weights here"):
        configs[1].load("cpu", first)


def test_weights_in_a_pickle_are_refused(tmp_path: Path) -> None:
    build("hubert", "layer").config.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match="safetensors"):
        hash_weights(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {"source": "facebook/hubert-base-ls960", "revision": "main"}}, "name the commit"),
        ({"model": {"source": "random"}}, "architecture"),
        ({"model": {"source": "random"}, "architecture": "../x"}, "architecture"),
        ({"model": {"source": "/models/hubert"}, "architecture": "hubert"}, "architecture"),
        (tiny_hubert(layer=-1), "layer"),
        (tiny_hubert(layer=[0.0, 0.0]), "layer"),
        (tiny_hubert(trust_remote_code=True), "trust_remote_code"),
    ],
)
def test_settings_that_could_not_be_repeated_or_run_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(ExtractConfig, {"extractors": [{"kind": "transformers_audio", **settings}]})


def test_a_model_that_hears_no_waveforms_is_refused_by_name() -> None:
    config = validate(TransformersAudioConfig, tiny_hubert(architecture="bert", sizes={"hidden_size": 12}))
    with pytest.raises(ConfigError, match="bert"):
        config.load("cpu", config.identity())


def test_sizes_that_no_model_has_are_refused() -> None:
    config = validate(TransformersAudioConfig, tiny_hubert(sizes={**HUBERT, "num_attention_heads": 3}))
    with pytest.raises(ConfigError, match="hubert of these sizes"):
        config.load("cpu", config.identity())
