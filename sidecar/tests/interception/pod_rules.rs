//! The promises of a pod's rules, kept or broken in the pod itself.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::sched::{CloneFlags, unshare};
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::{Connection, Ipv4Route, Ipv6Route, Route};
use sidecar::intercept::original_dst::{self, OriginalDstError};
use sidecar::intercept::redirect;
use sidecar::intercept::redirect::verify::{Finding, Findings, VerifyError};
use sidecar::intercept::rules::{PodRules, Ruleset};
use sidecar::redirect::{CommandError, Done, RedirectOptions};

use crate::pod::{NODE_V4, NODE_V6, POD_V4, POD_V6, SKIPPED_V4, serve_directly};
use crate::runner::say;

/// A service's address that only the node's own NAT would know.
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);

const PROXY_PORT: u16 = 19401;

/// Nobody here has it, so that every connection here is an application's.
const PROXY_UID: &str = "19400";

const PATIENCE: Duration = Duration::from_secs(3);

/// The pod's side; false when there is no IPv6.
#[tokio::main(flavor = "current_thread")]
async fn set_up_pod() -> bool {
    let netlink = Connection::<Route>::new().expect("netlink");
    netlink.set_link_up("lo").await.expect("lo");
    netlink.set_link_up("eth0").await.expect("a cable");
    netlink
        .add_address(Ipv4Address::new("eth0", POD_V4, 24))
        .await
        .expect("an address");
    let default = Ipv4Route::default_route().gateway(NODE_V4);
    netlink.add_route(default).await.expect("a way out");
    let v6 = Ipv6Address::new("eth0", POD_V6, 64).nodad();
    let default = Ipv6Route::default_route().gateway(NODE_V6);
    netlink.add_address(v6).await.is_ok() && netlink.add_route(default).await.is_ok()
}

/// Says where each redirected connection was going.
fn serve_as_proxy() {
    for loopback in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        let Ok(listener) = TcpListener::bind((loopback, PROXY_PORT)) else {
            continue;
        };
        std::thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                let text = match original_dst::of(&client) {
                    Ok(destination) => format!("proxied to {destination}"),
                    Err(OriginalDstError::OwnPort { destination }) => format!("own {destination}"),
                    Err(error) => error.to_string(),
                };
                client.write_all(text.as_bytes()).ok();
            }
        });
    }
}

fn dial(address: SocketAddr) -> String {
    let connected = TcpStream::connect_timeout(&address, PATIENCE);
    connected
        .and_then(said_by)
        .unwrap_or_else(|error| format!("{:?}", error.kind()))
}

