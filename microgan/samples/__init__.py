"""Samples as users ask for them: cards, repaired large images, models from a folder or from MLflow.

card
    `SampleCard`, the JSON beside a file of samples, of the command line and of the pipeline; `SampleConfig`.
repair
    `sample_and_repair` and `repair`, with `RepairConfig` and `Repaired`; they use large_image, patches and
    window_grid.
model_store
    `model_folder`: a model by its folder or by its name in MLflow.
moved_store
    `follow_moved_store`: MLflow's data base in a project that was copied or moved.
served
    `Sampler`: a model as a model server calls it.
"""
