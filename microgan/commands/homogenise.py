"""`microgan homogenise`: the effective stiffness from what CalculiX printed for a deck."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microgan.core.errors import UserError, escaped
from microgan.core.files import must_be_regular
from microgan.core.json_files import read_json, write_json
from microgan.core.notes import warn
from microgan.core.words import counted
from microgan.evaluation.transverse_bounds import transverse_bounds
from microgan.exporters.deck_record import SCHEMA, DeckPhase, DeckRecord

AXES = "xyz"
PRINTED_DIGITS = 7  # of a force in CalculiX
DECK = "give the .dat of a deck that `microgan export --deck` wrote and CalculiX solved"
TOTAL = re.compile(
    r"^ *total force .* for set ([XYZ])_MAX and time +(\S+) *\n\s*\n? *(\S+) +(\S+) +(\S+)", re.MULTILINE
)

NODES = re.compile(r"^ *forces .* for set X_MAX .*\n\s*\n((?: +\d+ +\S+ +\S+ +\S+ *\n)+)", re.MULTILINE)


def homogenise(dat: Path, out: Path | None = None) -> dict[str, Any]:
    """Read the forces of a solved deck, and return the stiffness with its engineering constants and bounds.

    Parameters
    ----------
    dat
        What CalculiX printed. The record of the deck is beside it, under the same name.
    out
        JSON file to write.

    Raises
    ------
    UserError
        If the record is missing or another one, forces are missing, or the stiffness is none.
    """
    path = dat.with_suffix(".json")
    if not path.exists():
        raise UserError(path, "missing", f"must be beside the .dat, as the deck's record: {DECK}")
    fields = read_json(path)
    if fields.get("schema") != SCHEMA:
        raise UserError(path, f"schema {fields.get('schema')}", f"must be {SCHEMA}: {DECK}")
    record = DeckRecord.from_mapping(fields, str(path))
    components = [case.component for case in record.load_cases]
    stiffness_gpa = _stiffness(dat, record)
    symmetric = (stiffness_gpa + stiffness_gpa.T) / 2
    if not np.isfinite(stiffness_gpa).all() or not (np.linalg.eigvalsh(symmetric) > 0).all():
        rule = "must be positive in every direction: is the solid connected, did the solver warn?"
        raise UserError(dat, "stiffness with eigenvalues of 0 or below", rule)
    symmetry_error = float(np.abs(stiffness_gpa - stiffness_gpa.T).max() / np.abs(stiffness_gpa).max())
    isotropic = _isotropic_part(symmetric, components, record.phases)
    result = {
        "files": {"dat": str(dat), "record": str(path), **({} if out is None else {"out": str(out)})},
        "deck": record.deck,
        "state": "plane strain" if len(record.size) == 2 else "three-dimensional",
        "phases": [phase.model_dump() for phase in record.phases],
        "components": components,
        "stiffness_gpa": stiffness_gpa.tolist(),
        "symmetry_error": symmetry_error,
        "engineering": _engineering(symmetric, components) if record.deck == "stiffness" else None,
        "isotropic_part": isotropic,
        "worst_element_quality": record.worst_element_quality,
    }
    for name, part in isotropic.items():
        if not part["inside"]:
            words = "the mesh is too coarse, or the cell is far from isotropic"
            warn(f"{dat}: {name.removesuffix('_gpa').replace('_', ' ')} outside of its bounds: {words}")
    if out is not None:
        write_json(out, result)
    return result


def _stiffness(dat: Path, record: DeckRecord) -> np.ndarray:
    """Stiffness in GPa: rows are components of stress, columns the load cases."""
    must_be_regular(dat)
    forces: dict[str, list[list[float]]] = {}  # by axis, a row for each step
    text = dat.read_text(encoding="ascii", errors="replace")
    _must_be_of(record, dat, text)
    for letter, _, *force in TOTAL.findall(text):
        forces.setdefault(letter.lower(), []).append([_number(dat, figure) for figure in force])
    cases, areas = record.load_cases, record.face_areas
    if not forces:
        raise UserError(dat, "no total forces on X_MAX", f"must have some: {DECK}")
    steps = min(len(forces.get(letter, ())) for letter in AXES[: len(areas)])
    if steps != len(cases) or len({len(rows) for rows in forces.values()}) > 1:
        rule = f"must have {len(cases)}: did the solver stop with an error?"
        raise UserError(dat, f"forces of {counted(steps, 'load case')}", rule)
    stiffness = np.empty((len(cases), len(cases)))
    for row, stressed in enumerate(cases):
        face, direction = (AXES.index(letter) for letter in stressed.component)
        for column, case in enumerate(cases):
            stress = forces[AXES[face]][column][direction] / areas[face] / record.stress_per_gpa
            stiffness[row, column] = stress / case.strain
    return stiffness


def _must_be_of(record: DeckRecord, dat: Path, text: str) -> None:
    """Refuse the forces of another mesh: two decks may have files of the same name."""
    block = NODES.search(text)
    numbers = [int(row.split()[0]) for row in block[1].splitlines()] if block else []
    known = record.x_max_nodes_sha256
    if numbers and known is not None and DeckRecord.nodes_digest(numbers) != known:
        rule = f"must be what CalculiX printed for the deck of {record.mesh}: its nodes on X_MAX are others"
        raise UserError(dat, "of another deck", rule)


def _number(dat: Path, figure: str) -> float:
    try:
        number = float(figure)
    except ValueError:  # Fortran prints stars where a number has no room
        number = np.nan
    if not np.isfinite(number):
        raise UserError(dat, f"force {figure}", "must be a number: the solver found no solution")
    return number


def _engineering(stiffness: np.ndarray, components: Sequence[str]) -> dict[str, float]:
    """Young's moduli, Poisson's ratios (of the strain along the second axis) and shear moduli."""
    compliance = np.linalg.inv(stiffness)
    constants = {}
    for index, component in enumerate(components):
        first, second = component[0], component[1]
        name = f"young_modulus_{first}_gpa" if first == second else f"shear_modulus_{first}{second}_gpa"
        constants[name] = 1 / compliance[index, index]
    normal = [index for index, component in enumerate(components) if component[0] == component[1]]
    for index in normal:
        for across in normal:
            if across != index:
                name = f"poisson_ratio_{components[index][0]}{components[across][0]}"
                constants[name] = -compliance[across, index] / compliance[index, index]
    return {name: float(value) for name, value in sorted(constants.items())}


def _isotropic_part(
    stiffness: np.ndarray, components: Sequence[str], phases: Sequence[DeckPhase]
) -> dict[str, Any]:
    """Moduli in the plane, of the part that is the same in every direction, and their bounds."""
    at = {
        (row, column): stiffness[i, j]
        for i, row in enumerate(components)
        for j, column in enumerate(components)
    }
    normal, across = at["xx", "xx"] + at["yy", "yy"], 2 * at["xx", "yy"]
    moduli = {"bulk_modulus_gpa": (normal + across) / 4}
    if "xy" in components:
        moduli["shear_modulus_gpa"] = (normal - across + 4 * at["xy", "xy"]) / 8
    shear = [(phase.young_modulus_gpa or 0.0) / (2 + 2 * (phase.poisson_ratio or 0.0)) for phase in phases]
    bulk = [one / (1 - 2 * (phase.poisson_ratio or 0.0)) for one, phase in zip(shear, phases, strict=True)]
    bounds = transverse_bounds([phase.volume_fraction for phase in phases], bulk, shear)
    slack = 10.0**-PRINTED_DIGITS
    return {
        name: {
            "value": float(value),
            "hashin_shtrikman": [low, high],
            "inside": bool(low * (1 - slack) <= value <= high * (1 + slack)),
        }
        for (name, value), (low, high) in zip(moduli.items(), bounds, strict=False)
    }


def in_words(result: Mapping[str, Any]) -> str:
    """Return the result as lines to read."""
    phases = ", ".join(
        f"{phase['name']} {phase['volume_fraction']:.4f}"
        + (" (hole)" if phase["young_modulus_gpa"] is None else "")
        for phase in result["phases"]
    )
    border = "periodic" if result["deck"] == "stiffness" else "borders flat and free of shear"
    components = result["components"]
    lines = [f"{escaped(Path(result['files']['dat']))}: {border}, {result['state']}; fractions: {phases}"]
    lines += ["stiffness, GPa" + "".join(f"{name:>12}" for name in components)]
    for name, row in zip(components, result["stiffness_gpa"], strict=True):
        lines += [f"{name:>14}" + "".join(f"{value:12.5f}" for value in row)]
    digits = f"CalculiX prints {PRINTED_DIGITS} digits"
    lines += [f"symmetry error {result['symmetry_error']:.1e} of the largest entry ({digits})"]
    if result["engineering"]:
        lines += [", ".join(_in_words(name, value) for name, value in result["engineering"].items())]
    for name, part in result["isotropic_part"].items():
        low, high = part["hashin_shtrikman"]
        inside = "inside" if part["inside"] else "OUTSIDE of"
        kind = name.removesuffix("_gpa").replace("_", " ")
        lines += [
            f"{kind} in the plane {part['value']:.5g} GPa, {inside} Hashin-Shtrikman {low:.5g} to {high:.5g}"
        ]
    return "\n".join(lines)


def _in_words(name: str, value: float) -> str:
    words = name.removesuffix("_gpa").replace("_", " ")
    return f"{words} {value:.5g}" + (" GPa" if name.endswith("_gpa") else "")
