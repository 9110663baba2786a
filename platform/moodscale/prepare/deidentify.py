"""What was said, without what tells who said it: ``prepare.transcripts: deidentified``.

Found by pattern, in English and Chinese text alike: phone numbers (spelled out too), e-mail addresses, URLs, IP
addresses, card and bank numbers, US social security and Chinese identity numbers, dates. Names and places need a spaCy
model, of which a local folder is named (none is ever fetched), or a list of known names. Whatever is found becomes its
kind, e.g. ``<PHONE_NUMBER>``; the ledger holds how many of each kind, never what they were.

Nothing here is complete: a name that no model and no list knows stays, and so does a story that only one person has.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from pydantic import Field

from moodscale.config import Config, ConfigError, validate
from moodscale.corpora.reading.tables import read_bytes
from moodscale.schema import CorpusError, Interview, Repair
from moodscale.storage import display, is_local, local_path, location

NAMES_NOT_LOOKED_FOR = "names and places were NOT looked for"
INSTALL = "pip install 'moodscale[privacy]'"
NAME_LABELS = {
    "PERSON": "PERSON", "PER": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION", "ORG": "ORGANIZATION",
}  # fmt: skip
"""Labels of spaCy's models → kinds here. Times and numbers are left: how long somebody slept is what matters."""

_SCORE = 0.85
_MIN_SCORE = 0.3
"""Below it are fractions and scores such as 7/10, taken for months."""
_LANGUAGE = "en"
"""Patterns are the same for every language; the library wants one named."""
_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
"""Full-width letters and digits, one for one, so that places in the text stay."""
_CJK = re.compile(r"[\u3400-\u9fff]")

_MONTH = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_SPOKEN = r"(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple)"
_HAN = "零〇一二三四五六七八九"
PATTERNS: dict[str, tuple[str, ...]] = {
    "PHONE_NUMBER": (
        r"(?<!\d)(?:(?:\+|00)?86[\s-]?)?1[3-9]\d[\s-]?\d{4}[\s-]?\d{4}(?!\d)",
        r"(?<!\d)0\d{2,3}[\s-]?[2-9]\d{6,7}(?!\d)",
        rf"\b(?:{_SPOKEN}[\s,.-]+){{6,}}{_SPOKEN}\b",
        rf"[{_HAN}幺](?:[\s,，、-]?[{_HAN}幺]){{6,}}",
    ),
    "CN_ID_CARD": (
        r"(?<!\d)[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dx](?![\dx])",
        r"(?<!\d)[1-9]\d{7}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}(?!\d)",
    ),
    "DATE_TIME": (
        rf"\b{_MONTH}\.?\s+{_DAY}(?:,?\s+\d{{4}})?\b",
        rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}\b\.?(?:,?\s+\d{{4}}\b)?",
        rf"\b{_MONTH},?\s+\d{{4}}\b",
        rf"[\d{_HAN}]{{4}}\s*年(?:\s*[\d十{_HAN}]{{1,3}}\s*月(?:\s*[\d十{_HAN}]{{1,3}}\s*[日号])?)?",
        rf"(?<![\d十{_HAN}])[\d十{_HAN}]{{1,3}}\s*月\s*[\d十{_HAN}]{{1,3}}\s*[日号]",
    ),
}


class DeidentifyConfig(Config):
    """What is looked for in transcripts beside patterns."""

    spacy_models: dict[str, str] = Field(
        default={},
        description="language → local folder of a spaCy model that knows names and places, e.g. "
        "{en: /models/en_core_web_lg}; none is fetched",
    )
    deny_list: str | None = Field(
        default=None, description="file of known names, one a line, that are taken out wherever they stand"
    )
    phone_regions: tuple[str, ...] = Field(
        default=("US", "GB", "CA", "AU", "CN", "DE", "FR", "IN"), description="whose phone numbers are looked for"
    )

    def content(self) -> dict[str, Any]:
        """What decides the result, apart from where it lies. The list is not told, not even by a plain hash."""
        models = {language: _model_name(language, path) for language, path in sorted(self.spacy_models.items())}
        return {"models": models, "deny_list": self.deny_list is not None, "phone_regions": list(self.phone_regions)}

    def inputs(self) -> str:
        """The list's content, for telling whether a manifest is current."""
        return "\n".join(sorted(_deny_list(self)))

    def check(self) -> None:
        """Look at everything before a job starts.

        Raises:
            ConfigError: the libraries, a model or the list cannot be used.
        """
        _deidentifier(json.dumps(self.to_json()), self.inputs())

    def notes(self) -> tuple[list[str], list[str]]:
        """What a reader must know, and what is worth a warning."""
        found = "phone numbers, addresses of mail, web and network, card, bank and identity numbers, dates"
        said = [f"Transcripts: de-identified ({found}); what patterns, models and lists do not know is still there."]
        if self.spacy_models:
            languages = ", ".join(sorted(self.spacy_models))
            return [*said, f"Transcripts: names and places were looked for in {languages} only."], []
        listed = "only those of the deny list were taken out" if self.deny_list else "they are still there"
        return said, [f"{NAMES_NOT_LOOKED_FOR} in the transcripts, {listed}: set prepare.deidentify.spacy_models"]


