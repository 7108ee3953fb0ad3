"""Samples as users ask for them: repair, cards, models from a folder or from MLflow."""
