//! Many calls leave nothing behind: no memory, no descriptors, no permits.

use e2e::load;
use e2e::origin::Origin;
use e2e::procfs;
use e2e::wait;
use e2e::weir::Weir;

const CALLS: f64 = 200_000.0;

fn many_calls_leave_no_growth(protocol: &str) {
    let origin = Origin::start(&["--forgetful"]);
    let weir = Weir::run();
    let url = origin.url("/");
    let run = |seconds: &str| {
        let words = [
            "--closed",
            "--connections",
            "20",
            "--seconds",
            seconds,
            "--protocol",
            protocol,
        ];
        let measured = load::inside(
            &weir,
            &[&[url.as_str(), "--body-bytes", "100"], &words[..]].concat(),
        );
        assert_eq!(
            measured.count("offered"),
            measured.count("answered"),
            "{}",
            measured.0
        );
        measured.number("offered")
    };
    // Pools, allocator and sketches reach their size.
    run("5");
    let before = procfs::pss_kib(weir.id());
    let descriptors = procfs::descriptors(weir.id());
    let mut made = 0.0;
    while made < CALLS {
        made += run("10");
    }
    let grown = procfs::pss_kib(weir.id()).saturating_sub(before);
    println!("{protocol}: {made} calls, {before} KiB before, {grown} KiB more");
    assert!(grown < 2 * 1024, "{grown} KiB more after {made} calls");
    wait::until_true("connections to be closed", wait::LONG, || {
        procfs::descriptors(weir.id()) <= descriptors + 5
    });
    let text = weir.read("/v1/destinations").to_string();
    assert!(!text.contains("\"inFlight\":1"), "{text}");
}

#[test]
#[ignore = "takes a minute: .ci/run e2e"]
fn two_hundred_thousand_calls_leave_no_growth() {
    many_calls_leave_no_growth("h1");
}

#[test]
#[ignore = "takes a minute: .ci/run e2e"]
fn two_hundred_thousand_http2_calls_leave_no_growth() {
    many_calls_leave_no_growth("h2");
}

#[test]
#[ignore = "takes a while: .ci/run e2e"]
fn many_destinations_are_forgotten_again_or_bounded() {
    let weir = Weir::run();
    let origin = Origin::start(&["--forgetful"]);
    let mut connection = weir.http(origin.addr());
    let visit = |connection: &mut e2e::http1::Connection, from: u32, to: u32| {
        for number in from..to {
            connection
                .get(&format!("host-{number}.test"), "/")
                .expect("an answer");
        }
    };
    visit(&mut connection, 0, 10_000);
    let before = procfs::pss_kib(weir.id());
    visit(&mut connection, 10_000, 40_000);
    let grown = procfs::pss_kib(weir.id()).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more for 30,000 more names");
}
