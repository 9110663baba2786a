from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from moodscale.config import ConfigError, validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.prepare import deidentify as module
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.deidentify import DeidentifyConfig, deidentify
from moodscale.prepare.manifest import Manifest
from moodscale.schema import CorpusError, Interview, Speaker, Turn
from tiny_daic import people, write_corpus

TRAP = Path(__file__).parents[2] / "support" / "outside_trap.py"


def config(**changes: Any) -> DeidentifyConfig:
    return validate(DeidentifyConfig, changes)


def interview(*texts: str) -> Interview:
    turns = tuple(Turn(Speaker.PARTICIPANT, float(i), i + 1.0, text) for i, text in enumerate(texts))
    return Interview("300", "daic:300", "daic_woz", turns, (), None)


def replaced(text: str, **changes: Any) -> str:
    return deidentify(config(**changes), interview(text))[0][0]


@pytest.mark.parametrize(
    ("text", "kind", "secret"),
    [
        ("call me at 212-555-0143 after six", "PHONE_NUMBER", "555"),
        ("it is (415) 555-2671 i think", "PHONE_NUMBER", "2671"),
        ("call me at +44 20 7946 0958 please", "PHONE_NUMBER", "7946"),
        ("my number is two one two five five five zero one four three", "PHONE_NUMBER", "five five"),
        ("write to josephine.canary@example.museum", "EMAIL_ADDRESS", "canary"),
        ("i blog at https://canary.example.org/diary?me=1", "URL", "canary"),
        ("the router says 192.168.17.23", "IP_ADDRESS", "192"),
        ("my card is 4111 1111 1111 1111", "CREDIT_CARD", "4111"),
        ("the account is DE89 3704 0044 0532 0130 00", "IBAN_CODE", "3704"),
        ("born 03/14/1987 in spring", "DATE_TIME", "1987"),
        ("it was march 14th, 1987 you know", "DATE_TIME", "1987"),
        ("on the 14th of march", "DATE_TIME", "14th"),
        ("social 536-22-8726 okay", "US_SSN", "536"),
        ("我的手机是13812345678，请打给我", "PHONE_NUMBER", "138"),
        ("电话 138 1234 5678", "PHONE_NUMBER", "1234"),
        ("全角１３８１２３４５６７８号", "PHONE_NUMBER", "１３８"),
        ("座机是010-62345678。", "PHONE_NUMBER", "6234"),
        ("号码是幺三八一二三四五六七八", "PHONE_NUMBER", "三八"),
        ("身份证号11010519491231002X没错", "CN_ID_CARD", "1949"),
        ("我生于1987年3月14日", "DATE_TIME", "1987"),
        ("我生于一九八七年三月十四日", "DATE_TIME", "八七"),
        ("邮箱canary88@163.com谢谢", "EMAIL_ADDRESS", "canary"),
    ],
)
def test_what_tells_who_somebody_is_becomes_its_kind(text: str, kind: str, secret: str) -> None:
    result = replaced(text)
    assert f"<{kind}>" in result
    assert secret not in result


@pytest.mark.parametrize(
    "text",
    [
        "i sleep about 5 hours and wake up 3 or 4 times",
        "on a scale maybe 7/10 since 2 weeks",
        "well one two three let me think",
        "i have 12 cousins and 300 books",
        "may i ask you something",
        "我每天睡五六个小时，醒三四次",
        "大概两三个月了，一二三四",
        "<laughter> um",
    ],
)
def test_what_an_answer_is_about_stays(text: str) -> None:
    assert replaced(text) == text


