"""The command line, each command as a real process."""
