package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"sandbox.invalid/sandbox"
)

func life(w *world) {
	spec := &sandbox.Spec{
		Name: w.unique, Labels: map[string]string{"test": w.unique}, Env: map[string]string{"GREETING": "hello, you"},
	}
	box, err := w.client.Create(w.ctx, spec)
	succeeds(err)
	w.box = box
	equal(box.Name(), w.unique)
	var info *sandbox.Info
	// It takes commands before Kubernetes has heard that it runs, and before others are told its key.
	await("Kubernetes says that it runs, and its key", func() bool {
		info, err = box.Info(w.ctx)
		succeeds(err)
		return info.Phase == sandbox.PhaseRunning && info.HostKey == box.HostKey()
	})
	equal(info.Name, w.unique)
	equal(info.UID, box.UID())
	equal(info.Namespace, w.client.Namespace())
	equal(info.Labels["test"], w.unique)
	equal(info.Owner, w.unique)
	equal(info.SSHPort, box.SSHPort())
	check(info.Image != "" && info.Node != "" && info.PodIP != "" && info.SSHUser != "" && info.Verdict == nil, "%+v", info)
	check(time.Since(info.CreatedAt) < time.Minute, "created at %v", info.CreatedAt)
	// It is rounded up to a whole second.
	left := time.Until(info.ExpiresAt)
	check(left > 8*time.Minute && left <= 10*time.Minute+time.Second, "expires in %v", left)
	listed, err := w.client.List(w.ctx, &sandbox.Filter{Labels: map[string]string{"test": w.unique}})
	succeeds(err)
	check(len(listed) == 1 && listed[0].Name == w.unique, "%d listed", len(listed))
	equal(w.sh("uname -n"), w.unique+"\n")
	equal(w.sh("echo $GREETING"), "hello, you\n")
	byExec := w.config()
	byExec.Transport = sandbox.TransportExec
	other, err := sandbox.NewClient(byExec)
	succeeds(err)
	defer other.Close()
	attached, err := other.Attach(w.ctx, w.unique)
	succeeds(err)
	defer attached.Close()
	output, err := attached.Execute(w.ctx, "uname -n")
	succeeds(err)
	equal(string(output.Stdout), w.unique+"\n")
	_, isTimed := attached.Timings()
	check(!isTimed, "an attached sandbox has timings")
	expiry, err := box.Renew(w.ctx, 20*time.Minute)
	succeeds(err)
	check(time.Until(expiry) > 15*time.Minute, "expires at %v", expiry)
	info, err = box.Info(w.ctx)
	succeeds(err)
	check(info.ExpiresAt.Equal(expiry), "%v instead of %v", info.ExpiresAt, expiry)
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV a person"
	succeeds(box.AuthorizeKey(w.ctx, key, time.Hour))
	keys, err := box.AuthorizedKeys(w.ctx)
	succeeds(err)
	check(len(keys) == 1 && keys[0].Key == key && time.Until(keys[0].Until) > 50*time.Minute, "%v", keys)
	succeeds(box.RevokeKey(w.ctx, key))
	keys, err = box.AuthorizedKeys(w.ctx)
	succeeds(err)
	equal(len(keys), 0)
	fails(box.AuthorizeKey(w.ctx, "no key", sandbox.NoLimit), sandbox.ErrInvalidArgument)
	usage, err := box.Usage(w.ctx)
	succeeds(err)
	check(usage.CPU > 0 && usage.Memory > 0 && usage.Processes > 0 && usage.Disk > 0 && usage.Sent > 0, "%+v", usage)
	check(usage.GuestMemory > 0 && usage.Commands == 0 && usage.Connections > 0, "%+v", usage)
	timings, isTimed := box.Timings()
	check(isTimed && timings.Accepted > 0 && timings.Accepted <= timings.LoggedIn && timings.Started <= timings.LoggedIn, "%+v", timings)
	check(w.client.APIRequests() > 0, "no requests were counted")
	check(strings.Count(sandbox.Version(), ".") == 2 && sandbox.VersionNumber() > 0, "version %s", sandbox.Version())
}

