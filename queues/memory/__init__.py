"""The in-process twin of RabbitMQ: the same topology, permissions and delivery rules, without a server.

Embedded mode ships it as product (one process, nothing durable); tests run on it because it passes the same suite as
the real doors. `MemoryBroker` is the server, `MemoryDoor` the scheduler's side, `MemoryTransport` the client's side,
`MemoryDeadLetters` the operator's.
"""

from queues.memory.broker import MemoryBroker
from queues.memory.dead import MemoryDeadLetters
from queues.memory.door import MemoryDoor
from queues.memory.transport import MemoryTransport

__all__ = ["MemoryBroker", "MemoryDeadLetters", "MemoryDoor", "MemoryTransport"]
