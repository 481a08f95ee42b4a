module sandbox.invalid/boundary

go 1.24

require sandbox.invalid/sandbox v0.0.0

replace sandbox.invalid/sandbox => ../../bindings/go
