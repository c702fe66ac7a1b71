//! The image's binaries where nothing else is but what a kubelet mounts: no shell, no C library, a read-only root.
//!
//! `.ci/run image` unpacks the image and runs these tests, as root, since they mount and change their root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use e2e::collector::Collector;
use e2e::dns::NameServer;
use e2e::http1::{self, Connection};
use e2e::origin::{Origin, header};
use e2e::pod;
use e2e::process::{self, Finished, Process};
use e2e::wait;
use e2e::weir::free_addr;
use serde_json::{Value, json};

/// The folder with the image's root. Beside it lies the archive that it was unpacked from, `weir.tar`.
const ROOT_VARIABLE: &str = "WEIR_E2E_IMAGE_ROOT";
/// The image's user.
const UID: u32 = 19400;

/// What a kubelet mounts into a container of the image. It is gone with this, and the mounts with their processes.
struct Container {
    mounts: tempfile::TempDir,
}

impl Container {
    fn new(resolv_conf: &str, hosts: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "only root can mount");
        let mounts = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(mounts.path(), Permissions::from_mode(0o755)).expect("ours");
        let container = Self { mounts };
        fs::write(container.path("resolv.conf"), resolv_conf).expect("ours");
        fs::write(container.path("hosts"), hosts).expect("ours");
        fs::create_dir(container.path("run")).expect("ours");
        chown(container.path("run"), Some(UID), Some(UID)).expect("root may");
        container
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mounts.path().join(name)
    }

    /// A command of the image, as its user, who has no capability.
    fn command(&self, words: &[&str]) -> Command {
        let script = r#"set -e
            cd "$1"; image=$2; user=$3; shift 3
            mkdir -p root; mount -t tmpfs none root
            mkdir -p root/dev root/etc root/proc root/run/weir root/usr; touch root/etc/resolv.conf root/etc/hosts
            mount --bind resolv.conf root/etc/resolv.conf; mount --bind hosts root/etc/hosts
            mount --bind run root/run/weir; mount -t proc none root/proc; mount --rbind /dev root/dev
            mount --bind "$image/usr" root/usr; mount -o remount,bind,ro root/usr; mount -o remount,bind,ro root
            exec chroot --userspec="$user:$user" root "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]);
        command.arg(self.mounts.path()).arg(image_root());
        command.arg(UID.to_string()).args(words).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// `weir proxy`, once its control API answers.
    fn proxy(&self, env: &[(&str, String)]) -> Process {
        let mut command = self.command(&["/usr/local/bin/weir", "proxy"]);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn("weir proxy", &mut command);
        let control = self.path("run/control.sock");
        wait::until_true("weir proxy to listen", wait::LONG, || {
            http1::unix(&control, "GET", "/v1/status", &[], "").is_ok()
        });
        process
    }

    fn run(&self, words: &[&str]) -> Finished {
        let done = process::run(&mut self.command(words), wait::LONG);
        assert!(done.status.success(), "{words:?}: {done:?}");
        done
    }
}

fn image_root() -> PathBuf {
    let root = std::env::var_os(ROOT_VARIABLE);
    root.map_or_else(
        || panic!("{ROOT_VARIABLE} is not set; run .ci/run image"),
        PathBuf::from,
    )
}

/// A JSON file of the image's archive.
fn in_archive(name: &str) -> Value {
    let archive = image_root().with_file_name("weir.tar");
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--to-stdout", "--file"]);
    let done = process::run(tar.arg(archive).arg(name), wait::LONG);
    assert!(done.status.success(), "{name}: {done:?}");
    serde_json::from_str(&done.stdout).expect("JSON")
}

