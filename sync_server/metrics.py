"""What the server counts, for Prometheus. One object, made by the composition root and handed down."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics"]

_LATENCY_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Metrics:
    """All metrics of one process, registered in *registry*; in multiprocess mode summed by the exporter."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.readers = Gauge("sync_readers", "Open event streams", registry=registry, multiprocess_mode="livesum")
        self.readers_behind = Gauge(
            "sync_readers_behind",
            "Streams catching up or blocked",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.tasks = Gauge(
            "sync_tasks", "Tasks of the event loop, when asked", registry=registry, multiprocess_mode="livesum"
        )
        self.channels = Gauge(
            "sync_channels", "Distinct filters with readers", registry=registry, multiprocess_mode="livesum"
        )
        self.deliveries = Counter("sync_deliveries", "Events handed to streams", registry=registry)
        self.flush_events = Histogram(
            "sync_flush_events", "Events per flush of a channel", registry=registry, buckets=_SIZES
        )
        self.tail_age = Gauge(
            "sync_tail_age_seconds",
            "Age of the last successful read of the log",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.append_seconds = Histogram(
            "sync_append_seconds", "From submission to durable answer", registry=registry, buckets=_LATENCY_S
        )
        self.append_group_events = Histogram(
            "sync_append_group_events", "Events per committed group", registry=registry, buckets=_SIZES
        )
        self.replays = Counter("sync_replays", "Pieces of replay sent, by source", ["source"], registry=registry)
        self.log_reads = Counter(
            "sync_log_reads", "Pages read from the log, by purpose", ["purpose"], registry=registry
        )
        self.log_holes = Counter("sync_log_holes", "Reads that found a hole in the log", registry=registry)
        self.resets = Counter("sync_resets", "Readers told to resync, by reason", ["reason"], registry=registry)
        self.goodbyes = Counter(
            "sync_goodbyes", "Streams closed by the server, by reason", ["reason"], registry=registry
        )
        self.slow_closes = Counter("sync_slow_closes", "Streams closed because they did not read", registry=registry)
        self.sockets = Gauge(
            "sync_sockets", "Open WebSockets, by path", ["path"], registry=registry, multiprocess_mode="livesum"
        )
        self.socket_errors = Counter(
            "sync_socket_errors", "Errors told to WebSocket clients, by code", ["code"], registry=registry
        )
        self.polls = Counter("sync_polls", "Polls answered, by status", ["status"], registry=registry)
        self.refusals = Counter(
            "sync_refusals", "Requests that were not let in, by status", ["status"], registry=registry
        )