fn said_by(mut stream: TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn proxied(address: SocketAddr) -> String {
    format!("proxied to {address}")
}

#[derive(Parser)]
#[command(args_override_self = true)]
struct RedirectCommand {
    #[command(flatten)]
    options: RedirectOptions,
}

/// `weir redirect WORDS`.
fn weir_redirect(words: &[&str]) -> Result<Done, CommandError> {
    let arguments = ["redirect", "--proxy-uid", PROXY_UID].iter().chain(words);
    sidecar::redirect::run(&RedirectCommand::parse_from(arguments).options)
}

/// Goes through the promises of the rules, in an order in which each step builds on the one before.
pub(crate) fn main() -> ExitCode {
    unshare(CloneFlags::CLONE_NEWNET).expect("root of our namespace");
    say("set apart");
    // The node closes it when the cable is there.
    std::io::stdin()
        .read_to_end(&mut Vec::new())
        .expect("standard input");
    let has_v6 = set_up_pod();
    let pod = Pod { has_v6 };
    pod.installs_and_proves_itself();
    pod.fails_closed_without_a_proxy();
    serve_as_proxy();
    pod.redirects_what_leaves();
    pod.leaves_alone_what_it_should();
    Pod::survives_few_source_ports();
    pod.works_without_ipv6();
    Pod::is_removed();
    say("all of the pod's promises are kept");
    ExitCode::SUCCESS
}

struct Pod {
    has_v6: bool,
}

impl Pod {
    /// The node's addresses, in the families that there are.
    fn node(&self, port: u16) -> Vec<SocketAddr> {
        let mut addresses = vec![SocketAddr::from((NODE_V4, port))];
        if self.has_v6 {
            addresses.push(SocketAddr::from((NODE_V6, port)));
        }
        addresses
    }

    fn installs_and_proves_itself(&self) {
        assert!(matches!(
            weir_redirect(&["--verify"]),
            Err(CommandError::NotInstalled(_))
        ));
        assert_eq!(
            weir_redirect(&["--remove"]).expect("allowed"),
            Done::NothingToRemove
        );
        for address in self.node(8000) {
            assert_eq!(dial(address), "direct", "{address} before the rules");
        }
        // Twice, as when the init container is started again.
        for _ in 0..2 {
            let Done::Works(Findings { v4, v6 }) = weir_redirect(&[]).expect("allowed") else {
                panic!("installed, but not proven");
            };
            assert!(matches!(v4, Finding::Redirected(_)), "{v4:?}");
            assert_eq!(matches!(v6, Finding::Redirected(_)), self.has_v6, "{v6:?}");
        }
        let Err(error) = weir_redirect(&["--proxy-uid", "0"]) else {
            panic!("the proxy's user proved something");
        };
        assert!(matches!(error, CommandError::RunsAsProxy(0)), "{error}");
    }

    fn fails_closed_without_a_proxy(&self) {
        for address in self.node(8000) {
            assert_eq!(dial(address), "ConnectionRefused", "{address}");
        }
    }

    fn redirects_what_leaves(&self) {
        // With the proxy up the proof still works, and finds the proxy.
        weir_redirect(&["--verify"]).expect("works");
        for address in self.node(8000).into_iter().chain(self.node(53)) {
            assert_eq!(dial(address), proxied(address));
        }
        assert_eq!(
            dial(SERVICE),
            proxied(SERVICE),
            "as dialled, before the node's NAT"
        );
    }

    fn leaves_alone_what_it_should(&self) {
        let mut own = vec![IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(POD_V4)];
        if self.has_v6 {
            own.extend([IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from(POD_V6)]);
        }
        serve_directly(8001);
        for ip in own {
            assert_eq!(dial((ip, 8001).into()), "direct", "{ip}");
        }
        // The application dials the proxy's port itself: seen, and refused.
        let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, PROXY_PORT));
        assert_eq!(dial(proxy), format!("own {proxy}"));

        let skipped = SocketAddr::from((SKIPPED_V4, 8000));
        assert_eq!(dial(skipped), proxied(skipped));
        let words = [
            "--skip-ports",
            "3306,9000-9100",
            "--skip-cidrs",
            "10.98.0.0/24,fd98::/64",
        ];
        weir_redirect(&words).expect("works");
        assert_eq!(dial(skipped), "direct");
        for address in self.node(3306) {
            assert_eq!(dial(address), "direct", "{address}");
        }
        let words = ["--skip-cidrs", "0.0.0.0/0,::/0"];
        let Done::Works(findings) = weir_redirect(&words).expect("allowed") else {
            panic!("installed");
        };
        assert_eq!(findings.v4, Finding::AllSkipped);

        // Datagrams are untouched, DNS too.
        let socket = UdpSocket::bind((POD_V4, 0)).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send_to(b"question", (NODE_V4, 53)).expect("sent");
        let (_, from) = socket.recv_from(&mut [0; 16]).expect("an answer");
        assert_eq!(from, SocketAddr::from((NODE_V4, 53)));

        // The proxy's own connections: everyone here is root, so root plays the proxy for a moment.
        install(0);
        for address in self.node(8000) {
            assert_eq!(dial(address), "direct", "{address} as the proxy");
        }
        install(19400);
    }

    /// Connections to two destinations end at the same proxy port, so the kernel must tell equal source ports apart.
    fn survives_few_source_ports() {
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        let before = fs::read_to_string(range).expect("a setting");
        fs::write(range, "40000 40099").expect("root of our namespace");
        let mut held = Vec::new();
        for address in [SocketAddr::from((NODE_V4, 8000)), SERVICE] {
            for number in 0..100 {
                let stream = TcpStream::connect_timeout(&address, PATIENCE);
                let stream = stream.unwrap_or_else(|e| panic!("{number} to {address}: {e}"));
                let copy = stream.try_clone().expect("a descriptor");
                assert_eq!(said_by(copy).expect("an answer"), proxied(address));
                // Open on our side, so that its port stays taken.
                held.push(stream);
            }
        }
        fs::write(range, before).expect("root of our namespace");
    }

    fn works_without_ipv6(&self) {
        if self.has_v6 {
            fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").expect("a setting");
        }
        let Done::Works(findings) = weir_redirect(&[]).expect("IPv4 is enough") else {
            panic!("installed");
        };
        assert!(matches!(findings.v4, Finding::Redirected(_)));
        assert_eq!(findings.v6, Finding::Unreachable);
    }

    fn is_removed() {
        assert_eq!(
            weir_redirect(&["--remove"]).expect("allowed"),
            Done::Removed
        );
        assert_eq!(
            weir_redirect(&["--remove"]).expect("allowed"),
            Done::NothingToRemove
        );
        assert_eq!(dial((NODE_V4, 8000).into()), "direct");
        // Rules for another port than the one that is proven.
        install_for(19499, 19400);
        let Err(error) = weir_redirect(&["--verify"]) else {
            panic!("a redirect elsewhere was taken for ours");
        };
        assert!(
            matches!(
                error,
                CommandError::Verify(VerifyError::NotRedirected { .. })
            ),
            "{error}"
        );
    }
}

fn install(proxy_uid: u32) {
    install_for(PROXY_PORT, proxy_uid);
}

#[tokio::main(flavor = "current_thread")]
async fn install_for(redirect_port: u16, proxy_uid: u32) {
    let rules = Ruleset::pod(&PodRules {
        proxy_uid,
        redirect_port,
        skip_ports: Vec::new(),
        skip_cidrs: Vec::new(),
        drop_invalid: false,
    });
    redirect::install(&rules)
        .await
        .expect("root of our namespace");
}