def test_known_names_go_in_any_script_and_only_as_whole_words(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("Ann Canary\nAnn\n金丝雀\n\n", encoding="utf-8")
    text = "ann canary met ANN at the annual fair, 金丝雀说"
    assert replaced(text, deny_list=str(names)) == "<NAME> met <NAME> at the annual fair, <NAME>说"
    assert replaced(text) == text


def spacy_model(folder: Path) -> Path:
    """A real model folder that knows one name and one place."""
    import spacy

    model = spacy.blank("en")
    ruler = model.add_pipe("entity_ruler")
    ruler.add_patterns(
        [
            {"label": "PERSON", "pattern": [{"LOWER": "josephine"}]},
            {"label": "GPE", "pattern": [{"LOWER": "springfield"}]},
            {"label": "TIME", "pattern": [{"LOWER": "yesterday"}]},
        ]
    )
    model.meta["name"] = "canary"
    model.to_disk(folder)
    return folder


def test_a_local_model_finds_names_and_places_and_leaves_times(tmp_path: Path) -> None:
    models = {"en": str(spacy_model(tmp_path / "model"))}
    text = "josephine moved to springfield yesterday"
    assert replaced(text, spacy_models=models) == "<PERSON> moved to <LOCATION> yesterday"
    assert config(spacy_models=models).content()["models"] == {"en": "en_canary-0.0.0"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"spacy_models": {"en": "en_core_web_lg"}},
            r"spacy_models\.en=en_core_web_lg: no spaCy model there",
        ),
        ({"deny_list": "nowhere.txt"}, r"deny_list=nowhere\.txt: .*cannot be read"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_read(
    changes: dict[str, Any], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_corpus(tmp_path / "corpus", people(8))
    settings = validate(PrepareConfig, {"transcripts": "deidentified", "deidentify": changes})
    with pytest.raises(ConfigError, match=problem):
        build_manifest(DaicWozConfig(path=str(root)), settings, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_without_the_extra_the_error_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("presidio_a")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "presidio_anonymizer", None)
    module._deidentifier.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"needs presidio: pip install 'moodscale\[privacy\]'"):
            config().check()
    finally:
        module._deidentifier.cache_clear()


def test_a_manifest_holds_kinds_in_its_words_and_counts_in_its_ledger(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sessions = people(8, duration_s=20.0)
    for session in sessions:
        session.rows = [
            (0.5, 4.0, "Ellie", "what is your number"),
            (5.0, 11.0, "Participant", f"it is 212-555-01{session.id[1:]} or 646-555-0199 mail canary@example.org"),
        ]
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path / "corpus", sessions)))

    def settings(**changes: Any) -> PrepareConfig:
        return validate(PrepareConfig, {"clip_s": 2, "transcripts": "deidentified", **changes})

    summary = build_manifest(corpus, settings(), tmp_path / "m")
    manifest = Manifest.open(tmp_path / "m")
    assert set(manifest.turns("train")["text"].to_pylist()) == {
        "what is your number",
        "it is <PHONE_NUMBER> or <PHONE_NUMBER> mail <EMAIL_ADDRESS>",
    }
    lines = [line for line in manifest.ledger().to_pylist() if line["defect"] == "deidentified"]
    assert {(line["where"], line["before"]) for line in lines} == {
        ("turns: PHONE_NUMBER", "2 found"),
        ("turns: EMAIL_ADDRESS", "1 found"),
    }
    assert any("names and places were NOT looked for" in warning for warning in summary.warnings)
    assert "NOT looked for" in (tmp_path / "m" / "summary.html").read_text()
    files = b"".join(file.read_bytes() for file in (tmp_path / "m").iterdir() if file.is_file())
    decoded = "".join(str(pq.read_table(file).to_pylist()) for file in (tmp_path / "m").glob("*.parquet"))
    assert b"canary@" not in files
    assert "canary@" not in decoded
    assert "canary" not in caplog.text
    names = tmp_path / "names.txt"
    names.write_text("number\n")
    listed = settings(deidentify={"deny_list": str(names)})
    first = build_manifest(corpus, listed, tmp_path / "n")
    assert any("only those of the deny list" in warning for warning in first.warnings)
    assert build_manifest(corpus, listed, tmp_path / "n").reused
    names.write_text("mail\n")
    with pytest.raises(CorpusError, match="corpus changed since"):
        build_manifest(corpus, listed, tmp_path / "n")


def test_an_interview_that_cannot_be_worked_through_is_left_out_without_a_word_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(settings: str, names: str) -> module.Deidentify:
        def replace(text: str) -> Any:
            raise RuntimeError(text)

        return replace

    monkeypatch.setattr(module, "_deidentifier", failing)
    with pytest.raises(CorpusError, match=r"^turn 1: could not be de-identified \(RuntimeError\)$") as refused:
        deidentify(config(), interview("", "the canary sings"))
    assert refused.value.__cause__ is None
    sessions = people(8, duration_s=20.0)
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path / "corpus", sessions)))
    settings = validate(PrepareConfig, {"clip_s": 2, "transcripts": "deidentified"})
    with pytest.raises(CorpusError, match="8 of 8 interviews cannot be used"):
        build_manifest(corpus, settings, tmp_path / "m")


@pytest.mark.skipif(
    os.geteuid() != 0
    or not shutil.which("unshare")
    or not shutil.which("ip")
    or subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs root, unshare and ip",
)
def test_nothing_is_fetched(tmp_path: Path) -> None:
    attempt = (
        "from moodscale.prepare.deidentify import DeidentifyConfig, deidentify\n"
        "from moodscale.schema import Interview, Speaker, Turn\n"
        "turns = (Turn(Speaker.PARTICIPANT, 0.0, 1.0, 'canary@example.museum at http://example.org 212-555-0143'),)\n"
        "texts, lines = deidentify(DeidentifyConfig(), Interview('1', 'a:1', 'a', turns, (), None))\n"
        "assert texts == ['<EMAIL_ADDRESS> at <URL> <PHONE_NUMBER>'], texts\n"
    )
    log = tmp_path / "log"
    command = ["unshare", "-n", sys.executable, str(TRAP), str(log), sys.executable, "-c", attempt]
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, env=environment, text=True)
    assert done.returncode == 0, done.stderr
    assert log.read_text() == ""
