"""Reports, drawn from the files of a workdir alone.

results     the rows of results.csv        cell_files  what each cell left on disk
statistics  estimates with standard errors tables      tables as CSV and on a page
claims      what a paper says against us   figures     style, filters, learning curves
page        one HTML file, opens offline   published   the papers' own numbers
overview    what was trained, every network network_table  a network's layers
workdir     what every report reads, writes network_pictures  filters, learning curves
analysis_files  lines and arrays of the folder `analysis`

A study adds modules named after its paper, which use no other study's; see
`yosinski2014.write_report`.
"""
