"""A script that packages a machine as an IP for Vivado. hwgen writes it and does not run it: the vendor's tool cannot
be shipped."""
from typing import Any

from .ipxact import bus_ports

__all__ = ["packaging", "script_file"]

_SCRIPT = """\
# Packages @name as an IP of Vivado's catalog, into the folder @name_ip beside it. Made by hwgen, which has no \
Vivado: written, not run.
#   vivado -mode batch -source @name_vivado.tcl
# Then add that folder to a project: set_property ip_repo_paths {... @name_ip} [current_project]; update_ip_catalog
set here [file dirname [file normalize [info script]]]
create_project -force package_@name [file join $here package_@name]
add_files -norecurse [list@sources]
@memoryset_property top @name [current_fileset]
update_compile_order -fileset sources_1

ipx::package_project -root_dir [file join $here @name_ip] -vendor hwgen -library decoder -taxonomy /UserIP \
-import_files -force
set core [ipx::current_core]
set_property name @name $core
set_property version @version $core
set_property display_name {@name} $core
set_property description {Decoder of @model} $core

# What ports are called says which buses they are; what is not inferred is no error, but an IP without that interface.
@interfaces
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
close_project
"""

_INFER = """\
foreach {bus kind} {@kinds} {
  if {[llength [ipx::get_bus_interfaces -quiet $bus -of_objects $core]] == 0} {
    ipx::infer_bus_interface $bus $kind $core
  }
}
foreach bus {@buses} {
  ipx::associate_bus_interfaces -busif $bus -clock @clock $core
}
ipx::associate_bus_interfaces -clock @clock -reset @reset $core
set polarity [ipx::add_bus_parameter POLARITY [ipx::get_bus_interfaces @reset -of_objects $core]]
set_property value @polarity $polarity
"""

_REGISTERS = """\
set map [ipx::get_memory_maps -quiet s_axi -of_objects $core]
if {[llength $map] == 0} {
  set map [ipx::add_memory_map s_axi $core]
  set_property slave_memory_map_ref s_axi [ipx::get_bus_interfaces s_axi -of_objects $core]
}
set block [ipx::get_address_blocks -quiet reg0 -of_objects $map]
if {[llength $block] == 0} {
  set block [ipx::add_address_block reg0 $map]
}
set_property range @range $block
set_property width 32 $block
"""


def script_file(name: str) -> str:
    return f"{name}_vivado.tcl"


def packaging(about: dict[str, Any]) -> str:
    """The script for the machine of a manifest."""
    name, ports, image = about["top"], about["ports"], about["weights"]["image"]
    rom, bus = "parameter" in about["weights"], "bus" in about
    clock, reset = ("aclk", "aresetn") if bus else ("clk", "rst")
    kinds = [(clock, "clock"), (reset, "reset"), *([("irq", "interrupt")] if bus else [])]
    names = ("m_axi", "m_axi_kv", "s_axi", "s_axis_command", "m_axis_result")
    buses = [start for start in names if bus_ports(ports, start)]
    files = [f"{name}.v", *([image] if rom else [])]
    words = {"interfaces": _INFER + (_REGISTERS if bus else ""),
             "sources": "".join(f" [file join $here {file}]" for file in files),
             "memory": f"set_property file_type {{Memory Initialization Files}} [get_files {image}]\n" if rom else "",
             "kinds": " ".join(f"{port} xilinx.com:signal:{kind}_rtl:1.0" for port, kind in kinds),
             "buses": " ".join(buses), "polarity": "ACTIVE_LOW" if bus else "ACTIVE_HIGH",
             "clock": clock, "reset": reset,
             "range": 1 << about["bus"]["address_width"] if bus else "",
             "version": ".".join(about["version"].split(".")[:2]),      # Vivado's are two numbers
             "model": about["model"]["name"], "name": name}
    text = _SCRIPT
    for word, value in words.items():
        text = text.replace(f"@{word}", str(value))
    return text
