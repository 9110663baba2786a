"""Speech from text: the espeak-ng shared library through ctypes.

The library keeps its state in process-wide globals (phase of the voice's flutter, noise generators, echo buffers) that
neither a new voice nor re-initialising clears: what it says depends on everything it said before. So that a person
sounds the same however the work is spread over processes, every ``Engine`` loads a private copy of the library file,
which the dynamic linker takes for another library with globals of its own.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from moodscale.config import ConfigError

FloatArray = npt.NDArray[np.float32]

_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_HEADROOM_VOLUME = 55
"""Below espeak's default of 100: some voices clip inside the library, and level is set by the caller anyway."""
_BUFFER_MS = 500
_RANDOM_SEED = 1
_AUDIBLE = 0.01
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Engine:
    """One talking instance of espeak-ng. Use as a context manager; not for several threads at once.

    Raises:
        ConfigError: the speech synthesis extra is not installed, or its library does not load here.
    """

    def __init__(self) -> None:
        library_path, data_path = _locate()
        self._chunks: list[bytes] = []
        self._directory = tempfile.mkdtemp(prefix="moodscale-espeak-")
        try:
            private = shutil.copy(library_path, self._directory)
            self._library = _load(private)
            # ctypes does not keep the callback alive for C: the attribute does.
            self._callback = _Callback(self._collect)
            rate = self._library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, os.fsencode(data_path), _DO_NOT_EXIT)
            if rate <= 0:
                raise ConfigError(f"espeak-ng does not start with its data in {data_path}; reinstall moodscale[demo]")
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        self.sample_rate_hz: int = rate
        self._library.espeak_ng_SetRandSeed(_RANDOM_SEED)
        self._library.espeak_SetSynthCallback(self._callback)

    def set_voice(self, name: str) -> None:
        """Choose a voice, such as ``en-us+m3``: a language, and a variant of the throat.

        Raises:
            ConfigError: the installed espeak-ng has no such voice.
        """
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise ConfigError(f"espeak-ng has no voice {name!r}; reinstall moodscale[demo]")

    def speak(self, text: str, rate_wpm: float, pitch: float, pitch_range: float) -> FloatArray:
        """Say it.

        Args:
            text: plain words.
            rate_wpm: words per minute, 80 to 450.
            pitch: 0 to 100, 50 is the voice's own.
            pitch_range: 0 (monotone) to 100, 50 is the voice's own.
        Returns:
            Samples [T] in -1 to 1 at ``sample_rate_hz``, silence at both ends removed; at least one sample.
        """
        settings = ((_RATE, rate_wpm, 80, 450), (_PITCH, pitch, 0, 100), (_RANGE, pitch_range, 0, 100))
        for parameter, value, low, high in settings:
            self._library.espeak_SetParameter(parameter, round(min(max(value, low), high)), 0)
        self._library.espeak_SetParameter(_VOLUME, _HEADROOM_VOLUME, 0)
        self._chunks.clear()
        encoded = text.encode()
        failed = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
        if failed or not self._chunks:
            raise RuntimeError(f"espeak-ng made no sound of {len(text)} characters (code {failed})")
        samples = np.frombuffer(b"".join(self._chunks), dtype=np.int16).astype(np.float32) / np.float32(32768)
        return _trim(samples)

    def close(self) -> None:
        """Release the library. Safe to call twice."""
        if self._directory:
            self._library.espeak_Terminate()
            _unload(self._library)
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _collect(self, samples: Any, num_samples: int, events: Any) -> int:
        if samples and num_samples > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * num_samples))
        return 0


def _locate() -> tuple[Path, Path]:
    try:
        import espeakng_loader
    except ImportError:
        raise ConfigError(
            "speech synthesis needs espeak-ng: install the extra, pip install 'moodscale[demo]'"
        ) from None
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def _load(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ConfigError(
            f"espeak-ng's library does not load on this machine: {error}; reinstall moodscale[demo]"
        ) from None
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetSynthCallback.argtypes = [_Callback]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    number = ctypes.c_uint
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, number, ctypes.c_int, number, number, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    return library


def _unload(library: ctypes.CDLL) -> None:
    """Give the copy's memory back where Python can; elsewhere it stays until the process ends, harmless but larger."""
    try:
        from _ctypes import dlclose
    except ImportError:
        return
    dlclose(library._handle)


def _trim(samples: FloatArray) -> FloatArray:
    audible = np.flatnonzero(np.abs(samples) > _AUDIBLE * np.abs(samples).max())
    if not len(audible):
        return samples
    return samples[audible[0] : audible[-1] + 1]
