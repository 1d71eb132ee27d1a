"""The specification's nouns as values; pure, standard library only."""
