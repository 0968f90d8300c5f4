"""Channels: mail, webhooks, pings, and the services that apprise knows."""
