package sandbox

/*
#include <sandbox.h>
*/
import "C"

import "time"

// A Spec says what to create. What has its zero value is left to the defaults. Values that Kubernetes does not accept
// are reported by [Client.Create].
type Spec struct {
	// Name of the sandbox and of its Pod: at most 63 lower-case letters, digits and '-'. Default: "sandbox-" and 16
	// random hexadecimal digits.
	Name string
	// Image to run: any Linux image, without requirements, since the library brings the sandbox's main process (setting
	// "guest"). Its entry point is not used. Default: the configured image.
	Image string
	// Environment variables for everything that runs in the sandbox, on top of the image's own.
	Env map[string]string
	// Kubernetes labels of the Pod.
	Labels map[string]string
	// Kubernetes annotations of the Pod.
	Annotations map[string]string
	// The most CPU it may use, as a Kubernetes quantity such as "500m" or "2". Default: "1".
	CPU string
	// The CPU that the scheduler sets aside for it. Default: "10m".
	CPURequest string
	// The most memory it may use, as a Kubernetes quantity such as "512Mi"; if it uses more, the kernel kills processes.
	// Default: "1Gi".
	Memory string
	// The memory that the scheduler sets aside for it. Default: "32Mi".
	MemoryRequest string
	// The most disk space that it may write, as a Kubernetes quantity; beyond it the node evicts the Pod. Default: no
	// limit.
	Disk string
	// Time until the sandbox expires, or [NoLimit]: it stops by itself, and [Client.Reap] deletes what is left.
	// [Sandbox.Renew] moves it. Default: the configured lifetime.
	Lifetime time.Duration
	// Time after which Kubernetes itself stops the Pod, or [NoLimit]; no renewal moves it. Default: 24 hours, or twice
	// the lifetime if that is more; none for a sandbox that never expires.
	HardLimit time.Duration
	// Time without use after which the sandbox stops by itself, as when it expires; whole seconds, rounded up. In use
	// is a sandbox in which a command runs, detached ones too, or of which a file or a connection to a port is open; and
	// whatever a client asks for, a renewal too, is a use at that moment. An idle SSH connection is none. The sandbox
	// itself keeps this time, whether its clients are there or not. Of a pool's members it begins with the claim.
	// Default: [NoLimit].
	IdleTimeout time.Duration
	// Lets the cluster or the image choose the user and group that the sandbox runs as: the Pod sets none. Needed on
	// clusters that assign them per namespace, such as OpenShift. Root stays forbidden. Default: user and group 1000,
	// whatever the image says.
	UserFromCluster bool
	// The user of commands below a guest that runs as root: a name or number that the image's /etc/passwd knows, or
	// numbers of a user and a group such as "1000:1000". Files and sockets are reached as that user too. The Pod then
	// runs as root, with the capabilities KILL, SETGID and SETUID and no others, which the restricted and baseline Pod
	// Security Standards refuse. gVisor can't do it. Default: commands and guest have the sandbox's user.
	CommandsAs string
	// Runtime class, such as "gvisor" or "kata". Default: the cluster's. The tunnel transport does not work
	// under these two, the others do. The library logs a warning for each guarantee that does not hold there.
	RuntimeClass string
	// Labels that the node must have.
	NodeSelector map[string]string
	// How long to wait for a Pod that can't be scheduled, so that an autoscaler can add a node; a negative one for none.
	// Default: 10 seconds.
	UnschedulableGrace time.Duration
	// A Pod in JSON that is merged over the one that the library makes (RFC 7386: objects are merged, everything else
	// is replaced; the list "containers" is replaced too, except that an entry named "sandbox" is merged). This reaches
	// every field that Kubernetes has.
	PodTemplate string
}

// handle makes C's spec, which the caller frees; NULL for nil.
func (s *Spec) handle() (*C.sbx_spec, error) {
	if s == nil {
		return nil, nil
	}
	var (
		spec *C.sbx_spec
		set  settings
	)
	set.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_spec_new(&spec, err) })
	set.text("name", s.Name, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_name(spec, value, err)
	})
	set.text("image", s.Image, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_image(spec, value, err)
	})
	set.text("cpu", s.CPU, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_cpu(spec, value, err)
	})
	set.text("cpu_request", s.CPURequest, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_cpu_request(spec, value, err)
	})
	set.text("memory", s.Memory, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_memory(spec, value, err)
	})
	set.text("memory_request", s.MemoryRequest, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_memory_request(spec, value, err)
	})
	set.text("disk", s.Disk, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_disk(spec, value, err)
	})
	set.text("commands_as", s.CommandsAs, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_commands_as(spec, value, err)
	})
	set.text("runtime_class", s.RuntimeClass, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_runtime_class(spec, value, err)
	})
	set.text("pod_template", s.PodTemplate, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_pod_template(spec, value, err)
	})
	set.pairs("env", s.Env, func(name, value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_env(spec, name, value, err)
	})
	set.pairs("label", s.Labels, func(name, value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_label(spec, name, value, err)
	})
	set.pairs("annotation", s.Annotations, func(name, value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_annotation(spec, name, value, err)
	})
	set.pairs("node_selector", s.NodeSelector, func(name, value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_node_selector(spec, name, value, err)
	})
	set.flag(s.UserFromCluster, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_user_from_cluster(spec, err)
	})
	set.seconds(s.Lifetime, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_lifetime(spec, value, err)
	})
	set.seconds(s.HardLimit, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_hard_limit(spec, value, err)
	})
	set.seconds(s.IdleTimeout, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_idle_timeout(spec, value, err)
	})
	set.seconds(s.UnschedulableGrace, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_spec_set_unschedulable_grace(spec, max(value, 0), err)
	})
	if set.err != nil {
		C.sbx_spec_free(spec)
		return nil, set.err
	}
	return spec, nil
}
