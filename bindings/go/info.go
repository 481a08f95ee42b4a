package sandbox

/*
#include <sandbox.h>
*/
import "C"

import "time"

// A Phase is the phase of a Pod. A later version may have more of them.
type Phase int32

// The phases of a Pod.
const (
	// Kubernetes does not know the phase, or reports one that the library does not know.
	PhaseUnknown Phase = C.SBX_PHASE_UNKNOWN
	// Accepted by Kubernetes; its container does not run yet.
	PhasePending Phase = C.SBX_PHASE_PENDING
	// Its container runs.
	PhaseRunning Phase = C.SBX_PHASE_RUNNING
	// It stopped with exit code 0.
	PhaseSucceeded Phase = C.SBX_PHASE_SUCCEEDED
	// It stopped in another way.
	PhaseFailed Phase = C.SBX_PHASE_FAILED
	// It is being deleted.
	PhaseTerminating Phase = C.SBX_PHASE_TERMINATING
)

// An Info is what Kubernetes says about a sandbox at one moment.
type Info struct {
	// Name of the sandbox and of its Pod.
	Name string
	// Namespace of the Pod.
	Namespace string
	// Kubernetes' unique id of the Pod; another Pod of the same name has another one.
	UID string
	// The phase of the Pod.
	Phase Phase
	// The owner that its creator was configured with.
	Owner string
	// The image it runs.
	Image string
	// The node it runs on; "" until one is chosen.
	Node string
	// The Pod's address; "" until it has one.
	PodIP string
	// Port of the SSH server.
	SSHPort int
	// User name for SSH.
	SSHUser string
	// The SSH server's host key, as OpenSSH writes it; "" until it is pinned.
	HostKey string
	// When it was created; the zero time if that is not known.
	CreatedAt time.Time
	// When it expires; the zero time if it never does.
	ExpiresAt time.Time
	// The Pod's labels.
	Labels map[string]string
	// Why it stopped or can't start; nil if neither is so.
	Verdict *Verdict
}

// takeInfo makes a Go value of an info that belongs to the caller.
func takeInfo(call func(info **C.sbx_info, err **C.sbx_error) C.sbx_status) (*Info, error) {
	var info *C.sbx_info
	if err := invoke(func(err **C.sbx_error) C.sbx_status { return call(&info, err) }); err != nil {
		return nil, err
	}
	defer C.sbx_info_free(info)
	return newInfo(info), nil
}

func newInfo(info *C.sbx_info) *Info {
	labels := make(map[string]string)
	for index := range C.sbx_info_label_count(info) {
		labels[C.GoString(C.sbx_info_label_name_at(info, index))] = C.GoString(C.sbx_info_label_value_at(info, index))
	}
	return &Info{
		Name:      C.GoString(C.sbx_info_name(info)),
		Namespace: C.GoString(C.sbx_info_namespace(info)),
		UID:       C.GoString(C.sbx_info_uid(info)),
		Phase:     Phase(C.sbx_info_phase(info)),
		Owner:     C.GoString(C.sbx_info_owner(info)),
		Image:     C.GoString(C.sbx_info_image(info)),
		Node:      C.GoString(C.sbx_info_node(info)),
		PodIP:     C.GoString(C.sbx_info_pod_ip(info)),
		SSHPort:   int(C.sbx_info_ssh_port(info)),
		SSHUser:   C.GoString(C.sbx_info_ssh_user(info)),
		HostKey:   C.GoString(C.sbx_info_host_key(info)),
		CreatedAt: moment(func(at *C.int64_t) C.bool { return C.sbx_info_created_at(info, at) }),
		ExpiresAt: moment(func(at *C.int64_t) C.bool { return C.sbx_info_expires_at(info, at) }),
		Labels:    labels,
		Verdict: newVerdict(C.sbx_info_verdict_cause(info), C.sbx_info_verdict_reason(info),
			C.sbx_info_verdict_message(info)),
	}
}

// moment is a point in time, or the zero time if it is not known.
func moment(ask func(at *C.int64_t) C.bool) time.Time {
	var at C.int64_t
	if !ask(&at) {
		return time.Time{}
	}
	return time.Unix(int64(at), 0)
}
