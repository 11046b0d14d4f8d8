"""Proofs: properties of units, proved of their emitted Verilog by Yosys and ABC, and refuted of broken units. See
docs/formal.md."""
