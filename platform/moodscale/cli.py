"""`moodscale VERB`: a line or two a verb. With ``--json`` the last line on stdout is the result."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console

from moodscale.config import ConfigError
from moodscale.train.failures import TrainingFailedError

if TYPE_CHECKING:
    from moodscale.experiment import Experiment
    from moodscale.verbs.evaluating import Evaluated

app = typer.Typer(
    help="Train, evaluate and register models that estimate depression severity. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a pretty traceback prints local variables, and those may hold speech
)
_output: TextIO | None = None
"""The real stdout, once the command line has claimed it."""

ConfigArg = Annotated[Path, typer.Argument(help="the experiment's YAML file")]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.field=value")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on the last line of stdout")]


def _load(config: Path, overrides: list[str] | None) -> Experiment:
    from moodscale.config import load_config
    from moodscale.experiment import Experiment

    return load_config(Experiment, config, overrides or [])


def _finish(result: dict[str, Any], as_json: bool, view: Any = None) -> None:
    _leave_ray()
    if as_json:
        print(json.dumps(result, default=str), file=_output or sys.stdout, flush=True)
    elif view is not None:
        Console(file=_output).print(view)


def _leave_ray() -> None:
    """Workers' last log lines come first, the result last."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


def _claim_stdout() -> None:
    """Keep stdout for results: whatever else a process prints there (Ray forwards its workers' logs) goes to stderr."""
    global _output
    if _output is None:
        _output = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)


