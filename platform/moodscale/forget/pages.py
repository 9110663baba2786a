"""Data reports (``moodscale inspect``) of manifests that had the person: they go, whoever needs one writes it again."""

from __future__ import annotations

from collections.abc import Iterable

from upath import UPath

from moodscale.forget.action import Action, removing_files

TITLE = b"<title>Data report:"
"""What a data report is told by, whatever its file is called."""


def find_pages(folders: Iterable[UPath], manifest_hashes: Iterable[str]) -> list[Action]:
    """The data reports in these folders, and not below, that are about one of the manifests.

    They name people and interviews in the corpus' own short form, and count them in small cells.
    """
    hashes = [hash_.encode() for hash_ in manifest_hashes]
    actions = []
    for folder in {str(folder): folder for folder in folders}.values():
        if not hashes or not folder.is_dir():
            continue
        for page in sorted((one for one in folder.iterdir() if one.suffix == ".html"), key=lambda one: one.name):
            data = page.read_bytes()
            if TITLE in data and any(hash_ in data for hash_ in hashes):
                actions.append(Action("data report", page, "page; inspect writes it again", 1, removing_files([page])))
    return actions
