"""Generators and critics: networks, losses, the physical loss, training, sampling."""