func byName(w *world) {
	cancellable, cancel := context.WithCancel(w.ctx)
	defer cancel()
	for _, ctx := range []context.Context{w.ctx, cancellable} {
		output, err := w.client.ExecuteCommand(ctx, w.unique, "echo by name")
		succeeds(err)
		equal(string(output.Stdout), "by name\n")
		succeeds(os.WriteFile(w.path("up"), []byte("contents"), 0o600))
		size, err := w.client.UploadFile(ctx, w.unique, w.path("up"), "/tmp/by-name")
		succeeds(err)
		equal(size, 8)
		size, err = w.client.DownloadFile(ctx, w.unique, "/tmp/by-name", w.path("down"))
		succeeds(err)
		equal(size, 8)
		contents, err := os.ReadFile(w.path("down"))
		succeeds(err)
		equal(string(contents), "contents")
	}
	info, err := w.client.GetSandboxInfo(w.ctx, w.unique)
	succeeds(err)
	equal(info.UID, w.box.UID())
	equal(w.client.SSHPort(w.unique), w.box.SSHPort())
	_, err = w.client.Create(w.ctx, &sandbox.Spec{Name: w.unique + "-b"})
	succeeds(err)
	succeeds(w.client.ShutdownSandbox(w.ctx, w.unique+"-b"))
	_, err = w.client.GetSandboxInfo(w.ctx, w.unique+"-b")
	fails(err, sandbox.ErrNotFound)
	fails(w.client.DeleteSandbox(w.ctx, w.unique+"-no"), sandbox.ErrNotFound)
}

func failures(w *world) {
	_, err := w.box.ReadFile(w.ctx, "a\x00b")
	e := fails(err, sandbox.ErrInvalidArgument, fs.ErrInvalid)
	check(e.Sandbox == w.unique && e.Op != "", "%+v", e)
	_, err = w.box.ReadFile(w.ctx, "")
	fails(err, sandbox.ErrInvalidArgument)
	_, err = sandbox.NewClient(&sandbox.Config{Settings: map[string]string{"no_such_setting": "1"}})
	fails(err, sandbox.ErrConfig)
	_, err = w.client.Attach(w.ctx, w.unique+"-no")
	e = fails(err, sandbox.ErrNotFound)
	check(e.Sandbox == w.unique+"-no" && e.Errno == 0 && !errors.Is(err, fs.ErrNotExist), "%+v", e)
	_, err = w.client.Create(w.ctx, &sandbox.Spec{Name: w.unique})
	e = fails(err, sandbox.ErrConflict)
	check(e.Sandbox == w.unique && e.Op == "create sandbox" && e.HTTPStatus == 409, "%+v", e)
	_, err = w.box.ReadFile(w.ctx, "/etc/shadow")
	e = fails(err, sandbox.ErrPermissionDenied, fs.ErrPermission)
	check(e.Errno == syscall.EACCES && !e.Retryable, "%+v", e)
	_, err = w.client.Create(w.ctx, &sandbox.Spec{Name: w.unique + "-c", Image: "localhost/no/such/image:1"})
	e = fails(err, sandbox.ErrCreate)
	check(e.Verdict != nil && e.Verdict.Cause == sandbox.CauseImagePull && e.Verdict.Reason != "", "%+v", e.Verdict)
	kubeconfig := `{"apiVersion": "v1", "kind": "Config", "current-context": "c",
"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}],
"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}]}`
	succeeds(os.WriteFile(w.path("kubeconfig"), []byte(kubeconfig), 0o600))
	away, err := sandbox.NewClient(&sandbox.Config{Kubeconfig: w.path("kubeconfig"), Context: "c", CreateTimeout: time.Second})
	succeeds(err)
	defer away.Close()
	_, err = away.List(w.ctx, nil)
	check(fails(err, sandbox.ErrUnavailable).Retryable, "not retryable")
	cmd := w.box.Command(w.ctx, "sleep", "60")
	cmd.Timeout = 100 * time.Millisecond
	e = fails(cmd.Run(), sandbox.ErrTimedOut, os.ErrDeadlineExceeded)
	check(e.Timeout(), "no timeout")
	for _, kind := range sandbox.Kinds() {
		check(kind.Error() != "" && !strings.HasPrefix(kind.Error(), "error "), "%d has no name", kind)
	}
	check(errors.Is(sandbox.ErrStorageFull, syscall.ENOSPC), "a full disk is no ENOSPC")
}

