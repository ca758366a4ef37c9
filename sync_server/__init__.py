"""The server: HTTP, the event log's stores and the hub that pushes them to readers."""
