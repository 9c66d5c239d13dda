#!/usr/bin/env python3
"""A QEMU that boots nothing. DOUBLE says how it behaves:

refuses   it does not like its arguments
deaf      it runs and opens no socket
panics    its kernel panics before the first program; DOUBLE_COUNT names a file that gets a line for each start
silent    it greets, and no guest ever speaks
no-region the guest speaks and could not set its memory up

Of several hosts each has its own: `host0:silent,host1:refuses`.
"""
import json, os, socket, struct, sys, threading, time

mode = os.environ["DOUBLE"]
if "--version" in sys.argv:
    print("QEMU emulator version 99.0")
    sys.exit(0)
arguments = " ".join(sys.argv)
for of_host in mode.split(",") if ":" in mode else []:
    host, mode_there = of_host.split(":")
    if f"/{host}.port" in arguments:
        mode = mode_there
if mode == "refuses":
    sys.exit("qemu-system-x86_64: -device cxl-type3: this is not understood")
if mode == "deaf":
    time.sleep(100000)

chardevs = [argument for option, argument in zip(sys.argv, sys.argv[1:]) if option == "-chardev"]
paths = {}
for chardev in chardevs:
    fields = dict(field.split("=", 1) for field in chardev.split(",") if "=" in field)
    paths[fields["id"]] = fields["path"]
with open(os.environ["DOUBLE_COUNT"], "a") as count:
    count.write("started\n")

listeners = {}
for name in ["control", "port"]:
    listeners[name] = socket.socket(socket.AF_UNIX)
    listeners[name].bind(paths[name])
    listeners[name].listen(1)

def control():
    stream = listeners["control"].accept()[0].makefile("rw")
    stream.write(json.dumps({"QMP": {"version": {}}}) + "\n")
    stream.flush()
    for _ in stream:
        stream.write(json.dumps({"return": {}}) + "\n")
        stream.flush()

threading.Thread(target=control, daemon=True).start()
port = listeners["port"].accept()[0]

def frame(kind, value):
    text = json.dumps(value).encode()
    port.sendall(struct.pack("<BII", kind, 0, len(text)) + text)

if mode == "panics":
    time.sleep(0.3)
    with open(paths["console"], "w") as console:
        console.write("[0.1] BUG: planted\n[0.1] Kernel panic - not syncing: planted\n[0.1] ---[ end Kernel panic ]---\n")
    sys.exit(0)
if mode == "silent":
    with open(paths["console"], "w") as console:
        console.write("the last line before nothing\n")
if mode == "no-region":
    frame(1, {"kernel": "9.9", "uptime_s": "1"})
    frame(2, {"Err": "cxl0: decoder0.0/create_ram_region: planted (EBUSY)"})
time.sleep(100000)
