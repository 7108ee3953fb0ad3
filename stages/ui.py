"""Prepare MLflow's page for ``make ui``, and print its address: ``python -m stages.ui``."""

import os

from microgan.core.errors import UserError
from stages.executions import client_of, close_dead_runs, find_experiment, save_view
from stages.stage import load_params, section


def main() -> None:
    """Run as a program."""
    client = client_of()
    experiment = find_experiment(client)
    close_dead_runs(client, experiment)
    try:
        models = list(section(load_params(), "models"))
    except UserError:  # the page is there for broken parameters, too
        models = []
    view = save_view(client, experiment, models)
    port = os.environ.get("PORT", "5000")
    query = f"viewStateShareKey={view}&workflowType=machine_learning"
    print(f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?{query}")


if __name__ == "__main__":
    main()
