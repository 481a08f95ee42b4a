"""What is compared. A new work is a function that yields tables, and a line here."""

from collections.abc import Callable

from .boundary import boundary
from .commands import connect, first, warm
from .creation import create
from .files import small, transfer, tunnel
from .link import link, link_files
from .memory import memory
from .output import output
from .parallel import parallel, parallel_files, parallel_many
from .server import server
from .stage import Stage, stage
from .tables import LIMIT_NAME, MORE_IS_BETTER, Table
from .trees import trees

Work = Callable[[Stage], list[Table]]
# In the order in which they run.
WORKS: dict[str, Work] = {
    "connect": connect,
    "warm": warm,
    "link": link,
    "parallel": parallel,
    "output": output,
    "transfer": transfer,
    "trees": trees,
    "tunnel": tunnel,
    "create": create,
    "server": server,
}
# Only if they are asked for.
MORE_WORKS: dict[str, Work] = {
    "boundary": boundary,
    "first": first,
    "memory": memory,
    "small": small,
    "link-files": link_files,
    # These leave more sandboxes behind.
    "parallel-many": parallel_many,
    "parallel-files": parallel_files,
}

__all__ = ["LIMIT_NAME", "MORE_IS_BETTER", "MORE_WORKS", "WORKS", "Stage", "Table", "stage"]
