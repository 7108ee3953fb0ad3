"""What came out, in a sentence: which model is the best, and how near its samples come to the scan."""

from collections.abc import Mapping, Sequence
from typing import Any

from microgan.evaluation.fidelity import HEADLINE, count_flagged
from microgan.report.figures.style import reason_in_words
from microgan.report.results import ModelResult
from microgan.report.run_tables import pass_rate_ratio
from microgan.report.tables import percent

NARROWER = 1.02  # pass rate over that of real windows, above which the difference is told


def verdict(models: Sequence[ModelResult], best: str | None = None) -> str:
    """Return one sentence on the best model, or that none is usable.

    Parameters
    ----------
    models
        Results; baselines do not count.
    best
        Name of the best model. By default it is the one with the highest pass rate. One that has not learnt
        its material is never the best.
    """
    trained = [model for model in models if model.training_steps is not None]
    learnt = [model for model in trained if model.has_learnt]
    usable = [model for model in learnt if model.validity["pass_rate"]]
    if not trained:
        return "No model was trained: this report has a baseline alone."
    if not learnt:
        return "No model has learnt the material: there is nothing to use, whatever passes the rules."
    if not usable:
        return "No model made a valid sample: there is nothing to use."
    chosen = next(
        (model for model in usable if model.name == best),
        max(usable, key=lambda model: model.validity["pass_rate"]),
    )
    rank = {1: "", 2: ", the better of two models"}.get(len(trained), f", the best of {len(trained)} models")
    valid = percent(chosen.validity["pass_rate"])
    baselines = [model for model in models if model.training_steps is None]
    sentence = f"{chosen.name}{rank}: {valid} of its samples are valid, and {_difference(chosen)}"
    return f"{sentence}{_of_baselines(baselines)}.{_narrower(chosen)}{_limits(chosen)}"


def _limits(model: ModelResult) -> str:
    """Say what limits the use of a model, the worst first."""
    if model.verdict is None or not model.verdict.reasons:
        return ""
    return f" It has learnt the material with limits: {'; '.join(model.verdict.reasons)}."


def _narrower(model: ModelResult) -> str:
    """Say what a pass rate above that of real windows means, and by which reason they differ most."""
    ratio = pass_rate_ratio(model)
    if ratio is None or ratio <= NARROWER:
        return ""
    words = f" They pass {ratio:.2f} times as often as real windows: a narrower material, not a better one"
    samples, real = (reasons(model, key) for key in ("samples", "real"))
    if not real:
        return f"{words}."
    most = max(real, key=lambda reason: real[reason] - samples.get(reason, 0))
    shares = f"{percent(samples.get(most, 0))} of samples, {percent(real[most])} of real windows"
    return f"{words}; rejected for {reason_in_words(most)}: {shares}."


def reasons(model: ModelResult, of: str) -> dict[str, float]:
    """Return the fraction of ``samples``, or of ``real`` held-out windows, rejected for each reason."""
    count, counts = {"samples": ("n", "rejected_by"), "real": ("reference_n", "reference_rejected_by")}[of]
    whole = model.validity.get(count, 0)
    return {name: number / whole for name, number in model.validity.get(counts, {}).items()} if whole else {}


def _difference(model: ModelResult) -> str:
    differing = count_flagged(model.fidelity["after"])
    if differing is None:
        return "these are too few to test whether they differ from the scan"
    tested = tested_headline(model)
    return f"these differ from the scan in {differing or 'none'} of {tested} headline descriptors"


def _of_baselines(models: Sequence[ModelResult]) -> str:
    """In how many the baselines differ, in brackets; nothing where that is not known."""
    counts = {model.name: count_flagged(model.fidelity["after"]) for model in models}
    words = [
        f"{name.replace('_', ' ')}, the baseline: in {count or 'none'}"
        for name, count in counts.items()
        if count is not None
    ]
    return f" ({'; '.join(words)})" if words else ""


def tested_headline(model: ModelResult, key: str = "after") -> int:
    """Return how many headline descriptors are compared, ``before`` or ``after`` filtering."""
    return sum(name in model.fidelity[key] for name in HEADLINE)


def summary(model: ModelResult) -> dict[str, Any]:
    """Gather what the head of the page says of a model."""
    return {
        "name": model.name,
        "is_baseline": model.training_steps is None,
        "verdict": None if model.verdict is None else str(model.verdict),
        "reasons": "" if model.verdict is None else "; ".join(model.verdict.reasons),
        "is_learnt": model.has_learnt,
        "count": model.validity["n"],
        "pass_rate": model.validity["pass_rate"],
        "pass_rate_ratio": pass_rate_ratio(model),
        "headline_count": tested_headline(model),
        "differing": count_flagged(model.fidelity["after"]),
        "differing_training_windows": count_flagged(model.fidelity["training_windows"]),
    }


def seeds(parameters_by_path: Mapping[str, Any]) -> str:
    """Return all seeds among parameters by their path, in words."""
    found = [
        f"{path.removesuffix('.seed')} {value}"
        for path, value in parameters_by_path.items()
        if path.endswith(".seed")
    ]
    return ", ".join(found) or "unknown"
