//! With clients and servers that we did not write: curl, wget, nghttp, Python's own, grpcio, websockets, PostgreSQL.
//!
//! `.ci/run e2e` installs them where they are absent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use e2e::origin::{Origin, header};
use e2e::process::{self, Finished, Process};
use e2e::{binaries, wait, weir};
use serde_json::Value;

const LONG: Duration = Duration::from_mins(1);

/// `weir run -- words`.
fn run(words: &[&str]) -> Finished {
    run_with("version: weir/v1\n", words)
}

fn run_with(policy: &str, words: &[&str]) -> Finished {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, policy).expect("ours");
    let mut command = Command::new(binaries::weir());
    // Proxies of the machine are none of this test's business.
    for name in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    process::run(
        command
            .args(["run", "--policy"])
            .arg(&file)
            .arg("--")
            .args(words),
        LONG,
    )
}

fn ok(done: &Finished) -> &str {
    assert!(done.status.success(), "{done:?}");
    &done.stdout
}

fn script(name: &str) -> String {
    let path: PathBuf = binaries::repository().join("e2e/tests/python").join(name);
    path.to_str().expect("text").to_owned()
}

/// A Python with grpcio and websockets.
fn python() -> String {
    std::env::var("WEIR_E2E_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn python_server(name: &str) -> (Process, SocketAddr) {
    let process = Process::spawn(name, Command::new(python()).arg(script(name)));
    let addr = process
        .line_after("listening ", LONG)
        .parse()
        .expect("an address");
    (process, addr)
}

fn ids(echo: &Value) {
    assert_eq!(header(echo, "x-request-id").len(), 36, "{echo}");
    assert!(header(echo, "traceparent").starts_with("00-"), "{echo}");
}

#[test]
#[ignore = "needs curl: .ci/run e2e"]
fn curl_by_every_protocol_and_address() {
    let four = Origin::start(&[]);
    let six = Origin::start(&["--listen", "[::1]:0"]);
    let localhost = format!("http://localhost:{}/echo", four.addr().port());
    for url in [four.url("/echo"), six.url("/echo"), localhost] {
        for (option, version) in [
            ("--http1.1", "HTTP/1.1"),
            ("--http2-prior-knowledge", "HTTP/2.0"),
        ] {
            let done = run(&["curl", "-sS", "--max-time", "20", option, &url]);
            let echo: Value =
                serde_json::from_str(ok(&done)).unwrap_or_else(|error| panic!("{error}: {done:?}"));
            assert_eq!(echo["version"], version, "{url}");
            ids(&echo);
        }
    }
}

#[test]
#[ignore = "needs curl: .ci/run e2e"]
fn curl_sees_nothing_added_but_the_id() {
    let origin = Origin::start(&[]);
    let done = run(&[
        "curl",
        "-sS",
        "-D",
        "-",
        "-o",
        "/dev/null",
        &origin.url("/bytes/10"),
    ]);
    let mut lines: Vec<&str> = ok(&done).lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.remove(0).trim_end(), "HTTP/1.1 200 OK");
    let names: Vec<String> = lines
        .iter()
        .filter_map(|line| Some(line.split_once(':')?.0.to_lowercase()))
        .collect();
    assert!(
        names
            .iter()
            .all(|name| ["content-length", "x-request-id"].contains(&name.as_str())),
        "{names:?}"
    );
}

#[test]
#[ignore = "needs curl: .ci/run e2e"]
fn curl_uploads_and_downloads_whole() {
    let origin = Origin::start(&[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("upload");
    let mut bytes = vec![0; 3_000_000];
    fastrand::Rng::with_seed(3).fill(&mut bytes);
    std::fs::write(&file, &bytes).expect("ours");
    for option in ["--http1.1", "--http2-prior-knowledge"] {
        let back = folder.path().join("back");
        let data = format!("@{}", file.display());
        let out = back.to_str().expect("text");
        ok(&run(&[
            "curl",
            "-sS",
            option,
            "--data-binary",
            &data,
            "-o",
            out,
            &origin.url("/mirror"),
        ]));
        assert!(
            std::fs::read(&back).expect("it was written") == bytes,
            "{option}: changed on the way"
        );
    }
}

#[test]
#[ignore = "needs wget: .ci/run e2e"]
fn wget_downloads_whole() {
    let origin = Origin::start(&[]);
    let done = run(&["wget", "-q", "-O", "-", &origin.url("/bytes/1000000")]);
    assert_eq!(ok(&done).len(), 1_000_000);
}

#[test]
#[ignore = "needs python3: .ci/run e2e"]
fn pythons_client_and_server() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("file.txt"), "contents").expect("ours");
    let addr = weir::free_addr();
    let port = addr.port().to_string();
    let mut serve = Command::new("python3");
    serve
        .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", &port])
        .current_dir(folder.path());
    let _server = Process::spawn("http.server", &mut serve);
    wait::until_true("http.server", LONG, || {
        std::net::TcpStream::connect(addr).is_ok()
    });
    let code = "import sys, urllib.request as u; r = u.urlopen(sys.argv[1]); \
                print(r.read().decode(), r.headers['x-request-id'] is not None, r.headers['server'][:10])";
    let done = run(&[
        "python3",
        "-c",
        code,
        &format!("http://127.0.0.1:{port}/file.txt"),
    ]);
    assert_eq!(ok(&done).trim(), "contents True SimpleHTTP");
}

