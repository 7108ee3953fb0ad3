"""The commands of `microgan.cli`: files in, files out, a module for each command.

Each function returns the figures that ``--json`` prints.

detect, simulate, sample, validate, compare, export, homogenise
    The function of the same name.
images
    What several commands share: the reference as a file, sizes of images, names of overlays.
"""
