"""Short forms for the long lists of languages and counts in this folder."""


def words(text: str) -> tuple[str, ...]:
    """Words of a text: language codes, mostly."""
    return tuple(text.split())


def table(text: str) -> dict[str, str]:
    """`af=afr ar=ara` as a mapping."""
    return dict(entry.split("=") for entry in text.split())


def counts(text: str) -> dict[str, int]:
    """`af=194 ar=909` as a mapping to integers."""
    return {name: int(count) for name, count in table(text).items()}
