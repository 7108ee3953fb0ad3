"""Exports, read back by other means than they were written."""

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tifffile

from microgan.core.errors import UserError
from microgan.exporters.export import (
    FORMATS,
    JOINT_FORMATS,
    ExportConfig,
    empty_sidecar,
    export,
    known_formats,
)
from microgan.exporters.export_input import ExportInput, phase_from_labels
from microgan.exporters.sidecar import Sidecar
from microgan.exporters.structure import Structure

PROVENANCE = {"model_sha256": "ab" * 32, "seed": 7, "git_commit": "c0ffee"}
VOXEL_UM = 0.65


@dataclass(frozen=True)
class Discs:
    row: np.ndarray
    col: np.ndarray
    radius_px: np.ndarray


@pytest.fixture
def structures() -> SimpleNamespace:
    rng = np.random.default_rng(0)
    phase = rng.random((3, 5, 7)) < 0.5
    circles = [Discs(*rng.uniform(0, 5, (2, n)), rng.uniform(1, 2, n)) for n in (2, 0, 1)]
    verdicts = [
        SimpleNamespace(valid=True, reasons=()),
        SimpleNamespace(valid=False, reasons=("overlap", "radius")),
        SimpleNamespace(valid=True, reasons=()),
    ]
    grey = rng.integers(0, 60000, phase.shape).astype(np.uint16)
    return SimpleNamespace(grey=grey, phase=phase, circles=circles, verdicts=verdicts)


def run(parts: SimpleNamespace, out: Path, **parameters: object) -> dict:
    config = ExportConfig.from_mapping({"include_invalid": True, **parameters}, "export")
    return export(ExportInput(**vars(parts)), PROVENANCE, out, config)


def test_only_valid_structures_are_written(structures: SimpleNamespace, tmp_path: Path) -> None:
    structures.sources = ["cell.tif[0]", "cell.tif[1]", "cell.tif[2]"]
    sidecar = run(structures, tmp_path / "out", formats=["tiff", "csv"], include_invalid=False)
    assert (sidecar["structures"], sidecar["judged"], sidecar["judged_valid"]) == (2, 3, 2)
    assert [verdict["valid"] for verdict in sidecar["verdicts"]] == [True, True]
    assert np.array_equal(tifffile.imread(tmp_path / "out/phase.tif"), structures.phase[[0, 2]])
    assert np.array_equal(tifffile.imread(tmp_path / "out/grey.tif"), structures.grey[[0, 2]])
    manifest = rows_of(tmp_path / "out/manifest.csv")
    assert [row["source"] for row in manifest] == ["cell.tif[0]", "cell.tif[2]"]
    assert [row["circles"] for row in manifest] == ["2", "1"]
    both = run(structures, tmp_path / "all", formats=["tiff"])
    assert (both["structures"], both["judged"], both["judged_valid"]) == (3, 3, 2)


def test_nothing_is_written_where_no_structure_is_valid(structures: SimpleNamespace, tmp_path: Path) -> None:
    structures.verdicts = [SimpleNamespace(valid=False, reasons=("overlap",))] * 3
    with pytest.raises(UserError, match=r"0 of 3 valid \(rejected for overlap 3\): .*include_invalid"):
        run(structures, tmp_path / "out", include_invalid=False)
    assert not (tmp_path / "out").exists()


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_tiff_holds_grey_and_phase_with_resolution(structures: SimpleNamespace, tmp_path: Path) -> None:
    run(structures, tmp_path / "out", voxel_size_um=VOXEL_UM)
    with (
        tifffile.TiffFile(tmp_path / "out/grey.tif") as grey,
        tifffile.TiffFile(tmp_path / "out/phase.tif") as phase,
    ):
        np.testing.assert_array_equal(grey.asarray(), structures.grey)
        assert grey.asarray().dtype == np.uint16
        np.testing.assert_array_equal(phase.asarray(), structures.phase.astype(np.uint8))
        for file in (grey, phase):
            numerator, denominator = file.pages[0].tags["XResolution"].value
            assert 1e4 / (numerator / denominator) == pytest.approx(VOXEL_UM)


