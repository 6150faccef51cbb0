"""Completion of fleetctl's command lines: `shells` speaks with them, `candidates` knows what fits.

click finds the word that is being completed and the parameter it belongs to; the candidates of
each parameter are named where the parameter is.
"""
