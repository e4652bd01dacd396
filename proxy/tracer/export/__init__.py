"""Export: finished spans, out of the tracer.

``buffer`` holds them, ``pipeline`` carries them from there to the exporters (``http``: OTLP by the own encoder;
``zipkin``: its JSON; both by ``post`` over ``http.client``; ``sdk``: OpenTelemetry's own, gRPC among them), one worker
thread at a time.  Nothing here ever waits on behalf of the relay; what cannot be held or sent is dropped and counted.
"""
