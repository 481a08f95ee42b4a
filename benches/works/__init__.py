"""What is compared. A new work is a function that yields tables, and a line here."""

from collections.abc import Callable

from .border import border
from .commands import connect, first, warm
from .creation import create
from .files import small, transfer, tunnel
from .link import link, link_files
from .memory import memory
from .output import output
from .parallel import parallel, parallel_files
from .stage import Stage, stage
from .tables import LIMIT_NAME, MORE_IS_BETTER, Table
from .trees import trees

# In the order in which they run.
WORKS: dict[str, Callable[[Stage], list[Table]]] = {
    "warm": warm,
    "border": border,
    "connect": connect,
    "first": first,
    "link": link,
    "output": output,
    "memory": memory,
    "small": small,
    "transfer": transfer,
    "trees": trees,
    "link-files": link_files,
    "tunnel": tunnel,
    "create": create,
    # These leave more sandboxes behind.
    "parallel": parallel,
    "parallel-files": parallel_files,
}

__all__ = ["LIMIT_NAME", "MORE_IS_BETTER", "WORKS", "Stage", "Table", "stage"]