func useAfterClose(w *world) {
	client, err := sandbox.NewClient(w.config())
	succeeds(err)
	box, err := client.Attach(w.ctx, w.unique)
	succeeds(err)
	file, err := box.Create(w.ctx, "/tmp/closed")
	succeeds(err)
	succeeds(file.Close())
	fails(file.Close(), os.ErrClosed)
	_, err = file.Write([]byte("x"))
	fails(err, os.ErrClosed, sandbox.ErrClosed)
	detached, err := box.Detached("closed")
	succeeds(err)
	cmd := box.Command(w.ctx, "true")
	succeeds(cmd.Start())
	succeeds(cmd.Wait())
	fails(cmd.Wait(), sandbox.ErrInvalidArgument)
	fails(cmd.Process.Kill(), os.ErrClosed)
	for range 2 {
		succeeds(detached.Close())
		succeeds(box.Close())
		succeeds(client.Close())
	}
	_, err = detached.TryWait(w.ctx)
	fails(err, os.ErrClosed)
	_, err = box.Execute(w.ctx, "true")
	fails(err, os.ErrClosed)
	fails(box.Command(w.ctx, "true").Run(), os.ErrClosed)
	_, err = box.Info(w.ctx)
	fails(err, os.ErrClosed)
	_, err = client.Create(w.ctx, nil)
	fails(err, os.ErrClosed)
	equal(box.Name(), w.unique)
	equal(box.HostKey(), "")
	deleted, err := w.client.Create(w.ctx, nil)
	succeeds(err)
	succeeds(deleted.Shutdown(w.ctx))
	_, err = deleted.Execute(w.ctx, "true")
	fails(err, os.ErrClosed)
	fails(deleted.Delete(w.ctx), os.ErrClosed)
}

// The Pod tells its command what it is made of.
const template = `{"metadata": {"labels": {"templated": "yes"}}, "spec": {"hostname": "templated", "containers": [
	{"name": "sandbox", "env": [
		{"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
		{"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
		{"name": "RESERVED", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
		{"name": "DISK", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": "1Mi"}}},
		{"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['example.org/note']"}}}]}]}}`

