module aegis/guest_harness

go 1.24
