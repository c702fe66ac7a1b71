//! Packets that reach a pod though no connection of it is theirs, as from a node that lost track of one.

use e2e::pod::{NODE, POD, Pod, ok};

/// On the node: sends the pod an answer to a connection that it never opened, then the opening of one to a port where nobody
/// listens, which is always answered with a reset. Says which of the two were.
const STRAY: &str = r"
import socket, struct, sys
pod, node = sys.argv[1:]
ipv6 = ':' in pod
wire = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
wire.settimeout(10)
if ipv6:
    wire.setsockopt(socket.IPPROTO_IPV6, 7, 16) # IPV6_CHECKSUM: the kernel writes it at this place

def send(port, flags):
    head = struct.pack('!HHIIBBHHH', port, 9, 1, 1, 5 << 4, flags, 1024, 0, 0)
    if not ipv6:
        words = socket.inet_aton(node) + socket.inet_aton(pod) + struct.pack('!BBH', 0, 6, len(head)) + head
        total = sum(struct.unpack(f'!{len(words) // 2}H', words))
        total = (total & 0xffff) + (total >> 16)
        head = head[:16] + struct.pack('!H', ~(total + (total >> 16)) & 0xffff) + head[18:]
    wire.sendto(head, (pod, 0))

send(4001, 0x12) # SYN and ACK
send(4002, 0x02) # SYN
reset = []
while 4002 not in reset:
    packet = wire.recv(4096)
    segment = packet if ipv6 else packet[(packet[0] & 15) * 4:]
    of, to = struct.unpack('!HH', segment[:4])
    if of == 9 and segment[13] & 4:
        reset.append(to)
print(reset)
";

fn resets(pod: &Pod, place: usize) -> String {
    let done = pod.run_on_node(&["python3", "-c", STRAY, POD[place], NODE[place]]);
    ok(&done);
    done.stdout.trim().to_owned()
}

#[test]
#[ignore = "needs root: .ci/run peers"]
fn a_pods_stray_packets_are_dropped_when_asked_for_and_reset_otherwise() {
    let pod = Pod::new();
    ok(&pod.redirect(&[]));
    for place in [0, 1] {
        assert_eq!(resets(&pod, place), "[4001, 4002]");
    }
    ok(&pod.redirect(&["--drop-invalid"]));
    for place in [0, 1] {
        assert_eq!(resets(&pod, place), "[4002]");
    }
}
