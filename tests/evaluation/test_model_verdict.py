"""Whether a model has learnt its material: one figure that is far off is enough."""

from pathlib import Path
from typing import Any

import pytest

from microgan.core.errors import UserError
from microgan.core.json_files import read_json, write_json
from microgan.evaluation.model_verdict import CRITERIA, UNKNOWN, descriptor_ratios, judged, verdict_figures
from microgan.samples.verdict_file import (
    LEARNT,
    NOT_LEARNT,
    VERDICT,
    WITH_LIMITS,
    ModelVerdict,
)
from microgan.validity.reference import DetectionRate

WEIGHTS, REFERENCE = "1" * 64, "2" * 64
GOOD = {
    "pass_rate_ratio": 1.0,
    "kernel_distance_ratio": 1.0,
    "worst_descriptor_ratio": 1.0,
    "grid_power_ratio": 1.0,
    "judge_ratio": 1.0,
    "filter_detects": 0.8,
}
LIMITED = {"pass_rate_ratio": 0.5, "judge_ratio": 2.0}


def _fidelity(**images: Any) -> dict[str, Any]:
    distances = {"value": 0.9, "null_bound": 0.1}
    return {
        "before": {"radius": {"ratio": 2.0}, "stiffness": {"ratio": None}, "perimeter": {"ratio": 9.0}},
        "images": {
            "before": {
                "encoder/kernel_distance": distances,
                "encoder/classifier_auc": {"value": 0.97},
            },
            "training_windows": {
                "encoder/kernel_distance": {"value": 0.3, "null_bound": 0.1},
                "encoder/classifier_auc": {"value": 0.9},
            },
            "judge": {"qualified": True, "held_out": {"flagged": 0.1}, "before": {"flagged": 0.3}},
            **images,
        },
    }


def test_the_figures_are_of_all_samples_and_over_what_real_windows_give() -> None:
    rate = DetectionRate(rate=0.6, count=10, interval=(0.5, 0.7))
    figures = verdict_figures({"pass_rate_ratio": 0.5}, _fidelity(), {"merged_pair": rate, "blank": rate})
    assert set(CRITERIA) < set(figures)
    assert figures["kernel_distance_ratio"] == pytest.approx(3.0)
    assert figures["worst_descriptor_ratio"] == 2.0  # of the headline; what is unknown does not count
    assert figures["judge_ratio"] == pytest.approx(3.0)
    assert (figures["filter_detects"], figures["classifier_auc"]) == (0.6, 0.97)


def test_what_cannot_be_told_stands_against_nothing_but_the_distance_must_be_known() -> None:
    near = {"encoder/kernel_distance": {"value": 0.001, "null_bound": 0.1}}
    figures = verdict_figures({"pass_rate_ratio": 0.0}, _fidelity(judge={}, training_windows=near), {})
    assert figures["kernel_distance_ratio"] == pytest.approx(9.0)  # over what chance gives
    assert figures["judge_ratio"] is None and figures["filter_detects"] is None
    assert judged({**GOOD, "judge_ratio": None, "filter_detects": None}, {}) == (LEARNT, ())
    assert judged(dict.fromkeys(GOOD, None), {}) == (WITH_LIMITS, (UNKNOWN,))  # of a few samples, say


@pytest.mark.parametrize("name", CRITERIA)
def test_one_figure_that_is_off_is_enough(name: str) -> None:
    criterion, ratios = CRITERIA[name], descriptor_ratios(_fidelity())
    sign = 1 if criterion.worse == "larger" else -1
    assert judged({**GOOD, name: criterion.limits - sign * 1e-6}, ratios) == (LEARNT, ())
    limited = judged({**GOOD, name: criterion.limits + sign * 1e-6}, ratios)
    assert limited[0] == WITH_LIMITS and len(limited[1]) == 1
    if name == "filter_detects":  # a blind filter limits, it says nothing of the model
        assert judged({**GOOD, name: 0.0}, ratios)[0] == WITH_LIMITS
        return
    beside = "pass_rate_ratio" if name == "judge_ratio" else "judge_ratio"
    failed = judged({**GOOD, name: criterion.fails + sign * 1e-6, beside: LIMITED[beside]}, ratios)
    assert failed[0] == NOT_LEARNT and len(failed[1]) == 2  # the worst first, then what else limits


def test_a_verdict_belongs_to_its_weights_and_is_not_changed_by_hand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert ModelVerdict.beside(tmp_path, WEIGHTS) is None
    verdict = ModelVerdict(
        verdict=NOT_LEARNT, reasons=("a", "b"), weights_sha256=WEIGHTS, reference_sha256=REFERENCE
    )
    verdict.save(tmp_path / VERDICT)
    assert ModelVerdict.beside(tmp_path, WEIGHTS) == verdict
    assert str(verdict) == "not learnt: a; b"
    assert ModelVerdict.beside(tmp_path, "3" * 64) is None
    assert "is about other weights" in caplog.text
    content = read_json(tmp_path / VERDICT)
    write_json(tmp_path / VERDICT, {**content, "verdict": "learnt"})
    with pytest.raises(UserError, match="changed since it was written"):
        ModelVerdict.beside(tmp_path, WEIGHTS)
