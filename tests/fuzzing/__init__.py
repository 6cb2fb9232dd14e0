"""Coverage-guided fuzzing of the readers that take free text; run by `make fuzz`, and no part of `make test`."""
