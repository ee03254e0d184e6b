"""Text that both databases can store."""


def storable(text: str) -> str:
    """A text without NUL and half surrogate pairs: people and clients write anything, but no database stores those."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode("utf-8")
