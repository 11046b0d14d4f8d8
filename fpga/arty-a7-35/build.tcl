# Digilent Arty A7-35T, XC7A35T: from Verilog to a bitstream, without a project file. Made by hwgen; make it again rather than change it.
#   vivado -mode batch -source build.tcl
cd [file dirname [file normalize [info script]]]
read_verilog machine.v
read_verilog top.v
read_verilog pll.v
read_xdc top.xdc
synth_design -top top -part xc7a35ticsg324-1L
opt_design
place_design
phys_opt_design
route_design
report_timing_summary -file timing.rpt
report_utilization -file utilization.rpt
set slack [get_property SLACK [get_timing_paths -setup]]
if {$slack < 0} {
  puts "ERROR: the clock of 50 MHz is not met by $slack ns: write the project again with a lower --mhz"
  exit 1
}
write_bitstream -force arty-a7-35.bit