/// A pod's resolv.conf for this server.
fn of_a_pod(server: &NameServer) -> String {
    let search = "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
    server.resolv_conf() + search
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// One call by the explicit proxy to a server's name, whose spans go to a collector's name.
fn names_are_resolved(server_ip: [u8; 4], protocol: &str) {
    let (origin, collector) = (Origin::start(&[]), Collector::start());
    let local = [127, 0, 0, 1].into();
    let known = [
        ("origin.shop.svc.cluster.local", local),
        ("otel-collector.observability.svc.cluster.local", local),
    ];
    let server = NameServer::start(server_ip.into(), &known);
    let container = Container::new(&of_a_pod(&server), "127.0.0.1 listed\n");
    let url = if protocol == "grpc" {
        collector.grpc_url()
    } else {
        collector.http_url()
    };
    let (explicit, host) = (free_addr(), "otel-collector.observability.svc");
    let _proxy = container.proxy(&[
        ("WEIR_EXPLICIT_PROXY_ADDRS", explicit.to_string()),
        ("WEIR_OUTBOUND_ADDRS", free_addr().to_string()),
        ("WEIR_ADMIN_ADDR", free_addr().to_string()),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            url.replace("127.0.0.1", host),
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ]);
    let mut connection = Connection::open(explicit).expect("it listens");
    // By the first search domain; as it stands, after the search domains; by the file of hosts, without a question.
    for name in ["origin", "origin.shop.svc.cluster.local", "listed"] {
        let host = format!("{name}:{}", origin.addr().port());
        let request = format!(
            "GET http://{host}/echo HTTP/1.1\r\nHost: {host}\r\nTraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n\r\n"
        );
        let answer = connection.exchange(request).expect("an answer");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(header(&answer.json(), "x-request-id").len(), 36);
    }
    collector.trace(TRACE, |spans| !spans.is_empty());
    let asked = server.asked();
    assert!(
        !asked.iter().any(|name| name.starts_with("listed")),
        "{asked:?}"
    );
    let status = container.run(&["/usr/local/bin/weirctl", "status"]);
    assert!(status.stdout.contains("weir"), "{status:?}");
}

#[test]
#[ignore = "needs the image: .ci/run image"]
fn the_image_resolves_names_of_servers_and_of_a_collector_by_grpc() {
    names_are_resolved([127, 0, 0, 78], "grpc");
}

#[test]
#[ignore = "needs the image: .ci/run image"]
fn the_image_resolves_names_of_servers_and_of_a_collector_by_http() {
    names_are_resolved([127, 0, 0, 79], "http/protobuf");
}

#[test]
#[ignore = "needs the image: .ci/run image"]
fn the_image_has_all_three_binaries_and_nothing_else() {
    let container = Container::new("", "");
    for name in ["weir", "weirctl", "weir-injector"] {
        let version = container.run(&[&format!("/usr/local/bin/{name}"), "--version"]);
        assert!(
            version.stdout.starts_with(&format!("{name} ")),
            "{version:?}"
        );
    }
    let find = process::run(
        Command::new("find").arg(image_root()).args(["-type", "f"]),
        wait::LONG,
    );
    assert_eq!(find.stdout.lines().count(), 3, "{find:?}");
}

#[test]
#[ignore = "needs the image: .ci/run image"]
fn the_image_says_as_which_user_it_runs_what() {
    let manifest = in_archive("manifest.json");
    let name = manifest[0]["Config"].as_str().expect("a name");
    let config = &in_archive(name)["config"];
    // By number, as a kubelet that is asked for `runAsNonRoot` wants it.
    assert_eq!(config["User"], format!("{UID}:{UID}"), "{config}");
    assert_eq!(config["Entrypoint"], json!(["/usr/local/bin/weir"]));
    assert_eq!(config["Env"], json!(["PATH=/usr/local/bin"]));
}

#[test]
#[ignore = "needs the image: .ci/run image"]
fn the_image_runs_commands_of_ordinary_users_on_other_machines_too() {
    let origin = Origin::start(&[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("ours");
    let weir = folder.path().join("weir");
    pod::copy(&image_root().join("usr/local/bin/weir"), &weir);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command
        .arg(&weir)
        .args(["run", "--", "curl", "--silent", &origin.url("/echo")]);
    let done = process::run(command.current_dir("/"), wait::LONG);
    assert!(done.status.success(), "{done:?}");
    let echo = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(header(&echo, "x-request-id").len(), 36, "{done:?}");
}
