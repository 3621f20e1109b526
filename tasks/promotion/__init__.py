"""Promotion with traffic: a router before two servers, and how a new version takes over from the old one."""
