"""The formats that scans are read in: each module reads the headers and returns a `Scan`.

- `tiff`: TIFF (multi-page, OME, ImageJ, BigTIFF, pyramids), one file or slices.
- `pictures`: PNG, BMP and JPEG, one file or slices; `colour`: grey values of colour images.
- `hdf5`: HDF5 and NeXus; `hdf5_voxel_size`: the sizes in their attributes.
- `arrays`: NPY and raw values.
- `zarr`, `dicom`, `nrrd`, `metaimage`: with the packages of the extra ``formats``.
"""
