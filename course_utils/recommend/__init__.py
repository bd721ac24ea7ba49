"""A recommender of small size: a simulated population, two networks, measures, and ways to adapt (notebook 07)."""
