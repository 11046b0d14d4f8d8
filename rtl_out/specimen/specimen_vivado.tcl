# Packages specimen as an IP of Vivado's catalog, into the folder specimen_ip beside it. Made by hwgen, which has no Vivado: written, not run.
#   vivado -mode batch -source specimen_vivado.tcl
# Then add that folder to a project: set_property ip_repo_paths {... specimen_ip} [current_project]; update_ip_catalog
set here [file dirname [file normalize [info script]]]
create_project -force package_specimen [file join $here package_specimen]
add_files -norecurse [list [file join $here specimen.v] [file join $here specimen_rom.hex]]
set_property file_type {Memory Initialization Files} [get_files specimen_rom.hex]
set_property top specimen [current_fileset]
update_compile_order -fileset sources_1

ipx::package_project -root_dir [file join $here specimen_ip] -vendor hwgen -library decoder -taxonomy /UserIP -import_files -force
set core [ipx::current_core]
set_property name specimen $core
set_property version 0.1 $core
set_property display_name {specimen} $core
set_property description {Decoder of demo} $core

# What ports are called says which buses they are; what is not inferred is no error, but an IP without that interface.
foreach {bus kind} {clk xilinx.com:signal:clock_rtl:1.0 rst xilinx.com:signal:reset_rtl:1.0} {
  if {[llength [ipx::get_bus_interfaces -quiet $bus -of_objects $core]] == 0} {
    ipx::infer_bus_interface $bus $kind $core
  }
}
foreach bus {} {
  ipx::associate_bus_interfaces -busif $bus -clock clk $core
}
ipx::associate_bus_interfaces -clock clk -reset rst $core
set polarity [ipx::add_bus_parameter POLARITY [ipx::get_bus_interfaces rst -of_objects $core]]
set_property value ACTIVE_HIGH $polarity

ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
close_project
