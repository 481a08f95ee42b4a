"""What is compared. A new work is a function that yields tables, and a line here."""

from collections.abc import Callable

from .commands import connect, first, warm
from .creation import create
from .files import transfer
from .link import link
from .memory import memory
from .output import output
from .parallel import parallel
from .stage import Stage, stage
from .tables import LIMIT_NAME, MORE_IS_BETTER, OURS_NAME, Table

# In the order in which they run.
WORKS: dict[str, Callable[[Stage], list[Table]]] = {
    "warm": warm,
    "connect": connect,
    "first": first,
    "link": link,
    "output": output,
    "memory": memory,
    "transfer": transfer,
    "create": create,
    # Leaves more sandboxes behind.
    "parallel": parallel,
}

__all__ = ["LIMIT_NAME", "MORE_IS_BETTER", "OURS_NAME", "WORKS", "Stage", "Table", "stage"]
