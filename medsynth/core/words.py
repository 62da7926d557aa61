"""Numbers in sentences."""


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 fold`, `2 folds`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
