//! An application that runs as the proxy's user: the rules take its calls for weir's own, and somebody is told.

use e2e::inside::Inside;
use e2e::pod::calls::{UID, call, dial, node, scrape, serve};
use e2e::pod::{POD, PROXY_UID, Pod, ok};
use e2e::wait;

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_connections_under_the_proxys_user_are_seen_and_the_proxys_own_are_not() {
    let pod = Pod::new();
    let (_server, server) = pod.server();
    let _serving = serve(&server, 8000);
    ok(&pod.redirect(&[]));
    let _proxy = pod.proxy();
    let (_application, application) = pod.user(UID);
    let (_clashing, clashing) = pod.user(PROXY_UID);
    let mut taken = node(8000).map(|to| dial(&application, to).0);
    assert_eq!(seen(&server), 0);
    let _kept = node(8000).map(|to| {
        let (connection, answer) = dial(&clashing, to);
        assert!(answer["id"].is_null(), "{to} was taken: {answer}");
        connection
    });
    let mut look = |before: u64| {
        wait::until("weir to look", wait::LONG, || {
            // The proxy has connections of its own to the same server all the while.
            for connection in &mut taken {
                assert!(call(connection)["id"].is_string());
            }
            Some(seen(&server)).filter(|seen| *seen > before)
        })
    };
    // The first look may have come between the two.
    let first = look(0);
    assert_eq!(look(first), first + 2, "one of each family, none of weir's");
}

/// What the proxy has counted.
fn seen(elsewhere: &Inside) -> u64 {
    let page = scrape(elsewhere, POD[0]);
    let mut lines = page.lines();
    let count = lines.find_map(|line| line.strip_prefix("weir_bypass_connections_seen_total "));
    count
        .and_then(|count| count.parse().ok())
        .expect("it is counted")
}
