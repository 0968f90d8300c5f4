"""The durable engine behind the work queue: the only code that knows DBOS Transact."""
