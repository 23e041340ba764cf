module served

go 1.24
