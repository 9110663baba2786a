from __future__ import annotations

from pathlib import Path

import pytest

from moodscale.config import validate
from moodscale.corpora.conversations import ConversationsConfig
from moodscale.inspect.gather import gather, short_names
from moodscale.inspect.groups import LabelGroup, group_sizes, label_groups
from moodscale.inspect.page import render_page
from moodscale.inspect.report import inspect
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from tiny_chats import chat, label, write_log
from tiny_manifests import prepared, sessions


def by_name(groups: tuple[LabelGroup, ...]) -> dict[str, LabelGroup]:
    return {one.group: one for one in groups}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return prepared(tmp_path_factory.mktemp("groups") / "m", sessions(24))


def test_groups_count_people_and_what_they_say(manifest: Manifest) -> None:
    sizes = {one.group: one for one in group_sizes(gather([manifest], test_labels=False))}
    assert {name: one.num_people for name, one in sizes.items()} == {
        "all": 24, "train": 12, "validation": 6, "test": 6, "female": 12, "male": 12,
    }  # fmt: skip
    assert sizes["all"].num_clips == 24 * 4
    assert sizes["all"].hours == pytest.approx(24 * 20 / 3600)
    assert sizes["all"].speech_hours == pytest.approx(24 * 8 / 3600)


def test_without_small_cells_every_count_is_shown(manifest: Manifest) -> None:
    groups = by_name(label_groups(gather([manifest]), min_cell=1))
    assert groups["all"].bands == (12, 0, 0, 12, 0)
    assert (groups["test"].bands, groups["test"].num_depressed) == ((3, 0, 0, 3, 0), 3)
    assert groups["test"].items == ()
    assert groups["train"].items[0] == (0, 6, 6, 0, 0)
    assert groups["train"].item_mean(0) == 1.5


def test_counts_of_fewer_people_and_what_would_tell_them_are_hidden(manifest: Manifest) -> None:
    groups = by_name(label_groups(gather([manifest]), min_cell=5))
    assert groups["all"].bands == (12, 0, 0, 12, 0)
    assert groups["test"].num_depressed is None
    assert groups["validation"].bands == (None, 0, 0, None, 0)
    # Two splits of three are hidden, so that everybody's and the third's can be shown.
    assert groups["train"].bands == (6, 0, 0, 6, 0)


def test_a_group_of_fewer_people_shows_nothing_of_its_labels(manifest: Manifest) -> None:
    test = by_name(label_groups(gather([manifest]), min_cell=7))["test"]
    assert (test.num_people, test.mean, test.sd, test.num_depressed) == (6, None, None, None)
    assert test.bands == (None,) * 5


def test_labels_of_the_test_split_are_a_counted_read_or_not_read(tmp_path: Path) -> None:
    manifest = prepared(tmp_path / "m", sessions(8))
    groups = label_groups(gather([manifest], test_labels=False), min_cell=1)
    assert "test" not in by_name(groups)
    assert by_name(groups)["all"].num_labels == 6
    assert manifest.num_test_reads() == 0
    assert "test" in by_name(label_groups(gather([manifest]), min_cell=1))
    assert manifest.num_test_reads() == 1
    assert '"reader": "inspect"' in (tmp_path / "m" / "test_reads.jsonl").read_text()


def test_an_interview_of_two_manifests_counts_once(tmp_path: Path) -> None:
    data = gather([prepared(tmp_path / name, sessions(8), clip_s=clip_s) for name, clip_s in (("a", 2), ("b", 4))])
    assert (len(data.interviews), data.num_repeated, len(data.labels)) == (8, 8, 8)
    assert set(data.clips["duration_s"]) == {2.0}


def test_nothing_that_is_gathered_holds_words(tmp_path: Path) -> None:
    data = gather([prepared(tmp_path / "m", sessions(8), transcripts="as_is")])
    for frame in (data.interviews, data.recordings, data.turns, data.clips, data.labels):
        assert "text" not in frame.columns
        assert "something number" not in frame.to_csv()


def test_manifests_are_called_by_what_tells_them_apart() -> None:
    assert short_names([Path("/r/daic/manifest")]) == ["daic/manifest"]
    assert short_names([Path("/r/a/manifest"), Path("/r/b/manifest")]) == ["a/manifest", "b/manifest"]
    assert short_names([Path("/r/x"), Path("/r/y")]) == ["x", "y"]


def test_conversations_have_labels_and_turns_and_no_recordings(tmp_path: Path) -> None:
    users = [f"u{number}" for number in range(12)]
    times = ("2025-03-05T12:00:00+00:00", "2025-03-06T12:00:00+00:00")
    labels = [label(user, at, 18 * (i % 2), (2 * (i % 2),) * 9) for i, user in enumerate(users) for at in times]
    write_log(tmp_path / "log", [chat(user, f"c-{user}") for user in users], labels)
    splits = {"kind": "stratified", "validation": 0.25, "test": 0.25}
    config = validate(PrepareConfig, {"splits": splits, "transcripts": "as_is"})
    build_manifest(ConversationsConfig(path=str(tmp_path / "log")), config, tmp_path / "m")
    report = inspect([Manifest.open(tmp_path / "m")])
    everybody = by_name(report.labels)["all"]
    assert (everybody.num_people, everybody.num_labels, everybody.num_depressed) == (12, 24, 12)
    assert (report.groups[0].num_people, report.groups[0].num_interviews, report.groups[0].hours) == (12, 24, 0.0)
    assert [(one.kind, one.num_have, one.num_missing) for one in report.modalities] == [("recording", 0, 0)]
    assert {one.quantity for one in report.distributions} == {"turn in writing"}
    assert report.plans == ()
    assert "There is no clip to train on" in render_page(report)
