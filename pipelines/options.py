"""Options that several commands of `python -m pipelines` have."""

from typing import Annotated

import typer

Data = Annotated[str, typer.Option(help="Folder with images/ and masks/; empty: synthetic nuclei, made on first use.")]
Where = Annotated[
    str,
    typer.Option(
        help='Use only a slice: modality=fluorescence, or stain=a|b,site=c; what has , | = or " in it between '
        'double quotes: \'stain="H&E, 40x"\', a " in it twice.'
    ),
]
Groups = Annotated[str, typer.Option(help="Where groups.csv is kept, for a data folder that is read-only.")]
Slices = Annotated[str, typer.Option(help="Slice columns, comma-separated; default: text columns of ≤ 20 values.")]
