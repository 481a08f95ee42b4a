// This library from Go, for benches/peers/boundary.py.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"sandbox.invalid/sandbox"
)

func main() {
	if err := serve(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, name string) error {
	client, err := sandbox.NewClient(nil)
	if err != nil {
		return err
	}
	defer client.Close()
	box, err := client.Attach(ctx, name)
	if err != nil {
		return err
	}
	defer box.Close()
	works := map[string]func() error{
		"ssh_port": func() error { box.SSHPort(); return nil },
		"host_key": func() error { box.HostKey(); return nil },
		"detached": func() error {
			detached, err := box.Detached("boundary")
			if err != nil {
				return err
			}
			return detached.Close()
		},
		"warm": func() error {
			output, err := box.Execute(ctx, "true")
			if err != nil {
				return err
			}
			return output.Check()
		},
	}
	if err := works["warm"](); err != nil {
		return err
	}
	answers := json.NewEncoder(os.Stdout)
	for {
		var work string
		var count, calls int
		if _, err := fmt.Scanln(&work, &count, &calls); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		call, runs := works[work], make([]float64, count)
		for run := range runs {
			began := time.Now()
			for range calls {
				if err := call(); err != nil {
					return err
				}
			}
			runs[run] = time.Since(began).Seconds()
		}
		if err := answers.Encode(map[string][]float64{"result": runs}); err != nil {
			return err
		}
	}
}
