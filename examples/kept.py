"""A sandbox that outlives its program: the daemon keeps it, which `aegis up` starts, too."""

import aegis_sdk as aegis

daemon = aegis.Daemon()
daemon.start()
engine = aegis.connect()
with aegis.Sandbox.connect_or_create("dev", memory=256, engine=engine) as vm:
    vm.files.write("/workspace/note", "back soon\n")

# Another program, another day.
for found in aegis.Sandbox.list(engine=engine):
    print(found.name, "has a note:", found.files.read_text("/workspace/note"), end="")
vm = aegis.Sandbox.get("dev", engine=engine)
vm.stop()
vm.boot()
print("and after a stop it has", "one" if vm.files.exists("/workspace/note") else "none")
vm.remove()
daemon.stop()