func fleet(w *world) {
	config := w.config()
	config.Owner = w.unique + "-fleet"
	client, err := sandbox.NewClient(config)
	succeeds(err)
	defer client.Close()
	specs := []*sandbox.Spec{
		{Name: w.unique + "-1"},
		{Name: w.unique + "-2"},
		{
			Name: w.unique + "-3", CPU: "500m", CPURequest: "20m", Memory: "256Mi", MemoryRequest: "40Mi", Disk: "1Gi",
			NodeSelector: map[string]string{"kubernetes.io/os": "linux"}, Annotations: map[string]string{"example.org/note": "fleet"},
			PodTemplate: template,
		},
	}
	var boxes []*sandbox.Sandbox
	for _, spec := range specs {
		box, err := client.Create(w.ctx, spec)
		succeeds(err)
		boxes = append(boxes, box)
	}
	infos, err := client.List(w.ctx, nil)
	succeeds(err)
	var owned []string
	for _, info := range infos {
		if info.Owner == config.Owner {
			owned = append(owned, info.Name)
		}
	}
	slices.Sort(owned)
	check(slices.Equal(owned, []string{specs[0].Name, specs[1].Name, specs[2].Name}), "%v", owned)
	find := func(which sandbox.Filter) []*sandbox.Info {
		which.Owner = config.Owner
		found, err := client.List(w.ctx, &which)
		succeeds(err)
		return found
	}
	found := find(sandbox.Filter{})
	check(len(found) == 3 && slices.IsSortedFunc(found, func(a, b *sandbox.Info) int {
		return a.CreatedAt.Compare(b.CreatedAt)
	}), "%v", found)
	found = find(sandbox.Filter{Labels: map[string]string{"templated": "yes"}})
	check(len(found) == 1 && found[0].Name == specs[2].Name, "%v", found)
	phases := []sandbox.Phase{sandbox.PhasePending, sandbox.PhaseRunning}
	equal(len(find(sandbox.Filter{Phases: phases, YoungerThan: time.Hour})), 3)
	equal(len(find(sandbox.Filter{Phases: []sandbox.Phase{sandbox.PhaseFailed}})), 0)
	equal(len(find(sandbox.Filter{OlderThan: time.Hour})), 0)
	_, err = client.List(w.ctx, &sandbox.Filter{Labels: map[string]string{"templated": "a,b"}})
	check(errors.Is(err, sandbox.ErrInvalidArgument) && strings.Contains(err.Error(), "a,b"), "%v", err)
	changes, err := client.Watch(&sandbox.Filter{Owner: config.Owner})
	succeeds(err)
	defer changes.Close()
	for range 3 {
		change, err := changes.Next(w.ctx)
		succeeds(err)
		check(change.Kind == sandbox.ChangeAdded && change.Info.Owner == config.Owner, "%+v", change)
	}
	_, err = client.Watch(&sandbox.Filter{OlderThan: time.Hour})
	check(errors.Is(err, sandbox.ErrInvalidArgument), "%v", err)
	output, err := boxes[2].Execute(w.ctx, "uname -n; echo $CPU $MEMORY $RESERVED $DISK $NOTE")
	succeeds(err)
	equal(string(output.Stdout), "templated\n500 256 40 1024 fleet\n")
	info, err := boxes[2].Info(w.ctx)
	succeeds(err)
	equal(info.Labels["templated"], "yes")
	_, err = boxes[0].Renew(w.ctx, time.Second)
	succeeds(err)
	// Somebody else's reaper may be faster.
	await("the expired sandbox is reaped", func() bool {
		names, err := client.Reap(w.ctx)
		succeeds(err)
		check(!slices.Contains(names, specs[1].Name) && !slices.Contains(names, specs[2].Name), "%v were reaped", names)
		_, err = client.GetSandboxInfo(w.ctx, specs[0].Name)
		return slices.Contains(names, specs[0].Name) || errors.Is(err, sandbox.ErrNotFound)
	})
	for _, box := range boxes[1:] {
		succeeds(box.Delete(w.ctx))
	}
	removed := 0
	for change, err := range changes.All(w.ctx) {
		succeeds(err)
		if change.Kind == sandbox.ChangeRemoved {
			removed++
		}
		if removed == 3 {
			break
		}
	}
	short, cancel := context.WithTimeout(w.ctx, 10*time.Millisecond)
	defer cancel()
	_, err = changes.Next(short)
	check(errors.Is(err, sandbox.ErrTimedOut), "%v", err)
}

func doctor(w *world) {
	report, err := sandbox.Diagnose(w.ctx, w.config())
	succeeds(err)
	check(report.State != sandbox.CheckFailure && len(report.Checks) == 14, "%v", report)
	check(strings.HasSuffix(report.String(), report.Summary), "%v", report)
	for _, one := range report.Checks {
		check(one.Name != "" && one.State != "" && one.Found != "", "%v", one)
	}
	config := w.config()
	config.Namespace = "no-such-namespace"
	report, err = sandbox.Diagnose(w.ctx, config, "namespace")
	succeeds(err)
	check(report.State == sandbox.CheckFailure && len(report.Checks) == 1, "%v", report)
	one := report.Checks[0]
	check(one.Name == "namespace" && strings.Contains(one.Fix, "create namespace"), "%v", report)
	report, err = sandbox.Diagnose(w.ctx, nil, "config")
	succeeds(err)
	equal(report.State, sandbox.CheckOK)
	_, err = sandbox.Diagnose(w.ctx, nil, "no-such-check")
	check(errors.Is(err, sandbox.ErrInvalidArgument), "%v", err)
}

