"""The registered model as its users call it: what it takes, answers, refuses, and never quotes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from mlflow.exceptions import MlflowException

from moodscale.config import ConfigError
from moodscale.evaluate.units import apply_temperature
from moodscale.registry.recordings import read_request
from moodscale.registry.versions import Registered
from tiny_registry import CLIP_S, POINT, Trained, load, stored_model

CANARY = 0.123456789


def speech(duration_s: float, rate_hz: int = 16_000, seed: int = 0) -> np.ndarray[Any, Any]:
    noise = np.random.default_rng(seed).normal(size=round(duration_s * rate_hz))
    return (noise * 0.1).astype(np.float32)


def ask(waveform: Any, rate_hz: Any = 16_000) -> pd.DataFrame:
    return pd.DataFrame({"waveform": [waveform], "sample_rate_hz": [rate_hz]})


def test_a_wav_file_and_its_samples_give_the_same_answer(model: Any, tmp_path: Path) -> None:
    samples = speech(CLIP_S)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    by_path = model.predict(pd.DataFrame({"path": [str(tmp_path / "a.wav")]}))
    by_samples = model.predict(ask(samples))
    assert list(by_path.columns) == ["probability", "depressed", "score", "num_clips", "model_version"]
    assert by_path["score"][0] == pytest.approx(by_samples["score"][0], abs=1e-6)
    assert by_path["num_clips"][0] == 1


def test_a_longer_recording_is_the_mean_of_its_calibrated_clips(model: Any, trained: Trained) -> None:
    samples = speech(3 * CLIP_S + 1.0)
    length = round(CLIP_S * 16_000)
    clips = [samples[start : start + length] for start in range(0, 3 * length, length)]
    single = model.predict(pd.DataFrame({"waveform": clips, "sample_rate_hz": 16_000}))
    whole = model.predict(ask(samples))
    assert whole["num_clips"][0] == 3
    assert whole["score"][0] == pytest.approx(single["score"].mean(), abs=1e-6)
    calibrated = apply_temperature(single["score"].to_numpy(), POINT.temperature)
    np.testing.assert_allclose(single["probability"], calibrated)
    assert whole["probability"][0] == pytest.approx(calibrated.mean(), abs=1e-6)
    assert abs(calibrated.mean() - whole["score"][0]) > 0.01, "the temperature is applied"
    assert whole["model_version"][0] == trained.model_version


def test_single_clips_and_means_have_thresholds_of_their_own(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = model.unwrap_python_model().served.loaded
    monkeypatch.setattr(loaded.recipe, "predict", lambda *_: [_score(0.415)])
    monkeypatch.setattr(loaded, "batch", 1)
    raised = apply_temperature(np.array([0.415]), POINT.temperature)[0]
    assert POINT.clip_threshold < raised < POINT.threshold
    answers = model.predict(pd.DataFrame({"waveform": [speech(CLIP_S), speech(2 * CLIP_S)], "sample_rate_hz": 16_000}))
    assert answers["depressed"].tolist() == [True, False]


def _score(value: float) -> Any:
    from moodscale.recipes.base import Score

    return Score(value)


@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 2), (8_000, 1)])
def test_other_rates_and_channels_are_converted(model: Any, tmp_path: Path, rate_hz: int, channels: int) -> None:
    samples = np.repeat(speech(CLIP_S, rate_hz)[:, None], channels, axis=1)
    soundfile.write(tmp_path / "a.wav", samples, rate_hz, subtype="FLOAT")
    by_path = model.predict(pd.DataFrame({"path": [str(tmp_path / "a.wav")]}))
    by_samples = model.predict(ask(samples[:, 0], rate_hz))
    assert by_path["num_clips"][0] == 1
    assert by_path["score"][0] == pytest.approx(by_samples["score"][0], abs=1e-5)


def test_dictionaries_and_lists_of_them_are_taken_too(model: Any, trained: Trained) -> None:
    path = str(trained.wav())
    frame = model.predict(pd.DataFrame({"path": [path]}))
    assert model.predict({"path": path})["score"][0] == frame["score"][0]
    # Two in a batch are rounded otherwise than one alone, on some processors.
    assert model.predict([{"path": path}, {"path": path}])["score"].tolist() == pytest.approx([frame["score"][0]] * 2)
    one = model.predict({"waveform": speech(CLIP_S), "sample_rate_hz": 16_000})
    assert one["score"][0] == model.predict(ask(speech(CLIP_S)))["score"][0]


def test_answers_keep_the_index_of_the_request(model: Any) -> None:
    rows = pd.DataFrame({"waveform": [speech(CLIP_S)] * 2, "sample_rate_hz": 16_000}, index=["b", "a"])
    assert model.predict(rows).index.tolist() == ["b", "a"]


@pytest.mark.parametrize("request_", ["/a.wav", ["/a.wav", "/b.wav"], np.full(32_000, CANARY, dtype=np.float32)])
def test_a_bare_path_or_array_is_refused_with_how_to_ask(model: Any, request_: Any) -> None:
    with pytest.raises(ValueError, match="with a column 'path'") as caught:
        model.predict(request_)
    assert "0.1234" not in str(caught.value)


def test_a_recording_shorter_than_a_clip_is_refused_and_never_padded(model: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", speech(1.5), 16_000)
    with pytest.raises(ValueError, match=r"row 0 \(short\.wav\): 1\.50 s are shorter than one clip \(2 s\)"):
        model.predict(pd.DataFrame({"path": [str(tmp_path / "short.wav")]}))
    with pytest.raises(ValueError, match=r"row 0: 1\.50 s are shorter"):
        model.predict(ask(speech(1.5)))


def test_the_row_that_is_wrong_is_named(model: Any) -> None:
    rows = pd.DataFrame({"waveform": [speech(CLIP_S), speech(1.0)], "sample_rate_hz": 16_000})
    with pytest.raises(ValueError, match="row 1: "):
        model.predict(rows)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("words.wav", b"not a recording at all", "not a recording"),
        ("empty.wav", b"", "is empty"),
        (
            "huge.wav",
            b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0data\xff\xff\xff\xff",
            "truncated",
        ),
    ],
)
def test_files_that_are_no_recordings_are_refused_by_name(
    model: Any, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        model.predict(pd.DataFrame({"path": [str(tmp_path / name)]}))
    assert name in str(caught.value)
    assert "not a recording at" not in str(caught.value)


def test_a_missing_file_is_named_by_its_row(model: Any) -> None:
    with pytest.raises(ValueError, match=r"row 0 \(gone\.wav\): there is no such file"):
        model.predict(pd.DataFrame({"path": ["/somewhere/gone.wav"]}))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(model: Any, tmp_path: Path, bad: float) -> None:
    samples = speech(CLIP_S)
    samples[::2] = CANARY
    samples[777] = bad
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, subtype="FLOAT")
    for request_ in (ask(samples), pd.DataFrame({"path": [str(tmp_path / "nan.wav")]})):
        with pytest.raises(ValueError, match="samples that are not numbers") as caught:
            model.predict(request_)
        assert "0.1234" not in str(caught.value)


def test_silence_and_undivided_integers_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="digital silence"):
        model.predict(ask(np.zeros(32_000, dtype=np.float32)))
    with pytest.raises(ValueError, match="beyond full scale"):
        model.predict(ask((speech(CLIP_S) * 32_767).astype(np.int16)))


@pytest.mark.parametrize("rate_hz", [0, -16_000, 10**9])
def test_a_rate_that_cannot_be_is_refused(model: Any, rate_hz: int) -> None:
    with pytest.raises(ValueError, match="sample_rate_hz"):
        model.predict(ask(speech(CLIP_S), rate_hz))


def test_a_request_has_one_kind_of_input(model: Any) -> None:
    both = ask(speech(CLIP_S)).assign(path="/a.wav")
    with pytest.raises(ValueError, match="both kind"):
        model.predict(both)
    with pytest.raises(ValueError, match="sample_rate_hz must say the waveform's rate"):
        model.predict(pd.DataFrame({"waveform": [speech(CLIP_S)]}))


def test_what_does_not_fit_the_signature_is_not_quoted(model: Any) -> None:
    wrong = pd.DataFrame({"waveform": [[str(CANARY)] * 32_000], "sample_rate_hz": [16_000]})
    with pytest.raises(MlflowException) as caught:
        model.predict(wrong)
    error: BaseException | None = caught.value
    while error is not None:
        assert "0.1234" not in str(error)
        error = error.__cause__ or error.__context__


def test_no_recording_shows_its_samples() -> None:
    (recording,) = read_request(ask(np.full(32_000, CANARY, dtype=np.float32)), CLIP_S)
    assert "0.1234" not in repr(recording)


def test_the_device_is_chosen_at_load(trained: Trained, registered: Registered, model: Any) -> None:
    assert model.unwrap_python_model().served.loaded.device.type == "cpu"
    directory = stored_model(trained.uri, registered.name)
    with pytest.raises(ConfigError, match="device='gpu' is no device; write auto, cpu, cuda"):
        load(directory, device="gpu")
    import torch

    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert load(directory).unwrap_python_model().served.loaded.device.type == expected


def test_batching_does_not_change_scores(trained: Trained, registered: Registered, model: Any) -> None:
    one_by_one = load(stored_model(trained.uri, registered.name), device="cpu", batch_clips=1)
    samples = speech(5 * CLIP_S)
    assert one_by_one.predict(ask(samples))["score"][0] == pytest.approx(
        model.predict(ask(samples))["score"][0], abs=1e-5
    )
