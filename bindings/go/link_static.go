//go:build sandbox_static

package sandbox

// #cgo pkg-config: sandbox-static
import "C"
