"""The cases, by what they break. Each takes the grounds and a seed, and comes to a tally."""
