//! A running weir: `weir run` with its application in our hands, or `weir proxy`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::http1::{self, Message};
use crate::inside::Inside;
use crate::process::Process;
use crate::{binaries, wait};

/// What a weir is started with.
#[derive(Debug, Default)]
pub struct Builder {
    policy: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    descriptors: Option<(u32, u32)>,
}

impl Builder {
    /// The policy file's text.
    #[must_use]
    pub fn policy(mut self, text: &str) -> Self {
        self.policy = Some(text.to_owned());
        self
    }

    /// An argument of `weir run`.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A variable of weir's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Most descriptors that weir may have open.
    #[must_use]
    pub fn descriptors_max(self, count: u32) -> Self {
        self.descriptors(count, count)
    }

    /// Most descriptors that weir is started with, and most that it may give itself.
    #[must_use]
    pub fn descriptors(mut self, soft: u32, hard: u32) -> Self {
        self.descriptors = Some((soft, hard));
        self
    }

    /// Starts `weir run` around `e2e-inside`, and waits until it is ready.
    pub fn run(self) -> Weir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let line = folder.path().join("inside.sock");
        let listener = Inside::listen(&line).expect("the folder is ours");
        let mut weir = self.start(
            folder,
            |command, folder, admin| {
                command.arg("run");
                command
                    .arg("--control-socket")
                    .arg(folder.join("control.sock"));
                command.args(["--admin", &admin.to_string()]);
                if folder.join("policy.yaml").exists() {
                    command.arg("--policy").arg(folder.join("policy.yaml"));
                }
            },
            |command| {
                command
                    .arg("--")
                    .arg(binaries::peer("e2e-inside"))
                    .arg(&line);
            },
        );
        weir.inside = Some(Inside::accept(&listener).expect("e2e-inside connects"));
        weir.wait_ready();
        weir
    }

    /// Starts `weir proxy` with its listeners on free loopback ports, and waits until it is ready.
    pub fn proxy(self) -> Weir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let explicit = free_addr();
        let outbound = free_addr();
        let mut weir = self.start(
            folder,
            |command, folder, admin| {
                command.arg("proxy");
                command.env("WEIR_OUTBOUND_ADDRS", outbound.to_string());
                command.env("WEIR_EXPLICIT_PROXY_ADDRS", explicit.to_string());
                command.env("WEIR_ADMIN_ADDR", admin.to_string());
                command.env("WEIR_CONTROL_SOCKET", folder.join("control.sock"));
                command.env("WEIR_STATE_DIR", folder);
                if folder.join("policy.yaml").exists() {
                    command.env("WEIR_POLICY_FILE", folder.join("policy.yaml"));
                }
            },
            |_| {},
        );
        weir.explicit = Some(explicit);
        weir.outbound = Some(outbound);
        weir.wait_ready();
        weir
    }

    fn start(
        self,
        folder: tempfile::TempDir,
        before: impl FnOnce(&mut Command, &Path, SocketAddr),
        after: impl FnOnce(&mut Command),
    ) -> Weir {
        if let Some(policy) = &self.policy {
            std::fs::write(folder.path().join("policy.yaml"), policy).expect("the folder is ours");
        }
        let admin = free_addr();
        let mut command = match self.descriptors {
            None => Command::new(binaries::weir()),
            Some((soft, hard)) => {
                let mut limited = Command::new("prlimit");
                limited
                    .arg(format!("--nofile={soft}:{hard}"))
                    .arg(binaries::weir());
                limited
            }
        };
        before(&mut command, folder.path(), admin);
        command.args(&self.arguments);
        after(&mut command);
        let elsewhere = self
            .environment
            .iter()
            .find(|(name, _)| name == "WEIR_CONTROL_SOCKET");
        let control = elsewhere.map_or_else(
            || folder.path().join("control.sock"),
            |(_, path)| PathBuf::from(path),
        );
        command.envs(self.environment);
        let process = Process::spawn("weir", &mut command);
        Weir {
            process,
            control,
            admin,
            folder,
            inside: None,
            explicit: None,
            outbound: None,
        }
    }
}

/// A running weir. Dropping it kills it.
#[derive(Debug)]
pub struct Weir {
    process: Process,
    control: PathBuf,
    admin: SocketAddr,
    inside: Option<Inside>,
    explicit: Option<SocketAddr>,
    outbound: Option<SocketAddr>,
    folder: tempfile::TempDir,
}

impl Weir {
    /// What it shall be started with.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `weir run` with defaults.
    pub fn run() -> Self {
        Self::builder().run()
    }

