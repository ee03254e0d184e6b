"""Make tables where they are missing: those of the watch and of the quarantine come with the first row in them."""

from sqlalchemy import Engine, Table, inspect

from records.engines import exclusive, explained


def prepare(engine: Engine, *tables: Table) -> None:
    """Make those of these tables that are missing; safe from many processes at once.

    Raises:
        RecordsError: the database does not answer, or takes no tables.
    """
    with explained(engine):
        # Most find them: looking needs no lock, and no right to make tables.
        found = inspect(engine)
        if all(found.has_table(one.name) for one in tables):
            return
        with exclusive(engine) as connection:
            for one in tables:
                one.create(connection, checkfirst=True)
