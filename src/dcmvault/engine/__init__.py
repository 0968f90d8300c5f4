"""The durable engine behind the work queue."""
