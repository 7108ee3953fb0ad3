"""The report and its figures."""
