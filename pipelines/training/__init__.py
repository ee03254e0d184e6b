"""Learning: from settings and batches to the weights of a network, and what makes it again."""
