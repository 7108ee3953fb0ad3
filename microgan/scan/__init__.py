"""Scans, from the files of a scanner to windows, and a simulated scan with its truth.

- `config`: `ScanConfig`, how one scan is read and split.
- `readers`: `open_scan` and `open_image`, for all formats; `images`: pages of the files that users name.
- `formats`: one module for each format; `stack`: `Scan`, what they return, and what they share.
- `slices`: which files of a folder are slices, and their order; `voxel_size`: the size that a file states.
- `ingest`: `ingest`, from a raw scan to normalised planes; `planes`: `Planes` and `ScanInfo`, what it wrote.
- `independence`: `dependent_parts`, planes of different parts that show the same fibres.
- `windows`: `Windows` of the planes; `halves`: `Halves` of what calibration may see.
- `symmetries`: the eight symmetries of a window.
- `simulate`: `simulate_scan`; `disc_packing`: `place` and `relax`, random packings of discs.
- `field_of_view`: where a plane shows the specimen; `grey_range`: whether planes were stretched one by one.
- `grey_scale`: whether images are on the grey scale of a scan.
"""
