"""Structures as files that viewers and solvers read."""
