// The shortest life of a sandbox.
package main

import (
	"context"
	"fmt"
	"log"

	"sandbox.invalid/sandbox"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	client, err := sandbox.NewClient(nil)
	if err != nil {
		return err
	}
	defer client.Close()
	box, err := client.Create(ctx, nil)
	if err != nil {
		return err
	}
	output, err := box.Execute(ctx, "uname -n")
	if err != nil {
		return err
	}
	fmt.Printf("%s says %s", box.Name(), output.Stdout)
	return box.Delete(ctx)
}
