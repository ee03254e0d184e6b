"""Whether two samples of images come from one source: exact permutation tests, pure numpy."""
