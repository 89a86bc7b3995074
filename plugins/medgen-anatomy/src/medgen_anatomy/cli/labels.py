"""Label numbers on the command line."""

from __future__ import annotations

from medgen.errors import ConfigError

__all__ = ["label_numbers"]


def label_numbers(words: list[str] | None) -> dict[str, int]:
    """Words "LV=2" as numbers by name.

    Raises:
        ConfigError: another form or name, or twice the same number.

    >>> label_numbers(["LV=2", "MYO=1"])
    {'LV': 2, 'MYO': 1}
    """
    numbers: dict[str, int] = {}
    for word in words or []:
        name, _, number = word.partition("=")
        if name not in ("LV", "MYO") or not number.isdigit() or number == "0":
            raise ConfigError(f"--labels must be given as LV=NUMBER and MYO=NUMBER, numbers above 0; got {word!r}.")
        numbers[name] = int(number)
    if len(set(numbers.values())) < len(numbers):
        raise ConfigError(f"--labels LV and MYO must differ; got LV={numbers['LV']} and MYO={numbers['MYO']}.")
    return numbers
