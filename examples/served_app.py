"""An app behind one address: asleep while nobody asks for it, and the same address when its release changes."""

import time
import urllib.request

import aegis_sdk as aegis

SCRIPT = """#!/bin/sh
echo x >> /workspace/visits  # which outlives the guest
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "$GREETING, $NAME: visit $(wc -l < /workspace/visits)"
"""


def ask(instance: aegis.Instance) -> str:
    with urllib.request.urlopen(instance.url + "cgi-bin/greet", timeout=60) as answer:  # noqa: S310  # our own router
        return str(answer.read().decode().strip())


app = aegis.App.create(
    "greeter",
    command=["httpd", "-f", "-p", "127.0.0.1:8000", "-h", "/workspace"],
    expose=[8000],
    env={"GREETING": "hello"},
    idle=0.5,  # seconds; a minute if nothing is said
)
greet = app.workspace / "cgi-bin" / "greet"
greet.parent.mkdir(parents=True)
greet.write_text(SCRIPT)
greet.chmod(0o755)
app.secrets["NAME"] = "Ada"
app.publish(label="v1")
with app.serve() as instance:
    print(ask(instance))
    while instance.state is not aegis.InstanceState.PAUSED:
        time.sleep(0.1)
    print("it sleeps;", ask(instance))

    app.update(env={"GREETING": "good day"}).publish(label="v2")
    with app.serve() as newer:  # the address leads there as soon as it is ready
        print(newer.label, "says", ask(newer))
app.delete(workspace=True)