def test_circles_are_in_pixels_and_in_the_coordinates_of_the_vti(
    structures: SimpleNamespace, tmp_path: Path
) -> None:
    run(structures, tmp_path / "out", voxel_size_um=VOXEL_UM)
    rows = rows_of(tmp_path / "out/circles.csv")
    assert [row["image"] for row in rows] == ["0", "0", "2"]
    last, disc = rows[-1], structures.circles[2]
    assert float(last["row"]) == pytest.approx(disc.row[0])
    assert float(last["radius_um"]) == pytest.approx(disc.radius_px[0] * VOXEL_UM)
    assert float(last["x_um"]) == pytest.approx((disc.col[0] + 0.5) * VOXEL_UM)
    assert float(last["y_um"]) == pytest.approx((disc.row[0] + 0.5) * VOXEL_UM)


def test_sidecar_and_manifest_say_what_it_is(structures: SimpleNamespace, tmp_path: Path) -> None:
    returned = run(structures, tmp_path / "out", voxel_size_um=VOXEL_UM, phases=["resin", "glass"])
    sidecar = json.loads((tmp_path / "out/export.json").read_text())
    assert sidecar == returned
    assert sidecar["provenance"] == PROVENANCE
    assert sidecar["phases"] == {"0": "resin", "1": "glass"}
    assert (sidecar["voxel_size_um"], sidecar["length_unit"]) == (VOXEL_UM, "um")
    assert sidecar["verdicts"][1] == {
        "structure": "structure_00001", "valid": False, "reasons": ["overlap", "radius"]
    }  # fmt: skip
    manifest = rows_of(tmp_path / "out/manifest.csv")
    assert [row["vti"] for row in manifest] == [f"vti/structure_{n:05d}.vti" for n in range(3)]
    assert float(manifest[1]["volume_fraction"]) == pytest.approx(structures.phase[1].mean(), abs=1e-6)
    assert manifest[1]["reasons"] == "overlap radius"


@pytest.mark.parametrize(("dark", "holes", "left_out"), [
    (False, None, []), (True, None, ["fibre"]), (True, [], []), (False, ["fibre"], ["fibre"]),
])  # fmt: skip
def test_dark_discs_are_holes_of_meshes_unless_they_are_said_to_be_solid(
    structures: SimpleNamespace,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    dark: bool,
    holes: list[str] | None,
    left_out: list[str],
) -> None:
    structures.discs_are_dark = dark
    formats = ["inp", "vti"]
    sidecar = run(structures, tmp_path / "out", formats=formats, voxel_size_um=VOXEL_UM, holes=holes)
    assert sidecar["holes"] == left_out
    for number in range(3):
        text = (tmp_path / f"out/inp/structure_{number:05d}.inp").read_text()
        assert ("ELSET=fibre" in text, "FREE_SURFACE" in text) == (not left_out, bool(left_out))
    assert ("inp: fibre is dark, so left out" in caplog.text) == (dark and holes is None)
    assert run(structures, tmp_path / "vti", formats=["vti"])["holes"] == []


def test_unknown_voxel_size_stays_unknown(structures: SimpleNamespace, tmp_path: Path) -> None:
    sidecar = run(structures, tmp_path / "out")
    assert sidecar["voxel_size_um"] is None
    assert sidecar["length_unit"] == "px"
    assert "unknown" in sidecar["voxel_size_note"]
    assert sidecar["spacing"] == 1
    assert 'Spacing="1.0 1.0 1.0"' in (tmp_path / "out/vti/structure_00000.vti").read_text()
    assert (tmp_path / "out/circles.csv").read_text().splitlines()[0] == "image,row,col,radius"
    with tifffile.TiffFile(tmp_path / "out/phase.tif") as phase:
        assert phase.pages[0].tags["ResolutionUnit"].value == 1  # none


