"""Say whether a model has learnt its material: ``python -m stages.verdict dcgan``."""

from pathlib import Path

from microgan.core.files import file_sha256
from microgan.core.notes import warn
from microgan.evaluation.model_verdict import descriptor_ratios, judged, verdict_figures
from microgan.gan.model_card import CARD, read_model_card
from microgan.samples.verdict_file import LEARNT, VERDICT, ModelVerdict
from microgan.validity.reference import Reference
from stages.metrics import read_fidelity, read_validity
from stages.stage import Stage, run

REFERENCE = Path("reference/reference.json")


def main(stage: Stage) -> None:
    """Write models/MODEL/verdict.json."""
    name = stage.model
    metrics, folder = Path("metrics") / name, Path("models") / name
    fidelity, reference = read_fidelity(metrics / "fidelity.json"), Reference.load(REFERENCE)
    figures = verdict_figures(read_validity(metrics / "validity.json"), fidelity, reference.detection_rates)
    level, reasons = judged(figures, descriptor_ratios(fidelity))
    verdict = ModelVerdict(
        verdict=level,
        reasons=reasons,
        figures=figures,
        weights_sha256=read_model_card(folder / CARD)["weights_sha256"],
        reference_sha256=file_sha256(REFERENCE),
    )
    out = folder / VERDICT
    with stage.drafts(out) as (draft,):
        verdict.save(draft)
    if verdict.verdict == LEARNT:
        stage.say(f"{name}: {verdict}")
    else:
        warn(f"{name}: {verdict}")
    stage.tracker.tag(f"verdict.{name}", str(verdict))
    known = {f"{name}.{key}": value for key, value in figures.items() if value is not None}
    stage.tracker.metrics(known)
    stage.tracker.artifact(out)


if __name__ == "__main__":
    run(main)
