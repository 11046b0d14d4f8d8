"""Machines on FPGA boards: the boards, the files around a machine, and the tools that make a bitstream of them."""
