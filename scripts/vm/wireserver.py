#!/usr/bin/env python3
"""Stands for Azure's wire server (168.63.129.16), as far as cloud-init's Azure datasource asks it
(cloudinit/sources/helpers/azure.py, 22.4): the goal state, and the VM's word that it is provisioned.
Each request goes to a log, a line each.

  wireserver.py ADDRESS LOG
"""
import http.server
import sys

GOAL_STATE = b"""<?xml version="1.0" encoding="utf-8"?>
<GoalState><Version>2012-11-30</Version><Incarnation>1</Incarnation>
<Machine><ExpectedState>Started</ExpectedState></Machine>
<Container><ContainerId>c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2</ContainerId><RoleInstanceList><RoleInstance>
<InstanceId>_web_1</InstanceId><State>Started</State></RoleInstance></RoleInstanceList></Container></GoalState>
"""


class Wire(http.server.BaseHTTPRequestHandler):
    def answer(self, body=b""):
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with open(sys.argv[2], "ab") as log:
            log.write(f"{self.command} {self.path} ".encode() + b" ".join(sent.split()) + b"\n")
        self.send_response(200)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(GOAL_STATE if self.path.endswith("comp=goalstate") else b"")

    def do_POST(self):
        self.answer()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer((sys.argv[1], 80), Wire).serve_forever()
