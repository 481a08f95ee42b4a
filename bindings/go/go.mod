module sandbox.invalid/sandbox

go 1.24
