//! A pod and its node: two network namespaces with a cable between them, and weir in the pod as its containers run it.
//!
//! Both namespaces belong to a process each, which ends with the test, however that ends; the cable goes with them. The
//! host's own network is not touched.

pub mod calls;

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::inside::Inside;
use crate::process::{self, Finished, Process};
use crate::{binaries, http1, wait};

/// The node's addresses, of both families.
pub const NODE: [&str; 2] = ["10.203.77.1", "fd00:203:77::1"];
/// The pod's.
pub const POD: [&str; 2] = ["10.203.77.2", "fd00:203:77::2"];
/// The user of the proxy.
pub const PROXY_UID: &str = "19400";
/// The proxy's port for probes and metrics.
pub const ADMIN_PORT: u16 = 19402;

/// A pod on its node.
#[derive(Debug)]
pub struct Pod {
    /// The process that holds the pod's namespace. Dropped in this order: the pod before its node.
    own: Process,
    node: Process,
    folder: tempfile::TempDir,
}

impl Pod {
    /// A pod with a network and nothing in it.
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "only root can lay a cable"
        );
        let pod = Self {
            own: namespace("pod"),
            node: namespace("node"),
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        let [node4, node6] = NODE;
        let [pod4, pod6] = POD;
        let id = pod.own.id();
        // The addresses that `weir redirect` dials as a proof are refused there, as by a router that knows no way.
        pod.on_node(&format!(
            "ip link set lo up; ip link add node0 type veth peer name eth0 netns {id}; ip link set node0 up
             ip addr add {node4}/24 dev node0; ip addr add {node6}/64 dev node0 nodad
             ip route add local 198.51.100.0/24 dev lo
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
        ));
        pod.in_pod(&format!(
            "ip link set lo up; ip link set eth0 up
             ip addr add {pod4}/24 dev eth0; ip addr add {pod6}/64 dev eth0 nodad
             ip route add default via {node4}; ip -6 route add default via {node6}"
        ));
        // Every user may run what is in it.
        open_to_all(pod.folder.path());
        for (name, path) in [
            ("weir", binaries::weir()),
            ("e2e-inside", binaries::peer("e2e-inside")),
        ] {
            copy(&path, &pod.path(name));
            open_to_all(&pod.path(name));
        }
        pod
    }

    /// A file of the folder that the pod's users share.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a script in the node's network, as root.
    pub fn on_node(&self, script: &str) {
        ok(&self.run_on_node(&["sh", "-e", "-c", script]));
    }

    /// Runs a program in the node's network, as root.
    pub fn run_on_node(&self, words: &[&str]) -> Finished {
        run_in(&self.node, words)
    }

    /// Runs a script in the pod's network, as root.
    pub fn in_pod(&self, script: &str) {
        ok(&run_in(&self.own, &["sh", "-e", "-c", script]));
    }

    /// `weir redirect WORDS`, as root.
    pub fn redirect(&self, words: &[&str]) -> Finished {
        self.redirect_by(&[], words)
    }

    /// The same, run by another program.
    pub fn redirect_by(&self, program: &[&str], words: &[&str]) -> Finished {
        let weir = self.path("weir");
        let weir = [weir.to_str().expect("text"), "redirect"];
        run_in(&self.own, &[program, &weir, words].concat())
    }

    /// `weir proxy` as the proxy's user, once it serves.
    pub fn proxy(&self) -> Process {
        self.proxy_by(&[])
    }

    /// The same, run by another program, as root.
    pub fn proxy_by(&self, program: &[&str]) -> Process {
        let weir = self.path("weir");
        let weir = [weir.to_str().expect("text"), "proxy"];
        let words = [program, &as_user(PROXY_UID, &weir)].concat();
        let mut command = command_in(&self.own, &words);
        command.env("WEIR_CONTROL_SOCKET", self.path("control.sock"));
        // As the injector sets it, so that a kubelet and Prometheus reach it at whichever address the pod has.
        command.env("WEIR_ADMIN_ADDR", format!("[::]:{ADMIN_PORT}"));
        command.env("WEIR_PROXY_UID", PROXY_UID);
        let process = Process::spawn("weir proxy", &mut command);
        wait::until_true("weir proxy to listen", wait::LONG, || {
            self.asked("/v1/status").is_ok()
        });
        process
    }

    /// What the proxy's control API answers.
    pub fn read(&self, target: &str) -> Value {
        self.asked(target).expect("the proxy is there").json()
    }

    fn asked(&self, target: &str) -> std::io::Result<http1::Message> {
        http1::unix(&self.path("control.sock"), "GET", target, &[], "")
    }

    /// A way to open sockets in the pod as a user.
    pub fn user(&self, uid: &str) -> (Process, Inside) {
        self.inside(&self.own, uid)
    }

    /// A way to open sockets on the node.
    pub fn server(&self) -> (Process, Inside) {
        self.inside(&self.node, "0")
    }

    fn inside(&self, namespace: &Process, uid: &str) -> (Process, Inside) {
        let socket = self.path(&format!("inside-{}-{uid}.sock", namespace.id()));
        let listener = Inside::listen(&socket).expect("ours");
        open_to_all(&socket);
        let program = self.path("e2e-inside");
        let words = [program, socket].map(|path| path.to_str().expect("text").to_owned());
        let words = [words[0].as_str(), words[1].as_str()];
        let process = Process::spawn(
            "e2e-inside",
            &mut command_in(namespace, &as_user(uid, &words)),
        );
        (process, Inside::accept(&listener).expect("it connects"))
    }
}

impl Default for Pod {
    fn default() -> Self {
        Self::new()
    }
}

/// An address of [`NODE`], [`POD`] or the like with a port.
pub fn addr(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port)
}

/// Fails with its output when a program failed.
pub fn ok(done: &Finished) {
    assert!(done.status.success(), "{done:?}");
}

/// A process in a network namespace of its own. It ends with its standard input.
fn namespace(name: &str) -> Process {
    let mut command = Command::new("unshare");
    let holder = Process::spawn(name, command.args(["-n", "sh", "-c", "echo up; exec cat"]));
    holder.line_after("up", wait::LONG);
    holder
}

fn command_in(namespace: &Process, words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["-t", &namespace.id().to_string(), "-n"])
        .args(words);
    command
}

fn run_in(namespace: &Process, words: &[&str]) -> Finished {
    process::run(&mut command_in(namespace, words), wait::LONG)
}

fn as_user<'a>(uid: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    let user = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"];
    [&user[..], words].concat()
}

/// Copies a program. A process of its own does it: a descriptor of ours that writes could be inherited by what another
/// thread starts just then, and a program that is open for writing cannot be run.
pub fn copy(from: &Path, to: &Path) {
    ok(&process::run(
        Command::new("cp").arg(from).arg(to),
        wait::LONG,
    ));
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("ours");
}