@app.command()
def synthesize(
    corpus: Annotated[str, typer.Argument(help="a synthesiser's name, e.g. daic_woz")],
    out: Annotated[Path, typer.Option(help="directory to write")],
    num_participants: int = 96,
    minutes: float = 3.0,
    effect: Annotated[float, typer.Option(help="how strongly severity shapes speech; 0 cuts every tie")] = 1.0,
    seed: int = 0,
    defects: Annotated[str, typer.Option(help="none, all, or names separated by commas")] = "none",
    archives: Annotated[bool, typer.Option(help="write archives instead of folders")] = False,
    features: Annotated[
        bool | None, typer.Option(help="write feature files too; by default as the corpus has it")
    ] = None,
    feature_kinds: Annotated[str, typer.Option(help="which, separated by commas; all is every kind")] = "",
    file_format: Annotated[str, typer.Option("--format", help="of conversations: jsonl or parquet")] = "jsonl",
    unlabelled_share: Annotated[
        float | None, typer.Option(help="of conversations: share of users without a questionnaire; default 0.2")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write interviews of people who do not exist, in a real corpus' exact layout."""
    from moodscale.config import validate
    from moodscale.corpora.synthesize import synthesize as run
    from moodscale.corpora.synthesize.base import SynthesizeConfig

    settings = {"out": out, "num_participants": num_participants, "minutes": minutes, "effect": effect}
    settings |= {"seed": seed, "defects": defects, "archives": archives, "features": features}
    settings |= {"feature_kinds": feature_kinds, "format": file_format}
    settings |= {} if unlabelled_share is None else {"unlabelled_share": unlabelled_share}
    summary = run(corpus, validate(SynthesizeConfig, settings, source="synthesize"))
    text = (
        f"{summary.num_participants} participants ({summary.num_depressed} depressed), "
        f"{summary.audio_s / 3600:.2f} h of audio, {len(summary.planted)} defects planted, "
        f"{summary.real_time_factor:.0f} x real time: {summary.out}"
    )
    _finish(summary.to_json(), as_json, text + (" (already there)" if summary.already_there else ""))


@app.command()
def prepare(config: ConfigArg, overrides: Overrides = None, as_json: Json = False) -> None:
    """Interviews → clips, splits, a manifest."""
    from moodscale.prepare.summary import render_terminal
    from moodscale.verbs import data

    summary = data.prepare(_load(config, overrides))
    _finish(summary.to_json(), as_json, render_terminal(summary))


@app.command()
def extract(config: ConfigArg, overrides: Overrides = None, as_json: Json = False) -> None:
    """Manifest → features, stored once by content. Submitted again, it computes only what is missing."""
    from moodscale.verbs import data

    summary = data.extract(_load(config, overrides))
    _finish(summary.to_json(), as_json, "\n".join(summary.lines()))


@app.command()
def inspect(
    manifests: Annotated[list[str], typer.Argument(help="folders of manifests, looked at together")],
    out: Annotated[
        str | None, typer.Option(help="the page to write; default inspect.html in the first of them")
    ] = None,
    check_overlap: Annotated[
        bool, typer.Option("--check-overlap", help="only: is anybody in two splits, any recording of two people?")
    ] = False,
    min_cell: Annotated[int, typer.Option(min=1, help="hide counts of labels of fewer people; 1 hides none")] = 5,
    test_labels: Annotated[
        bool, typer.Option(help="read the test split's labels, which counts as a read of it")
    ] = True,
    clips_per_speaker: Annotated[int, typer.Option(min=1, help="max_clips_per_speaker of the plan shown")] = 14,
    as_json: Json = False,
) -> None:
    """What is in manifests, and what is wrong with it. With --check-overlap: exits 1 where there is overlap."""
    from moodscale.inspect.terminal import render, render_overlap
    from moodscale.verbs import data

    if check_overlap:
        if out is not None:
            raise ConfigError("--check-overlap writes no page; leave out --out, or run without --check-overlap")
        overlap = data.check_overlap(manifests)
        _finish(overlap.to_json(), as_json, render_overlap(overlap))
        if not overlap.disjoint:
            raise typer.Exit(1)
        return
    result = data.inspect(manifests, out, min_cell=min_cell, test_labels=test_labels, max_clips=clips_per_speaker)
    _finish(result.to_json(), as_json, render(result.report, str(result.page)))


@app.command()
def train(config: ConfigArg, overrides: Overrides = None, as_json: Json = False) -> None:
    """Manifest → adapter. Submitted again, it resumes; finished, it says so."""
    from moodscale.verbs import training

    summary = training.train(_load(config, overrides))
    state = "was finished already" if summary.already_finished else "finished"
    _finish(summary.to_json(), as_json, f"{state}: {summary.steps} steps, best checkpoint {summary.best_checkpoint}")


@app.command(name="label")
def label_command(config: ConfigArg, overrides: Overrides = None, as_json: Json = False) -> None:
    """Pseudo-labels in rounds: a teacher's, then those of models trained out of fold, each followed by a model."""
    from moodscale.verbs import labelling

    summary = labelling.label(_load(config, overrides))
    lines = [
        f"round {one['round']}: {one['num_true']} true and {one['num_pseudo']} pseudo-labels by {one['labeller']}, "
        + ", ".join(f"{name} {value:.3f}" for name, value in one["validation"].items() if value is not None)
        for one in summary.rounds
    ]
    state = "finished already" if summary.already_finished else f"stopped {summary.stopped}"
    _finish(summary.to_json(), as_json, "\n".join([*lines, f"{state}; best on validation: {summary.best_run}"]))


@app.command()
def evaluate(
    config: Annotated[Path | None, typer.Argument(help="the experiment's YAML file")] = None,
    overrides: Overrides = None,
    predictions: Annotated[Path | None, typer.Option(help="a Prediction table (Parquet or CSV) to judge")] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="with --predictions: another model's table over the same people; as often")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score the held-out splits, judge the result, write the report. With --predictions: judge any table."""
    from moodscale.verbs import evaluating

    if predictions is not None:
        experiment = _load(config, overrides) if config is not None else None
        result = evaluating.evaluate_table(predictions, experiment, against or ())
    elif against:
        raise ConfigError("--against compares two tables; name the first with --predictions FILE")
    elif config is not None:
        result = evaluating.evaluate_experiment(_load(config, overrides))
    else:
        raise ConfigError("evaluate needs the experiment's YAML file, or --predictions FILE")
    _finish(result.to_json(), as_json, _verdict(result))


def _verdict(result: Evaluated) -> str:
    guard = result.evaluation.guard
    lines = [f"guard: {guard.verdict}", *(f"  {reason.message}" for reason in guard.reasons)]
    return "\n".join([*lines, *result.lines, f"report: {result.report}"])


@app.command()
def register(config: ConfigArg, overrides: Overrides = None, as_json: Json = False) -> None:
    """Pack the best checkpoint, reload it, compare, and only then give it a version in the registry."""
    from moodscale.verbs import registering

    result = registering.register(_load(config, overrides))
    done = result.registered
    state = "was registered already" if done.already_registered else f"compared on {done.num_compared} clips"
    _finish(result.to_json(), as_json, f"{done.model_uri} ({done.alias}), {state}; guard: {done.guard_verdict}")


@app.command(name="ensemble")
def ensemble_command(config: ConfigArg, overrides: Overrides = None, as_json: Json = False) -> None:
    """Several models → one: combined on validation, judged on test, registered as one version."""
    from moodscale.verbs import registering

    result = registering.ensemble(_load(config, overrides))
    weights = [f"{one['weight']:.2f} {one['name']}" for one in result.built.summary["members"]]
    lines = ["weights: " + ", ".join(weights), _verdict(result.evaluated), result.registered.model_uri]
    _finish(result.to_json(), as_json, "\n".join(lines))


@app.command(name="score")
def score_command(
    model: Annotated[str, typer.Argument(help="models:/NAME@ALIAS or models:/NAME/VERSION")],
    manifest: Annotated[str, typer.Option(help="folder of the manifest whose interviews are scored")],
    out: Annotated[str, typer.Option(help="folder to write Parquet to")],
    tracking_uri: Annotated[str | None, typer.Option(help="default: MLFLOW_TRACKING_URI")] = None,
    split: Annotated[str, typer.Option(help="all, train, validation, test, or unlabelled")] = "all",
    num_workers: Annotated[int, typer.Option(min=1, help="copies of the model")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="interviews a part of the output")] = 16,
    as_json: Json = False,
) -> None:
    """Score a manifest's interviews with a registered model, as a batch job. A score is no diagnosis."""
    from moodscale.verbs import registering

    summary = registering.score_registered(model, manifest, out, tracking_uri, split, num_workers, batch)
    _finish(summary.to_json(), as_json, "\n".join(summary.lines()))


@app.command(name="predict")
def predict_command(
    model: Annotated[str, typer.Argument(help="models:/NAME@ALIAS or models:/NAME/VERSION")],
    files: Annotated[list[Path], typer.Argument(help="recordings of one speaker each, or conversations (.json)")],
    tracking_uri: Annotated[str | None, typer.Option(help="default: MLFLOW_TRACKING_URI")] = None,
    as_json: Json = False,
) -> None:
    """Score recordings or conversations with a registered model. The score is no diagnosis."""
    from moodscale.registry.predict import in_words
    from moodscale.verbs import registering

    results = registering.predict_registered(model, files, tracking_uri)
    lines = [f"{row['path']}: {in_words(row)}" for row in results]
    _finish({"predictions": results}, as_json, "\n".join(lines))


@app.command()
def plan(
    config: ConfigArg,
    overrides: Overrides = None,
    num_units: Annotated[
        int | None,
        typer.Option("--num-units", "--num-clips", help="clips or interviews an epoch; default as published"),
    ] = None,
    utilisation: Annotated[float, typer.Option(help="share of the chip's peak that training reaches")] = 0.4,
    as_json: Json = False,
) -> None:
    """Parameters, memory and hours of an experiment, on the meta device: no GPU, no download."""
    from moodscale.train.plan_view import render
    from moodscale.verbs import training

    result = training.plan(_load(config, overrides), num_units, utilisation)
    _finish(result.to_json(), as_json, None if as_json else render(result))


@app.command()
def forget(
    person: Annotated[str, typer.Argument(help="a person's key such as daic:300, or a pseudonym")],
    manifests: Annotated[list[str] | None, typer.Option(help="folder or URI of a manifest; as often as needed")] = None,
    runs: Annotated[list[str] | None, typer.Option(help="storage folder, or one experiment's; as often")] = None,
    features: Annotated[list[str] | None, typer.Option(help="store of features; as often as needed")] = None,
    corpus: Annotated[Path | None, typer.Option(help="an experiment's YAML file: its corpus' raw data go too")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="registry; default: MLFLOW_TRACKING_URI")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="remove it; without, it is only shown")] = False,
    as_json: Json = False,
) -> None:
    """Remove a person from manifests, features, runs and raw data, and name every model that learned from them."""
    from moodscale.forget.forget import Places
    from moodscale.forget.view import render as render_forgotten
    from moodscale.verbs import data

    raw = None if corpus is None else _load(corpus, None).corpus
    places = Places(tuple(manifests or ()), tuple(runs or ()), tuple(features or ()), raw, tracking_uri)
    result = data.forget(person, places, yes)
    _finish(result.to_json(), as_json, render_forgotten(result))
    if not result.found:
        print(f"error: PERSON is nowhere; looked in {'; '.join(result.looked_in)}", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(help="the experiment's YAML file")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """What this machine can do, and what a given experiment would miss here."""
    from moodscale.doctor import Level, Needs, check, render

    checks = check(Needs.of(_load(config, overrides)) if config is not None else None)
    rows = [{"name": one.name, "level": one.level, "found": one.found, "fix": one.fix} for one in checks]
    _finish({"checks": rows}, as_json, render(checks))
    if any(one.level is Level.FAIL for one in checks):
        raise typer.Exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exits 0 only where the verb did its work; user errors are one message, not a traceback."""
    _claim_stdout()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("moodscale").setLevel(logging.INFO)
    try:
        app(args=list(arguments) if arguments is not None else None)
    except ValueError as error:
        # ConfigError and CorpusError among them: their messages name file, field, value and fix.
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