#[test]
#[ignore = "needs nghttp: .ci/run e2e"]
fn nghttp_gets_many_streams_and_trailers() {
    let origin = Origin::start(&[]);
    let (bytes, trailers) = (origin.url("/bytes/100000"), origin.url("/trailers"));
    let done = run(&["nghttp", "-nv", "-m", "20", &bytes, &trailers]);
    let text = ok(&done);
    assert!(text.contains("x-checksum: abc"), "{text}");
    assert!(!text.contains("RST_STREAM"), "{text}");
}

#[test]
#[ignore = "needs curl: .ci/run e2e"]
fn names_are_resolved_as_outside() {
    // Whatever /etc/hosts and the resolvers say, they say it inside, too.
    for kind in ["ahosts", "ahostsv4"] {
        let outside = process::run(Command::new("getent").args([kind, "localhost"]), LONG);
        let inside = run(&["getent", kind, "localhost"]);
        assert_eq!(ok(&inside), ok(&outside), "{kind}");
    }
}

#[test]
#[ignore = "needs grpcio: .ci/run e2e"]
fn grpc_by_grpcio() {
    let (_server, addr) = python_server("server.py");
    let policy = "version: weir/v1\ndefaults: {retry: {methods: all}}\n";
    let done = run_with(
        policy,
        &[&python(), &script("client.py"), &addr.to_string()],
    );
    assert_eq!(ok(&done).trim(), "all of it", "{done:?}");
}

#[test]
#[ignore = "needs websockets: .ci/run e2e"]
fn a_websocket_by_websockets() {
    let (_server, addr) = python_server("websocket_server.py");
    let done = run(&[&python(), &script("websocket_client.py"), &addr.to_string()]);
    assert_eq!(ok(&done).trim(), "all of it", "{done:?}");
}

#[test]
#[ignore = "needs python3: .ci/run e2e"]
fn mail_by_smtplib() {
    let (_server, addr) = python_server("smtp_server.py");
    let code = "import smtplib, sys, time; t = time.monotonic(); s = smtplib.SMTP('127.0.0.1', int(sys.argv[1])); \
                s.sendmail('a@test', ['b@test'], 'hello'); s.quit(); print(time.monotonic() - t)";
    for _ in 0..2 {
        let done = run(&["python3", "-c", code, &addr.port().to_string()]);
        let seconds: f64 = ok(&done).trim().parse().expect("a number");
        assert!(seconds < 0.5, "{seconds} s");
    }
}

/// A PostgreSQL of its own, in a temporary folder.
struct Postgres {
    folder: tempfile::TempDir,
    binaries: PathBuf,
    port: u16,
}

impl Postgres {
    fn start() -> Self {
        let found = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten();
        let binaries = found
            .map(|entry| entry.path().join("bin"))
            .find(|path| path.join("initdb").exists());
        let binaries = binaries.expect("PostgreSQL is installed");
        let folder = tempfile::Builder::new()
            .prefix("weir-pg")
            .tempdir_in("/tmp")
            .expect("a temporary folder");
        let server = Self {
            folder,
            binaries,
            port: weir::free_addr().port(),
        };
        server.as_owner("chown", &[]);
        let data = server.data();
        server.as_owner("initdb", &["-D", &data, "-A", "trust", "-U", "weir", "-N"]);
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -k {}",
            server.port,
            server.folder.path().display()
        );
        let log = format!("{data}.log");
        server.as_owner(
            "pg_ctl",
            &["-D", &data, "-w", "-l", &log, "-o", &options, "start"],
        );
        server
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    /// PostgreSQL refuses to run as root: then it runs as nobody.
    fn as_owner(&self, program: &str, arguments: &[&str]) {
        let root = nix::unistd::geteuid().is_root();
        if program == "chown" {
            if root {
                let mut chown = Command::new("chown");
                ok(&process::run(
                    chown.arg("65534:65534").arg(self.folder.path()),
                    LONG,
                ));
            }
            return;
        }
        let path = self.binaries.join(program);
        let mut command = if root {
            Command::new("setpriv")
        } else {
            Command::new(&path)
        };
        if root {
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(&path);
        }
        let log =
            std::fs::File::create(self.folder.path().join(format!("{program}.out"))).expect("ours");
        // The server keeps its output open: a pipe would not end.
        let status = command
            .args(arguments)
            .current_dir("/tmp")
            .stdout(log)
            .status()
            .expect("it starts");
        assert!(status.success(), "{program}: {status}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.data();
        self.as_owner("pg_ctl", &["-D", &data, "-m", "immediate", "stop"]);
    }
}

#[test]
#[ignore = "needs PostgreSQL: .ci/run e2e"]
fn postgresql_works_as_without() {
    let server = Postgres::start();
    let port = server.port.to_string();
    let base = [
        "psql",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "weir",
        "-d",
        "postgres",
        "-At",
        "-c",
    ];
    let many = "select count(*), sum(n) from generate_series(1, 200000) n";
    let done = run(&[&base[..], &[many]].concat());
    assert_eq!(ok(&done).trim(), "200000|20000100000");
    let large = "select length(repeat('x', 5000000))";
    assert_eq!(ok(&run(&[&base[..], &[large]].concat())).trim(), "5000000");
}
