"""HDF5, with an XDMF file beside it for ParaView and the beginning of an input file for FANS."""

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import h5py

from microgan import __version__
from microgan.core.json_files import write_json
from microgan.exporters.deck_record import DeckKind
from microgan.exporters.formats.format import Format
from microgan.exporters.formats.spectral_deck import fans_input
from microgan.exporters.structure import Structure

DATASET = "phase"


def write_hdf5(structure: Structure, path: Path, deck: DeckKind | None = None) -> None:
    """Write the data set ``phase``, and beside it NAME.xdmf and NAME.fans.json, with a deck a whole input.

    The attributes ``permute_order`` and ``L`` tell FANS and its tools the order of axes and, in that order,
    the physical lengths; the others say what ids and lengths mean. FANS warns of odd numbers of voxels, so
    extrude a plane to two at least.

    References
    ----------
    FANS, https://github.com/DataAnalyticsEngineering/FANS, src/reader.cpp; MSUtils, of the same authors.
    """
    content = io.BytesIO()  # not the file itself: on a full disk HDF5 ends the process by a signal
    with h5py.File(content, "w") as file:
        file.attrs["microgan"] = __version__
        dataset = file.create_dataset(DATASET, data=structure.phase, compression="gzip", chunks=True)
        dataset.attrs["permute_order"] = "zyx"
        dataset.attrs["L"] = structure.size
        dataset.attrs["spacing"] = [structure.spacing] * 3
        dataset.attrs["unit"] = structure.unit
        dataset.attrs["note"] = structure.unit_note
        dataset.attrs["phases"] = list(structure.phases)
        dataset.attrs["periodic"] = structure.periodic
    path.write_bytes(content.getbuffer())
    path.with_suffix(".xdmf").write_text(xdmf(structure, path.name))
    section = fans_microstructure(structure, path.name)
    job = {"microstructure": section} if deck is None else fans_input(structure, deck, section)
    write_json(path.with_suffix(".fans.json"), job)


def xdmf(structure: Structure, file_name: str) -> str:
    """Return the text of the XDMF file by which ParaView reads the HDF5 file ``file_name`` of its folder.

    References
    ----------
    XDMF model and format, https://www.xdmf.org/index.php/XDMF_Model_and_Format
    """
    root = ElementTree.Element("Xdmf", Version="2.0")
    grid = ElementTree.SubElement(ElementTree.SubElement(root, "Domain"), "Grid", Name=structure.name)
    ElementTree.SubElement(grid, "Information", Name="unit", Value=structure.unit_note)
    points = " ".join(str(count + 1) for count in structure.phase.shape)
    ElementTree.SubElement(grid, "Topology", TopologyType="3DCoRectMesh", Dimensions=points)
    geometry = ElementTree.SubElement(grid, "Geometry", GeometryType="ORIGIN_DXDYDZ")
    for values in ("0 0 0", " ".join([repr(structure.spacing)] * 3)):
        item = ElementTree.SubElement(geometry, "DataItem", Dimensions="3", Format="XML")
        item.attrib |= {"NumberType": "Float", "Precision": "8"}
        item.text = values
    attribute = ElementTree.SubElement(grid, "Attribute", Name=DATASET, AttributeType="Scalar", Center="Cell")
    cells = " ".join(str(count) for count in structure.phase.shape)
    item = ElementTree.SubElement(attribute, "DataItem", Dimensions=cells, Format="HDF")
    item.attrib |= {"NumberType": "UChar", "Precision": "1"}
    item.text = f"{file_name}:/{DATASET}"
    ElementTree.indent(root)
    return '<?xml version="1.0"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def fans_microstructure(structure: Structure, file_name: str) -> dict[str, object]:
    """Return the section ``microstructure`` of an input file of FANS; lengths are along x, y, z."""
    return {"filepath": file_name, "datasetname": f"/{DATASET}", "L": list(structure.size[::-1])}


HDF5 = Format(
    write_hdf5,
    ".h5",
    "HDF5, data set 'phase' = phase id; .xdmf beside it for ParaView, .fans.json for the input file of FANS; "
    "with a deck it is the whole file",
    takes_deck=True,
    decks=("stiffness",),
)
