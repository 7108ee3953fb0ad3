"""How far samples can be trusted: descriptors, fidelity, image metrics, memorisation, effective properties."""
