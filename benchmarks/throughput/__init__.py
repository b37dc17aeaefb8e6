"""Trains models of one shape by several libraries on the same generated rows, each in a process of its own."""
