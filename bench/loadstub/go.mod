module loadstub

go 1.21
