"""freqtrade-style commands: argument tables and `start_*` functions."""
