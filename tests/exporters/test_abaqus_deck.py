"""Decks: their equations hold under every mean strain, none is redundant, and bad input is refused."""

import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from microgan.core.errors import UserError
from microgan.evaluation.homogenisation import MATERIALS
from microgan.exporters.deck_record import DeckRecord
from microgan.exporters.formats.abaqus import write_inp
from microgan.exporters.structure import Structure
from tests.exporters.test_abaqus import read_inp

SPACING = 0.8
ELASTIC = {"matrix": MATERIALS["epoxy"], "fibre": MATERIALS["e_glass"]}


def cell(planes: int = 1, **others: object) -> Structure:
    phase = (np.random.default_rng(1).random((planes, 5, 7)) < 0.4).astype(np.uint8)
    phase[:, 2], phase[:, :, 3] = 0, 0  # the matrix is connected
    fields = {"phase": phase, "voxel_size_um": SPACING, "periodic": True, "materials": ELASTIC}
    return Structure("cell", **{**fields, **others})


@dataclass
class Job:
    """What a deck holds beside the mesh."""

    references: dict[str, int] = field(default_factory=dict)
    equations: list[list[tuple[int, int, float]]] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)
    steps: list[list[str]] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)


def read_deck(path: Path) -> Job:
    """Read a deck line by line; a keyword that a deck should not have is an error."""
    job, keyword, left = Job(), "", 0
    for line in path.read_text(encoding="ascii").splitlines():
        values = [part.strip() for part in line.split(",") if part.strip()]
        if line.startswith("**"):
            continue
        if line.startswith("*"):
            keyword = values[0]
            if keyword == "*STEP":
                job.steps.append([])
            if keyword == "*NODE":
                name = values[1].removeprefix("NSET=")
            if keyword == "*NODE PRINT":
                job.printed.append(", ".join(values[1:]))
        elif keyword == "*NODE":
            job.references[name] = int(values[0])
        elif keyword == "*EQUATION" and not left:
            (left,) = map(int, values)
            job.equations.append([])
        elif keyword == "*EQUATION":
            assert len(values) % 3 == 0 and len(values) <= 12  # four terms on a line
            for node, freedom, factor in zip(values[::3], values[1::3], values[2::3], strict=True):
                job.equations[-1].append((int(node), int(freedom), float(factor)))
                left -= 1
        elif keyword == "*BOUNDARY":
            (job.steps[-1] if job.steps else job.fixed).append(line)
        else:
            assert (keyword, line) in {("*NODE PRINT", "RF"), ("*NODE FILE", "U"), ("*EL FILE", "S")}
    assert not left
    return job


@pytest.mark.parametrize("holes", [(), ("fibre",)])
@pytest.mark.parametrize("planes", [1, 2])
def test_equations_hold_under_every_mean_strain(tmp_path: Path, planes: int, holes: tuple[str, ...]) -> None:
    write_inp(cell(planes, holes=holes), tmp_path / "cell.inp", "stiffness")
    nodes = read_inp(tmp_path / "cell.inp").nodes
    job = read_deck(tmp_path / "cell_stiffness.inp")
    axes = 2 if planes == 1 else 3
    gradient = np.random.default_rng(0).normal(size=(axes, axes))
    strain = (gradient + gradient.T) / 2
    moved = {number: strain @ np.array(place) for number, place in nodes.items()}
    moved[job.references["REF_NORMAL"]] = np.diag(strain)
    moved[job.references["REF_SHEAR"]] = 2 * strain[np.triu_indices(axes, 1)]
    for terms in job.equations:
        assert sum(factor * moved[node][freedom - 1] for node, freedom, factor in terms) == pytest.approx(0)
    # Every node of a far border follows, unless it has no image; none follows twice or leads as well.
    followers = [terms[0][:2] for terms in job.equations]
    leaders = {terms[1][:2] for terms in job.equations}
    assert len(set(followers)) == len(followers) and not leaders & set(followers)
    far = {
        number
        for number, place in nodes.items()
        if any(
            np.isclose(length, SPACING * count) for length, count in zip(place, (7, 5, planes), strict=False)
        )
    }
    assert {node for node, _ in followers} <= far
    if not holes:
        assert {node for node, _ in followers} == far
    (fixed,) = job.fixed
    number, first, last = map(int, fixed.split(","))
    assert (first, last) == (1, axes) and number in nodes and (number, 1) not in followers


