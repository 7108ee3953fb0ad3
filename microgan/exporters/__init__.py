"""Structures as files that viewers and solvers read.

| module | what others use |
|---|---|
| export | `export`, `ExportConfig`, `known_formats`, `empty_sidecar` |
| export_input | `ExportInput`: images, circles and verdicts to export; `phase_from_labels` |
| structure | `Structure`: what a format writes |
| sidecar | `Sidecar`: the schema of ``export.json`` |
| rendering | `render_phase`: a phase image drawn from circles |
| deck_record | `DeckRecord`: what a solver's result of a deck is read with |
| outlines | `disc_area`: the exact area of united and cut discs |

To add an export format, write ``formats/NAME.py`` with a `Format` (a file for each structure) or a
`JointFormat` (a file for all of them), and add it to ``FORMATS`` or ``JOINT_FORMATS`` in ``export.py``.
"""
