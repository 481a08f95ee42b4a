package sandbox

/*
#include <sandbox.h>
*/
import "C"

import "time"

// A Usage is what a sandbox uses at one moment, as its kernel tells it; 0 is what the kernel does not tell, and no
// limit. Memory, processor time and processes are those of the sandbox's container, with its guest.
type Usage struct {
	// Processor time since the container started.
	CPU time.Duration
	// Time for which it had to wait because it had used up its share of the processors.
	Throttled time.Duration
	// Bytes of memory, with the files that the kernel keeps in memory for it; the most that it has been; and what it
	// may be at most.
	Memory, MemoryPeak, MemoryLimit uint64
	// Processes that were killed because there was no more memory.
	OOMKills uint64
	// Processes and threads, and what they may be at most.
	Processes, ProcessesLimit uint64
	// Bytes in use on the file system of the home directory, and bytes of that file system. Where the sandbox has no
	// volume there, that is the node's disk, with all that others keep on it.
	Disk, DiskLimit uint64
	// Bytes received and sent through the Pod's network interfaces but loopback.
	Received, Sent uint64
	// Bytes of memory of the guest itself, which is the sandbox's main process.
	GuestMemory uint64
	// Commands that run, of all clients.
	Commands int
	// SSH connections of all clients.
	Connections int
}

func newUsage(usage *C.sbx_usage) *Usage {
	value := func(kind C.int32_t) uint64 {
		var value C.uint64_t
		C.sbx_usage_value(usage, kind, &value)
		return uint64(value)
	}
	microseconds := func(kind C.int32_t) time.Duration { return time.Duration(value(kind)) * time.Microsecond }
	return &Usage{
		CPU:            microseconds(C.SBX_USAGE_CPU),
		Throttled:      microseconds(C.SBX_USAGE_THROTTLED),
		Memory:         value(C.SBX_USAGE_MEMORY),
		MemoryPeak:     value(C.SBX_USAGE_MEMORY_PEAK),
		MemoryLimit:    value(C.SBX_USAGE_MEMORY_LIMIT),
		OOMKills:       value(C.SBX_USAGE_OOM_KILLS),
		Processes:      value(C.SBX_USAGE_PROCESSES),
		ProcessesLimit: value(C.SBX_USAGE_PROCESSES_LIMIT),
		Disk:           value(C.SBX_USAGE_DISK),
		DiskLimit:      value(C.SBX_USAGE_DISK_LIMIT),
		Received:       value(C.SBX_USAGE_RECEIVED),
		Sent:           value(C.SBX_USAGE_SENT),
		GuestMemory:    value(C.SBX_USAGE_GUEST_MEMORY),
		Commands:       int(value(C.SBX_USAGE_COMMANDS)),
		Connections:    int(value(C.SBX_USAGE_CONNECTIONS)),
	}
}
