"""A page about a run, from its artefacts alone."""
