//! What calls go through: nothing, HAProxy, weir.

use std::net::SocketAddr;
use std::process::Command;

use e2e::collector::Collector;
use e2e::load::{self, Measured};
use e2e::origin::Origin;
use e2e::process::{self, Process};
use e2e::wait;
use e2e::weir::{Weir, free_addr};

/// A protocol of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    H1,
    H2,
}

impl Protocol {
    pub(crate) const BOTH: [Self; 2] = [Self::H1, Self::H2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
        }
    }
}

/// One of the things compared.
pub(crate) enum Contender {
    Direct {
        origin: SocketAddr,
    },
    HaProxy {
        process: Process,
        h1: SocketAddr,
        h2: SocketAddr,
        _folder: tempfile::TempDir,
    },
    Weir {
        weir: Box<Weir>,
        origin: SocketAddr,
    },
}

/// All that can be had here; what is absent is said.
pub(crate) fn all(origin: &Origin, collector: &Collector, with_weir: bool) -> Vec<Contender> {
    let mut all = vec![Contender::Direct {
        origin: origin.addr(),
    }];
    match haproxy(origin) {
        Some(contender) => all.push(contender),
        None => println!("SKIPPED HAProxy: it is not installed"),
    }
    if with_weir {
        all.push(weir(origin, collector));
    }
    all
}

/// weir with its default policy and one trace in a hundred.
pub(crate) fn weir(origin: &Origin, collector: &Collector) -> Contender {
    let weir = Weir::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.grpc_url())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "0.01")
        .env("WEIR_WORKERS", "1")
        .run();
    Contender::Weir {
        weir: Box::new(weir),
        origin: origin.addr(),
    }
}

/// HAProxy on one thread, with both frontends on the same HTTP/1.1 server. None: not installed.
pub(crate) fn haproxy(origin: &Origin) -> Option<Contender> {
    let program = ["/usr/sbin/haproxy", "haproxy"]
        .into_iter()
        .find(|path| std::path::Path::new(path).is_file() || process::is_installed(path))?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (h1, h2) = (free_addr(), free_addr());
    let config = format!(
        "global\n nbthread 1\n maxconn 8000\n\
         defaults\n mode http\n timeout connect 5s\n timeout client 300s\n timeout server 60s\n http-reuse always\n\
         frontend one\n bind {h1}\n default_backend origin\n\
         frontend two\n bind {h2} proto h2\n default_backend origin\n\
         backend origin\n server origin {}\n",
        origin.addr()
    );
    let path = folder.path().join("haproxy.cfg");
    std::fs::write(&path, config).expect("the folder is ours");
    let process = Process::spawn(
        "haproxy",
        Command::new(program).arg("-db").arg("-f").arg(&path),
    );
    wait::until_true("HAProxy to listen", wait::LONG, || {
        e2e::http1::get(h1, "/").is_ok()
    });
    Some(Contender::HaProxy {
        process,
        h1,
        h2,
        _folder: folder,
    })
}

impl Contender {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Direct { .. } => "direct",
            Self::HaProxy { .. } => "haproxy",
            Self::Weir { .. } => "weir",
        }
    }

    /// Process id of the proxy; None where there is none.
    pub(crate) fn id(&self) -> Option<u32> {
        match self {
            Self::Direct { .. } => None,
            Self::HaProxy { process, .. } => Some(process.id()),
            Self::Weir { weir, .. } => Some(weir.id()),
        }
    }

    /// Where the client connects to.
    pub(crate) fn url(&self, protocol: Protocol) -> String {
        let addr = match (self, protocol) {
            (Self::Direct { origin } | Self::Weir { origin, .. }, _) => origin,
            (Self::HaProxy { h1, .. }, Protocol::H1) => h1,
            (Self::HaProxy { h2, .. }, Protocol::H2) => h2,
        };
        format!("http://{addr}/")
    }

    /// Runs a program to its end where its connections go through this contender, and answers with what it printed.
    pub(crate) fn exec(&self, words: &[&str]) -> String {
        if let Self::Weir { weir, .. } = self {
            return weir.inside().exec(words).stdout;
        }
        let (program, arguments) = words.split_first().expect("a program is named");
        process::run(
            Command::new(program).args(arguments),
            std::time::Duration::from_mins(5),
        )
        .stdout
    }

    /// Makes load with `e2e-load`.
    pub(crate) fn load(&self, arguments: &[&str]) -> Measured {
        match self {
            Self::Weir { weir, .. } => load::inside(weir, arguments),
            Self::Direct { .. } | Self::HaProxy { .. } => load::direct(arguments),
        }
    }

    /// Makes a closed loop of load by wrk or h2load, or by our own generator; answers with the number of calls.
    pub(crate) fn closed_loop(&self, protocol: Protocol, connections: usize, seconds: u64) -> f64 {
        let url = self.url(protocol);
        let (count, time) = (connections.to_string(), seconds.to_string());
        let printed = match protocol {
            Protocol::H1 if process::is_installed("wrk") => {
                self.exec(&["wrk", "-t1", "-c", &count, "-d", &time, &url])
            }
            Protocol::H2 if process::is_installed("h2load") => {
                self.exec(&["h2load", "-t1", "-c", &count, "-m1", "-D", &time, &url])
            }
            Protocol::H1 | Protocol::H2 => {
                let arguments = [
                    "--closed",
                    "--connections",
                    &count,
                    "--seconds",
                    &time,
                    "--protocol",
                    protocol.name(),
                ];
                let measured = self.load(&[&[url.as_str()], &arguments[..]].concat());
                return measured.number("offered");
            }
        };
        calls(&printed).unwrap_or_else(|| panic!("{}: no count in:\n{printed}", self.name()))
    }
}

/// The number of calls that wrk (`N requests in`) or h2load (`N total, N started, N done, N succeeded`) reports. Calls
/// that failed make the measurement worthless.
fn calls(printed: &str) -> Option<f64> {
    assert!(
        !printed.contains("Socket errors") && !printed.contains("Non-2xx"),
        "calls failed:\n{printed}"
    );
    let line = printed.lines().map(str::trim);
    let mut lines =
        line.filter(|line| line.contains(" requests in ") || line.starts_with("requests: "));
    let words: Vec<&str> = lines.next()?.split_whitespace().collect();
    let failed = words
        .iter()
        .position(|word| *word == "failed,")
        .and_then(|at| words.get(at - 1));
    assert!(
        failed.is_none_or(|count| *count == "0"),
        "calls failed:\n{printed}"
    );
    words.iter().find_map(|word| word.parse().ok())
}
