"""The JSON API of the daemon: what shows runs, plans and queues over HTTP, and steers them."""
