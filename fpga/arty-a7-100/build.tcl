# Digilent Arty A7-100T, XC7A100T, weights in its DDR3: from Verilog to a bitstream, without a project file. Made by hwgen; make it again rather than change it.
#   vivado -mode batch -source build.tcl
cd [file dirname [file normalize [info script]]]
read_verilog machine.v
read_verilog top.v
read_verilog memory.v
read_verilog memory_controller.v
read_verilog pll.v
read_xdc top.xdc
synth_design -top top -part xc7a100tcsg324-1
# Machine and memory have no edge in common. What crosses are Gray codes, and words that stand still meanwhile: the
# wires of a code must not differ by a cycle of the clock that they come from.
set machine [get_clocks -of_objects [get_pins -hierarchical -filter {NAME =~ pll/*CLKOUT0}]]
set memory [get_clocks -of_objects [get_pins -hierarchical -filter {NAME =~ memory/controller/*CLKOUT1}]]
if {[llength $machine] != 1 || [llength $memory] != 1} {
  puts "ERROR: the PLLs must make a clock each for machine and memory, not '$machine' and '$memory'"
  exit 1
}
set_max_delay -datapath_only -from $machine -to $memory 5
set_max_delay -datapath_only -from $memory -to $machine 5
# Resets begin at any time. They end in two registers (LiteDRAM's), or before a count to 16 (top.v).
set_false_path -to [get_pins -hierarchical -filter {REF_PIN_NAME == PRE || REF_PIN_NAME == CLR}]
opt_design
place_design
phys_opt_design
route_design
report_timing_summary -file timing.rpt
report_utilization -file utilization.rpt
set slack [get_property SLACK [get_timing_paths -setup]]
if {$slack < 0} {
  puts "ERROR: a clock is not met (timing.rpt says which: the machine's 64 MHz, or the memory's) by $slack ns: write the project again with a lower --mhz"
  exit 1
}
write_bitstream -force arty-a7-100.bit
