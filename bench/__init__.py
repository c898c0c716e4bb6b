"""The benchmark: Busway beside its peers, under one load generator.

``python -m bench`` runs it. ``bench/README.md`` says how to read it and how to add to it.
"""