@pytest.mark.parametrize(("planes", "kind", "cases"), [
    (1, "stiffness", ["xx", "yy", "xy"]),
    (2, "stiffness", ["xx", "yy", "zz", "xy", "xz", "yz"]),
    (1, "uniaxial", ["xx", "yy"]),
    (2, "uniaxial", ["xx", "yy", "zz"]),
])  # fmt: skip
def test_a_step_for_each_component_and_a_record_of_it(
    tmp_path: Path, planes: int, kind: str, cases: list[str]
) -> None:
    structure = cell(planes, periodic=kind == "stiffness", length_unit="mm")
    write_inp(structure, tmp_path / "cell.inp", kind)
    assert (tmp_path / f"cell_{kind}.inp").read_text().startswith("*INCLUDE, INPUT=cell.inp\n")
    job = read_deck(tmp_path / f"cell_{kind}.inp")
    record = DeckRecord.model_validate(json.loads((tmp_path / f"cell_{kind}.json").read_text()))
    assert [case.component for case in record.load_cases] == cases
    assert record.size == pytest.approx([7 * 8e-4, 5 * 8e-4, planes * 8e-4][: len(record.size)])
    assert (record.stress_unit, record.stress_per_gpa) == ("MPa", 1e3)
    fractions = [phase.volume_fraction for phase in record.phases]
    assert fractions == pytest.approx([(structure.phase == 0).mean(), (structure.phase == 1).mean()])
    assert len(job.steps) == len(cases)
    for number, lines in enumerate(job.steps):
        values = [float(line.split(",")[-1]) for line in lines]
        assert [value != 0 for value in values] == [index == number for index in range(len(cases))]
        assert len({line.rpartition(",")[0] for line in lines}) == len(cases)
    assert job.printed.count("NSET=X_MAX, TOTALS=YES") == len(cases)
    # strain x area of the border, so that what is printed is as symmetric as the stiffness
    areas = dict(zip("xyz", record.face_areas, strict=False))
    ratios = [case.strain / areas[case.component[0]] for case in record.load_cases]
    assert all(one == pytest.approx(next_one) for one, next_one in pairwise(ratios))


def test_bad_input_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cell.inp"
    with pytest.raises(
        UserError, match=r"deck: stiffness: needs a periodic structure: .* else deck uniaxial"
    ):
        write_inp(cell(periodic=False), path, "stiffness")
    with pytest.raises(UserError, match="deck: uniaxial: needs elastic constants of matrix and fibre: "):
        write_inp(cell(materials=None), path, "uniaxial")
    assert not path.exists()
    cut = np.zeros((1, 5, 7), np.uint8)
    cut[:, :, 6] = 1
    for kind in ("stiffness", "uniaxial"):
        with pytest.raises(
            UserError, match="its solid does not reach from X_MIN to X_MAX: must be connected"
        ):
            write_inp(cell(phase=cut, holes=("fibre",)), path, kind)
    with pytest.raises(UserError, match="cell: all of it is hole: must have a solid phase"):
        write_inp(cell(phase=np.ones((1, 5, 7), np.uint8), holes=("fibre",)), path)


def test_a_hole_has_no_elements_and_no_nodes_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    phase = np.zeros((1, 8, 9), np.uint8)
    phase[:, 2:7, 2:8] = 1
    phase[:, 4, 4] = 0  # hangs on nothing
    structure = cell(
        phase=phase, phases=("resin", "void"), holes=("void",), materials={"resin": ELASTIC["matrix"]}
    )
    write_inp(structure, tmp_path / "cell.inp")
    deck = read_inp(tmp_path / "cell.inp")
    phase[:, 4, 4] = 1
    assert sorted(deck.elements) == (np.flatnonzero(phase == 0) + 1).tolist()  # element n is voxel n
    assert set(deck.elsets) == set(deck.sections) == set(deck.materials) == {"RESIN"}
    used = {node for _, corners in deck.elements.values() for node in corners}
    assert sorted(used) == sorted(deck.nodes) == list(range(1, len(used) + 1))
    surface = {tuple(np.rint(np.array(deck.nodes[node]) / SPACING)) for node in deck.nsets["FREE_SURFACE"]}
    assert surface == {(x, y) for x in range(2, 9) for y in range(2, 8) if x in (2, 8) or y in (2, 7)}
    assert "cell: 1 voxel of solid inside of holes left out" in caplog.text
    for number, (_, corners) in deck.elements.items():
        place = np.mean([deck.nodes[node] for node in corners], axis=0) / SPACING - 0.5
        assert np.ravel_multi_index(np.rint(place[::-1]).astype(int), (8, 9)) == number - 1


def test_pieces_that_meet_across_a_periodic_border_are_one(tmp_path: Path) -> None:
    phase = np.ones((1, 6, 8), np.uint8)
    phase[:, :, :2], phase[:, 3, :], phase[:, :, 7] = 0, 0, 0
    phase[:, 3, 6] = 1  # the last column hangs on the first one alone
    structure = cell(phase=phase, holes=("fibre",))
    write_inp(structure, tmp_path / "cell.inp")
    assert len(read_inp(tmp_path / "cell.inp").elements) == (phase == 0).sum()
    write_inp(replace(structure, periodic=False), tmp_path / "cell.inp")
    assert len(read_inp(tmp_path / "cell.inp").elements) == (phase == 0).sum() - 6
