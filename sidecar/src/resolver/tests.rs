use std::net::Ipv6Addr;

use super::*;

/// A folder with both files.
fn files(hosts: &str, resolv_conf: &str) -> (tempfile::TempDir, Resolver) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["hosts", "resolv.conf"].map(|name| folder.path().join(name));
    fs::write(&paths[0], hosts).unwrap();
    fs::write(&paths[1], resolv_conf).unwrap();
    let resolver = Resolver::of(&paths[0], &paths[1]);
    (folder, resolver)
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn an_address_is_its_own() {
    let resolver = Resolver::of("/nowhere", "/nowhere");
    for text in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(resolver.addresses(text).await.unwrap(), ips(&[text]));
    }
}

#[tokio::test]
async fn the_file_of_hosts_goes_before_any_server_and_search_domain() {
    let hosts = "192.0.2.1 Shop shop_2 # both\n192.0.2.2 shop\n2001:db8::1 shop\n";
    // Who asked this server would wait.
    let (_folder, resolver) = files(hosts, "nameserver 192.0.2.53\nsearch weir.test\n");
    let found = resolver.addresses("shop").await.unwrap();
    assert_eq!(found, ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2"]));
    let found = resolver.addresses("SHOP_2").await.unwrap();
    assert_eq!(found, ips(&["192.0.2.1"]));
}

#[tokio::test]
async fn a_changed_file_is_read_again() {
    let (folder, resolver) = files("192.0.2.1 shop\n", "");
    resolver.addresses("shop").await.unwrap();
    fs::write(folder.path().join("hosts"), "192.0.2.22 shop\n").unwrap();
    let found = resolver.addresses("shop").await.unwrap();
    assert_eq!(found, ips(&["192.0.2.22"]));
}

#[tokio::test]
async fn localhost_is_known_without_files() {
    let resolver = Resolver::of("/nowhere", "/nowhere");
    let found = resolver.addresses("localhost").await.unwrap();
    assert_eq!(
        found,
        [
            IpAddr::from(Ipv6Addr::LOCALHOST),
            IpAddr::from(Ipv4Addr::LOCALHOST)
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_a_name_is_an_error_that_says_so() {
    let resolver = Resolver::of("/nowhere", "/nowhere");
    let long = "a".repeat(64);
    let error = resolver.addresses(&long).await.unwrap_err();
    assert!(matches!(error, ResolveError::Failed { .. }), "{error}");
    assert!(error.to_string().contains(&long), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let resolver = Resolver {
        lookups: Semaphore::new(0),
        ..Resolver::default()
    };
    let error = resolver.addresses("slow").await.unwrap_err();
    assert!(matches!(error, ResolveError::Timeout { .. }), "{error}");
}

#[test]
fn the_families_take_turns() {
    let all = ips(&["::1", "::2", "::3", "10.0.0.1", "10.0.0.2"]);
    let turns = ips(&["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]);
    assert_eq!(by_turns(all), turns);
    assert_eq!(by_turns(Vec::new()), Vec::<IpAddr>::new());
}
