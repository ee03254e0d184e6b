"""Colours of the pictures: Okabe and Ito's palette, which colour-blind readers can tell apart.

levels(ORANGE)                      # (230, 159, 0)
CLASS_COLOURS[(index - 1) % len(CLASS_COLOURS)]
"""

from typing import Final

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
YELLOW: Final = "#F0E442"
VERMILION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
INK: Final = "#333a44"

# Of the first, second, … foreground class. What a prediction finds is orange in every picture of the project.
CLASS_COLOURS: Final = (ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE)


def levels(colour: str) -> tuple[int, int, int]:
    """#rrggbb as three levels."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