    /// `weir run` with a policy.
    pub fn run_with(policy: &str) -> Self {
        Self::builder().policy(policy).run()
    }

    /// Opens an intercepted connection to `addr`.
    pub fn connect(&self, addr: SocketAddr) -> TcpStream {
        self.inside()
            .connect(addr)
            .unwrap_or_else(|error| panic!("connecting through weir: {error}"))
    }

    /// Opens an intercepted HTTP/1.1 connection to `addr`.
    pub fn http(&self, addr: SocketAddr) -> http1::Connection {
        http1::Connection::over(self.connect(addr))
    }

    /// The application's side.
    pub fn inside(&self) -> &Inside {
        self.inside.as_ref().expect("it was started by `run`")
    }

    /// The explicit proxy's address, of `weir proxy`.
    pub fn explicit(&self) -> SocketAddr {
        self.explicit.expect("it was started by `proxy`")
    }

    /// The redirect target's address, of `weir proxy`.
    pub fn outbound(&self) -> SocketAddr {
        self.outbound.expect("it was started by `proxy`")
    }

    /// The admin address.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Path of the control socket.
    pub fn control(&self) -> PathBuf {
        self.control.clone()
    }

    /// Path of the policy file.
    pub fn policy_file(&self) -> PathBuf {
        self.folder.path().join("policy.yaml")
    }

    /// Its folder, gone when it is dropped.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Process id of the serving side.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A control API call.
    pub fn api(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Message {
        http1::unix(&self.control(), method, target, headers, body)
            .unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// What the control API answers to a GET.
    pub fn read(&self, target: &str) -> Value {
        let answer = self.api("GET", target, &[], "");
        assert_eq!(answer.status(), 200, "{target}: {}", answer.text());
        answer.json()
    }

    /// The items of a list of the control API, such as `/v1/destinations`.
    pub fn list(&self, target: &str) -> Vec<Value> {
        let answer = self.read(target);
        answer["items"]
            .as_array()
            .cloned()
            .unwrap_or_else(|| panic!("{target} is no list: {answer}"))
    }

    /// Sum of a number of all destinations, such as `inFlight` or `queueLength`.
    pub fn sum(&self, field: &str) -> u64 {
        self.list("/v1/destinations")
            .iter()
            .filter_map(|one| one[field].as_u64())
            .sum()
    }

    /// Replaces the policy whatever its revision, and answers with the response.
    pub fn put_policy(&self, document: &Value) -> Message {
        let current = self.api("GET", "/v1/policy", &[], "");
        let etag = current
            .header("etag")
            .expect("a policy has an ETag")
            .to_owned();
        let headers = [
            ("if-match", etag.as_str()),
            ("content-type", "application/json"),
        ];
        self.api("PUT", "/v1/policy", &headers, &document.to_string())
    }

    /// The metrics page.
    pub fn metrics(&self) -> String {
        http1::get(self.admin, "/metrics")
            .expect("the admin port answers")
            .text()
    }

    /// Sum of the samples of one metric whose labels hold all of `labels`, such as `reason="queue_full"`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum_of(&self.metrics(), name, labels)
    }

    fn wait_ready(&mut self) {
        let end = tokio::time::Instant::now() + wait::LONG;
        while !self.is_ready() {
            assert!(
                self.process.is_running(),
                "weir ended:\n{}",
                self.process.output()
            );
            assert!(
                tokio::time::Instant::now() < end,
                "weir is not ready:\n{}",
                self.process.output()
            );
            std::thread::sleep(wait::STEP);
        }
    }

    fn is_ready(&self) -> bool {
        let is_ok =
            |answer: std::io::Result<Message>| answer.is_ok_and(|answer| answer.status() == 200);
        is_ok(http1::get(self.admin, "/readyz"))
            && is_ok(http1::unix(&self.control(), "GET", "/v1/status", &[], ""))
    }
}

/// Sum of the samples of one metric, in Prometheus text, whose labels hold all of `labels`.
pub fn sum_of(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with('{') || rest.starts_with(' '))
        .filter(|rest| labels.iter().all(|label| rest.contains(label)))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// A loopback address that is free.
///
/// Its port is below those that the system hands out by itself (Linux: from 32768 on), so that no connection or
/// listener of another test takes it in the meantime.
pub fn free_addr() -> SocketAddr {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test binaries that run side by side begin at different places.
    let begin = std::process::id().wrapping_mul(997);
    for _ in 0..COUNT {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let addr = SocketAddr::from(([127, 0, 0, 1], (FIRST + number) as u16));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
    panic!("no port is free");
}
