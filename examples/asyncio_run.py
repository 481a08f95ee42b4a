"""Commands beside each other with asyncio, one of them cancelled."""

import asyncio

import sandbox


async def main() -> None:
    with sandbox.Client() as client:
        machine = await asyncio.to_thread(client.create)
        try:
            outputs = await asyncio.gather(*(machine.run_async(["echo", str(number)]) for number in range(3)))
            print("".join(output.stdout.decode() for output in outputs), end="")
            # Cancelling a task kills its command in the sandbox, whatever cancels it.
            try:
                await asyncio.wait_for(machine.run_async(["sleep", "600"]), timeout=0.5)
            except asyncio.TimeoutError:
                left = await machine.run_async(["pgrep", "-fx", "sleep 600"])
                print(f"cancelled, {len(left.stdout.split())} left")
        finally:
            await asyncio.to_thread(machine.delete)


asyncio.run(main())