def test_scan_gives_the_voxel_size_where_the_parameters_do_not() -> None:
    assert ExportConfig().or_voxel_size(2.0).voxel_size_um == 2.0
    assert ExportConfig(voxel_size_um=3.0).or_voxel_size(2.0).voxel_size_um == 3.0
    assert ExportConfig().or_voxel_size(None).voxel_size_um is None


def test_only_the_wanted_formats_and_as_many_as_wanted(structures: SimpleNamespace, tmp_path: Path) -> None:
    sidecar = run(structures, tmp_path / "out", formats=["vti"], limit=2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "export.json",
        "manifest.csv",
        "vti",
    ]
    assert (
        len(list((tmp_path / "out/vti").iterdir())) == sidecar["structures"] == len(sidecar["verdicts"]) == 2
    )


def test_phase_alone_is_enough(tmp_path: Path) -> None:
    phase = np.eye(4, dtype=bool)[None]
    export(ExportInput(phase, sources=["cell.png"]), {}, tmp_path / "out", ExportConfig())
    assert not (tmp_path / "out/grey.tif").exists()
    assert rows_of(tmp_path / "out/manifest.csv")[0]["source"] == "cell.png"


def test_second_export_replaces_the_first_as_a_whole(structures: SimpleNamespace, tmp_path: Path) -> None:
    run(structures, tmp_path / "out")
    run(structures, tmp_path / "out", formats=["csv"])
    assert not (tmp_path / "out/vti").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_failed_export_leaves_the_first_as_it_was(
    structures: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run(structures, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    monkeypatch.setattr("microgan.exporters.formats.tiff.write_tiff", full)
    with pytest.raises(UserError, match=r"out: .*No space left on device"):
        run(structures, tmp_path / "out", voxel_size_um=1.0)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_files_is_not_replaced(structures: SimpleNamespace, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        run(structures, tmp_path)
    with pytest.raises(UserError, match="is a file"):
        run(structures, thesis)
    with pytest.raises(UserError, match="must be a folder that can be written"):
        run(structures, thesis / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert thesis.read_text() == "years of work"


def test_files_of_the_user_in_an_export_are_not_lost(structures: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(structures, out, formats=["vti", "csv"])
    run(structures, out, formats=["csv"])  # an earlier export may be replaced
    assert not (out / "vti").exists()
    (out / ".DS_Store").touch()
    for name in ("job.inp", "vti/results.dat"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("days of computing")
        with pytest.raises(UserError, match=f"{name}: is of no export: would be lost"):
            run(structures, out, formats=["csv"])
        assert (out / name).read_text() == "days of computing"
        (out / name).unlink()
    (out / "circles.csv").write_text("edited")
    with pytest.raises(UserError, match=r"circles.csv: was changed since it was exported: would be lost"):
        run(structures, out, formats=["csv"])
    assert (out / "circles.csv").read_text() == "edited"


def test_unknown_format_is_refused_with_the_known_ones(structures: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"export.formats.0: 'stl': must be one of vti, vtk, .*csv, json"):
        run(structures, tmp_path / "out", formats=["stl"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("phase", np.zeros((3, 5, 7)), "phase: float64 .* must be bool"),
        ("phase", np.zeros((0, 5, 7), bool), "at least one structure"),
        ("grey", np.zeros((3, 5, 6)), r"grey: shape \(3, 5, 6\)"),
        ("circles", [], "circles: 0: must be as many as structures, 3"),
        ("verdicts", [], "verdicts: 0: must be as many as structures, 3"),
        ("sources", ["a", "b", "c", "d"], "sources: 4: must be as many as structures, 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    structures: SimpleNamespace, tmp_path: Path, name: str, value: object, message: str
) -> None:
    setattr(structures, name, value)
    with pytest.raises(UserError, match=message):
        run(structures, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (0, 255), (0, 65535)])
def test_labels_from_elsewhere(pair: tuple[int, int]) -> None:
    phase = np.random.default_rng(1).random((2, 4, 4)) < 0.5
    np.testing.assert_array_equal(phase_from_labels(np.where(phase, pair[1], pair[0]), "a.tif"), phase)


@pytest.mark.parametrize(("value", "disc"), [(0, False), (255, True), (2, True)])
def test_labels_of_a_single_value_are_accepted_where_they_are_clear(value: int, disc: bool) -> None:
    assert (phase_from_labels(np.full((1, 2, 2), value), "a.tif") == disc).all()


def test_labels_true_and_false() -> None:
    phase = np.array([[[True, False]]])
    np.testing.assert_array_equal(phase_from_labels(phase, "a.npy"), phase)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (range(200), "a.tif: 200 values from 0 to 199: phase image must hold two values"),
        ((3, 4), "a.tif: 3 and 4: "),
        ((1, 1), "a.tif: 1: "),
        ((0, 2), "a.tif: 0 and 2: "),
        ((0.0, np.nan), "a.tif: 0.0 and nan: "),
    ],
)
def test_images_that_are_no_phase_are_refused(values: tuple[float, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        phase_from_labels(np.array(values).reshape(1, 1, -1), "a.tif")


# Formats, units, sidecar --------------------------------------------------------------------------------


def test_every_format_has_files_that_manifest_and_sidecar_name(
    structures: SimpleNamespace, tmp_path: Path
) -> None:
    sidecar = run(
        structures, tmp_path / "out", voxel_size_um=VOXEL_UM, formats=list(known_formats()), element_size=0.8
    )
    written = {
        path.relative_to(tmp_path / "out").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and path.name != "export.json"
    }
    assert sidecar["files"] == written
    assert set(sidecar["formats"]) == set(sidecar["axis_order"]) == {*FORMATS, *JOINT_FORMATS}
    for row in rows_of(tmp_path / "out/manifest.csv"):
        for name, format in FORMATS.items():
            assert row[name] in written and row[name].startswith(f"{name}/{row['structure']}")
            assert row[name].endswith(format.suffix)


def test_same_structures_same_bytes(structures: SimpleNamespace, tmp_path: Path) -> None:
    options = {"formats": list(known_formats()), "voxel_size_um": VOXEL_UM, "element_size": 0.8}
    first, second = (run(structures, tmp_path / name, **options) for name in "ab")
    assert first == second


def test_clean_discs_are_drawn_as_fine_as_wanted(structures: SimpleNamespace, tmp_path: Path) -> None:
    clean = {"phase_from": "circles", "refinement": 4, "voxel_size_um": VOXEL_UM}
    sidecar = run(structures, tmp_path / "out", formats=["tiff", "csv"], **clean)
    assert (sidecar["rows"], sidecar["cols"], sidecar["voxel_size_um"]) == (20, 28, VOXEL_UM / 4)
    assert (sidecar["phase_from"], sidecar["refinement"]) == ("circles", 4)
    assert not (tmp_path / "out/grey.tif").exists()
    phase = tifffile.imread(tmp_path / "out/phase.tif")
    y, x = (np.indices(phase.shape[1:]) + 0.5) * VOXEL_UM / 4
    rows = [row for row in rows_of(tmp_path / "out/circles.csv") if row["image"] == "0"]
    inside = [
        np.hypot(y - float(row["y_um"]), x - float(row["x_um"])) <= float(row["radius_um"]) for row in rows
    ]
    np.testing.assert_array_equal(phase[0], np.any(inside, axis=0))
    assert float(rows[0]["radius_um"]) == pytest.approx(structures.circles[0].radius_px[0] * VOXEL_UM)


def test_grey_values_have_no_finer_detail(structures: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="refinement above 1 needs phase_from circles"):
        run(structures, tmp_path / "out", refinement=2)
    structures.circles = None
    with pytest.raises(UserError, match="phase_from: circles: needs circles"):
        run(structures, tmp_path / "out", phase_from="circles")


def test_sidecar_keeps_to_its_schema(structures: SimpleNamespace, tmp_path: Path) -> None:
    run(structures, tmp_path / "out", voxel_size_um=VOXEL_UM, extrude_voxels=4)
    text = (tmp_path / "out/export.json").read_text()
    sidecar = Sidecar.model_validate_json(text, strict=True)
    assert (sidecar.schema_name, sidecar.planes, sidecar.rows, sidecar.cols) == ("microgan-export-2", 4, 5, 7)
    schema = Sidecar.model_json_schema()
    assert set(schema["required"]) | {"schema", "note"} == set(json.loads(text)) == set(schema["properties"])
    with pytest.raises(ValueError, match="microgan-export-2"):
        Sidecar.model_validate_json(text.replace("microgan-export-2", "microgan-export-1"))


def test_an_export_without_structures_keeps_to_the_same_schema() -> None:
    content = empty_sidecar((5, 7), 9, PROVENANCE, ExportConfig())
    sidecar = Sidecar.model_validate_json(json.dumps(content), strict=True)
    assert (sidecar.structures, sidecar.judged, sidecar.provenance) == (0, 9, PROVENANCE)
    assert sidecar.note == "0 of 9 valid: nothing is written"


@pytest.mark.parametrize(("unit", "factor"), [("um", 1.0), ("mm", 1e-3), ("m", 1e-6)])
def test_lengths_are_in_the_wanted_unit(
    structures: SimpleNamespace, tmp_path: Path, unit: str, factor: float
) -> None:
    formats = ["vti", "csv", "json", "tiff"]
    sidecar = run(structures, tmp_path / "out", voxel_size_um=VOXEL_UM, length_unit=unit, formats=formats)
    assert (sidecar["length_unit"], sidecar["voxel_size_um"]) == (unit, VOXEL_UM)
    assert sidecar["spacing"] == pytest.approx(VOXEL_UM * factor, rel=1e-12)
    text = (tmp_path / "out/vti/structure_00000.vti").read_text()
    assert f'Spacing="{sidecar["spacing"]!r} ' in text and f"lengths in {unit} " in text
    disc = structures.circles[2]
    row = rows_of(tmp_path / "out/circles.csv")[-1]
    assert float(row[f"radius_{unit}"]) == pytest.approx(disc.radius_px[0] * VOXEL_UM * factor)
    content = json.loads((tmp_path / "out/circles.json").read_text())
    assert [len(structure["circles"]) for structure in content["structures"]] == [2, 0, 1]
    assert content["structures"][2]["circles"][0] == {
        name: float(value) for name, value in row.items() if name != "image"
    }
    with tifffile.TiffFile(tmp_path / "out/phase.tif") as phase:  # whose unit is its own
        numerator, denominator = phase.pages[0].tags["XResolution"].value
        assert 1e4 / (numerator / denominator) == pytest.approx(VOXEL_UM)


def test_circles_json_of_unknown_size_is_in_pixels(structures: SimpleNamespace, tmp_path: Path) -> None:
    run(structures, tmp_path / "out", formats=["json"])
    content = json.loads((tmp_path / "out/circles.json").read_text())
    assert content["length_unit"] == "px" and "unknown" in content["note"]
    disc = structures.circles[2]
    assert content["structures"][2]["circles"] == [
        {
            name: pytest.approx(values[0], rel=1e-7)
            for name, values in {"row": disc.row, "col": disc.col, "radius": disc.radius_px}.items()
        }
    ]


def test_phase_table_counts_voxels_and_circles(structures: SimpleNamespace, tmp_path: Path) -> None:
    run(structures, tmp_path / "out", phases=["resin", "glass"], extrude_voxels=2)
    rows = rows_of(tmp_path / "out/phases.csv")
    assert [(row["structure"][-1], row["id"], row["name"]) for row in rows] == [
        (str(index), phase, name) for index in range(3) for phase, name in (("0", "resin"), ("1", "glass"))
    ]
    discs = rows[1::2]
    assert [int(row["voxels"]) for row in discs] == list(2 * structures.phase.sum(axis=(1, 2)))
    assert [row["circles"] for row in discs] == ["2", "0", "1"]
    for resin, glass in zip(rows[::2], discs, strict=True):
        assert int(resin["voxels"]) + int(glass["voxels"]) == 2 * 5 * 7
        assert float(resin["volume_fraction"]) + float(glass["volume_fraction"]) == pytest.approx(1, abs=1e-6)


def test_manifest_counts_no_circles_as_none_but_not_unknown(
    structures: SimpleNamespace, tmp_path: Path
) -> None:
    run(structures, tmp_path / "out")
    assert [row["circles"] for row in rows_of(tmp_path / "out/manifest.csv")] == ["2", "0", "1"]
    structures.circles = None
    run(structures, tmp_path / "out")
    assert [row["circles"] for row in rows_of(tmp_path / "out/manifest.csv")] == ["", "", ""]


def test_periodic_is_carried_through(structures: SimpleNamespace, tmp_path: Path) -> None:
    config = ExportConfig(formats=("json", "hdf5", "nrrd"))
    for periodic in (True, False):
        inputs = ExportInput(structures.phase, circles=structures.circles, periodic=periodic)
        assert export(inputs, PROVENANCE, tmp_path / "out", config)["periodic"] is periodic
        content = json.loads((tmp_path / "out/circles.json").read_text())
        assert content["periodic"] is periodic
        with h5py.File(tmp_path / "out/hdf5/structure_00000.h5") as file:
            assert file["phase"].attrs["periodic"] == periodic
        header = (tmp_path / "out/nrrd/structure_00000.nrrd").read_bytes().partition(b"\n\n")[0]
        assert f"periodic:={'true' if periodic else 'false'}".encode() in header


# What is refused ----------------------------------------------------------------------------------------


def test_what_needs_a_voxel_size_is_refused_without_one(
    structures: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sized = SimpleNamespace(**{**vars(FORMATS["vti"]), "needs_voxel_size": True})
    monkeypatch.setitem(FORMATS, "vti", sized)
    with pytest.raises(UserError, match=r"format: vti: needs a voxel size: give --voxel-size-um"):
        run(structures, tmp_path / "out")
    with pytest.raises(UserError, match=r"length unit: mm: needs a voxel size: give --voxel-size-um"):
        run(structures, tmp_path / "out", formats=["csv"], length_unit="mm")
    assert not list(tmp_path.iterdir())
    run(structures, tmp_path / "out", voxel_size_um=1.0, length_unit="mm")


def test_what_needs_circles_is_refused_without_them(structures: SimpleNamespace, tmp_path: Path) -> None:
    structures.circles = None
    with pytest.raises(UserError, match=r"format: json: needs circles: give --reference"):
        run(structures, tmp_path / "out", formats=["vti", "json"])
    assert not list(tmp_path.iterdir())
    run(structures, tmp_path / "out", formats=["csv"])
    assert not (tmp_path / "out/circles.csv").exists()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"formats": ["csv", "csv"]}, "must not name one twice"),
        ({"formats": []}, "at least 1 item"),
        ({"phases": ["fibre", "fibre"]}, "must not name one twice"),
        ({"phases": ["matrix", "a\nb"]}, "should match pattern"),
        ({"length_unit": "inch"}, "'um', 'mm' or 'm'"),
        ({"extrude_voxels": 0}, "greater than or equal to 1"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ExportConfig.from_mapping(parameters, "export")
    assert str(caught.value).startswith("export.") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        (np.zeros((1, 2, 2)), "float64"),
        (np.zeros((2, 2), np.uint8), r"shape \(2, 2\)"),
        (np.zeros((1, 0, 2), np.uint8), "at least one voxel"),
        (np.full((1, 2, 2), 255, np.uint8), "values up to 255: must be phase ids 0 and 1"),
    ],
)
def test_structure_of_other_ids_is_refused(phase: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=f"phase of cell: .*{message}"):
        Structure("cell", phase)
