"""A guest that may reach one service of this machine, by a name, and nothing else."""

import http.server
import threading

import aegis_sdk as aegis


class Prices(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"apples are 3 today\n")

    def log_message(self, *_: object) -> None:
        pass


with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Prices) as server:
    threading.Thread(target=server.serve_forever).start()
    network = aegis.Network(mode="none", allow_host={"prices:80": f"127.0.0.1:{server.server_port}"})
    with aegis.Sandbox(network=network) as vm:
        page = vm.shell(r"printf 'GET / HTTP/1.0\r\n\r\n' | nc prices 80 | tail -n 1")
        print("the service:", page.stdout.strip())
        print("elsewhere:", vm.run("nc", "-w", "5", "93.184.216.34", "443").hint)
        for event in vm.network.events():
            print(event.place, "allowed" if event.allowed else "refused", event.received, "bytes")
    server.shutdown()
