//! A node for a pod: two network namespaces and a cable, and on the node's side somebody to talk to.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::link::VethLink;
use nlink::{Connection, Route};
use socket2::{Domain, Socket, Type};

use crate::runner::{self, say};
use crate::user::User;

pub(crate) const NODE_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub(crate) const POD_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// On the node, outside of the pod's own network.
pub(crate) const SKIPPED_V4: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 77);
pub(crate) const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2);

/// On the node and in the pod.
const SERVED_PORTS: [u16; 2] = [8000, 3306];

/// The exit code of a node that cannot be made here.
const CANNOT: u8 = 77;

pub(crate) fn case(user: &User) -> runner::Verdict {
    let output = user.command("node").output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(i32::from(CANNOT)) {
        return runner::Verdict::Skipped(text.trim().to_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    runner::Verdict::Passed
}

/// Makes the node's namespace and the cable, starts the pod, and serves until the pod is done.
pub(crate) fn node() -> ExitCode {
    if let Err(refused) = enter_namespaces() {
        say(&format!("no network namespace: {refused}"));
        return ExitCode::from(CANNOT);
    }
    let mut pod = Command::new("/proc/self/exe")
        .arg("pod")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(pod.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("it is set apart");
    if let Err(error) = set_up_node(pod.id()) {
        say(&format!("no cable between namespaces: {error}"));
        pod.kill().expect("our child");
        pod.wait().expect("our child");
        return ExitCode::from(CANNOT);
    }
    for port in SERVED_PORTS {
        serve_directly(port);
    }
    let echo = UdpSocket::bind((NODE_V4, 53)).expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 64];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            echo.send_to(&buffer[..length], from).ok();
        }
    });
    drop(pod.stdin.take());
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("output");
    say(rest.trim());
    let status = pod.wait().expect("our child");
    if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// As root a network namespace; else one within a user namespace, as root of that.
fn enter_namespaces() -> std::io::Result<()> {
    if geteuid().is_root() {
        return Ok(unshare(CloneFlags::CLONE_NEWNET)?);
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

#[tokio::main(flavor = "current_thread")]
async fn set_up_node(pod: u32) -> nlink::Result<()> {
    let netlink = Connection::<Route>::new()?;
    netlink.set_link_up("lo").await?;
    netlink.add_link(VethLink::new("node0", "eth0")).await?;
    netlink.set_link_netns_pid("eth0", pod).await?;
    netlink.set_link_up("node0").await?;
    netlink
        .add_address(Ipv4Address::new("node0", NODE_V4, 24))
        .await?;
    netlink
        .add_address(Ipv4Address::new("node0", SKIPPED_V4, 32))
        .await?;
    // May be off, and is then off in the pod as well.
    netlink
        .add_address(Ipv6Address::new("node0", NODE_V6, 64).nodad())
        .await
        .ok();
    Ok(())
}

/// Says "direct" to whoever connects to `port`, in both families.
pub(crate) fn serve_directly(port: u16) {
    for any in [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ] {
        let domain = if any.is_ipv4() {
            Domain::IPV4
        } else {
            Domain::IPV6
        };
        let Ok(socket) = Socket::new(domain, Type::STREAM, None) else {
            continue;
        };
        if any.is_ipv6() {
            socket.set_only_v6(true).expect("an option");
        }
        socket.set_reuse_address(true).expect("an option");
        socket
            .bind(&SocketAddr::new(any, port).into())
            .expect("a port of our own");
        socket.listen(128).expect("a listener");
        let listener = TcpListener::from(socket);
        std::thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                client.write_all(b"direct").ok();
            }
        });
    }
}
