"""The shortest life of a sandbox."""

import sandbox

with sandbox.Client() as client, client.create() as machine:
    output = machine.run(["uname", "-n"], text=True, check=True)
    print(f"{machine.name} says {output.stdout.rstrip()}")
