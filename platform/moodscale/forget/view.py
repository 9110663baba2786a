"""What goes, or went, for a person to read."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from moodscale.forget.forget import Forgotten
from moodscale.storage import display


def render(result: Forgotten) -> Group:
    """Tables of what goes and of the models that learned from the person."""
    if not result.found:
        return Group(Text("nowhere: looked in " + "; ".join(result.looked_in)))
    if not result.actions:
        head = "forgotten before: nothing is left to remove"
    else:
        head = "removed" if result.done else "would be removed; nothing was changed, --yes does it"
    parts: list[Text | Table] = [Text(head)]
    if result.actions:
        gone = Table("what")
        gone.add_column("where", overflow="fold")
        gone.add_column("kind")
        gone.add_column("number", justify="right")
        for action in result.actions:
            gone.add_row(action.kind, Text(display(action.place)), action.what, f"{action.number:,}")
        parts.append(gone)
    if result.models:
        models = Table("kind", title="models that learned from them", title_justify="left")
        models.add_column("model", overflow="fold")
        models.add_column("the person was in")
        for model in result.models:
            models.add_row(model.kind, Text(model.name), model.split)
        parts.append(models)
    parts.extend(Text(f"note: {note}") for note in result.notes)
    return Group(*parts)
