"""The report of a run, and all figures.

page
    `build_report` writes one HTML page with all tables and figures of a run.
results
    `ModelResult`: what the page shows of one model.
tables
    The page's tables as plain data; ``templates`` has their captions and the order of the page.
figures
    PNG files that stages and the command line write; in `scan`, `windows`, `rules`, `curves`.
image_grid
    `image_grid` puts previews side by side; the only place that imports torchvision.
"""
