"""Scans, from the files of a scanner to windows, and a simulated scan with its truth.

- `config`: `ScanConfig`, how one scan is read and split.
- `readers`: `open_scan` and `open_image`, for all formats; `images`: pages of the files that users name.
- `ingest`: `ingest`, from a raw scan to normalised planes; `planes`: `Planes` and `ScanInfo`, what it wrote.
- `independence`: `dependent_parts`, planes of different parts that show the same fibres.
- `windows`: `Windows` of the planes; `symmetries`: the eight symmetries of a window.
- `simulate`: `simulate_scan`; `disc_packing`: `place` and `relax`, random packings of discs.
- `voxel_size`: the voxel size that a TIFF file states; `grey_scale`: whether images are on a scan's scale.
"""
