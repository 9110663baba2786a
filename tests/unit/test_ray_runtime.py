"""Ray Data is quietened, and nobody else."""

from __future__ import annotations

import io
import logging

from moodscale.ray_runtime import keep_quiet


def test_rays_own_console_is_quietened_and_nobody_elses_handler() -> None:
    import ray.data

    log = logging.getLogger("ray.data")
    context = ray.data.DataContext.get_current().copy()
    ours, console = logging.StreamHandler(io.StringIO()), logging.StreamHandler(io.StringIO())
    console.__class__ = type("Console", (logging.StreamHandler,), {"__module__": "ray._private.log"})
    log.addHandler(ours)
    log.addHandler(console)
    try:
        keep_quiet(context)
        assert (ours.level, ours.filters) == (logging.NOTSET, [])
        assert console.level == logging.WARNING
        assert not context.enable_progress_bars
        log.warning("Progress bars disabled. To enable, …")
        log.warning("an actor died")
        assert "Progress" in ours.stream.getvalue()
        assert console.stream.getvalue() == "an actor died\n"
    finally:
        log.removeHandler(ours)
        log.removeHandler(console)
