"""Remembers: what happened to every run and trial, in Arrow files."""
