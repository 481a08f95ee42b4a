"""Commands beside each other with asyncio, one of them cancelled."""

import asyncio

import sandbox


async def main() -> None:
    client = await asyncio.to_thread(sandbox.Client)
    with await asyncio.to_thread(client.create) as machine:
        outputs = await asyncio.gather(*(machine.run_async(["echo", str(number)]) for number in range(3)))
        print("".join(output.stdout.decode() for output in outputs), end="")

        # Cancelling a task kills its command in the sandbox, whatever cancels it.
        try:
            await asyncio.wait_for(machine.run_async(["sleep", "600"]), timeout=0.5)
        except asyncio.TimeoutError:
            print("cancelled")
        left = await asyncio.to_thread(machine.run, ["pgrep", "-x", "sleep"])
        print(f"{len(left.stdout.split())} left")


asyncio.run(main())