func settings(w *world) {
	_, key, err := ed25519.GenerateKey(nil)
	succeeds(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	succeeds(err)
	block := &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	succeeds(os.WriteFile(w.path("key"), pem.EncodeToMemory(block), 0o600))
	kubeconfig := `{"apiVersion": "v1", "kind": "Config", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
"users": [{"name": "u", "user": {}}], "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}]}`
	succeeds(os.WriteFile(w.path("kubeconfig"), []byte(kubeconfig), 0o600))
	config := sandbox.Config{
		IgnoreEnvironment: true, Namespace: "elsewhere", Kubeconfig: w.path("kubeconfig"), Context: "c", Image: "image:1",
		SSHUser: "somebody", SSHPort: 2222, SSHKey: w.path("key"), Transport: sandbox.TransportTunnel, Owner: "me",
		Lifetime: sandbox.NoLimit, CreateTimeout: time.Second, ConnectTimeout: time.Second, CommandTimeout: sandbox.NoLimit,
		TransferTimeout: sandbox.NoLimit, IdleTimeout: time.Second, MaxSessions: 3, Log: sandbox.LogError,
		Settings: map[string]string{"max_sessions": "4"},
	}
	client, err := sandbox.NewClient(&config)
	succeeds(err)
	defer client.Close()
	equal(client.Namespace(), "elsewhere")
	equal(client.SSHPort("any"), 2222)
	equal(client.MaxSessions(), 4)
	spec := &sandbox.Spec{
		Name: "a", Image: "image:1", Env: map[string]string{"A": "b"}, Labels: map[string]string{"a": "b"},
		Annotations: map[string]string{"a": "b"}, CPU: "1", CPURequest: "1", Memory: "1Gi", MemoryRequest: "1Gi", Disk: "1Gi",
		Lifetime: sandbox.NoLimit, HardLimit: time.Hour, IdleTimeout: time.Hour, UserFromCluster: true, RuntimeClass: "gvisor", NodeSelector: map[string]string{"a": "b"},
		UnschedulableGrace: time.Second, PodTemplate: "{}",
	}
	_, err = w.client.Create(w.ctx, &sandbox.Spec{CommandsAs: "sandbox"})
	check(errors.Is(err, sandbox.ErrCreate) && strings.Contains(err.Error(), "runAsNonRoot"), "%v", err)
	_, err = client.Create(w.ctx, spec)
	// So the spec was fine, and the client looked for the cluster where it was told to.
	check(errors.Is(err, sandbox.ErrTimedOut) || errors.Is(err, sandbox.ErrUnavailable), "%v", err)
	for says, bad := range map[string]sandbox.Config{
		"pigeon":       {Transport: "pigeon"},
		"loud":         {Log: "loud"},
		"max_sessions": {MaxSessions: 1001},
		"seventy":      {Settings: map[string]string{"ssh_port": "seventy"}},
		"no-such-file": {SSHKey: "no-such-file"},
	} {
		_, err := sandbox.NewClient(&bad)
		var e *sandbox.Error
		check(errors.As(err, &e) && (e.Kind == sandbox.ErrConfig || e.Kind == sandbox.ErrInvalidArgument) &&
			strings.Contains(e.Message, says), "%v", err)
	}
	_, err = client.Create(w.ctx, &sandbox.Spec{PodTemplate: "[]"})
	fails(err, sandbox.ErrInvalidArgument)
	_, err = client.Create(w.ctx, &sandbox.Spec{Name: "Not A Name"})
	check(strings.Contains(fails(err, sandbox.ErrInvalidArgument).Message, "Not A Name"), "%v", err)
	var lines, ofDebug atomic.Int64
	succeeds(sandbox.SetLogHandler(sandbox.LogDebug, func(level sandbox.LogLevel, target, message string) {
		lines.Add(1)
		if level == sandbox.LogDebug && strings.HasPrefix(target, "sandbox::") && message != "" {
			ofDebug.Add(1)
		}
	}))
	w.mine()
	check(ofDebug.Load() > 0, "%d lines", lines.Load())
	fails(config.InitLogging(), sandbox.ErrConfig)
	fails(sandbox.SetLogHandler("loud", nil), sandbox.ErrInvalidArgument)
	succeeds(sandbox.SetLogHandler(sandbox.LogOff, nil))
	lines.Store(0)
	w.mine()
	equal(lines.Load(), int64(0))
	succeeds(config.InitLogging())
	fails(config.InitLogging(), sandbox.ErrConfig)
}

func end(w *world) {
	second, err := w.client.Attach(w.ctx, w.unique)
	succeeds(err)
	defer second.Close()
	succeeds(w.box.Delete(w.ctx))
	_, err = w.client.GetSandboxInfo(w.ctx, w.unique)
	fails(err, sandbox.ErrNotFound)
	_, err = second.Info(w.ctx)
	check(errors.Is(err, sandbox.ErrNotFound) || errors.Is(err, sandbox.ErrClosed), "%v", err)
	_, err = w.box.Execute(w.ctx, "true")
	check(errors.Is(err, sandbox.ErrNotFound) || errors.Is(err, sandbox.ErrClosed), "%v", err)
	equal(len(w.mine()), 0)
}
