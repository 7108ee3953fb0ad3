"""The report of a run, and all figures.

page
    `build_report` writes one HTML page with all tables and figures of a run.
results
    `ModelResult`: what the page shows of one model.
tables, run_tables, comparison_tables
    The page's tables as plain data; ``templates`` has their captions and the order of the page.
verdict
    What came out, in a sentence.
numbering
    Numbers of tables and figures, and references to them.
figures
    PNG and SVG files that stages and the command line write; in `scan`, `windows`, `rules`, `curves`.
image_grid
    `image_grid` puts previews side by side; the only place that imports torchvision.
"""
