"""Ten commands at once in one guest, from asyncio."""

import asyncio

import aegis_sdk as aegis


async def main() -> None:
    async with aegis.AsyncSandbox() as vm:
        done = await asyncio.gather(*(vm.shell(f"sleep 1; echo {number}") for number in range(10)))
    print("answers:", " ".join(each.stdout.strip() for each in done))


asyncio.run(main())
