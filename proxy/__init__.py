"""redspan: distributed tracing for Redis job queues, on the wire."""

import os
import signal

__version__ = "0.1.0"

ADMIN_URL = "REDSPAN_ADMIN_URL"
"""The variable that tells client commands where a running redspan's admin pages are; it is no setting."""
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends a process that has no handlers yet."""
if os.getpid() == 1:
    # To the first process of a container the kernel gives none of them before it has handlers, unless it blocks them:
    # then they wait. All that takes long to import is imported after this.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