def deidentify(config: DeidentifyConfig, interview: Interview) -> tuple[list[str], list[Repair]]:
    """The texts of an interview's turns, and a line of the ledger for each kind of what was found.

    Raises:
        CorpusError: a text could not be worked through; nothing of the interview may then be kept.
    """
    replaced = _deidentifier(json.dumps(config.to_json()), config.inputs())
    counts: Counter[str] = Counter()
    texts = []
    for index, turn in enumerate(interview.turns):
        try:
            text, found = replaced(turn.text) if turn.text else ("", Counter[str]())
        except Exception as error:  # whatever a library raises may quote the text
            raise CorpusError(f"turn {index}: could not be de-identified ({type(error).__name__})") from None
        texts.append(text)
        counts += found
    source = f"presidio-analyzer {importlib.metadata.version('presidio-analyzer')}"
    of = interview.corpus, interview.interview_id
    return texts, [
        Repair(*of, "deidentified", f"turns: {kind}", f"{number} found", "replaced", source)
        for kind, number in sorted(counts.items())
    ]


Deidentify = Callable[[str], tuple[str, Counter[str]]]


@cache
def _deidentifier(settings: str, names: str) -> Deidentify:
    """Built once a process and list of names: patterns are compiled and models loaded."""
    config = validate(DeidentifyConfig, json.loads(settings), "prepare.deidentify")
    try:
        from presidio_anonymizer import AnonymizerEngine
        from presidio_anonymizer.entities import RecognizerResult
    except ImportError:
        raise ConfigError(f"prepare.transcripts=deidentified needs presidio: {INSTALL}") from None
    analyzer = _analyzer(config, names.splitlines())
    models = [_load_model(language, path) for language, path in sorted(config.spacy_models.items())]
    anonymizer = AnonymizerEngine()

    def replaced(text: str) -> tuple[str, Counter[str]]:
        plain = text.translate(_HALF_WIDTH)
        spans = [(one.entity_type, one.start, one.end, one.score) for one in analyzer.analyze(plain, _LANGUAGE)]
        spans += [
            (NAME_LABELS[entity.label_], entity.start_char, entity.end_char, _SCORE)
            for model in models
            for entity in model(plain).ents
            if entity.label_ in NAME_LABELS
        ]
        if not spans:
            return text, Counter()
        result = anonymizer.anonymize(text, [RecognizerResult(*span) for span in spans])
        return result.text, Counter(item.entity_type for item in result.items)

    return replaced


def _analyzer(config: DeidentifyConfig, names: Sequence[str]) -> Any:
    """Presidio's engine without a language model: its default would fetch one."""
    from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NoOpNlpEngine
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        DateRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        IpRecognizer,
        PhoneRecognizer,
        UrlRecognizer,
        UsSsnRecognizer,
    )

    class AnyEmailRecognizer(EmailRecognizer):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> None:
            """Every domain counts: comparing it with those that exist fetches a list of them."""

    # Its lines about what it skips and finds are of no use here, and none may ever quote a text.
    logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL)
    logging.getLogger("presidio-anonymizer").setLevel(logging.CRITICAL)
    recognizers = [
        AnyEmailRecognizer(),
        *(kind() for kind in (UrlRecognizer, IpRecognizer, CreditCardRecognizer, IbanRecognizer, DateRecognizer)),
        UsSsnRecognizer(),
        PhoneRecognizer(supported_regions=config.phone_regions),
    ]
    patterns = {kind: list(given) for kind, given in PATTERNS.items()}
    if names:
        patterns["NAME"] = [_name_pattern(names)]
    for kind, given in patterns.items():
        own = [Pattern(f"{kind} {number}", pattern, _SCORE) for number, pattern in enumerate(given)]
        recognizers.append(PatternRecognizer(kind, name=f"moodscale {kind}", patterns=own))
    engine = NoOpNlpEngine([{"lang_code": _LANGUAGE, "model_name": ""}])
    registry = RecognizerRegistry(recognizers, supported_languages=[_LANGUAGE])
    return AnalyzerEngine(registry, engine, supported_languages=[_LANGUAGE], default_score_threshold=_MIN_SCORE)


def _name_pattern(names: Iterable[str]) -> str:
    """Whole words, or any place in a script that has none."""
    longest_first = sorted(names, key=len, reverse=True)
    return "|".join(
        re.escape(name) if _CJK.search(name) else rf"(?<!\w){re.escape(name)}(?!\w)" for name in longest_first
    )


def _deny_list(config: DeidentifyConfig) -> Sequence[str]:
    if config.deny_list is None:
        return ()
    shown = f"prepare.deidentify.deny_list={display(config.deny_list)}"
    try:
        lines = read_bytes(location(config.deny_list)).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"{shown}: is not UTF-8; write it as that") from None
    except CorpusError as error:
        raise ConfigError(f"{shown}: {error}") from None
    names = [" ".join(line.translate(_HALF_WIDTH).split()) for line in lines]
    if not any(names):
        raise ConfigError(f"{shown}: holds no name; write one a line, or leave the setting out")
    return [name for name in names if name]


def _model_name(language: str, path: str) -> str:
    """What a model calls itself, with its version.

    Raises:
        ConfigError: there is no model in that folder.
    """
    place = location(path)
    try:
        if not is_local(place):
            raise OSError
        meta = json.loads((local_path(place) / "meta.json").read_text(encoding="utf-8"))
        return f"{meta['lang']}_{meta['name']}-{meta['version']}"
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"prepare.deidentify.spacy_models.{language}={display(path)}: no spaCy model there (a local folder with "
            "meta.json); unpack one there, none is fetched"
        ) from None


def _load_model(language: str, path: str) -> Any:
    _model_name(language, path)
    import spacy

    try:
        return spacy.load(local_path(location(path)))
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"prepare.deidentify.spacy_models.{language}={display(path)}: cannot be loaded with spaCy "
            f"{importlib.metadata.version('spacy')} ({type(error).__name__}); take a model for that version"
        ) from None
