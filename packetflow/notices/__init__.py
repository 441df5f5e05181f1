"""Notices to people and other systems: channels with a bounded line each, webhooks and mail."""
