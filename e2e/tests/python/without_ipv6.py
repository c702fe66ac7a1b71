"""Runs a program as on a node without IPv6 (the kernel's ipv6.disable=1): it gets no socket of that family.

Only sockets are kept from it. What else such a kernel lacks, as /proc/net/tcp6, is still there.
"""
import ctypes, errno, os, platform, socket, struct, sys

CALL = {"x86_64": 41, "aarch64": 198}[platform.machine()]  # The number of socket(2).
LOAD, UNLESS_EQUAL, RETURN = 0x20, 0x15, 0x06  # Classic BPF.
DENY, ALLOW = 0x00050000 | errno.EAFNOSUPPORT, 0x7FFF0000
FILTER = [
    (LOAD, 0, 0, 0),  # Of seccomp_data: the system call's number,
    (UNLESS_EQUAL, 0, 3, CALL),
    (LOAD, 0, 0, 16),  # and its first argument.
    (UNLESS_EQUAL, 0, 1, socket.AF_INET6),
    (RETURN, 0, 0, DENY),
    (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in FILTER))
program = ctypes.create_string_buffer(struct.pack("HP", len(FILTER), ctypes.addressof(code)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = [ctypes.c_int] + [ctypes.c_void_p] * 4
# PR_SET_NO_NEW_PRIVS, without which only root may filter, and PR_SET_SECCOMP in SECCOMP_MODE_FILTER.
for words in [(38, 1, 0, 0, 0), (22, 2, ctypes.addressof(program), 0, 0)]:
    if prctl(*words) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
