"""The formats that structures are written in. Each writer keeps to the rules of the solver that reads it."""
