"""The error block on stderr."""

from finetune.errors import ConfigError, FinetuneError
from finetune.printable import printable

LONGEST = 4000  # characters that are shown of one problem


def block(error: FinetuneError) -> str:
    """Returns one line for a single problem, and a list for several problems."""
    found = error.problems if isinstance(error, ConfigError) else [str(error)]
    problems = [
        text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
        for text in map(printable, found)
    ]
    if len(problems) > 1:
        return "\n  - ".join([f"error: {len(problems)} problems", *problems])
    return f"error: {problems[0]}"
