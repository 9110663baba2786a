"""A plan as a person reads it: one or two screens of a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moodscale.train.memory import GB, Setting
from moodscale.train.plan import Gpu, Plan, Row

_SHOWN_OFFLOADS = (
    *((stage, offload) for stage in (1, 2, 3) for offload in ("none", "optimizer")),
    (3, "optimizer+parameters"),
)
"""Beside stage 0, which can offload nothing."""
_OFFLOAD_NAMES = {"none": "", "optimizer": ", offload optimizer", "optimizer+parameters": ", offload all"}


def render(plan: Plan) -> RenderableType:
    """Parameters, memory by part, which settings fit, time, and what to change."""
    epoch = f"{plan.num_units:,} {plan.unit}s at {plan.utilisation:.0%} of the peak, an assumption"
    limits = ", ".join(f"{gpu.name} {gpu.memory_gb:g}" for gpu in plan.gpus)
    return Group(
        _heading(plan),
        Text("\nMemory per GPU by part (GB)", style="bold"),
        _parts(plan),
        Text(f"\nGB per GPU by micro-batch, {plan.reserve_gb:g} in reserve; ✗ does not fit ({limits})", style="bold"),
        _grid(plan),
        Text(f"\nOne epoch of {epoch}", "bold"),
        _time(plan),
        Text("\n" + "\n".join([*plan.advice, *_smallest(plan)])),
    )


def _heading(plan: Plan) -> Text:
    facts, cost = plan.facts, plan.facts.cost
    lines = [
        f"{facts.trainable_params:,} trainable of {facts.total_params:,} parameters "
        f"({facts.trainable_params / facts.total_params:.3%})",
        f"{_tera(plan.tflop_per_unit() * 1e12)} TFLOP {plan.one} as configured: {_tera(cost.forward_flops)} forward, "
        f"{_tera(cost.backward_flops)} backward, {_tera(cost.recompute_flops)} more with checkpointing",
        f"{plan.train.num_workers} worker(s) of one GPU each, {plan.configured.setting.precision}, effective batch "
        f"{plan.train.effective_batch}",
    ]
    return Text("\n".join(lines))


def _tera(flops: float) -> str:
    """In TFLOP; a small model's too are to be told from nothing."""
    tera = flops / 1e12
    return f"{tera:.1f}" if tera >= 1 else f"{tera:.2g}"


def _describe(setting: Setting) -> str:
    checkpointing = "checkpointing" if setting.gradient_checkpointing else "no checkpointing"
    offload = "" if setting.offload == "none" else f"\noffload {setting.offload}"
    return f"ZeRO-{setting.zero_stage}, batch {setting.micro_batch}\n{checkpointing}{offload}"


def _parts(plan: Plan) -> Table:
    table = Table()
    table.add_column("part")
    columns: list[Row] = [plan.configured]
    table.add_column("as configured\n" + _describe(plan.configured.setting), justify="right")
    for name, row in plan.recommended.items():
        if row is None or row in columns:
            continue
        same = [other for other, also in plan.recommended.items() if also == row]
        columns.append(row)
        table.add_column(f"recommended, {' and '.join(same or [name])}\n{_describe(row.setting)}", justify="right")
    for part in plan.configured.memory.parts:
        table.add_row(part.replace("_", " "), *(f"{row.memory.parts[part] / GB:.2f}" for row in columns))
    table.add_section()
    table.add_row("total", *(f"{row.memory.total / GB:.2f}" for row in columns), style="bold")
    return table


def _grid(plan: Plan) -> Table:
    sizes = sorted({row.setting.micro_batch for row in plan.rows})
    table = Table()
    table.add_column("ZeRO")
    table.add_column("checkpointing")
    for size in sizes:
        table.add_column(str(size), justify="right")
    rows = {
        (row.setting.zero_stage, row.setting.offload, row.setting.gradient_checkpointing, row.setting.micro_batch): row
        for row in plan.rows
    }
    for stage, offload in ((0, "none"), *_SHOWN_OFFLOADS):
        name = f"{stage}{_OFFLOAD_NAMES[offload]}"
        for checkpointing in (False, True):
            cells = [_cell(rows[stage, offload, checkpointing, size], plan.gpus) for size in sizes]
            table.add_row(name, "yes" if checkpointing else "no", *cells)
    return table


def _smallest(plan: Plan) -> list[str]:
    """What takes the least memory, which is not what is fastest."""
    lines: dict[str, list[str]] = {}
    for gpu in plan.gpus:
        for name, offload in (("without offloading", False), ("with it", True)):
            row = plan.smallest(gpu, offload)
            shown = "nothing fits" if row is None else f"{row.memory.total / GB:.1f} GB, {_in_words(row.setting)}"
            lines.setdefault(f"smallest {name}: {shown}", []).append(gpu.name)
    return [f"{' and '.join(names)}: {line}" for line, names in lines.items()]


def _in_words(setting: Setting) -> str:
    return _describe(setting).replace("\n", ", ")


def _cell(row: Row, gpus: tuple[Gpu, ...]) -> Text:
    failing = [gpu.name for gpu in gpus if not row.fits(gpu)]
    size = f"{row.memory.total / GB:.1f}"
    if not failing:
        return Text(f"{size} ✓", style="green")
    if len(failing) == len(gpus):
        return Text(f"{size} ✗", style="red")
    return Text(f"{size} ✗ {', '.join(failing)}", style="yellow")


def _time(plan: Plan) -> Table:
    table = Table()
    table.add_column("GPU")
    table.add_column("setting")
    table.add_column(f"TFLOP {plan.one}", justify="right")
    table.add_column("time", justify="right")
    table.add_column("GPU-hours", justify="right")
    for gpu in plan.gpus:
        for name, row in (("as configured", plan.configured), ("recommended", plan.recommended[gpu.name])):
            if row is None:
                continue
            hours = plan.hours_per_epoch(gpu, row.setting)
            table.add_row(
                gpu.name,
                name if row.fits(gpu) else f"{name} (does not fit)",
                _tera(plan.tflop_per_unit(row.setting) * 1e12),
                f"{hours:.1f} h" if hours >= 2 else f"{hours * 60:.1f} min",
                f"{hours * plan.train.num_workers:.2f}",
            )
    return table
