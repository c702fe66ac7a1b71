module weir.dev/cluster/tools

go 1.26.0
