"""The stress field of a deck, by CalculiX: `python -m benchmarks.stress_field --out docs/stress_field.png`.

The packed cell of `benchmarks.solving`, glass in epoxy, as a deck of triangles. Needs ccx (Debian package
calculix-ccx). Nodal stresses are means over the elements around a node, also across an interface.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.tri import Triangulation

from benchmarks.solving import GLASS, SIDE_PX, packed_cell
from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.exporters.formats.abaqus_mesh import write_inp_mesh
from microgan.exporters.structure import Structure

# Of six nodes of a triangle: the four triangles that corners and middles make
QUARTERS = ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5))
PANELS = (("mean strain xx 0.1 %", 0, "SXX"), ("mean strain xy 0.1 %", 2, "SXY"))  # step, component


def main() -> None:
    """Solve, and draw one panel for each load case of `PANELS`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="picture, PNG")
    options = parser.parse_args()
    phase = np.zeros((1, SIDE_PX, SIDE_PX), np.uint8)
    materials = {"matrix": GLASS.matrix, "fibre": GLASS.discs}
    structure = Structure(
        "cell", phase, packed_cell(0), voxel_size_um=0.6, periodic=True, materials=materials
    )
    with tempfile.TemporaryDirectory() as folder:
        write_inp_mesh(structure, Path(folder) / "cell.inp", 0.15, "stiffness")
        if shutil.which("ccx") is None:
            raise UserError("ccx", "not found", "must be installed: Debian package calculix-ccx")
        subprocess.run(["ccx", "cell_stiffness"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        places, triangles, steps = read_frd(Path(folder) / "cell_stiffness.frd")
    quarters = triangles[:, np.array(QUARTERS)].reshape(-1, 3)
    figure, axes = plt.subplots(1, len(PANELS), figsize=(7.2, 3.2), layout="constrained")
    for axis, (title, step, component) in zip(axes, PANELS, strict=True):
        values = steps[step][component]
        low, high = np.percentile(values, (1, 99))
        field = axis.tripcolor(
            Triangulation(places[:, 0], places[:, 1], quarters),
            values,
            shading="gouraud",
            cmap="inferno",
            vmin=low,
            vmax=high,
        )
        figure.colorbar(field, ax=axis, label=f"stress {component[1:].lower()}, MPa", shrink=0.85)
        axis.set(title=title, aspect="equal", xlabel="x, um", ylabel="y, um")
        axis.invert_yaxis()  # rows run downwards, as in the image
    with atomic(options.out) as draft:
        figure.savefig(draft, dpi=85, format="png")


def read_frd(path: Path) -> tuple[np.ndarray, np.ndarray, list[dict[str, np.ndarray]]]:
    """Read places (n, 2), triangles of six nodes (m, 6), and stresses by component, for each step."""
    numbers: list[int] = []
    triangles: list[list[int]] = []
    places: list[list[float]] = []
    values: list[list[float]] = []
    steps: list[dict[str, np.ndarray]] = []
    block, names = "", list[str]()
    for line in path.read_text(encoding="ascii").splitlines():
        key = line[:3].strip()
        if line[3:6].strip() in ("2C", "3C"):
            block = line[3:6].strip()
        elif key == "-4":
            block, names, values = line[5:13].strip(), [], []
        elif key == "-5":
            names.append(line[5:13].strip())
        elif key == "-1" and block in ("2C", "STRESS"):
            columns = range(13, len(line.rstrip()), 12)
            (numbers if block == "2C" else []).append(int(line[3:13]))
            (places if block == "2C" else values).append([float(line[at : at + 12]) for at in columns])
        elif key == "-2" and block == "3C":
            triangles.append([int(number) for number in line[3:].split()])
        elif key == "-3" and block == "STRESS":
            steps.append(dict(zip(names, np.array(values).T, strict=True)))
            block = ""
    index = np.full(max(numbers) + 1, -1)
    index[numbers] = np.arange(len(numbers))
    return np.array(places)[:, :2], index[np.array(triangles)], steps


if __name__ == "__main__":
    main()
