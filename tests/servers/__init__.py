"""Real servers, started by the tests themselves: on loopback, on free ports, in temporary folders, and stopped again."""
