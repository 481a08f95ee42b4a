package main

import (
	"time"

	"sandbox.invalid/sandbox"
)

func pool(w *world) {
	name := "pool-" + w.unique
	options := sandbox.PoolOptions{Size: 2, IdleLifetime: 10 * time.Minute, CreatesAtOnce: 2, CreatesPerSecond: 20}
	filler, err := w.client.Pool(name, nil, &options)
	succeeds(err)
	defer filler.Close()
	equal(filler.Name(), name)
	orFail := &sandbox.Claim{OnMiss: sandbox.OnMissFail}
	_, err = filler.Claim(w.ctx, orFail)
	fails(err, sandbox.ErrPoolEmpty)
	instead, err := filler.Claim(w.ctx, nil)
	succeeds(err)
	equal(instead.Origin(), sandbox.OriginPoolMiss)
	succeeds(instead.Delete(w.ctx))
	filled, err := filler.Fill(w.ctx)
	succeeds(err)
	equal(filled, sandbox.Filled{Created: 2})
	filled, err = filler.Fill(w.ctx)
	succeeds(err)
	equal(filled, sandbox.Filled{})

	config := w.config()
	config.Owner += "-other"
	other, err := sandbox.NewClient(config)
	succeeds(err)
	defer other.Close()
	claiming, err := other.Pool(name, nil, nil)
	succeeds(err)
	defer claiming.Close()
	claimed, err := claiming.Claim(w.ctx, &sandbox.Claim{
		Env: map[string]string{"TASK": "17"}, Labels: map[string]string{"of": "a-pool"}, Annotations: map[string]string{"note": "a note"},
		Lifetime: 5 * time.Minute, Owner: w.unique + "-claimed", Files: map[string][]byte{"/tmp/task": []byte("a task")},
		OnMiss: sandbox.OnMissFail,
	})
	succeeds(err)
	equal(claimed.Origin(), sandbox.OriginPool)
	_, isKnown := claimed.Timings()
	check(isKnown, "no timings")
	output, err := claimed.Execute(w.ctx, "echo $TASK; cat /tmp/task")
	succeeds(err)
	equal(string(output.Stdout), "17\na task")
	info, err := claimed.Info(w.ctx)
	succeeds(err)
	equal(info.Labels["of"], "a-pool")
	equal(info.Owner, w.unique+"-claimed")
	left := time.Until(info.ExpiresAt)
	check(left > 4*time.Minute && left < 6*time.Minute, "%v", left)
	status, err := filler.Status(w.ctx)
	succeeds(err)
	check(!status.Oldest.IsZero(), "no oldest one")
	status.Oldest = time.Time{}
	equal(*status, sandbox.PoolStatus{Ready: 1, Claimed: 1})

	_, err = w.client.Pool(name, &sandbox.Spec{Name: "a"}, nil)
	fails(err, sandbox.ErrInvalidArgument)
	_, err = w.client.Pool(name, nil, &sandbox.PoolOptions{Size: 1_000_000})
	fails(err, sandbox.ErrInvalidArgument)

	drained, err := filler.Drain(w.ctx)
	succeeds(err)
	equal(drained, 1)
	type answer struct {
		box *sandbox.Sandbox
		err error
	}
	answers := make(chan answer)
	go func() {
		box, err := claiming.Claim(w.ctx, &sandbox.Claim{OnMiss: sandbox.OnMissWait})
		answers <- answer{box, err}
	}()
	await("the claim waits", func() bool { return claiming.Counters().Waiting == 1 })
	options.Size, options.KeepFilled = 1, true
	keeper, err := w.client.Pool(name, nil, &options)
	succeeds(err)
	waited := <-answers
	succeeds(waited.err)
	equal(waited.box.Origin(), sandbox.OriginPoolWait)
	succeeds(waited.box.Delete(w.ctx))
	counters := claiming.Counters()
	counters.Conflicts = 0
	equal(counters, sandbox.PoolCounters{Hits: 1, Misses: 1})
	equal(filler.Counters().Created, 2)
	equal(filler.Counters().Retired, 1)
	_, err = keeper.Remove(w.ctx)
	succeeds(err)
	succeeds(keeper.Close())
	_, err = keeper.Fill(w.ctx)
	fails(err, sandbox.ErrClosed)
	output, err = claimed.Execute(w.ctx, "true")
	succeeds(err)
	succeeds(output.Check())
	succeeds(claimed.Delete(w.ctx))
}
