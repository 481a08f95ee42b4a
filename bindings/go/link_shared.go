//go:build !sandbox_static

package sandbox

// A file of its own for each: Go's cache does not tell apart what differs in conditions of #cgo lines only.

// #cgo pkg-config: sandbox
import "C"
