"""Jobs for solvers on periodic grids of voxels, by fast Fourier transforms: DAMASK and FANS.

Both solve six load cases, one for each component of the mean strain; a cell of one material along the discs'
axis under xx, yy and xy is in plane strain. The mean stress over the strain is a column of the stiffness.

``DAMASK``, beside the VTI files, for all of them: ``material.yaml`` and ``load_stiffness.yaml``. Its lines
are in block style, as its own parser wants them.

``FANS``, beside each HDF5 file: ``NAME.fans.json``. Strains are in Mandel's notation, shear times the root
of two.

References
----------
F. Roters et al., DAMASK, Computational Materials Science 158 (2019) 420-478; its sources DAMASK_grid.f90 and
VTI.f90. FANS, https://github.com/DataAnalyticsEngineering/FANS: src/reader.cpp, include/MaterialManager.h.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from microgan import __version__
from microgan.core.errors import UserError
from microgan.exporters.deck_record import DeckKind
from microgan.exporters.structure import Elastic, Structure

STRAIN = 1e-3
COMPONENTS = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}
PA_PER_GPA = 1e9
FANS_LEAST_COLS = 4
YAML_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # which are no names in YAML


def bulk_and_shear_gpa(elastic: Elastic) -> tuple[float, float]:
    """Return the bulk modulus, of three dimensions, and the shear modulus."""
    young, poisson = elastic.young_modulus_gpa, elastic.poisson_ratio
    return young / (3 * (1 - 2 * poisson)), young / (2 * (1 + poisson))


def must_take_spectral_deck(structure: Structure, kind: DeckKind) -> Mapping[str, Elastic]:
    """Return the materials of all phases, or refuse the deck.

    Raises
    ------
    UserError
        If the structure is not periodic, or elastic constants of a phase are not known.
    """
    if not structure.periodic:
        rule = "needs a periodic structure: give --periodic if opposite borders fit together"
        raise UserError("deck", kind, rule)
    known = structure.materials or {}
    missing = [name for name in structure.phases if name not in known]
    if missing:
        rule = f"needs elastic constants of {' and '.join(missing)}: give materials"
        if set(missing) & set(structure.holes):
            rule += "; vti and hdf5 keep holes, as a phase that may be a thousand times softer"
        raise UserError("deck", kind, rule)
    return known


# DAMASK -------------------------------------------------------------------------------------------------


def damask_material(structure: Structure, materials: Mapping[str, Elastic]) -> str:
    """Return ``material.yaml``: the entries of ``material`` are in the order of the phase ids; Pa."""
    names = [_yaml_name(name) for name in structure.phases]
    if len(set(names)) < len(names):
        raise UserError("phases", ", ".join(structure.phases), "must differ in more than signs and blanks")
    lines = [f"# microgan {__version__}; moduli in Pa", "homogenization:", "  direct:"]
    lines += ["    N_constituents: 1", "    mechanical:", "      type: pass", "phase:"]
    for name, phase in zip(names, structure.phases, strict=True):
        bulk, shear = (PA_PER_GPA * value for value in bulk_and_shear_gpa(materials[phase]))
        lines += [f"  {name}:", "    lattice: cI", "    mechanical:", "      output: [F, P]"]
        lines += ["      elastic:", "        type: Hooke"]
        lines += [f"        C_11: {bulk + 4 / 3 * shear:.12e}", f"        C_12: {bulk - 2 / 3 * shear:.12e}"]
        lines += [f"        C_44: {shear:.12e}"]
    lines.append("material:")
    for name in names:
        lines += ["  - homogenization: direct", "    constituents:", f"      - phase: {name}"]
        lines += ["        v: 1.0", "        O: [1.0, 0.0, 0.0, 0.0]"]
    return "\n".join(lines) + "\n"


def damask_load() -> str:
    """Return ``load_stiffness.yaml``: a step for each component, which takes back the strain before it."""
    lines = [f"# microgan {__version__}: steps of mean strain {', '.join(COMPONENTS)}"]
    lines += ["solver:", "  mechanical: spectral_basic", "loadstep:"]
    for strain in _strains():
        rows = ", ".join(f"[{', '.join(repr(float(value)) for value in row)}]" for row in np.eye(3) + strain)
        lines += ["  - boundary_conditions:", "      mechanical:", f"        F: [{rows}]"]
        lines += ["    discretization:", "      t: 1.0", "      N: 1", "    f_out: 1"]
        lines += ["    estimate_rate: false"]
    return "\n".join(lines) + "\n"


def _yaml_name(name: str) -> str:
    plain = re.sub(r"\W", "_", name)
    return f"phase_{plain}" if plain.lower() in YAML_WORDS else plain


# FANS ---------------------------------------------------------------------------------------------------


def fans_input(
    structure: Structure, kind: DeckKind, microstructure: Mapping[str, object]
) -> dict[str, object]:
    """Return a whole input file of FANS, from its section ``microstructure``; moduli in GPa.

    Raises
    ------
    UserError
        As `must_take_spectral_deck`, and if FANS would stop or warn: a phase without voxels, an odd number of
        voxels along an axis.
    """
    materials = must_take_spectral_deck(structure, kind)
    _must_suit_fans(structure, kind)
    moduli = [bulk_and_shear_gpa(materials[name]) for name in structure.phases]
    return {
        "microstructure": dict(microstructure),
        "problem_type": "mechanical",
        "strain_type": "small",
        "materials": [
            {
                "phases": [index],
                "matmodel": "LinearElasticIsotropic",
                "material_properties": {"bulk_modulus": [bulk], "shear_modulus": [shear]},
            }
            for index, (bulk, shear) in enumerate(moduli)
        ],
        "FE_type": "HEX8",
        "method": "cg",
        "error_parameters": {"measure": "Linfinity", "type": "relative", "tolerance": 1e-10},
        "n_it": 1000,
        "macroscale_loading": [[_mandel(strain)] for strain in _strains()],
        "results": ["stress_average", "strain_average", "homogenized_tangent", "absolute_error"],
    }


def _must_suit_fans(structure: Structure, kind: DeckKind) -> None:
    planes, rows, cols = structure.phase.shape
    if planes % 2:
        rule = "hdf5 needs an even number of planes for FANS: give extrude_voxels 2 (--extrude-voxels 2)"
        raise UserError("deck", kind, rule)
    if rows % 2 or cols % 2 or cols < FANS_LEAST_COLS:
        rule = f"hdf5 needs even numbers of voxels for FANS, {FANS_LEAST_COLS} columns or more"
        raise UserError("deck", kind, f"{rule}, has {rows} x {cols}: refinement 2 doubles them")
    present = set(np.unique(structure.phase[0]).tolist())
    absent = [name for index, name in enumerate(structure.phases) if index not in present]
    if absent:
        rule = f"{structure.name} has no voxel of {' and '.join(absent)}: FANS needs every phase"
        raise UserError("deck", kind, rule)


def _mandel(strain: np.ndarray) -> list[float]:
    return [
        float(strain[pair] if pair[0] == pair[1] else np.sqrt(2) * strain[pair])
        for pair in COMPONENTS.values()
    ]


def _strains() -> Iterator[np.ndarray]:
    """Yield the strain (3, 3) of each load case; a shear of half on either side of the diagonal."""
    for first, second in COMPONENTS.values():
        strain = np.zeros((3, 3))
        strain[first, second] += STRAIN / 2
        strain[second, first] += STRAIN / 2
        yield strain
