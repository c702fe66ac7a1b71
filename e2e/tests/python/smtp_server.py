"""A mail server that greets first and takes one message. Prints `listening HOST:PORT`."""

import socketserver
import sys
import threading


class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda line: (self.wfile.write(line.encode() + b"\r\n"), self.wfile.flush())
        say("220 mail.test ready")
        data = False
        for line in self.rfile:
            line = line.decode().rstrip("\r\n")
            if data:
                if line == ".":
                    data = False
                    say("250 taken")
            elif line.upper() == "DATA":
                data = True
                say("354 go on")
            elif line.upper() == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")


server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("listening %s:%d" % server.server_address, flush=True)
sys.stdin.read()
