"""Names that try something with a terminal, with markup or with paths, and how they are shown."""

NAMES = {
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x1b]8;;file:x\x1b\\link": r"\x1b]8;;file:x\x1b\link",
    "\x9b2J": r"\x9b2J",  # CSI in one character
    "a\x08\x08b": r"a\x08\x08b",
    "a\rb\nc\td\x0be\x00": r"a\rb\nc\td\x0be\x00",
    "a\u2028b\u2029c\x85": r"a\u2028b\u2029c\x85",
    "gnp\u202eexe": r"gnp\u202eexe",
    "\u2066x\u2069\u200e": r"\u2066x\u2069\u200e",
    "zero\u200bwidth\ufeff": r"zero\u200bwidth\ufeff",
    "\udcff\udcfe": r"\udcff\udcfe",
    "[red]markup[/red]": "[red]markup[/red]",
    "[/]": "[/]",
    "[link=file:x]y[/link]": "[link=file:x]y[/link]",
    "[@click=app.bell]y": "[@click=app.bell]y",
    ":bomb:": ":bomb:",
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "../../etc/passwd": "../../etc/passwd",
    "=cmd()": "=cmd()",
    "%s{}": "%s{}",
    "back\\slash": "back\\slash",
    "katze 猫 кот قطة בית": "katze 猫 кот قطة בית",
    "नमस्‍ते 👩‍🔬": "नमस्‍ते 👩‍🔬",  # joined
    "wide\u3000space": "wide\u3000space",
}  # fmt: skip
