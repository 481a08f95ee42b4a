module life

go 1.25
