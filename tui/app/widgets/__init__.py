"""Parts of the screens: table, knobs, bars, lines to type in."""
