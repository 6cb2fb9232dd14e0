"""The console script: starts `cli`, or says plainly why it cannot.

`domain`, `projections` and `adapters` are names that other distributions use too, and pip lets one overwrite another
without a word. What that leaves is an import error deep inside; here it becomes a sentence.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from adapters.cli import main as run
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("domain", "projections", "adapters"):
            raise
        print(
            f"netledger: {error}. Another distribution seems to have replaced one of netledger's packages (domain, "
            "projections, adapters); install netledger into an environment of its own, for instance with pipx",
            file=sys.stderr,
        )
        sys.exit(2)
    run()
