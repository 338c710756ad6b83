"""What a run looks like in a terminal: header, bar, lines, tables, and what it says at its end."""
